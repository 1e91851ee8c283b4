//go:build unix

package rawhttp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// The limits for slow clients.
const (
	MaxSlowDuration = 5 * time.Second        // until a slow client is disconnected
	dripInterval    = 400 * time.Millisecond // between the bytes of a client that sends one at a time
	MaxSlowdown     = 2                      // factor by which slow clients may raise the p99 of genuine requests
)

// slowBehaviors are the ways to be slow. A client sends first immediately, and rest byte by byte.
var slowBehaviors = []struct {
	name  string
	makes func(h *WebhookFixture, n int) (first, rest string)
}{
	{"sends nothing", func(*WebhookFixture, int) (string, string) { return "", "" }},
	{"sends its header slowly", func(h *WebhookFixture, n int) (string, string) {
		return "", NewUnsignedRequest("telegram", n, h.Acme).Sign().Encode()
	}},
	{"stops in the header", func(h *WebhookFixture, n int) (string, string) {
		return NewUnsignedRequest("sms", n, h.Acme).Sign().Encode()[:60], ""
	}},
	{"sends its body slowly", func(h *WebhookFixture, n int) (string, string) {
		p := NewUnsignedRequest("slack/events", n, h.Acme).Sign()
		p.Set(SlackSignatureHeader, WrongSignature(p))
		return splitHead(p)
	}},
	{"sends a genuine body slowly", func(h *WebhookFixture, n int) (string, string) {
		return splitHead(NewUnsignedRequest("telegram", n, h.Acme).Sign())
	}},
	{"sends no body", func(h *WebhookFixture, n int) (string, string) {
		head, _ := splitHead(NewUnsignedRequest("sms", n, h.Acme).Sign())
		return head, ""
	}},
	{"sends chunks slowly", func(h *WebhookFixture, n int) (string, string) {
		p := NewUnsignedRequest("whatsapp", n, h.Acme).Sign()
		p.UseChunks(1)
		return splitHead(p)
	}},
}

// splitHead splits an encoded request after its header.
func splitHead(p *RawRequest) (head, body string) {
	head, body, _ = strings.Cut(p.Encode(), "\r\n\r\n")
	return head + "\r\n\r\n", body
}

// SlowClients are slow clients that run concurrently.
type SlowClients struct {
	Connected chan struct{} // closed when all are connected
	wg        sync.WaitGroup
	stop      context.CancelFunc

	mu      sync.Mutex
	longest time.Duration // until a client was disconnected
	errs    []error
}

// StartSlowClients starts slow clients with all behaviors in equal numbers. They stop after 20
// seconds at the latest.
func (h *WebhookFixture) StartSlowClients(clients int) *SlowClients {
	h.T.Helper()
	ctx, stop := context.WithTimeout(h.T.Context(), 20*time.Second)
	c := &SlowClients{Connected: make(chan struct{}), stop: stop}
	var connected sync.WaitGroup
	connected.Add(clients)
	for i := range clients {
		behavior := slowBehaviors[i%len(slowBehaviors)]
		first, rest := behavior.makes(h, 900_000+i)
		c.wg.Go(func() {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", h.Gateway.Addr)
			start := time.Now()
			connected.Done()
			if err == nil {
				err = runSlowClient(ctx, conn, first, rest)
			}
			c.record(time.Since(start), behavior.name, err)
		})
	}
	go func() {
		connected.Wait()
		close(c.Connected)
	}()
	return c
}

// runSlowClient sends slowly until the gateway closes the connection. It returns an error if ctx
// ends first.
func runSlowClient(ctx context.Context, conn net.Conn, first, rest string) error {
	defer func() { _ = conn.Close() }()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	_, _ = io.WriteString(conn, first)
	closed := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, conn)
		closed <- err
	}()
	ticker := time.NewTicker(dripInterval)
	defer ticker.Stop()
	for {
		select {
		case err := <-closed:
			if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
				return err
			}
			return nil // closed by the gateway, with or without a reset
		case <-ticker.C:
			if rest != "" {
				_, _ = io.WriteString(conn, rest[:1])
				rest = rest[1:]
			}
		}
	}
}

// record records how long a client was connected, and its error.
func (c *SlowClients) record(took time.Duration, behavior string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.longest = max(c.longest, took)
	if err != nil {
		c.errs = append(c.errs, fmt.Errorf("client that %s was not disconnected: %w", behavior, err))
	}
}

// Wait waits until all clients are disconnected, and returns how long the last one was connected.
// It fails the test if a client was not disconnected.
func (c *SlowClients) Wait(t *testing.T) time.Duration {
	t.Helper()
	c.wg.Wait()
	c.stop()
	if len(c.errs) > 0 {
		t.Errorf("%d slow clients: %v", len(c.errs), c.errs[0])
	}
	return c.longest
}
