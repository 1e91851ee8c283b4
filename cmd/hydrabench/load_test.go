package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fakeWebhooks counts the request bodies that it receives.
type fakeWebhooks struct {
	mu     sync.Mutex
	bodies map[string]int
	answer http.HandlerFunc
}

func (f *fakeWebhooks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	f.mu.Lock()
	f.bodies[string(b)]++
	f.mu.Unlock()
	f.answer(w, r)
}

func startFakeWebhooks(t *testing.T, answer http.HandlerFunc) (*fakeWebhooks, webhook) {
	t.Helper()
	f := &fakeWebhooks{bodies: map[string]int{}, answer: answer}
	srv := httptest.NewServer(f)
	t.Cleanup(srv.Close)
	return f, webhook{channel: telegramChannel, url: srv.URL + "/hook", secret: "a-secret"}
}

func TestLoad_ClosedLoop(t *testing.T) {
	var n atomic.Int64
	f, h := startFakeWebhooks(t, func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1)%10 == 0 {
			w.Header().Set("Connection", "close")
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	var ta results
	l := load{webhooks: []webhook{h}, seq: new(atomic.Int64), senders: 3, connections: 4}
	if err := l.run(t.Context(), time.Now().Add(100*time.Millisecond), &ta); err != nil {
		t.Fatal(err)
	}
	acked, refused, failed := ta.acked.Load(), ta.refused.Load(), ta.failed.Load()
	if int64(len(f.bodies)) != acked+refused || failed != 0 || refused != n.Load()/10 || acked == 0 {
		t.Errorf("%d bodies, %d acknowledged, %d refused of %d, %d failed (%v)",
			len(f.bodies), acked, refused, n.Load(), failed, ta.firstErr)
	}
	if int64(len(ta.samples)) != acked {
		t.Errorf("%d samples, want one for each of the %d acknowledged messages", len(ta.samples), acked)
	}
}

// TestLoad_OpenLoopLatency delays every response until all connections are in use. The latency of
// messages that had to wait for a connection must include that time.
func TestLoad_OpenLoopLatency(t *testing.T) {
	const connections, rate = 2, 1000
	release := make(chan struct{})
	_, h := startFakeWebhooks(t, func(http.ResponseWriter, *http.Request) { <-release })
	started := time.Now()
	until := started.Add(50 * time.Millisecond)
	time.AfterFunc(100*time.Millisecond, func() { close(release) })
	var ta results
	l := load{webhooks: []webhook{h}, seq: new(atomic.Int64), senders: 1, connections: connections, perSecond: rate}
	if err := l.run(t.Context(), until, &ta); err != nil {
		t.Fatal(err)
	}
	if n := len(ta.samples); n < 45 || n > 50 {
		t.Fatalf("%d samples, want 45 to 50", n)
	}
	for _, s := range ta.samples {
		if waited := started.Add(100 * time.Millisecond).Sub(s.at); s.took < waited {
			t.Errorf("latency = %v, want at least %v", s.took, waited)
		}
	}
}

func TestLoad_ServerDown(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	srv.Close()
	var ta results
	w := webhook{channel: telegramChannel, url: srv.URL}
	l := load{webhooks: []webhook{w}, seq: new(atomic.Int64), senders: 1, connections: 2}
	if err := l.run(t.Context(), time.Now().Add(time.Minute), &ta); err != nil {
		t.Fatal(err)
	}
	if ta.failed.Load() != 2 || ta.firstErr == nil {
		t.Errorf("%d failures, first %v, want one for each of the 2 connections", ta.failed.Load(), ta.firstErr)
	}
}

func TestLoad_MaxMessages(t *testing.T) {
	f, h := startFakeWebhooks(t, func(http.ResponseWriter, *http.Request) {})
	var ta results
	l := load{webhooks: []webhook{h}, seq: new(atomic.Int64), senders: 5, connections: 3, maxMessages: 20}
	if err := l.run(t.Context(), time.Now().Add(time.Minute), &ta); err != nil {
		t.Fatal(err)
	}
	if len(f.bodies) != 20 || ta.acked.Load() != 20 {
		t.Errorf("%d bodies, %d acknowledged, want 20", len(f.bodies), ta.acked.Load())
	}
}

func TestLoad_ContextCanceled(t *testing.T) {
	_, h := startFakeWebhooks(t, func(http.ResponseWriter, *http.Request) {})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	var ta results
	l := load{webhooks: []webhook{h}, seq: new(atomic.Int64), senders: 1, connections: 1}
	if err := l.run(ctx, time.Now().Add(time.Hour), &ta); err != nil {
		t.Fatal(err)
	}
}
