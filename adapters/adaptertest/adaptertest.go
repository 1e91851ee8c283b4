// Package adaptertest is what every adapter must pass, whatever its channel: it
// takes what is genuine and nothing else, reads recorded payloads as written down,
// acknowledges only what is stored, and sorts every fault of its provider.
package adaptertest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hydragate/adapters"
)

var update = flag.Bool("update", false, "write the golden files of recorded payloads anew")

// A Subject is an adapter with what the suite needs to act as its channel.
type Subject struct {
	Adapter  adapters.Adapter
	Endpoint adapters.Endpoint

	// Request makes the request that the channel would make of a recorded body.
	Request func(ep adapters.Endpoint, hook string, body []byte) *http.Request

	// Forgeries make requests that the channel did not make for ep, by what is wrong
	// with them. Each must end in ErrForged.
	Forgeries map[string]func(ep adapters.Endpoint, hook string, body []byte) *http.Request

	// Keys are the credentials that authenticate requests: without them all, no
	// request may pass.
	CredentialKeys []string

	// To and Place are where the suite sends replies.
	To   string
	Chat adapters.Chat

	// Sent gives the texts that the pretend provider has taken, oldest first.
	SentTexts func() []string

	// Faults arm the pretend provider: the next Send must end in the reason.
	Faults map[string]Fault
}

// A Fault is one way a provider can fail.
type Fault struct {
	Arm        func()
	Reason     adapters.Reason
	RetryAfter time.Duration // what the SendError must carry, when not zero
	Timeout    time.Duration // of the context of Send; zero means 5 s
}

// Run runs the suite. Recorded payloads are the files testdata/HOOK/NAME.EXT,
// where HOOK is "main" for the main hook; NAME.golden beside each holds the
// messages and receipts it must give.
func Run(t *testing.T, s Subject) {
	t.Run("Recorded", func(t *testing.T) { testRecordedPayloads(t, s) })
	t.Run("Forged", func(t *testing.T) { testForgedRequests(t, s) })
	t.Run("ForgedThenGenuine", func(t *testing.T) { testRejectedThenAccepted(t, s) })
	t.Run("NoKey", func(t *testing.T) { testNoKey(t, s) })
	t.Run("UnknownHook", func(t *testing.T) {
		_, err := s.Adapter.Receive(s.Request(s.Endpoint, "nonsense", []byte(`{}`)), s.Endpoint, "nonsense")
		if !errors.Is(err, adapters.ErrUnknownWebhook) {
			t.Fatalf("hook nonsense: %v; want ErrNoHook", err)
		}
	})
	t.Run("Send", func(t *testing.T) { testSend(t, s) })
	t.Run("Faults", func(t *testing.T) { testFaults(t, s) })
	t.Run("Split", func(t *testing.T) { testSplit(t, s) })
}

type payload struct {
	webhook, name, golden string
	body                  []byte
}

func loadPayloads(t *testing.T) []payload {
	t.Helper()
	files, err := filepath.Glob("testdata/*/*")
	if err != nil {
		t.Fatal(err)
	}
	var ps []payload
	for _, f := range files {
		if strings.HasSuffix(f, ".golden") || strings.HasPrefix(f, "testdata/fuzz") {
			continue
		}
		body, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		hook := filepath.Base(filepath.Dir(f))
		ps = append(ps, payload{strings.Replace(hook, "main", "", 1), hook + "/" + filepath.Base(f), strings.TrimSuffix(f, filepath.Ext(f)) + ".golden", bytes.TrimRight(body, "\n")})
	}
	if len(ps) == 0 {
		t.Fatal("no recorded payloads under testdata")
	}
	return ps
}

func testRecordedPayloads(t *testing.T, s Subject) {
	for _, p := range loadPayloads(t) {
		t.Run(p.name, func(t *testing.T) {
			in, err := s.Adapter.Receive(s.Request(s.Endpoint, p.webhook, p.body), s.Endpoint, p.webhook)
			if err != nil {
				t.Fatalf("receive: %v", err)
			}
			got := encodeInbound(t, in)
			if *update {
				if err := os.WriteFile(p.golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(p.golden)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), string(got)); d != "" {
				t.Errorf("messages differ from %s (-want +got):\n%s", p.golden, d)
			}
			taken, refused := httptest.NewRecorder(), httptest.NewRecorder()
			in.Ack(taken, nil)
			if taken.Code/100 != 2 {
				t.Errorf("stored, and answered %d", taken.Code)
			}
			if len(in.Messages)+len(in.Receipts) == 0 {
				return
			}
			again, err := s.Adapter.Receive(s.Request(s.Endpoint, p.webhook, p.body), s.Endpoint, p.webhook)
			if err != nil {
				t.Fatalf("second time: %v", err)
			}
			again.Ack(refused, errors.New("database away"))
			if refused.Code/100 == 2 && p.webhook != "commands" {
				t.Errorf("not stored, and answered %d", refused.Code)
			}
			if strings.Contains(refused.Body.String(), "database") {
				t.Errorf("the answer tells the error: %s", refused.Body)
			}
			for i := range again.Messages {
				if again.Messages[i].Key != in.Messages[i].Key || again.Messages[i].Key == "" {
					t.Errorf("key of the same delivery: %q, then %q", in.Messages[i].Key, again.Messages[i].Key)
				}
			}
		})
	}
}

func encodeInbound(t *testing.T, in adapters.Inbound) []byte {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	for _, m := range in.Messages {
		if err := e.Encode(m); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range in.Receipts {
		if err := e.Encode(r); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func testForgedRequests(t *testing.T, s Subject) {
	if len(s.Forgeries) == 0 {
		t.Fatal("no forgeries to refuse")
	}
	p := loadPayloads(t)[0]
	for name, forge := range s.Forgeries {
		t.Run(name, func(t *testing.T) {
			if _, err := s.Adapter.Receive(forge(s.Endpoint, p.webhook, p.body), s.Endpoint, p.webhook); !errors.Is(err, adapters.ErrForged) {
				t.Errorf("%v; want ErrForged", err)
			}
		})
	}
}

// testRejectedThenAccepted holds that a request which did not fit one set of keys can still fit another.
func testRejectedThenAccepted(t *testing.T, s Subject) {
	p := loadPayloads(t)[0]
	old := s.Endpoint
	old.Credentials = adapters.Credentials{}
	for k, v := range s.Endpoint.Credentials {
		old.Credentials[k] = v
	}
	for _, k := range s.CredentialKeys {
		old.Credentials[k] = "the key before"
	}
	r := s.Request(s.Endpoint, p.webhook, p.body)
	if _, err := s.Adapter.Receive(r, old, p.webhook); !errors.Is(err, adapters.ErrForged) {
		t.Fatalf("by the key before: %v; want ErrForged", err)
	}
	in, err := s.Adapter.Receive(r, s.Endpoint, p.webhook)
	if err != nil {
		t.Fatalf("by its own key: %v", err)
	}
	want, err := s.Adapter.Receive(s.Request(s.Endpoint, p.webhook, p.body), s.Endpoint, p.webhook)
	if d := cmp.Diff(string(encodeInbound(t, want)), string(encodeInbound(t, in))); d != "" || err != nil {
		t.Errorf("read again it is another message: %v\n%s", err, d)
	}
}

func testNoKey(t *testing.T, s Subject) {
	p := loadPayloads(t)[0]
	ep := s.Endpoint
	ep.Credentials = adapters.Credentials{}
	for k, v := range s.Endpoint.Credentials {
		ep.Credentials[k] = v
	}
	for _, k := range s.CredentialKeys {
		ep.Credentials[k] = ""
	}
	if _, err := s.Adapter.Receive(s.Request(ep, p.webhook, p.body), ep, p.webhook); !errors.Is(err, adapters.ErrNoKey) {
		t.Errorf("empty keys: %v; want ErrNoKey", err)
	}
}

func testSend(t *testing.T, s Subject) {
	before := len(s.SentTexts())
	id, err := s.Adapter.Send(t.Context(), s.Endpoint, adapters.Reply{ID: "r1", To: s.To, Chat: s.Chat, Text: "a <b> & *c* _d_ <!channel> 😀"})
	if err != nil || id == "" {
		t.Fatalf("send: id %q, %v", id, err)
	}
	if n := len(s.SentTexts()) - before; n != 1 {
		t.Fatalf("the provider took %d messages", n)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := s.Adapter.Send(t.Context(), s.Endpoint, adapters.Reply{ID: "r2", To: s.To, Chat: s.Chat, Text: "at once"}); err != nil {
				t.Errorf("one of eight at once: %v", err)
			}
		})
	}
	wg.Wait()
}

func testFaults(t *testing.T, s Subject) {
	for name, f := range s.Faults {
		t.Run(name, func(t *testing.T) {
			f.Arm()
			timeout := f.Timeout
			if timeout == 0 {
				timeout = 5 * time.Second
			}
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			_, err := s.Adapter.Send(ctx, s.Endpoint, adapters.Reply{ID: "r3", To: s.To, Chat: s.Chat, Text: "hello"})
			var se *adapters.SendError
			if !errors.As(err, &se) {
				t.Fatalf("%v (%T); want a *SendError", err, err)
			}
			if se.Reason != f.Reason {
				t.Errorf("reason %q (%v); want %q", se.Reason, err, f.Reason)
			}
			if f.RetryAfter != 0 && se.RetryAfter != f.RetryAfter {
				t.Errorf("retry after %v; want %v", se.RetryAfter, f.RetryAfter)
			}
			for k, v := range s.Endpoint.Credentials {
				if v != "" && strings.Contains(err.Error(), v) {
					t.Errorf("the error tells %s", k)
				}
			}
			if strings.Contains(err.Error(), "hello") || strings.Contains(err.Error(), "://") {
				t.Errorf("the error tells the text or a URL: %v", err)
			}
		})
	}
}

func testSplit(t *testing.T, s Subject) {
	l := s.Adapter.Limits()
	for name, text := range map[string]string{
		"Words": strings.Repeat("word ", 3000), "NoBlanks": strings.Repeat("x", 9000), "Emoji": strings.Repeat("😀", 9000), "Mixed": strings.Repeat("я—😀 ", 4000),
	} {
		var joined strings.Builder
		for _, p := range l.Split(text) {
			if n := l.Measure(p); n > l.MaxText || n == 0 {
				t.Errorf("%s: a part of %d units; want 1 to %d", name, n, l.MaxText)
			}
			joined.WriteString(p)
		}
		strip := strings.NewReplacer(" ", "", "\n", "")
		if strip.Replace(joined.String()) != strip.Replace(text) {
			t.Errorf("%s: splitting lost or added something", name)
		}
	}
	if parts := l.Split(" \n "); len(parts) != 0 {
		t.Errorf("a blank text gives %d parts", len(parts))
	}
}

// CountingBody gives a request body that counts what is read of it, to prove what an
// adapter reads before it knows the caller.
func CountingBody(size int64) (body io.ReadCloser, read func() int64) {
	b := &countingBody{remaining: size}
	return b, func() int64 { return b.bytesRead }
}

type countingBody struct{ remaining, bytesRead int64 }

func (c *countingBody) Read(p []byte) (int, error) {
	if c.remaining == 0 {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), c.remaining))
	for i := range p[:n] {
		p[i] = 'a'
	}
	c.remaining -= int64(n)
	c.bytesRead += int64(n)
	return n, nil
}

func (c *countingBody) Close() error { return nil }
