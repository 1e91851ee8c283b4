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

	"hydragate/cmd/hydragate/app"
	"hydragate/e2e/harness"
	"hydragate/e2e/harness/rawhttp"
)

// TestSlowClients_Disconnected lets many clients be slow in every way at once. All of them
// are hung up on in time, nothing they sent is kept, genuine requests are answered
// nearly as fast as before, and afterwards the process is as it was.
//
// One p99 of a busy machine says little, so the middle of several is compared, and
// where they differ too much there are more of them. By as much as the slowest genuine
// request took, the machine itself was late, and who is hung up on may be.
func TestSlowClients_Disconnected(t *testing.T) {
	clients, rounds, most, samples := 300, 2, 6, 150
	if harness.FullRun() {
		clients, rounds, most, samples = 2000, 5, 15, 300
	}
	raiseFileLimit(t, uint64(2*clients+500))
	h := rawhttp.NewWebhookFixture(t, app.Settings{}, (*rawhttp.WebhookFixture).ServeInChild)
	n := 100_000
	var late time.Duration
	p99 := func() time.Duration {
		n += samples
		took, slowest := measureP99(h, t, n-samples, samples)
		late = max(late, slowest)
		return took
	}
	p99() // what only the first ones cost
	fds, goroutines, stored := h.OpenFiles(t), h.Goroutines(t), h.MessageCount()-samples
	var quiet, busy []time.Duration
	var slowest time.Duration
	for round := 1; ; round++ {
		quiet = append(quiet, p99())
		crowd := h.StartSlowClients(t, clients)
		<-crowd.Connected
		busy = append(busy, p99())
		slowest = max(slowest, crowd.Wait(t))
		before, during := harness.Median(quiet), harness.Median(busy)
		if round >= rounds && during < rawhttp.MaxSlowdown*before || round == most {
			t.Logf("%d rounds of %d slow clients: all hung up on within %v, while the machine was late by up to %v; p99 of %d genuine requests, the middle of the rounds: before %v %v, during %v %v",
				round, clients, slowest.Round(time.Millisecond), late.Round(time.Millisecond), samples, before, quiet, during, busy)
			if during >= rawhttp.MaxSlowdown*before {
				t.Errorf("genuine requests take %v, and %v among slow clients", before, during)
			}
			break
		}
	}
	if slowest > rawhttp.MaxSlowDuration+late {
		t.Errorf("the last slow client was hung up on after %v; want %v at most, and %v for the machine", slowest, rawhttp.MaxSlowDuration, late)
	}
	if got, want := h.MessageCount()-stored, (1+len(quiet)+len(busy))*samples; got != want {
		t.Errorf("%d messages are stored; want %d, those of the genuine requests alone", got, want)
	}
	// Connections to the database may have been added. Who was slow in one of the ways is
	// more than that: a seventh of all.
	const some = 20
	harness.Eventually(t, fmt.Sprintf("no more than %d files and %d goroutines above %d and %d", some, some, fds, goroutines), func() bool {
		return h.OpenFiles(t) <= fds+some && h.Goroutines(t) <= goroutines+some
	})
}

// raiseFileLimit makes sure that this process can have so many files open.
func raiseFileLimit(t *testing.T, files uint64) {
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

// measureP99 sends genuine requests, one after the other, and gives the time that all but the
// slowest hundredth of them took, and what the slowest did.
func measureP99(h *rawhttp.WebhookFixture, t *testing.T, n, samples int) (p99, slowest time.Duration) {
	t.Helper()
	took := make([]time.Duration, samples)
	from := h.NewCallerAddr()
	for i := range took {
		begun := time.Now()
		if a := h.Send(t, from, rawhttp.NewUnsignedRequest("telegram", n+i, h.Acme).Sign()); a.Status != 200 {
			t.Fatalf("a genuine request is answered %d", a.Status)
		}
		took[i] = time.Since(begun)
	}
	slices.Sort(took)
	return took[samples*99/100], took[samples-1]
}

// TestDecompressionBombs sends what is small to make and large to read. It is refused at once.
func TestDecompressionBombs(t *testing.T) {
	t.Parallel()
	h := rawhttp.NewWebhookFixture(t, app.Settings{}, (*rawhttp.WebhookFixture).ServeInProcess)
	hook := func(change func(p *rawhttp.RawRequest)) *rawhttp.RawRequest {
		p := rawhttp.NewUnsignedRequest("telegram", 1, h.Acme).Sign()
		change(p)
		return p
	}
	call := func(body string) *rawhttp.RawRequest {
		return &rawhttp.RawRequest{Method: "POST", Target: "/v1/customers", Host: "127.0.0.1", Body: body, HeaderLines: []string{"Authorization: Bearer " + rawhttp.WebhookAdminKey, "Content-Type: application/json"}}
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
		"LongHeader": {hook(func(p *rawhttp.RawRequest) { p.Add("X-A", strings.Repeat("a", 64<<10)) }), 431},
		"ManyHeaders": {hook(func(p *rawhttp.RawRequest) {
			p.HeaderLines = append(p.HeaderLines, slices.Repeat([]string{"X-A: a"}, 20_000)...)
		}), 431},
		"LongTarget":           {hook(func(p *rawhttp.RawRequest) { p.Target += strings.Repeat("a", 64<<10) }), 431},
		"LongHeaderOfACall":    {&rawhttp.RawRequest{Method: "GET", Target: "/v1/customers", Host: "a", HeaderLines: []string{"Authorization: Bearer " + strings.Repeat("a", 64<<10)}}, 431},
		"DeepBy33":             {call(deep(32)), 422},
		"DeepBy40000":          {call(deep(40_000)), 422},
		"DeepListUnclosed":     {call(strings.Repeat("[", 200_000)), 422},
		"KeysBy1001":           {call(keys(1000)), 422},
		"KeysBy20000":          {call(keys(20_000)), 422},
		"LongNumber":           {call(`{"email":` + strings.Repeat("9", 200_000) + "}"), 422},
		"MoreThanACallCarries": {call(`{"email":"` + strings.Repeat("a", 300_000) + `"}`), 413},
		"ZippedCall":           {&rawhttp.RawRequest{Method: "POST", Target: "/v1/customers", Host: "a", Body: rawhttp.Gzipped(strings.Repeat("a", 1<<20)), HeaderLines: []string{"Authorization: Bearer " + rawhttp.WebhookAdminKey, "Content-Type: application/json", "Content-Encoding: gzip"}}, 415},
		"GenuineAfterAll":      {call(`{"email":"bombs@example.com","metadata":{"a":{"b":{"c":1}}}}`), 201},
	} {
		begun := time.Now()
		a := h.Send(t, "", c.p)
		if took := time.Since(begun); a.Status != c.want || took > time.Second {
			t.Errorf("%s: %d %.200q after %v; want %d", name, a.Status, a.Body, took, c.want)
		}
	}
}

// TestKeepAlive_RequestSmuggling lets many requests come over one connection, as providers send
// them. One that is not genuine ends it; and what hides behind the body of another is a
// request of its own, which has to prove itself.
func TestKeepAlive_RequestSmuggling(t *testing.T) {
	t.Parallel()
	h := rawhttp.NewWebhookFixture(t, app.Settings{}, (*rawhttp.WebhookFixture).ServeInProcess)
	c := h.Dial(t, h.NewCallerAddr())
	defer func() { _ = c.Close() }()
	answers := bufio.NewReader(c)
	kinds := []string{"telegram", "sms", "whatsapp", "slack/events", "slack/commands", "slack/interactivity", "sms/status"}
	was := h.MessageCount()
	for i := range 35 {
		if _, err := io.WriteString(c, rawhttp.NewUnsignedRequest(kinds[i%len(kinds)], 80_000+i, h.Acme).Sign().Encode()); err != nil {
			t.Fatal(err)
		}
		if a := rawhttp.ReadResponse(t, answers, "POST"); a.Status != http.StatusOK {
			t.Fatalf("request %d on the connection: %d", i, a.Status)
		}
	}
	if got := h.MessageCount() - was; got != 30 {
		t.Errorf("%d messages are stored; want 30", got)
	}
	forged := rawhttp.NewUnsignedRequest("telegram", 90_001, h.Acme).Sign()
	forged.Set(rawhttp.TelegramSecretHeader, "guess")
	for _, kind := range []string{"telegram", "sms", "slack/events"} {
		was := h.MessageCount()
		p := rawhttp.NewUnsignedRequest(kind, 90_002, h.Acme).Sign()
		p.UseChunks(100)
		p.Framing = append(p.Framing, fmt.Sprintf("Content-Length: %d", len(p.WireBody)+len(forged.Encode())))
		c := h.Dial(t, h.NewCallerAddr())
		if _, err := io.WriteString(c, p.Encode()+forged.Encode()); err != nil {
			t.Fatal(err)
		}
		answers := bufio.NewReader(c)
		if a := rawhttp.ReadResponse(t, answers, "POST"); a.Status != http.StatusOK {
			t.Errorf("%s before what it hides: %d", kind, a.Status)
		}
		if res, err := http.ReadResponse(answers, nil); err == nil && res.StatusCode != http.StatusForbidden {
			t.Errorf("what %s hides is answered %d", kind, res.StatusCode)
		}
		if got := h.MessageCount() - was; got != 1 {
			t.Errorf("%s and what it hides: %d messages are stored; want 1", kind, got)
		}
		_ = c.Close()
	}
	if _, err := io.WriteString(c, forged.Encode()); err != nil {
		t.Fatal(err)
	}
	if a := rawhttp.ReadResponse(t, answers, "POST"); a.Status != http.StatusForbidden {
		t.Errorf("a forged request on a good connection: %d", a.Status)
	}
	if _, err := answers.ReadByte(); err == nil {
		t.Error("the connection of a forged request goes on")
	}
}
