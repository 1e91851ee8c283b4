//go:build linux

package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// What one stranger may cost.
const (
	mostAllocated = 1 << 20
	mostWaiting   = 50 * time.Millisecond
	mostResident  = 10 << 20
)

// A burden is a request with an enormous body whose sender cannot prove anything.
type burden struct {
	kind, name string
	change     func(p *hookPost)
	status     int
	content    string // repeated for a body
}

func burdens() (all []burden) {
	for _, kind := range []string{"telegram", "sms", "whatsapp", "slack/events", "slack/commands", "slack/interactivity"} {
		told := 413
		if kind == "telegram" {
			told = 403
		}
		wrong := func(p *hookPost) { p.set(p.proof(), wrongProof(p)) }
		all = append(all,
			burden{kind, "LengthTold", wrong, told, "a"},
			burden{kind, "InChunks", func(p *hookPost) { wrong(p); p.frame = []string{"Transfer-Encoding: chunked"} }, told, "a"},
			burden{kind, "NotSigned", func(p *hookPost) { p.del(p.proof()) }, 403, "a"},
		)
	}
	return append(all, burden{"sms", "ManyFields", func(p *hookPost) {
		p.set(twilioProof, wrongProof(p))
		p.frame = []string{"Content-Length: 65535"}
	}, 403, "a=&b&"})
}

// wrongProof is as well-formed as a right one.
func wrongProof(p *hookPost) string {
	right := p.get(p.proof())
	if strings.HasPrefix(right, "v0=") {
		return "v0=" + strings.Repeat("0", 64)
	}
	return strings.Repeat("A", len(right)-1) + "="
}

// TestStrangersAreCheap sends 64 MiB under a wrong proof on every channel. Neither memory
// nor time is spent on it. What the program does besides, and this test with it, is
// allocated too: so the least of some rounds is nearest to what the request cost.
func TestStrangersAreCheap(t *testing.T) {
	const size, rounds = 64 << 20, 5
	h := newHookHouse(t, settings{}, (*hookHouse).serveHere)
	for i, b := range burdens() {
		var bytes []uint64
		var waits []time.Duration
		for round := range rounds {
			p := draft(b.kind, 20_000+i*rounds+round, h.acme).post()
			b.change(p)
			var before, after runtime.MemStats
			from := h.caller()
			runtime.ReadMemStats(&before)
			status, took := h.burden(t, from, p, b.content, size)
			runtime.ReadMemStats(&after)
			if status != b.status {
				t.Errorf("%s %s: answered %d; want %d", b.kind, b.name, status, b.status)
			}
			bytes, waits = append(bytes, after.TotalAlloc-before.TotalAlloc), append(waits, took)
		}
		slices.Sort(bytes)
		slices.Sort(waits)
		t.Logf("%-20s %-10s allocated %4d KiB (with what else went on: %4d), answered after %v (slowest %v)", b.kind, b.name, bytes[0]>>10, bytes[rounds-1]>>10, waits[rounds/2].Round(time.Microsecond), waits[rounds-1].Round(time.Microsecond))
		if bytes[0] > mostAllocated {
			t.Errorf("%s %s: %d bytes are allocated for a stranger; want at most %d", b.kind, b.name, bytes[0], mostAllocated)
		}
		if waits[rounds/2] > mostWaiting {
			t.Errorf("%s %s: answered after %v; want at most %v", b.kind, b.name, waits[rounds/2], mostWaiting)
		}
	}
}

// TestTheScaleForStrangersIsTrue weighs a hook that reads all it is sent.
func TestTheScaleForStrangersIsTrue(t *testing.T) {
	naive := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		w.WriteHeader(http.StatusForbidden)
	}))
	defer naive.Close()
	h := &hookHouse{t: t, addr: naive.Listener.Addr().String()}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	status, _ := h.burden(t, "", draft("telegram", 1, hookSeat{}).post(), "a", 64<<20)
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; status != 403 || got < 64<<20 {
		t.Errorf("answered %d, and only %d bytes are seen to be allocated", status, got)
	}
}

// burden sends a request with a body of size bytes, for as long as it is taken, and
// gives the answer and how long it took to come.
func (h *hookHouse) burden(t *testing.T, from string, p *hookPost, content string, size int) (status int, took time.Duration) {
	t.Helper()
	c := h.dial(t, from)
	if p.frame == nil {
		p.frame = []string{"Content-Length: " + strconv.Itoa(size)}
	}
	p.body, p.sent = "", ""
	head, chunk := []byte(p.wire()), bodyPart(content, p.frame[0] == "Transfer-Encoding: chunked")
	begun := time.Now()
	pumped := make(chan struct{})
	go func() {
		defer close(pumped)
		pump(c, head, chunk, size)
	}()
	a := read(t, bufio.NewReader(c), p.method)
	took = time.Since(begun)
	_ = c.Close()
	<-pumped
	return a.status, took
}

// bodyPart is a part of a body that is sent over and over.
func bodyPart(content string, chunked bool) []byte {
	part := strings.Repeat(content, (16<<10)/len(content))
	if chunked {
		part = fmt.Sprintf("%x\r\n%s\r\n", len(part), part)
	}
	return []byte(part)
}

// pump writes until it is hung up on.
func pump(c net.Conn, head, part []byte, size int) {
	if _, err := c.Write(head); err != nil {
		return
	}
	for sent := 0; sent < size; sent += len(part) {
		if _, err := c.Write(part); err != nil {
			return
		}
	}
}

// TestEnormousBodiesLeaveMemoryAlone sends 300 MB on every channel to a process of its
// own, also under a right proof, and looks at the most it ever had in memory.
func TestEnormousBodiesLeaveMemoryAlone(t *testing.T) {
	const size = 300_000_000
	h := newHookHouse(t, settings{}, (*hookHouse).serveBeside)
	all := append(burdens(),
		burden{"telegram", "RightSecret", func(*hookPost) {}, 413, "a"},
		burden{"telegram", "RightSecretInChunks", func(p *hookPost) { p.frame = []string{"Transfer-Encoding: chunked"} }, 413, "a"},
	)
	each := func(n int) {
		for i, b := range all {
			p := draft(b.kind, n+i, h.acme).post()
			b.change(p)
			if status, _ := h.burden(t, h.caller(), p, b.content, size); status != b.status {
				t.Errorf("%s %s: answered %d; want %d", b.kind, b.name, status, b.status)
			}
			h.takes(t, "a message meanwhile", draft("telegram", n+500+i, h.acme).post(), 1)
		}
	}
	each(30_000) // what it needs to work at all
	h.forgetPeak(t)
	before := h.peak(t)
	each(40_000)
	grown := h.peak(t) - before
	t.Logf("%d bodies of %d MB: resident memory %.1f MB, at its peak %.1f MB more", len(all), size/1_000_000, float64(before)/(1<<20), float64(grown)/(1<<20))
	most := int64(mostResident)
	if raced() {
		most *= 4 // its shadow of the memory is kept, too
	}
	if grown > most {
		t.Errorf("memory grew by %d bytes; want at most %d", grown, most)
	}
}

// raced reports whether this was built with the race detector.
func raced() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// peak gives the most memory that the process ever had.
func (h *hookHouse) peak(t *testing.T) int64 { return memory(t, h.pid, "VmHWM:") }

// memory gives what the kernel says of the memory of a process.
func memory(t *testing.T, pid int, which string) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), which)
	kilobytes, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kilobytes << 10
}

// forgetPeak makes what the process has now the most it ever had.
func (h *hookHouse) forgetPeak(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", h.pid), []byte("5"), 0); err != nil {
		t.Fatal(err)
	}
}

// TestGuessersWait lets one address guess on: from the twenty-first failure in a minute
// it is told to wait, whatever it says of itself, and the provider behind the same
// address is heard all the while.
func TestGuessersWait(t *testing.T) {
	t.Parallel()
	h := newHookHouse(t, settings{}, (*hookHouse).serveHere)
	for round, kind := range []string{"telegram", "sms", "slack/events"} {
		from, n := h.caller(), 50_000+1000*round
		guess := func(from string) hookAnswer {
			n++
			p := draft(kind, n, h.acme).post()
			p.set(p.proof(), wrongProof(p))
			p.add("X-Forwarded-For", fmt.Sprintf("203.0.113.%d", n%250))
			p.add("X-Real-IP", fmt.Sprintf("203.0.113.%d", n%250))
			p.add("Forwarded", fmt.Sprintf("for=203.0.113.%d", n%250))
			return h.send(t, from, p)
		}
		begun, refused := time.Now(), 0
		a := guess(from)
		for ; a.status == 403 && refused < 200; refused++ {
			a = guess(from)
		}
		// Another one is free every three seconds.
		most := 20 + int(time.Since(begun)/(3*time.Second)) + 1
		t.Logf("%s: after %d guesses from one address it is answered %d", kind, refused, a.status)
		if refused < 20 || refused > most {
			t.Errorf("%s: told to wait after %d guesses; want 20 to %d", kind, refused, most)
		}
		if a.status != 429 || !saysNothing(kind, a) || a.header.Get("Retry-After") == "" {
			t.Errorf("%s: who guesses on is answered %d %v %q", kind, a.status, a.header, a.body)
		}
		for range 5 {
			n++
			if a := h.send(t, from, draft(kind, n, h.acme).post()); a.status != 200 {
				t.Errorf("%s: the provider behind the same address is answered %d", kind, a.status)
			}
		}
		if a := guess(h.caller()); a.status != 403 {
			t.Errorf("%s: another address is answered %d", kind, a.status)
		}
	}
}
