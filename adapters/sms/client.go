package sms

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twilio/twilio-go/client"
	api "github.com/twilio/twilio-go/rest/api/v2010"
	messaging "github.com/twilio/twilio-go/rest/messaging/v1"

	"hydragate/adapters"
)

const (
	callTimeout = 20 * time.Second // of a request whose context has no deadline
	maxResponse = 1 << 20
)

// A restClient sends the requests of twilio-go. It implements client.BaseClient.
//
// The methods of twilio-go do not accept a context, so every call of an Adapter makes a
// restClient that carries its own. twilio-go's implementation, client.Client, is not used: it
// sends requests without a context, reads error responses without a limit, drops their
// Retry-After header, and treats redirects as success.
type restClient struct {
	ctx               context.Context //nolint:containedctx // see above: twilio-go does not accept one
	http              *http.Client
	origin            string // replaces the host that twilio-go chose
	accountSID, token string
}

// newAPI returns Twilio's main API for the account of ep.
func (a Adapter) newAPI(ctx context.Context, ep adapters.Endpoint) (*api.ApiService, error) {
	c, err := a.newRESTClient(ctx, ep, a.origin())
	if err != nil {
		return nil, err
	}
	return api.NewApiServiceWithClient(c), nil
}

// newMessagingAPI returns the API of Messaging Services for the account of ep.
func (a Adapter) newMessagingAPI(ctx context.Context, ep adapters.Endpoint) (*messaging.ApiService, error) {
	c, err := a.newRESTClient(ctx, ep, a.messagingOrigin())
	if err != nil {
		return nil, err
	}
	return messaging.NewApiServiceWithClient(c), nil
}

// newRESTClient returns a client with the credentials of ep. twilio-go puts the account SID into
// paths, so only a valid SID is accepted.
func (a Adapter) newRESTClient(ctx context.Context, ep adapters.Endpoint, origin string) (*restClient, error) {
	sid, tokens := ep.Credentials[adapters.AccountSID], ep.Current(adapters.AuthToken)
	if !isSID(sid, "AC") || len(tokens) == 0 {
		return nil, &apiError{status: http.StatusUnauthorized, message: "no usable credentials"}
	}
	return &restClient{ctx: ctx, http: a.httpClient(), origin: origin, accountSID: sid, token: tokens[0]}, nil
}

// httpClient returns a.HTTP, or a default client, that does not follow redirects.
func (a Adapter) httpClient() *http.Client {
	c := http.Client{}
	if a.HTTP != nil {
		c = *a.HTTP
	}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &c
}

// AccountSid returns the account that paths name.
func (c *restClient) AccountSid() string { return c.accountSID }

// SetTimeout does nothing: the context limits each request.
func (c *restClient) SetTimeout(time.Duration) {}

// SetOauth does nothing: requests use basic authentication.
func (c *restClient) SetOauth(client.OAuth) {}

// OAuth returns nil: requests use basic authentication.
func (c *restClient) OAuth() client.OAuth { return nil }

// SendRequest sends one request and returns a response with status 2xx, whose body it has read.
// Only the path of rawURL is used: the origin is the configured one, whatever TWILIO_EDGE and
// TWILIO_REGION say. data is the query of a GET request, and the form of any other without a body.
//
// Its error is an *apiError or a *callError.
func (c *restClient) SendRequest(
	method, rawURL string, data url.Values, headers map[string]any, body ...byte,
) (*http.Response, error) {
	ctx := c.ctx
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, callTimeout)
		defer cancel()
	}
	var connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	})
	r, err := c.newRequest(ctx, method, rawURL, data, headers, body)
	if err != nil {
		return nil, &callError{err: errors.New("create request")}
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, &callError{maybeSent: connected.Load(), err: fmt.Errorf("call Twilio: %w", stripURL(err))}
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxResponse))
	if resp.StatusCode/100 != 2 {
		return nil, newResponseError(resp, answer)
	}
	if err != nil {
		return nil, &callError{maybeSent: true, err: fmt.Errorf("read response: %w", err)}
	}
	if bytes.HasPrefix(bytes.TrimSpace(answer), []byte("<")) {
		return nil, &callError{err: errors.New("response is HTML, not from Twilio")}
	}
	resp.Body = io.NopCloser(bytes.NewReader(answer))
	return resp, nil
}

func (c *restClient) newRequest(
	ctx context.Context, method, rawURL string, data url.Values, headers map[string]any, body []byte,
) (*http.Request, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, err
	}
	target, form := c.origin+u.EscapedPath(), data.Encode()
	if method == http.MethodGet && form != "" {
		target, form = target+"?"+form, ""
	}
	if len(body) > 0 {
		form = string(body)
	}
	r, err := http.NewRequestWithContext(ctx, method, target, strings.NewReader(form))
	if err != nil {
		return nil, err
	}
	for name, value := range headers {
		r.Header.Set(name, fmt.Sprint(value))
	}
	r.Header.Set("Accept", "application/json")
	r.SetBasicAuth(c.accountSID, c.token)
	return r, nil
}

// stripURL returns the cause of err without the URL of the request, which contains phone numbers.
func stripURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// deref returns *p, or the zero value if the response does not contain the field.
func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
