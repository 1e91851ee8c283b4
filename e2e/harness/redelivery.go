package harness

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
)

// RedeliveringTransport is a provider that posts everything three times.
type RedeliveringTransport struct {
	Next http.RoundTripper
	Ctx  context.Context

	mu      sync.Mutex
	delayed []*http.Request
	wg      sync.WaitGroup
}

// redeliveryWindow is among how many the third of a webhook comes.
const redeliveryWindow = 50

// RoundTrip posts r and a copy of it at once, and one of the copies kept from before.
func (th *RedeliveringTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	again := func() *http.Request {
		c := r.Clone(th.Ctx)
		c.Body = io.NopCloser(bytes.NewReader(body))
		return c
	}
	th.resend(again())
	th.mu.Lock()
	th.delayed = append(th.delayed, again())
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

// Flush posts what is left, and waits until all is answered.
func (th *RedeliveringTransport) Flush() {
	th.mu.Lock()
	for _, r := range th.delayed {
		th.resend(r)
	}
	th.delayed = nil
	th.mu.Unlock()
	th.wg.Wait()
}
