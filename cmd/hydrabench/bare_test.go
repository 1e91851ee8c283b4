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

// TestBareHandlers measures the bare handlers, and checks that they reject a request without a
// signature.
func TestBareHandlers(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	out, w := io.Pipe()
	token := randomHex(32)
	done := make(chan error, 1)
	go func() { done <- serveBare(ctx, []string{"--token", token}, w) }()
	var first struct{ Listening string }
	if err := json.NewDecoder(out).Decode(&first); err != nil {
		t.Fatal(err)
	}
	for _, channel := range []string{telegramChannel, smsChannel} {
		w := webhook{
			channel: channel, url: first.Listening + "/" + channel,
			secret: token, account: "AC" + randomHex(32), number: phoneNumber,
		}
		l := load{webhooks: []webhook{w}, seq: new(atomic.Int64), senders: 10, connections: 2}
		run := func(until time.Time, r *results) error { return l.run(ctx, until, r) }
		c, err := probe{}.measure(ctx, 100*time.Millisecond, run)
		if err != nil || c.Acked == 0 || c.Refused+c.Failed > 0 || c.PerSecond == 0 || c.P99 < c.P50 {
			t.Errorf("measure(%s) = %+v, %v, want acknowledged messages only", channel, c, err)
		}
	}
	url := first.Listening + "/" + smsChannel
	resp, err := http.Post(url, "application/x-www-form-urlencoded", bytes.NewReader([]byte("Body=x")))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("status without a signature = %d, want 403", resp.StatusCode)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("serveBare = %v, want nil", err)
	}
}
