package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	o, err := parse([]string{"--engine", "sqlite", "--senders", "5, 10", "--channels", "sms", "--duration", "1s", "--json"}, io.Discard)
	if err != nil || !slices.Equal(o.senders, []int{5, 10}) || !slices.Equal(o.channels, []string{"sms"}) || !slices.Equal(o.engines, []string{onSQLite}) || !o.asJSON {
		t.Errorf("%+v, %v", o, err)
	}
	for _, bad := range [][]string{
		{"--engine", "oracle"},
		{"--engine", "postgres", "--postgres", ""},
		{"--engine", "sqlite", "--senders", "0"},
		{"--engine", "sqlite", "--senders", "10001"},
		{"--engine", "sqlite", "--channels", "pigeon"},
		{"--engine", "sqlite", "--duration", "0s"},
		{"--engine", "sqlite", "--connections", "0"},
		{"--engine", "sqlite", "more"},
	} {
		if _, err := parse(bad, io.Discard); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

// TestBareHandlers measures the bare handlers as a run does, and has them refuse what
// is not signed.
func TestBareHandlers(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	out, w := io.Pipe()
	token := randomHex(32)
	done := make(chan error, 1)
	go func() { done <- serveBare(ctx, []string{"--token", token}, w) }()
	var said struct{ Listening string }
	if err := json.NewDecoder(out).Decode(&said); err != nil {
		t.Fatal(err)
	}
	for _, channel := range []string{telegramChannel, smsChannel} {
		h := hook{channel: channel, url: said.Listening + "/" + channel, secret: token, account: "AC" + randomHex(32), number: phoneNumber}
		l := load{hooks: []hook{h}, seq: new(atomic.Int64), senders: 10, connections: 2}
		c, err := subject{}.measure(ctx, 100*time.Millisecond, func(until time.Time, ta *tally) error { return l.run(ctx, until, ta) })
		if err != nil || c.Acked == 0 || c.Refused+c.Failed > 0 || c.PerSecond == 0 || c.P99 < c.P50 {
			t.Errorf("%s: %+v, %v", channel, c, err)
		}
	}
	resp, err := http.Post(said.Listening+"/"+smsChannel, "application/x-www-form-urlencoded", bytes.NewReader([]byte("Body=x")))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("status %d", resp.StatusCode)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestProvidersHooks(t *testing.T) {
	p, err := openProviders()
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	for _, channel := range allChannels() {
		if h := p.hook(channel, "http://127.0.0.1:1/x#rc=5"); channel != telegramChannel && h.secret == "" {
			t.Errorf("%s has no secret", channel)
		}
	}
	if h := p.hook(smsChannel, "http://127.0.0.1:1/x#rc=5"); h.url != "http://127.0.0.1:1/x" {
		t.Errorf("Twilio is to sign %s", h.url)
	}
}
