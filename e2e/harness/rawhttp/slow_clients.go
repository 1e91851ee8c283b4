//go:build unix

package rawhttp

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// What slow clients may have.
const (
	MaxSlowDuration = 5 * time.Second
	dripInterval    = 400 * time.Millisecond // between the bytes of who sends one at a time
	MaxSlowdown     = 2                      // times the p99 of a genuine request before
)

// The ways to be slow. Each begins with what it sends at once, and goes on byte by byte.
var slowBehaviors = []struct {
	name  string
	makes func(h *WebhookFixture, n int) (atOnce, rest string)
}{
	{"says nothing", func(*WebhookFixture, int) (string, string) { return "", "" }},
	{"drips its header", func(h *WebhookFixture, n int) (string, string) {
		return "", NewUnsignedRequest("telegram", n, h.Acme).Sign().Encode()
	}},
	{"stops in the header", func(h *WebhookFixture, n int) (string, string) {
		return NewUnsignedRequest("sms", n, h.Acme).Sign().Encode()[:60], ""
	}},
	{"drips its body", func(h *WebhookFixture, n int) (string, string) {
		p := NewUnsignedRequest("slack/events", n, h.Acme).Sign()
		p.Set(SlackSignatureHeader, WrongSignature(p))
		return splitHead(p)
	}},
	{"drips the body of the provider", func(h *WebhookFixture, n int) (string, string) {
		return splitHead(NewUnsignedRequest("telegram", n, h.Acme).Sign())
	}},
	{"keeps its body", func(h *WebhookFixture, n int) (string, string) {
		at, _ := splitHead(NewUnsignedRequest("sms", n, h.Acme).Sign())
		return at, ""
	}},
	{"drips chunks", func(h *WebhookFixture, n int) (string, string) {
		p := NewUnsignedRequest("whatsapp", n, h.Acme).Sign()
		p.UseChunks(1)
		return splitHead(p)
	}},
}

func splitHead(p *RawRequest) (head, body string) {
	head, body, _ = strings.Cut(p.Encode(), "\r\n\r\n")
	return head + "\r\n\r\n", body
}

// A slowClients is many slow clients.
type slowClients struct {
	Connected chan struct{} // closed when all are connected
	wg        sync.WaitGroup
	stop      context.CancelFunc

	mu      sync.Mutex
	longest time.Duration // the longest that one of them was kept
	errs    []error
}

// runSlowClient is one slow client, until it is hung up on.
func runSlowClient(ctx context.Context, conn net.Conn, atOnce, rest string) error {
	defer func() { _ = conn.Close() }()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	_, _ = io.WriteString(conn, atOnce)
	gone := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, conn)
		gone <- err
	}()
	each := time.NewTicker(dripInterval)
	defer each.Stop()
	for {
		select {
		case err := <-gone:
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				return err
			}
			return nil // with or without a reset
		case <-each.C:
			if rest != "" {
				_, _ = io.WriteString(conn, rest[:1])
				rest = rest[1:]
			}
		}
	}
}

func (c *slowClients) record(after time.Duration, way string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.longest = max(c.longest, after)
	if err != nil {
		c.errs = append(c.errs, fmt.Errorf("who %s was never hung up on: %w", way, err))
	}
}

// Wait waits until all of them were hung up on, and gives how long the last was kept.
func (c *slowClients) Wait(t *testing.T) time.Duration {
	t.Helper()
	c.wg.Wait()
	c.stop()
	if len(c.errs) > 0 {
		t.Errorf("%d slow clients: %v", len(c.errs), c.errs[0])
	}
	return c.longest
}
