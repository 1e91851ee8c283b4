package webhooks

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"hydragate/cmd/hydragate/app"
	"hydragate/e2e/harness"
	"hydragate/e2e/harness/rawhttp"
)

// Limits on the resources that an unauthenticated request may use.
const (
	maxAllocated      = 1 << 20
	maxWait           = 50 * time.Millisecond
	maxResidentGrowth = 10 << 20
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

// TestUnauthenticatedWebhook_ResourceUse checks that an unauthenticated body of 64 MiB on any
// channel uses little memory and time. Other goroutines of the process allocate too, so the test
// takes the minimum of several rounds.
func TestUnauthenticatedWebhook_ResourceUse(t *testing.T) {
	const size, rounds = 64 << 20, 5
	h := rawhttp.NewWebhookFixture(t, app.Settings{}, (*rawhttp.WebhookFixture).ServeInProcess)
	for i, b := range largeBodies() {
		var allocated []uint64
		var durations []time.Duration
		for round := range rounds {
			p := rawhttp.NewUnsignedRequest(b.kind, 20_000+i*rounds+round, h.Acme).Sign()
			b.change(p)
			var before, after runtime.MemStats
			from := h.NewCallerAddr()
			runtime.ReadMemStats(&before)
			status, took := sendLargeBody(h, t, from, p, b.content, size)
			runtime.ReadMemStats(&after)
			if status != b.status {
				t.Errorf("%s, %s: status = %d, want %d", b.kind, b.name, status, b.status)
			}
			allocated = append(allocated, after.TotalAlloc-before.TotalAlloc)
			durations = append(durations, took)
		}
		slices.Sort(allocated)
		slices.Sort(durations)
		median := durations[rounds/2]
		t.Logf("%-20s %-14s allocated %4d KiB (max %4d), response after %v (max %v)",
			b.kind, b.name, allocated[0]>>10, allocated[rounds-1]>>10,
			median.Round(time.Microsecond), durations[rounds-1].Round(time.Microsecond))
		if allocated[0] > maxAllocated {
			t.Errorf("%s, %s: allocated %d bytes, want at most %d", b.kind, b.name, allocated[0], maxAllocated)
		}
		if median > maxWait {
			t.Errorf("%s, %s: median response time = %v, want at most %v", b.kind, b.name, median, maxWait)
		}
	}
}

// TestUnauthenticatedWebhook_MeasurementControl is the control: the measurement must detect a
// handler that reads the whole body.
func TestUnauthenticatedWebhook_MeasurementControl(t *testing.T) {
	naive := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		w.WriteHeader(http.StatusForbidden)
	}))
	defer naive.Close()
	h := &rawhttp.WebhookFixture{T: t, Addr: naive.Listener.Addr().String()}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	p := rawhttp.NewUnsignedRequest("telegram", 1, rawhttp.InstanceAccounts{}).Sign()
	status, _ := sendLargeBody(h, t, "", p, "a", 64<<20)
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; status != 403 || got < 64<<20 {
		t.Errorf("status = %d with %d bytes allocated, want 403 with at least %d", status, got, 64<<20)
	}
}

// sendLargeBody sends a request with a body of size bytes until the server closes the connection.
// It returns the status and the time until the response arrived.
func sendLargeBody(h *rawhttp.WebhookFixture, t *testing.T, from string, p *rawhttp.RawRequest, content string,
	size int) (status int, took time.Duration) {
	t.Helper()
	c := h.Dial(t, from)
	if p.Framing == nil {
		p.Framing = []string{"Content-Length: " + strconv.Itoa(size)}
	}
	p.Body, p.WireBody = "", ""
	head, chunk := []byte(p.Encode()), bodyChunk(content, p.Framing[0] == "Transfer-Encoding: chunked")
	start := time.Now()
	written := make(chan struct{})
	go func() {
		defer close(written)
		writeBody(c, head, chunk, size)
	}()
	a := rawhttp.ReadResponse(t, bufio.NewReader(c), p.Method)
	took = time.Since(start)
	_ = c.Close()
	<-written
	return a.Status, took
}

// bodyChunk returns a part of the body that is sent repeatedly.
func bodyChunk(content string, chunked bool) []byte {
	part := strings.Repeat(content, (16<<10)/len(content))
	if chunked {
		part = fmt.Sprintf("%x\r\n%s\r\n", len(part), part)
	}
	return []byte(part)
}

// writeBody writes head and size bytes of body, or stops when the connection is closed.
func writeBody(c net.Conn, head, part []byte, size int) {
	if _, err := c.Write(head); err != nil {
		return
	}
	for sent := 0; sent < size; sent += len(part) {
		if _, err := c.Write(part); err != nil {
			return
		}
	}
}

// TestLargeBodies_MemoryUse sends bodies of 300 MB on every channel to a gateway in a child
// process, some with a valid secret, and checks the peak resident memory.
func TestLargeBodies_MemoryUse(t *testing.T) {
	const size = 300_000_000
	h := rawhttp.NewWebhookFixture(t, app.Settings{}, (*rawhttp.WebhookFixture).ServeInChild)
	all := append(largeBodies(),
		largeBody{"telegram", "valid secret", func(*rawhttp.RawRequest) {}, 413, "a"},
		largeBody{"telegram", "valid secret, chunked", func(p *rawhttp.RawRequest) {
			p.Framing = []string{"Transfer-Encoding: chunked"}
		}, 413, "a"},
	)
	sendAll := func(n int) {
		for i, b := range all {
			p := rawhttp.NewUnsignedRequest(b.kind, n+i, h.Acme).Sign()
			b.change(p)
			if status, _ := sendLargeBody(h, t, h.NewCallerAddr(), p, b.content, size); status != b.status {
				t.Errorf("%s, %s: status = %d, want %d", b.kind, b.name, status, b.status)
			}
			genuine := rawhttp.NewUnsignedRequest("telegram", n+500+i, h.Acme).Sign()
			expectAccepted(h, t, "message after "+b.name, genuine, 1)
		}
	}
	sendAll(30_000) // warm up
	resetPeakMemory(h, t)
	before := peakMemory(h, t)
	sendAll(40_000)
	growth := peakMemory(h, t) - before
	t.Logf("%d bodies of %d MB: resident memory %.1f MiB, peak growth %.1f MiB",
		len(all), size/1_000_000, float64(before)/(1<<20), float64(growth)/(1<<20))
	limit := int64(maxResidentGrowth)
	if harness.RaceEnabled() {
		limit *= 4 // the race detector keeps shadow memory
	}
	if growth > limit {
		t.Errorf("peak memory growth = %d bytes, want at most %d", growth, limit)
	}
}

// peakMemory returns the peak resident memory of the gateway in bytes.
func peakMemory(h *rawhttp.WebhookFixture, t *testing.T) int64 {
	return harness.ProcessMemory(t, h.Pid, "VmHWM:")
}

// resetPeakMemory resets the peak resident memory of the gateway to the current value.
func resetPeakMemory(h *rawhttp.WebhookFixture, t *testing.T) {
	t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", h.Pid), []byte("5"), 0); err != nil {
		t.Fatal(err)
	}
}

// TestWebhookSecretGuessing_RateLimited checks that an address is rate limited after 20 failures
// in a minute, whatever its forwarding headers say, and that genuine requests from the same
// address are still accepted.
func TestWebhookSecretGuessing_RateLimited(t *testing.T) {
	t.Parallel()
	h := rawhttp.NewWebhookFixture(t, app.Settings{}, (*rawhttp.WebhookFixture).ServeInProcess)
	for round, kind := range []string{"telegram", "sms", "slack/events"} {
		from, n := h.NewCallerAddr(), 50_000+1000*round
		guess := func(from string) harness.Response {
			n++
			p := rawhttp.NewUnsignedRequest(kind, n, h.Acme).Sign()
			p.Set(p.SignatureHeader(), rawhttp.WrongSignature(p))
			p.Add("X-Forwarded-For", fmt.Sprintf("203.0.113.%d", n%250))
			p.Add("X-Real-IP", fmt.Sprintf("203.0.113.%d", n%250))
			p.Add("Forwarded", fmt.Sprintf("for=203.0.113.%d", n%250))
			return h.Send(t, from, p)
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
			if a := h.Send(t, from, rawhttp.NewUnsignedRequest(kind, n, h.Acme).Sign()); a.Status != 200 {
				t.Errorf("%s: genuine request from the same address = %d, want 200", kind, a.Status)
			}
		}
		if a := guess(h.NewCallerAddr()); a.Status != 403 {
			t.Errorf("%s: guess from another address = %d, want 403", kind, a.Status)
		}
	}
}
