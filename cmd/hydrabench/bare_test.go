package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

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
		h := webhook{channel: channel, url: said.Listening + "/" + channel, secret: token, account: "AC" + randomHex(32), number: phoneNumber}
		l := load{webhooks: []webhook{h}, seq: new(atomic.Int64), senders: 10, connections: 2}
		c, err := probe{}.measure(ctx, 100*time.Millisecond, func(until time.Time, ta *results) error { return l.run(ctx, until, ta) })
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
