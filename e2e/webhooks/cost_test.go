package webhooks

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hydragate/e2e/harness"
	"hydragate/e2e/harness/rawhttp"
)

// A largeBody is a webhook request with a very large body.
type largeBody struct {
	kind, name string
	change     func(p *rawhttp.RawRequest)
	status     int
	content    string // repeated for a body
}

// largeBodies returns requests with a large body and a wrong or missing signature for every
// webhook.
func largeBodies() (all []largeBody) {
	for _, kind := range []string{"telegram", "sms", "whatsapp", "slack/events", "slack/commands", "slack/interactivity"} {
		status := 413
		if kind == "telegram" {
			status = 403
		}
		wrong := func(p *rawhttp.RawRequest) { p.Set(p.SignatureHeader(), rawhttp.WrongSignature(p)) }
		all = append(all,
			largeBody{kind, "content length", wrong, status, "a"},
			largeBody{kind, "chunked", func(p *rawhttp.RawRequest) {
				wrong(p)
				p.Framing = []string{"Transfer-Encoding: chunked"}
			}, status, "a"},
			largeBody{kind, "unsigned", func(p *rawhttp.RawRequest) { p.Del(p.SignatureHeader()) }, 403, "a"},
		)
	}
	return append(all, largeBody{"sms", "many fields", func(p *rawhttp.RawRequest) {
		p.Set(rawhttp.TwilioSignatureHeader, rawhttp.WrongSignature(p))
		p.Framing = []string{"Content-Length: 65535"}
	}, 403, "a=&b&"})
}

// send sends the request with message number n and size bytes of body, until the server closes the
// connection. It returns the status and how much was sent when the response arrived.
func (b largeBody) send(h *rawhttp.WebhookFixture, n, size int) (status int, sent int64) {
	h.T.Helper()
	p := rawhttp.NewUnsignedRequest(b.kind, n, h.Acme).Sign()
	b.change(p)
	if p.Framing == nil {
		p.Framing = []string{"Content-Length: " + strconv.Itoa(size)}
	}
	p.Body, p.WireBody = "", ""
	part := strings.Repeat(b.content, (16<<10)/len(b.content))
	if p.Framing[0] == "Transfer-Encoding: chunked" {
		part = fmt.Sprintf("%x\r\n%s\r\n", len(part), part)
	}
	c := h.Dial(h.NewCallerAddr())
	var written atomic.Int64
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, err := io.WriteString(c, p.Encode())
		for err == nil && written.Load() < int64(size) {
			_, err = io.WriteString(c, part)
			written.Add(int64(len(part)))
		}
	}()
	a := rawhttp.ReadResponse(h.T, bufio.NewReader(c), p.Method)
	sent = written.Load()
	_ = c.Close()
	<-ended
	return a.Status, sent
}

// TestUnauthenticatedWebhook_ResourceUse checks that an unauthenticated body of 64 MiB on any
// channel uses little memory, and that it is not read. Other goroutines of the gateway allocate
// too, so the test takes the minimum of up to twenty tries.
func TestUnauthenticatedWebhook_ResourceUse(t *testing.T) {
	t.Parallel()
	const size, tries, maxAllocated, maxSent = 64 << 20, 20, 1 << 20, 16 << 20 // maxSent includes what sockets buffer
	h := rawhttp.NewWebhookFixture(t, harness.SQLite)
	for i, b := range largeBodies() {
		allocated, sent := float64(size), int64(size)
		for try := 0; try < tries && (allocated > maxAllocated || sent > maxSent); try++ {
			before := h.Metric(h.Gateway, "go_memstats_alloc_bytes_total")
			status, n := b.send(h, 20_000+i*tries+try, size)
			if status != b.status {
				t.Errorf("%s, %s: status = %d, want %d", b.kind, b.name, status, b.status)
			}
			allocated = min(allocated, h.Metric(h.Gateway, "go_memstats_alloc_bytes_total")-before)
			sent = min(sent, n)
		}
		t.Logf("%-20s %-14s allocated %4.0f KiB, %4d KiB sent", b.kind, b.name, allocated/1024, sent>>10)
		if allocated > maxAllocated || sent > maxSent {
			t.Errorf("%s, %s: allocated %.0f bytes and %d bytes sent, want at most %d and %d",
				b.kind, b.name, allocated, sent, maxAllocated, maxSent)
		}
	}

	t.Run("control: a handler that reads the body", func(t *testing.T) {
		naive := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.ReadAll(r.Body)
			w.WriteHeader(http.StatusForbidden)
		}))
		defer naive.Close()
		h := &rawhttp.WebhookFixture{
			Harness: &harness.Harness{T: t}, Gateway: &harness.Process{Addr: naive.Listener.Addr().String()},
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		unsigned := largeBody{"telegram", "unsigned", func(*rawhttp.RawRequest) {}, 403, "a"}
		status, sent := unsigned.send(h, 1, size)
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; status != 403 || got < size || sent <= maxSent {
			t.Errorf("status = %d with %d bytes allocated and %d sent, want 403 with more", status, got, sent)
		}
	})
}

// TestLargeBodies_MemoryUse sends bodies of 300 MB on every channel, some with a valid secret, and
// checks the peak resident memory.
func TestLargeBodies_MemoryUse(t *testing.T) {
	t.Parallel()
	const size = 300_000_000
	h := rawhttp.NewWebhookFixture(t, harness.SQLite)
	all := append(largeBodies(),
		largeBody{"telegram", "valid secret", func(*rawhttp.RawRequest) {}, 413, "a"},
		largeBody{"telegram", "valid secret, chunked", func(p *rawhttp.RawRequest) {
			p.Framing = []string{"Transfer-Encoding: chunked"}
		}, 413, "a"},
	)
	sendAll := func(n int) {
		for i, b := range all {
			if status, _ := b.send(h, n+i, size); status != b.status {
				t.Errorf("%s, %s: status = %d, want %d", b.kind, b.name, status, b.status)
			}
			genuine := rawhttp.NewUnsignedRequest("telegram", n+500+i, h.Acme).Sign()
			expectAccepted(h, "message after "+b.name, genuine, 1)
		}
	}
	sendAll(30_000) // warm up
	limit := int64(10 << 20)
	if harness.RaceEnabled() {
		limit *= 4 // the race detector keeps shadow memory
	}
	pid, growth := h.Gateway.Cmd.Process.Pid, int64(size)
	for try := 0; try < 5 && growth > limit; try++ { // other goroutines of the gateway allocate, too
		h.ResetPeakMemory(h.Gateway)
		before := harness.ProcessMemory(t, pid, "VmHWM:")
		sendAll(40_000 + 1000*try)
		growth = min(growth, harness.ProcessMemory(t, pid, "VmHWM:")-before)
		t.Logf("%d bodies of %d MB: resident memory %.1f MiB, peak growth %.1f MiB",
			len(all), size/1_000_000, float64(before)/(1<<20), float64(growth)/(1<<20))
	}
	if growth > limit {
		t.Errorf("peak memory growth = %d bytes, want at most %d", growth, limit)
	}
}

// TestWebhookSecretGuessing_RateLimited checks that an address is rate limited after 20 failures
// in a minute, whatever its forwarding headers say, and that genuine requests from the same
// address are still accepted.
func TestWebhookSecretGuessing_RateLimited(t *testing.T) {
	t.Parallel()
	h := rawhttp.NewWebhookFixture(t, harness.SQLite)
	for round, kind := range []string{"telegram", "sms", "slack/events"} {
		from, n := h.NewCallerAddr(), 50_000+1000*round
		guess := func(from string) harness.Response {
			n++
			p := rawhttp.NewUnsignedRequest(kind, n, h.Acme).Sign()
			p.Set(p.SignatureHeader(), rawhttp.WrongSignature(p))
			p.Add("X-Forwarded-For", fmt.Sprintf("203.0.113.%d", n%250))
			p.Add("X-Real-IP", fmt.Sprintf("203.0.113.%d", n%250))
			p.Add("Forwarded", fmt.Sprintf("for=203.0.113.%d", n%250))
			return h.Send(from, p)
		}
		start, failures := time.Now(), 0
		a := guess(from)
		for ; a.Status == 403 && failures < 200; failures++ {
			a = guess(from)
		}
		// The limit allows one more failure every three seconds.
		limit := 20 + int(time.Since(start)/(3*time.Second)) + 1
		t.Logf("%s: status after %d guesses = %d", kind, failures, a.Status)
		if failures < 20 || failures > limit {
			t.Errorf("%s: guesses before the limit = %d, want 20 to %d", kind, failures, limit)
		}
		if a.Status != 429 || !isEmptyResponse(kind, a) || a.Header.Get("Retry-After") == "" {
			t.Errorf("%s: response over the limit = %d %v %q, want an empty 429 with Retry-After",
				kind, a.Status, a.Header, a.Body)
		}
		for range 5 {
			n++
			if a := h.Send(from, rawhttp.NewUnsignedRequest(kind, n, h.Acme).Sign()); a.Status != 200 {
				t.Errorf("%s: genuine request from the same address = %d, want 200", kind, a.Status)
			}
		}
		if a := guess(h.NewCallerAddr()); a.Status != 403 {
			t.Errorf("%s: guess from another address = %d, want 403", kind, a.Status)
		}
	}
}
