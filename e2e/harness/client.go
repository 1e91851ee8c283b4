//go:build unix

package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A Response is the response to an HTTP request. The zero value means that there was none.
type Response struct {
	Status int
	Header http.Header
	Body   string
}

// Dump returns all parts of the response as text.
func (r Response) Dump() string { return fmt.Sprint(r.Status, r.Header, r.Body) }

// A Client sends requests to a gateway. It does not follow redirects.
type Client struct {
	URL  string // of the gateway
	Key  string // API key
	HTTP *http.Client
}

// NewClient returns a client for the gateway at url.
func NewClient(url, key string, timeout time.Duration) *Client {
	return &Client{URL: url, Key: key, HTTP: &http.Client{
		Timeout:       timeout,
		Transport:     &http.Transport{MaxIdleConnsPerHost: 64},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Do sends a request with header. It returns an error if there is no complete response.
func (c *Client) Do(ctx context.Context, method, path string, header http.Header, body string) (Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.URL+path, strings.NewReader(body))
	if err != nil {
		return Response{}, err
	}
	if header != nil {
		r.Header = header.Clone()
	}
	if host := header.Get("Host"); host != "" {
		r.Host = host
	}
	if body != "" && r.Header.Get("Content-Type") == "" {
		r.Header.Set("Content-Type", "application/json")
	}
	res, err := c.HTTP.Do(r)
	if err != nil {
		return Response{}, err
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return Response{}, err
	}
	return Response{res.StatusCode, res.Header, string(b)}, nil
}

// Call sends body as JSON, with the key of the client. It returns the zero Response if there is no
// complete response. body may be nil.
func (c *Client) Call(ctx context.Context, method, path string, body any) Response {
	var encoded string
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			panic(err)
		}
		encoded = string(b)
	}
	res, err := c.Do(ctx, method, path, BearerHeader(c.Key), encoded)
	if err != nil {
		return Response{}
	}
	return res
}

// CallJSON is like Call, and decodes the response into a value unless into is nil. It returns an error
// if the status is not want.
func (c *Client) CallJSON(ctx context.Context, method, path string, body any, want int, into any) error {
	res := c.Call(ctx, method, path, body)
	if res.Status != want {
		return fmt.Errorf("%s %s = %d %s, want %d", method, path, res.Status, res.Body, want)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal([]byte(res.Body), into); err != nil {
		return fmt.Errorf("%s %s = %s: %w", method, path, res.Body, err)
	}
	return nil
}

// MustCall is like CallJSON, and fails the test instead of returning an error.
func (c *Client) MustCall(t *testing.T, method, path string, body any, want int, into any) {
	t.Helper()
	if err := c.CallJSON(t.Context(), method, path, body, want, into); err != nil {
		t.Fatal(err)
	}
}

// BearerHeader returns the header that authenticates an API request.
func BearerHeader(key string) http.Header { return http.Header{"Authorization": {"Bearer " + key}} }
