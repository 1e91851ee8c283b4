package webhooks

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"hydragate/e2e/harness"
	"hydragate/e2e/harness/rawhttp"
)

// TestSlowClients_Disconnected runs many clients that are slow in different ways. It checks that
// all of them are disconnected in time, that none of their requests is stored, that genuine
// requests are answered nearly as fast as without them, and that the process releases their files
// and goroutines.
//
// A single p99 on a busy machine is unreliable, so the test compares the lowest of several rounds
// and adds rounds while they differ too much. The limit on the time to disconnect is extended by
// the duration of the slowest genuine request, because the machine itself was late by that much.
func TestSlowClients_Disconnected(t *testing.T) {
	harness.ParallelUnlessFull(t)
	clients, rounds, maxRounds, samples := harness.Scaled(210, 2000), harness.Scaled(1, 5), 15, harness.Scaled(60, 300)
	// The short form shares the machine with other tests.
	slack := time.Duration(harness.Scaled(8, 0)) * time.Second
	raiseFileLimit(t, uint64(2*clients+500))
	h := rawhttp.NewWebhookFixture(t, harness.SQLite)
	n := 100_000
	var maxLatency time.Duration
	p99 := func() time.Duration { // of genuine requests, sent one after the other
		took := make([]time.Duration, samples)
		from := h.NewCallerAddr()
		for i := range took {
			n++
			start := time.Now()
			if a := h.Send(from, rawhttp.NewUnsignedRequest("telegram", n, h.Acme).Sign()); a.Status != 200 {
				t.Fatalf("genuine request = %d, want 200", a.Status)
			}
			took[i] = time.Since(start)
		}
		slices.Sort(took)
		maxLatency = max(maxLatency, took[samples-1])
		return took[samples*99/100]
	}
	p99() // warm up
	goroutines := func() int { return int(h.Metric(h.Gateway, "go_goroutines")) }
	fds, idle, stored := h.OpenFiles(h.Gateway), goroutines(), h.MessageCount()-samples
	var quiet, busy []time.Duration
	var slowest time.Duration
	for round := 1; ; round++ {
		quiet = append(quiet, p99())
		crowd := h.StartSlowClients(clients)
		<-crowd.Connected
		busy = append(busy, p99())
		slowest = max(slowest, crowd.Wait(t))
		before, during := slices.Min(quiet), slices.Min(busy)
		limit := max(rawhttp.MaxSlowdown*before, slack/8)
		if round >= rounds && during < limit || round == maxRounds {
			t.Logf("%d rounds of %d slow clients: all disconnected within %v; slowest genuine request %v; "+
				"lowest p99 of %d genuine requests: %v without slow clients %v, %v with them %v",
				round, clients, slowest.Round(time.Millisecond), maxLatency.Round(time.Millisecond),
				samples, before, quiet, during, busy)
			if during >= limit {
				t.Errorf("lowest p99 with slow clients = %v, want less than %v", during, limit)
			}
			break
		}
	}
	if limit := rawhttp.MaxSlowDuration + maxLatency + slack; slowest > limit {
		t.Errorf("last slow client disconnected after %v, want at most %v", slowest, limit)
	}
	if got, want := h.MessageCount()-stored, (1+len(quiet)+len(busy))*samples; got != want {
		t.Errorf("stored messages = %d, want %d, one for each genuine request", got, want)
	}
	// The gateway may have opened more database connections. A leak in one of the seven kinds
	// of slow clients would exceed this margin.
	const margin = 20
	what := fmt.Sprintf("at most %d files and %d goroutines are left", fds+margin, idle+margin)
	harness.Eventually(t, what, func() bool {
		return h.OpenFiles(h.Gateway) <= fds+margin && goroutines() <= idle+margin
	})
}

// raiseFileLimit raises the limit on open files of this process and fails the test if it cannot
// have at least the given number.
func raiseFileLimit(t *testing.T, files uint64) {
	t.Helper()
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
	if l.Max < files {
		t.Fatalf("limit on open files = %d, want at least %d; raise the hard limit (ulimit -Hn)", l.Max, files)
	}
	l.Cur = l.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
}

// TestDecompressionBombs checks that requests that are small to create and expensive to parse are
// rejected within a second, in one of a few tries.
func TestDecompressionBombs(t *testing.T) {
	t.Parallel()
	h := rawhttp.NewWebhookFixture(t, harness.SQLite)
	webhook := func(change func(p *rawhttp.RawRequest)) *rawhttp.RawRequest {
		p := rawhttp.NewUnsignedRequest("telegram", 1, h.Acme).Sign()
		change(p)
		return p
	}
	call := func(body string) *rawhttp.RawRequest {
		return &rawhttp.RawRequest{
			Method: "POST", Target: "/v1/customers", Host: "127.0.0.1", Body: body,
			HeaderLines: []string{"Authorization: Bearer " + harness.AdminKey, "Content-Type: application/json"},
		}
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
		p    *rawhttp.RawRequest
		want int
	}{
		"long header": {webhook(func(p *rawhttp.RawRequest) { p.Add("X-A", strings.Repeat("a", 64<<10)) }), 431},
		"many headers": {webhook(func(p *rawhttp.RawRequest) {
			p.HeaderLines = append(p.HeaderLines, slices.Repeat([]string{"X-A: a"}, 20_000)...)
		}), 431},
		"long request target": {
			webhook(func(p *rawhttp.RawRequest) { p.Target += strings.Repeat("a", 64<<10) }), 431,
		},
		"long API header": {&rawhttp.RawRequest{
			Method: "GET", Target: "/v1/customers", Host: "a",
			HeaderLines: []string{"Authorization: Bearer " + strings.Repeat("a", 64<<10)},
		}, 431},
		"nesting depth 33":         {call(deep(32)), 422},
		"nesting depth 40001":      {call(deep(40_000)), 422},
		"unclosed nested list":     {call(strings.Repeat("[", 200_000)), 422},
		"1001 keys":                {call(keys(1000)), 422},
		"20001 keys":               {call(keys(20_000)), 422},
		"long number":              {call(`{"email":` + strings.Repeat("9", 200_000) + "}"), 422},
		"body over the size limit": {call(`{"email":"` + strings.Repeat("a", 300_000) + `"}`), 413},
		"gzip API body": {&rawhttp.RawRequest{
			Method: "POST", Target: "/v1/customers", Host: "a", Body: harness.Gzipped(strings.Repeat("a", 1<<20)),
			HeaderLines: []string{
				"Authorization: Bearer " + harness.AdminKey, "Content-Type: application/json",
				"Content-Encoding: gzip",
			},
		}, 415},
		"valid request": {call(`{"email":"bombs@example.com","metadata":{"a":{"b":{"c":1}}}}`), 201},
	} {
		took := time.Hour
		var a harness.Response
		for try := 0; try < 5 && took > time.Second; try++ {
			start := time.Now()
			a = h.Send("", c.p)
			took = min(took, time.Since(start))
		}
		if a.Status != c.want || took > time.Second {
			t.Errorf("%s: status = %d %.200q after %v, want %d within 1s", name, a.Status, a.Body, took, c.want)
		}
	}
}

// TestKeepAlive_RequestSmuggling sends several requests on one connection, as providers do. It
// checks that a request hidden behind the body of another is authenticated like any other, and
// that a forged request closes the connection.
func TestKeepAlive_RequestSmuggling(t *testing.T) {
	t.Parallel()
	h := rawhttp.NewWebhookFixture(t, harness.SQLite)
	c := h.Dial(h.NewCallerAddr())
	defer func() { _ = c.Close() }()
	responses := bufio.NewReader(c)
	kinds := []string{
		"telegram", "sms", "whatsapp", "slack/events", "slack/commands", "slack/interactivity", "sms/status",
	}
	before := h.MessageCount()
	for i := range 35 {
		p := rawhttp.NewUnsignedRequest(kinds[i%len(kinds)], 80_000+i, h.Acme).Sign()
		if _, err := io.WriteString(c, p.Encode()); err != nil {
			t.Fatal(err)
		}
		if a := rawhttp.ReadResponse(t, responses, "POST"); a.Status != http.StatusOK {
			t.Fatalf("request %d on the connection: status = %d, want 200", i, a.Status)
		}
	}
	if got := h.MessageCount() - before; got != 30 {
		t.Errorf("stored messages = %d, want 30", got)
	}
	forged := rawhttp.NewUnsignedRequest("telegram", 90_001, h.Acme).Sign()
	forged.Set(rawhttp.TelegramSecretHeader, "guess")
	for _, kind := range []string{"telegram", "sms", "slack/events"} {
		before := h.MessageCount()
		p := rawhttp.NewUnsignedRequest(kind, 90_002, h.Acme).Sign()
		p.UseChunks(100)
		p.Framing = append(p.Framing, fmt.Sprintf("Content-Length: %d", len(p.WireBody)+len(forged.Encode())))
		c := h.Dial(h.NewCallerAddr())
		if _, err := io.WriteString(c, p.Encode()+forged.Encode()); err != nil {
			t.Fatal(err)
		}
		responses := bufio.NewReader(c)
		if a := rawhttp.ReadResponse(t, responses, "POST"); a.Status != http.StatusOK {
			t.Errorf("%s with a hidden request: status = %d, want 200", kind, a.Status)
		}
		if res, err := http.ReadResponse(responses, nil); err == nil && res.StatusCode != http.StatusForbidden {
			t.Errorf("request hidden in %s: status = %d, want 403", kind, res.StatusCode)
		}
		if got := h.MessageCount() - before; got != 1 {
			t.Errorf("%s with a hidden request: stored messages = %d, want 1", kind, got)
		}
		_ = c.Close()
	}
	if _, err := io.WriteString(c, forged.Encode()); err != nil {
		t.Fatal(err)
	}
	if a := rawhttp.ReadResponse(t, responses, "POST"); a.Status != http.StatusForbidden {
		t.Errorf("forged request on a connection in use: status = %d, want 403", a.Status)
	}
	if _, err := responses.ReadByte(); err == nil {
		t.Error("the connection is open after a forged request")
	}
}
