//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// What slow clients may have.
const (
	longestSlow = 5 * time.Second
	drip        = 400 * time.Millisecond // between the bytes of who sends one at a time
	slowdown    = 2                      // times the p99 of a genuine request before
)

// The ways to be slow. Each begins with what it sends at once, and goes on byte by byte.
var slowWays = []struct {
	name  string
	makes func(h *hookHouse, n int) (atOnce, rest string)
}{
	{"says nothing", func(*hookHouse, int) (string, string) { return "", "" }},
	{"drips its header", func(h *hookHouse, n int) (string, string) {
		return "", draft("telegram", n, h.acme).post().wire()
	}},
	{"stops in the header", func(h *hookHouse, n int) (string, string) {
		return draft("sms", n, h.acme).post().wire()[:60], ""
	}},
	{"drips its body", func(h *hookHouse, n int) (string, string) {
		p := draft("slack/events", n, h.acme).post()
		p.set(slackProof, wrongProof(p))
		return head(p)
	}},
	{"drips the body of the provider", func(h *hookHouse, n int) (string, string) {
		return head(draft("telegram", n, h.acme).post())
	}},
	{"keeps its body", func(h *hookHouse, n int) (string, string) {
		at, _ := head(draft("sms", n, h.acme).post())
		return at, ""
	}},
	{"drips chunks", func(h *hookHouse, n int) (string, string) {
		p := draft("whatsapp", n, h.acme).post()
		p.chunked(1)
		return head(p)
	}},
}

func head(p *hookPost) (head, body string) {
	head, body, _ = strings.Cut(p.wire(), "\r\n\r\n")
	return head + "\r\n\r\n", body
}

// TestSlowClientsHoldNothing lets many clients be slow in every way at once. All of them
// are hung up on in time, nothing they sent is kept, genuine requests are answered
// nearly as fast as before, and afterwards the process is as it was.
//
// One p99 of a busy machine says little, so the middle of several is compared, and
// where they differ too much there are more of them. By as much as the slowest genuine
// request took, the machine itself was late, and who is hung up on may be.
func TestSlowClientsHoldNothing(t *testing.T) {
	clients, rounds, most, samples := 300, 2, 6, 150
	if long() {
		clients, rounds, most, samples = 2000, 5, 15, 300
	}
	mayOpen(t, uint64(2*clients+500))
	h := newHookHouse(t, settings{}, (*hookHouse).serveBeside)
	n := 100_000
	var late time.Duration
	p99 := func() time.Duration {
		n += samples
		took, slowest := h.p99(t, n-samples, samples)
		late = max(late, slowest)
		return took
	}
	p99() // what only the first ones cost
	fds, goroutines, stored := h.fds(t), h.goroutines(t), h.messages()-samples
	var quiet, busy []time.Duration
	var slowest time.Duration
	for round := 1; ; round++ {
		quiet = append(quiet, p99())
		crowd := h.crowdOfSlow(t, clients)
		<-crowd.there
		busy = append(busy, p99())
		slowest = max(slowest, crowd.wait(t))
		before, during := median(quiet), median(busy)
		if round >= rounds && during < slowdown*before || round == most {
			t.Logf("%d rounds of %d slow clients: all hung up on within %v, while the machine was late by up to %v; p99 of %d genuine requests, the middle of the rounds: before %v %v, during %v %v",
				round, clients, slowest.Round(time.Millisecond), late.Round(time.Millisecond), samples, before, quiet, during, busy)
			if during >= slowdown*before {
				t.Errorf("genuine requests take %v, and %v among slow clients", before, during)
			}
			break
		}
	}
	if slowest > longestSlow+late {
		t.Errorf("the last slow client was hung up on after %v; want %v at most, and %v for the machine", slowest, longestSlow, late)
	}
	if got, want := h.messages()-stored, (1+len(quiet)+len(busy))*samples; got != want {
		t.Errorf("%d messages are stored; want %d, those of the genuine requests alone", got, want)
	}
	// Connections to the database may have been added. Who was slow in one of the ways is
	// more than that: a seventh of all.
	const some = 20
	eventually(t, fmt.Sprintf("no more than %d files and %d goroutines above %d and %d", some, some, fds, goroutines), func() bool {
		return h.fds(t) <= fds+some && h.goroutines(t) <= goroutines+some
	})
}

func median(ds []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(ds))
	return sorted[len(sorted)/2]
}

// mayOpen makes sure that this process can have so many files open.
func mayOpen(t *testing.T, files uint64) {
	t.Helper()
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
	if l.Max < files {
		t.Fatalf("at most %d files can be open here; the test needs %d: raise the hard limit (ulimit -Hn)", l.Max, files)
	}
	l.Cur = l.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
}

// p99 sends genuine requests, one after the other, and gives the time that all but the
// slowest hundredth of them took, and what the slowest did.
func (h *hookHouse) p99(t *testing.T, n, samples int) (p99, slowest time.Duration) {
	t.Helper()
	took := make([]time.Duration, samples)
	from := h.caller()
	for i := range took {
		begun := time.Now()
		if a := h.send(t, from, draft("telegram", n+i, h.acme).post()); a.status != 200 {
			t.Fatalf("a genuine request is answered %d", a.status)
		}
		took[i] = time.Since(begun)
	}
	slices.Sort(took)
	return took[samples*99/100], took[samples-1]
}

// A slowCrowd is many slow clients.
type slowCrowd struct {
	there chan struct{} // closed when all are connected
	all   sync.WaitGroup
	stop  context.CancelFunc

	mu   sync.Mutex
	last time.Duration // the longest that one of them was kept
	errs []error
}

func (h *hookHouse) crowdOfSlow(t *testing.T, clients int) *slowCrowd {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	c := &slowCrowd{there: make(chan struct{}), stop: stop}
	var connected sync.WaitGroup
	connected.Add(clients)
	for i := range clients {
		way := slowWays[i%len(slowWays)]
		atOnce, rest := way.makes(h, 900_000+i)
		c.all.Go(func() {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", h.addr)
			begun := time.Now()
			connected.Done()
			if err == nil {
				err = beSlow(ctx, conn, atOnce, rest)
			}
			c.ended(time.Since(begun), way.name, err)
		})
	}
	go func() {
		connected.Wait()
		close(c.there)
	}()
	return c
}

// beSlow is one slow client, until it is hung up on.
func beSlow(ctx context.Context, conn net.Conn, atOnce, rest string) error {
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
	each := time.NewTicker(drip)
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

func (c *slowCrowd) ended(after time.Duration, way string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = max(c.last, after)
	if err != nil {
		c.errs = append(c.errs, fmt.Errorf("who %s was never hung up on: %w", way, err))
	}
}

// wait waits until all of them were hung up on, and gives how long the last was kept.
func (c *slowCrowd) wait(t *testing.T) time.Duration {
	t.Helper()
	c.all.Wait()
	c.stop()
	if len(c.errs) > 0 {
		t.Errorf("%d slow clients: %v", len(c.errs), c.errs[0])
	}
	return c.last
}

func (h *hookHouse) fds(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", h.pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

var goroutineCount = regexp.MustCompile(`(?m)^go_goroutines (\d+)$`)

func (h *hookHouse) goroutines(t *testing.T) int {
	t.Helper()
	p := &hookPost{method: "GET", target: "/metrics", host: "127.0.0.1", lines: []string{"Authorization: Bearer " + hookKey}}
	a := h.send(t, "", p)
	m := goroutineCount.FindStringSubmatch(a.body)
	if m == nil {
		t.Fatalf("no count of goroutines: %d %.200s", a.status, a.body)
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

// TestBombs sends what is small to make and large to read. It is refused at once.
func TestBombs(t *testing.T) {
	t.Parallel()
	h := newHookHouse(t, settings{}, (*hookHouse).serveHere)
	hook := func(change func(p *hookPost)) *hookPost {
		p := draft("telegram", 1, h.acme).post()
		change(p)
		return p
	}
	call := func(body string) *hookPost {
		return &hookPost{method: "POST", target: "/v1/customers", host: "127.0.0.1", body: body, lines: []string{"Authorization: Bearer " + hookKey, "Content-Type: application/json"}}
	}
	keys := func(n int) string {
		var b strings.Builder
		for i := range n {
			_, _ = fmt.Fprintf(&b, `,"%x":1`, i)
		}
		return `{"email":"steve@example.com"` + b.String() + "}"
	}
	deep := func(n int) string {
		return `{"metadata":` + strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n) + "}"
	}
	for name, c := range map[string]struct {
		p    *hookPost
		want int
	}{
		"LongHeader":           {hook(func(p *hookPost) { p.add("X-A", strings.Repeat("a", 64<<10)) }), 431},
		"ManyHeaders":          {hook(func(p *hookPost) { p.lines = append(p.lines, slices.Repeat([]string{"X-A: a"}, 20_000)...) }), 431},
		"LongTarget":           {hook(func(p *hookPost) { p.target += strings.Repeat("a", 64<<10) }), 431},
		"LongHeaderOfACall":    {&hookPost{method: "GET", target: "/v1/customers", host: "a", lines: []string{"Authorization: Bearer " + strings.Repeat("a", 64<<10)}}, 431},
		"DeepBy33":             {call(deep(32)), 422},
		"DeepBy40000":          {call(deep(40_000)), 422},
		"DeepListUnclosed":     {call(strings.Repeat("[", 200_000)), 422},
		"KeysBy1001":           {call(keys(1000)), 422},
		"KeysBy20000":          {call(keys(20_000)), 422},
		"LongNumber":           {call(`{"email":` + strings.Repeat("9", 200_000) + "}"), 422},
		"MoreThanACallCarries": {call(`{"email":"` + strings.Repeat("a", 300_000) + `"}`), 413},
		"ZippedCall":           {&hookPost{method: "POST", target: "/v1/customers", host: "a", body: zipped(strings.Repeat("a", 1<<20)), lines: []string{"Authorization: Bearer " + hookKey, "Content-Type: application/json", "Content-Encoding: gzip"}}, 415},
		"GenuineAfterAll":      {call(`{"email":"bombs@example.com","metadata":{"a":{"b":{"c":1}}}}`), 201},
	} {
		begun := time.Now()
		a := h.send(t, "", c.p)
		if took := time.Since(begun); a.status != c.want || took > time.Second {
			t.Errorf("%s: %d %.200q after %v; want %d", name, a.status, a.body, took, c.want)
		}
	}
}

// TestKeptConnections lets many requests come over one connection, as providers send
// them. One that is not genuine ends it; and what hides behind the body of another is a
// request of its own, which has to prove itself.
func TestKeptConnections(t *testing.T) {
	t.Parallel()
	h := newHookHouse(t, settings{}, (*hookHouse).serveHere)
	c := h.dial(t, h.caller())
	defer func() { _ = c.Close() }()
	answers := bufio.NewReader(c)
	kinds := []string{"telegram", "sms", "whatsapp", "slack/events", "slack/commands", "slack/interactivity", "sms/status"}
	was := h.messages()
	for i := range 35 {
		if _, err := io.WriteString(c, draft(kinds[i%len(kinds)], 80_000+i, h.acme).post().wire()); err != nil {
			t.Fatal(err)
		}
		if a := read(t, answers, "POST"); a.status != http.StatusOK {
			t.Fatalf("request %d on the connection: %d", i, a.status)
		}
	}
	if got := h.messages() - was; got != 30 {
		t.Errorf("%d messages are stored; want 30", got)
	}
	forged := draft("telegram", 90_001, h.acme).post()
	forged.set(telegramProof, "guess")
	for _, kind := range []string{"telegram", "sms", "slack/events"} {
		was := h.messages()
		p := draft(kind, 90_002, h.acme).post()
		p.chunked(100)
		p.frame = append(p.frame, fmt.Sprintf("Content-Length: %d", len(p.sent)+len(forged.wire())))
		c := h.dial(t, h.caller())
		if _, err := io.WriteString(c, p.wire()+forged.wire()); err != nil {
			t.Fatal(err)
		}
		answers := bufio.NewReader(c)
		if a := read(t, answers, "POST"); a.status != http.StatusOK {
			t.Errorf("%s before what it hides: %d", kind, a.status)
		}
		if res, err := http.ReadResponse(answers, nil); err == nil && res.StatusCode != http.StatusForbidden {
			t.Errorf("what %s hides is answered %d", kind, res.StatusCode)
		}
		if got := h.messages() - was; got != 1 {
			t.Errorf("%s and what it hides: %d messages are stored; want 1", kind, got)
		}
		_ = c.Close()
	}
	if _, err := io.WriteString(c, forged.wire()); err != nil {
		t.Fatal(err)
	}
	if a := read(t, answers, "POST"); a.status != http.StatusForbidden {
		t.Errorf("a forged request on a good connection: %d", a.status)
	}
	if _, err := answers.ReadByte(); err == nil {
		t.Error("the connection of a forged request goes on")
	}
}
