//go:build unix

package harness

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
)

// A RedeliveringTransport sends each request three times.
type RedeliveringTransport struct {
	Next http.RoundTripper
	Ctx  context.Context

	mu      sync.Mutex
	delayed []*http.Request
	wg      sync.WaitGroup
}

// redeliveryWindow is the number of requests that are held back for a late redelivery.
var redeliveryWindow = Scaled(10, 50)

// RoundTrip sends r, a copy of it concurrently, and a copy of an earlier request.
func (th *RedeliveringTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	clone := func() *http.Request {
		c := r.Clone(th.Ctx)
		c.Body = io.NopCloser(bytes.NewReader(body))
		return c
	}
	th.resend(clone())
	th.mu.Lock()
	th.delayed = append(th.delayed, clone())
	var late *http.Request
	if n := len(th.delayed); n > redeliveryWindow {
		i := rand.N(n)
		late, th.delayed[i] = th.delayed[i], th.delayed[n-1]
		th.delayed = th.delayed[:n-1]
	}
	th.mu.Unlock()
	if late != nil {
		th.resend(late)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return th.Next.RoundTrip(r)
}

func (th *RedeliveringTransport) resend(r *http.Request) {
	th.wg.Go(func() {
		if res, err := th.Next.RoundTrip(r); err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
		}
	})
}

// Flush sends the requests that are held back and waits for all responses.
func (th *RedeliveringTransport) Flush() {
	th.mu.Lock()
	for _, r := range th.delayed {
		th.resend(r)
	}
	th.delayed = nil
	th.mu.Unlock()
	th.wg.Wait()
}
