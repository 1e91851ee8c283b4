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

// What one stranger may cost.
const (
	maxAllocated      = 1 << 20
	maxWait           = 50 * time.Millisecond
	maxResidentGrowth = 10 << 20
)

// A largeBody is a request with an enormous body whose sender cannot prove anything.
type largeBody struct {
	kind, name string
	change     func(p *rawhttp.RawRequest)
	status     int
	content    string // repeated for a body
}

func largeBodies() (all []largeBody) {
	for _, kind := range []string{"telegram", "sms", "whatsapp", "slack/events", "slack/commands", "slack/interactivity"} {
		told := 413
		if kind == "telegram" {
			told = 403
		}
		wrong := func(p *rawhttp.RawRequest) { p.Set(p.SignatureHeader(), rawhttp.WrongSignature(p)) }
		all = append(all,
			largeBody{kind, "LengthTold", wrong, told, "a"},
			largeBody{kind, "InChunks", func(p *rawhttp.RawRequest) { wrong(p); p.Framing = []string{"Transfer-Encoding: chunked"} }, told, "a"},
			largeBody{kind, "NotSigned", func(p *rawhttp.RawRequest) { p.Del(p.SignatureHeader()) }, 403, "a"},
		)
	}
	return append(all, largeBody{"sms", "ManyFields", func(p *rawhttp.RawRequest) {
		p.Set(rawhttp.TwilioSignatureHeader, rawhttp.WrongSignature(p))
		p.Framing = []string{"Content-Length: 65535"}
	}, 403, "a=&b&"})
}

// TestUnauthenticatedWebhook_ResourceUse sends 64 MiB under a wrong proof on every channel. Neither memory
// nor time is spent on it. What the program does besides, and this test with it, is
// allocated too: so the least of some rounds is nearest to what the request cost.
func TestUnauthenticatedWebhook_ResourceUse(t *testing.T) {
	const size, rounds = 64 << 20, 5
	h := rawhttp.NewWebhookFixture(t, app.Settings{}, (*rawhttp.WebhookFixture).ServeInProcess)
	for i, b := range largeBodies() {
		var bytes []uint64
		var waits []time.Duration
		for round := range rounds {
			p := rawhttp.NewUnsignedRequest(b.kind, 20_000+i*rounds+round, h.Acme).Sign()
			b.change(p)
			var before, after runtime.MemStats
			from := h.NewCallerAddr()
			runtime.ReadMemStats(&before)
			status, took := sendLargeBody(h, t, from, p, b.content, size)
			runtime.ReadMemStats(&after)
			if status != b.status {
				t.Errorf("%s %s: answered %d; want %d", b.kind, b.name, status, b.status)
			}
			bytes, waits = append(bytes, after.TotalAlloc-before.TotalAlloc), append(waits, took)
		}
		slices.Sort(bytes)
		slices.Sort(waits)
		t.Logf("%-20s %-10s allocated %4d KiB (with what else went on: %4d), answered after %v (slowest %v)", b.kind, b.name, bytes[0]>>10, bytes[rounds-1]>>10, waits[rounds/2].Round(time.Microsecond), waits[rounds-1].Round(time.Microsecond))
		if bytes[0] > maxAllocated {
			t.Errorf("%s %s: %d bytes are allocated for a stranger; want at most %d", b.kind, b.name, bytes[0], maxAllocated)
		}
		if waits[rounds/2] > maxWait {
			t.Errorf("%s %s: answered after %v; want at most %v", b.kind, b.name, waits[rounds/2], maxWait)
		}
	}
}

// TestUnauthenticatedWebhook_MeasurementControl weighs a hook that reads all it is sent.
func TestUnauthenticatedWebhook_MeasurementControl(t *testing.T) {
	naive := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		w.WriteHeader(http.StatusForbidden)
	}))
	defer naive.Close()
	h := &rawhttp.WebhookFixture{T: t, Addr: naive.Listener.Addr().String()}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	status, _ := sendLargeBody(h, t, "", rawhttp.NewUnsignedRequest("telegram", 1, rawhttp.InstanceAccounts{}).Sign(), "a", 64<<20)
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; status != 403 || got < 64<<20 {
		t.Errorf("answered %d, and only %d bytes are seen to be allocated", status, got)
	}
}

// sendLargeBody sends a request with a body of size bytes, for as long as it is taken, and
// gives the answer and how long it took to come.
func sendLargeBody(h *rawhttp.WebhookFixture, t *testing.T, from string, p *rawhttp.RawRequest, content string, size int) (status int, took time.Duration) {
	t.Helper()
	c := h.Dial(t, from)
	if p.Framing == nil {
		p.Framing = []string{"Content-Length: " + strconv.Itoa(size)}
	}
	p.Body, p.WireBody = "", ""
	head, chunk := []byte(p.Encode()), bodyChunk(content, p.Framing[0] == "Transfer-Encoding: chunked")
	begun := time.Now()
	pumped := make(chan struct{})
	go func() {
		defer close(pumped)
		writeBody(c, head, chunk, size)
	}()
	a := rawhttp.ReadResponse(t, bufio.NewReader(c), p.Method)
	took = time.Since(begun)
	_ = c.Close()
	<-pumped
	return a.Status, took
}

// bodyChunk is a part of a body that is sent over and over.
func bodyChunk(content string, chunked bool) []byte {
	part := strings.Repeat(content, (16<<10)/len(content))
	if chunked {
		part = fmt.Sprintf("%x\r\n%s\r\n", len(part), part)
	}
	return []byte(part)
}

// writeBody writes until it is hung up on.
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

// TestLargeBodies_MemoryUse sends 300 MB on every channel to a process of its
// own, also under a right proof, and looks at the most it ever had in memory.
func TestLargeBodies_MemoryUse(t *testing.T) {
	const size = 300_000_000
	h := rawhttp.NewWebhookFixture(t, app.Settings{}, (*rawhttp.WebhookFixture).ServeInChild)
	all := append(largeBodies(),
		largeBody{"telegram", "RightSecret", func(*rawhttp.RawRequest) {}, 413, "a"},
		largeBody{"telegram", "RightSecretInChunks", func(p *rawhttp.RawRequest) { p.Framing = []string{"Transfer-Encoding: chunked"} }, 413, "a"},
	)
	each := func(n int) {
		for i, b := range all {
			p := rawhttp.NewUnsignedRequest(b.kind, n+i, h.Acme).Sign()
			b.change(p)
			if status, _ := sendLargeBody(h, t, h.NewCallerAddr(), p, b.content, size); status != b.status {
				t.Errorf("%s %s: answered %d; want %d", b.kind, b.name, status, b.status)
			}
			expectAccepted(h, t, "a message meanwhile", rawhttp.NewUnsignedRequest("telegram", n+500+i, h.Acme).Sign(), 1)
		}
	}
	each(30_000) // what it needs to work at all
	resetPeakMemory(h, t)
	before := peakMemory(h, t)
	each(40_000)
	grown := peakMemory(h, t) - before
	t.Logf("%d bodies of %d MB: resident memory %.1f MB, at its peak %.1f MB more", len(all), size/1_000_000, float64(before)/(1<<20), float64(grown)/(1<<20))
	most := int64(maxResidentGrowth)
	if harness.RaceEnabled() {
		most *= 4 // its shadow of the memory is kept, too
	}
	if grown > most {
		t.Errorf("memory grew by %d bytes; want at most %d", grown, most)
	}
}

// peakMemory gives the most memory that the process ever had.
func peakMemory(h *rawhttp.WebhookFixture, t *testing.T) int64 {
	return harness.ProcessMemory(t, h.Pid, "VmHWM:")
}

// resetPeakMemory makes what the process has now the most it ever had.
func resetPeakMemory(h *rawhttp.WebhookFixture, t *testing.T) {
	t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", h.Pid), []byte("5"), 0); err != nil {
		t.Fatal(err)
	}
}

// TestWebhookSecretGuessing_RateLimited lets one address guess on: from the twenty-first failure in a minute
// it is told to wait, whatever it says of itself, and the provider behind the same
// address is heard all the while.
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
		begun, refused := time.Now(), 0
		a := guess(from)
		for ; a.Status == 403 && refused < 200; refused++ {
			a = guess(from)
		}
		// Another one is free every three seconds.
		most := 20 + int(time.Since(begun)/(3*time.Second)) + 1
		t.Logf("%s: after %d guesses from one address it is answered %d", kind, refused, a.Status)
		if refused < 20 || refused > most {
			t.Errorf("%s: told to wait after %d guesses; want 20 to %d", kind, refused, most)
		}
		if a.Status != 429 || !isEmptyResponse(kind, a) || a.Header.Get("Retry-After") == "" {
			t.Errorf("%s: who guesses on is answered %d %v %q", kind, a.Status, a.Header, a.Body)
		}
		for range 5 {
			n++
			if a := h.Send(t, from, rawhttp.NewUnsignedRequest(kind, n, h.Acme).Sign()); a.Status != 200 {
				t.Errorf("%s: the provider behind the same address is answered %d", kind, a.Status)
			}
		}
		if a := guess(h.NewCallerAddr()); a.Status != 403 {
			t.Errorf("%s: another address is answered %d", kind, a.Status)
		}
	}
}
