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

	mu       sync.Mutex
	delayed  []*http.Request
	inFlight int
	idle     chan struct{} // closed when inFlight becomes 0; nil if no one waits
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
	th.mu.Lock()
	th.resend(clone())
	th.delayed = append(th.delayed, clone())
	var late *http.Request
	if n := len(th.delayed); n > redeliveryWindow {
		i := rand.N(n)
		late, th.delayed[i] = th.delayed[i], th.delayed[n-1]
		th.delayed = th.delayed[:n-1]
	}
	if late != nil {
		th.resend(late)
	}
	th.mu.Unlock()
	r.Body = io.NopCloser(bytes.NewReader(body))
	return th.Next.RoundTrip(r)
}

// resend sends r in the background. th.mu must be held.
func (th *RedeliveringTransport) resend(r *http.Request) {
	th.inFlight++
	go func() {
		if res, err := th.Next.RoundTrip(r); err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
		}
		th.mu.Lock()
		defer th.mu.Unlock()
		th.inFlight--
		if th.inFlight == 0 && th.idle != nil {
			close(th.idle)
			th.idle = nil
		}
	}()
}

// Flush sends the requests that are held back and waits for all responses.
func (th *RedeliveringTransport) Flush() {
	th.mu.Lock()
	for _, r := range th.delayed {
		th.resend(r)
	}
	th.delayed = nil
	var idle chan struct{}
	if th.inFlight > 0 {
		if th.idle == nil {
			th.idle = make(chan struct{})
		}
		idle = th.idle
	}
	th.mu.Unlock()
	if idle != nil {
		<-idle
	}
}
