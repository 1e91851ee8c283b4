// Package adaptertest is the conformance suite of channel adapters. It checks that an adapter accepts
// authentic requests and rejects all others, decodes recorded payloads as the golden files say,
// acknowledges only what is stored, and maps every failure of its provider to a reason. It does not
// check the set-up and polling of a channel, which differ too much.
package adaptertest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"maps"
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

var update = flag.Bool("update", false, "rewrite the golden files of recorded payloads")

// A Subject is an adapter under test, with what the suite needs to act as its channel.
type Subject struct {
	Adapter  adapters.Adapter
	Endpoint adapters.Endpoint

	// Request returns the authentic request in which the channel would send a recorded body.
	Request func(ep adapters.Endpoint, webhook string, body []byte) *http.Request

	// Forgeries return requests that the channel did not make for ep, by what is wrong with them.
	// Receive must return ErrForged for each.
	Forgeries map[string]func(ep adapters.Endpoint, webhook string, body []byte) *http.Request

	// CredentialKeys are the keys of the credentials that authenticate requests. If all of them are
	// empty, no request may be accepted.
	CredentialKeys []string

	// To and Chat are where the suite sends replies.
	To   string
	Chat adapters.Chat

	// SentTexts returns the texts that the fake provider has accepted, oldest first.
	SentTexts func() []string

	// Faults are the failures of the provider that Send must report, by name.
	Faults map[string]Fault
}

// A Fault is a way in which a provider can fail.
type Fault struct {
	Arm        func() // makes the next request to the fake provider fail
	Reason     adapters.Reason
	RetryAfter time.Duration // expected SendError.RetryAfter; zero if it is not checked
	Timeout    time.Duration // of the context of Send; the default is one minute
}

// Run runs the suite. Recorded payloads are the files testdata/WEBHOOK/NAME.EXT, where WEBHOOK is
// "main" for the main webhook. NAME.golden in the same directory holds the expected messages and
// receipts; the flag -update rewrites it.
func Run(t *testing.T, s Subject) {
	t.Run("recorded payloads", func(t *testing.T) { testRecordedPayloads(t, s) })
	t.Run("forged requests", func(t *testing.T) { testForgedRequests(t, s) })
	t.Run("rejected, then accepted", func(t *testing.T) { testRejectedThenAccepted(t, s) })
	t.Run("no key", func(t *testing.T) { testNoKey(t, s) })
	t.Run("unknown webhook", func(t *testing.T) {
		_, err := s.Adapter.Receive(s.Request(s.Endpoint, "nonsense", []byte(`{}`)), s.Endpoint, "nonsense")
		if !errors.Is(err, adapters.ErrUnknownWebhook) {
			t.Fatalf("Receive() of webhook \"nonsense\" = %v, want ErrUnknownWebhook", err)
		}
	})
	t.Run("send", func(t *testing.T) { testSend(t, s) })
	t.Run("faults", func(t *testing.T) { testFaults(t, s) })
	t.Run("split", func(t *testing.T) { testSplit(t, s) })
}

// A payload is a recorded body and the path of its golden file.
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
	var payloads []payload
	for _, f := range files {
		if strings.HasSuffix(f, ".golden") || strings.HasPrefix(f, "testdata/fuzz") {
			continue
		}
		body, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		directory := filepath.Base(filepath.Dir(f))
		payloads = append(payloads, payload{
			webhook: strings.Replace(directory, "main", "", 1),
			name:    directory + "/" + filepath.Base(f),
			golden:  strings.TrimSuffix(f, filepath.Ext(f)) + ".golden",
			body:    bytes.TrimRight(body, "\n"),
		})
	}
	if len(payloads) == 0 {
		t.Fatal("no recorded payloads under testdata")
	}
	return payloads
}

func testRecordedPayloads(t *testing.T, s Subject) {
	for _, p := range loadPayloads(t) {
		t.Run(p.name, func(t *testing.T) {
			in := s.receive(t, p)
			checkGolden(t, p.golden, encodeInbound(t, in))
			accepted := httptest.NewRecorder()
			in.Ack(accepted, nil)
			if accepted.Code/100 != 2 {
				t.Errorf("status of Ack(nil) = %d, want 2xx", accepted.Code)
			}
			if len(in.Messages)+len(in.Receipts) > 0 {
				testRedelivery(t, s, p, in)
			}
		})
	}
}

// receive returns the content of an authentic request.
func (s Subject) receive(t *testing.T, p payload) adapters.Inbound {
	t.Helper()
	in, err := s.Adapter.Receive(s.Request(s.Endpoint, p.webhook, p.body), s.Endpoint, p.webhook)
	if err != nil {
		t.Fatalf("Receive() = %v, want nil", err)
	}
	return in
}

// checkGolden compares got with a golden file, which -update rewrites first.
func checkGolden(t *testing.T, golden string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("messages differ from %s (-want +got):\n%s", golden, d)
	}
}

// testRedelivery checks that a redelivery of first has the same keys, and that the response does not
// acknowledge it, nor contain the error, if it cannot be stored. Commands are exempt: their provider
// does not redeliver, and the person gets the response.
func testRedelivery(t *testing.T, s Subject, p payload, first adapters.Inbound) {
	t.Helper()
	second, rejected := s.receive(t, p), httptest.NewRecorder()
	second.Ack(rejected, errors.New("database unavailable"))
	if rejected.Code/100 == 2 && p.webhook != "commands" {
		t.Errorf("status of Ack(error) = %d, want an error", rejected.Code)
	}
	if strings.Contains(rejected.Body.String(), "database") {
		t.Errorf("the response contains the error: %s", rejected.Body)
	}
	for i, m := range second.Messages {
		if want := first.Messages[i].Key; m.Key != want || m.Key == "" {
			t.Errorf("key of the redelivery = %q, want %q", m.Key, want)
		}
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
		t.Fatal("the subject has no forgeries")
	}
	p := loadPayloads(t)[0]
	for name, forge := range s.Forgeries {
		t.Run(name, func(t *testing.T) {
			_, err := s.Adapter.Receive(forge(s.Endpoint, p.webhook, p.body), s.Endpoint, p.webhook)
			if !errors.Is(err, adapters.ErrForged) {
				t.Errorf("Receive() = %v, want ErrForged", err)
			}
		})
	}
}

// testRejectedThenAccepted checks that a request that was rejected with outdated credentials is
// accepted with the newer ones.
func testRejectedThenAccepted(t *testing.T, s Subject) {
	p := loadPayloads(t)[0]
	outdated := s.withKeys("another key")
	r := s.Request(s.Endpoint, p.webhook, p.body)
	if _, err := s.Adapter.Receive(r, outdated, p.webhook); !errors.Is(err, adapters.ErrForged) {
		t.Fatalf("Receive() with outdated credentials = %v, want ErrForged", err)
	}
	got, err := s.Adapter.Receive(r, s.Endpoint, p.webhook)
	if err != nil {
		t.Fatalf("Receive() with new credentials = %v, want nil", err)
	}
	want := s.receive(t, p)
	if d := cmp.Diff(string(encodeInbound(t, want)), string(encodeInbound(t, got))); d != "" {
		t.Errorf("messages of the second call differ (-want +got):\n%s", d)
	}
}

func testNoKey(t *testing.T, s Subject) {
	p := loadPayloads(t)[0]
	ep := s.withKeys("")
	_, err := s.Adapter.Receive(s.Request(ep, p.webhook, p.body), ep, p.webhook)
	if !errors.Is(err, adapters.ErrNoKey) {
		t.Errorf("Receive() with empty keys = %v, want ErrNoKey", err)
	}
}

// withKeys returns the endpoint with one value for all credentials that authenticate requests.
func (s Subject) withKeys(value string) adapters.Endpoint {
	ep := s.Endpoint
	ep.Credentials = maps.Clone(ep.Credentials)
	for _, k := range s.CredentialKeys {
		ep.Credentials[k] = value
	}
	return ep
}

func testSend(t *testing.T, s Subject) {
	before := len(s.SentTexts())
	reply := adapters.Reply{ID: "r1", To: s.To, Chat: s.Chat, Text: "a <b> & *c* _d_ <!channel> 😀"}
	id, err := s.Adapter.Send(t.Context(), s.Endpoint, reply)
	if err != nil || id == "" {
		t.Fatalf("Send() = %q, %v, want an ID", id, err)
	}
	if n := len(s.SentTexts()) - before; n != 1 {
		t.Fatalf("the provider accepted %d messages, want 1", n)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			reply := adapters.Reply{ID: "r2", To: s.To, Chat: s.Chat, Text: "concurrent"}
			if _, err := s.Adapter.Send(t.Context(), s.Endpoint, reply); err != nil {
				t.Errorf("concurrent Send() = %v, want nil", err)
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
				timeout = time.Minute
			}
			se, err := s.sendFailing(t, timeout)
			// On a slow machine a short timeout may end before the request is sent. The fault is then
			// still armed.
			for f.Timeout != 0 && se.Reason == adapters.Unreachable && timeout < time.Minute {
				timeout *= 2
				se, err = s.sendFailing(t, timeout)
			}
			if se.Reason != f.Reason {
				t.Errorf("Send() failed with reason %q (%v), want %q", se.Reason, err, f.Reason)
			}
			if f.RetryAfter != 0 && se.RetryAfter != f.RetryAfter {
				t.Errorf("RetryAfter = %v, want %v", se.RetryAfter, f.RetryAfter)
			}
			for k, v := range s.Endpoint.Credentials {
				if v != "" && strings.Contains(err.Error(), v) {
					t.Errorf("the error contains the credential %s", k)
				}
			}
			if strings.Contains(err.Error(), "hello") || strings.Contains(err.Error(), "://") {
				t.Errorf("the error contains the text or a URL: %v", err)
			}
		})
	}
}

// sendFailing sends a reply and returns the error, and the *SendError in it.
func (s Subject) sendFailing(t *testing.T, timeout time.Duration) (*adapters.SendError, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	_, err := s.Adapter.Send(ctx, s.Endpoint, adapters.Reply{ID: "r3", To: s.To, Chat: s.Chat, Text: "hello"})
	var se *adapters.SendError
	if !errors.As(err, &se) {
		t.Fatalf("Send() = %v (%T), want a *SendError", err, err)
	}
	return se, err
}

func testSplit(t *testing.T, s Subject) {
	l := s.Adapter.Limits()
	for name, text := range map[string]string{
		"words":     strings.Repeat("word ", 3000),
		"no spaces": strings.Repeat("x", 9000),
		"emoji":     strings.Repeat("😀", 9000),
		"mixed":     strings.Repeat("я—😀 ", 4000),
	} {
		var joined strings.Builder
		for _, part := range l.Split(text) {
			if n := l.Measure(part); n > l.MaxText || n == 0 {
				t.Errorf("%s: a part has %d units, want 1 to %d", name, n, l.MaxText)
			}
			joined.WriteString(part)
		}
		strip := strings.NewReplacer(" ", "", "\n", "")
		if strip.Replace(joined.String()) != strip.Replace(text) {
			t.Errorf("%s: the parts do not join to the text", name)
		}
	}
	if parts := l.Split(" \n "); len(parts) != 0 {
		t.Errorf("Split() of white space = %q, want no parts", parts)
	}
}

// CountingBody returns a request body of size bytes, and a function that returns how many of them were
// read. Tests use it to check how much an adapter reads before it has authenticated the caller.
func CountingBody(size int64) (body io.ReadCloser, bytesRead func() int64) {
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
