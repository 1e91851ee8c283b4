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

// fakeHooks counts what is posted, and how often each connection is used.
type fakeHooks struct {
	mu     sync.Mutex
	bodies map[string]int
	answer http.HandlerFunc
}

func (f *fakeHooks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	f.mu.Lock()
	f.bodies[string(b)]++
	f.mu.Unlock()
	f.answer(w, r)
}

func serveFake(t *testing.T, answer http.HandlerFunc) (*fakeHooks, hook) {
	t.Helper()
	f := &fakeHooks{bodies: map[string]int{}, answer: answer}
	srv := httptest.NewServer(f)
	t.Cleanup(srv.Close)
	return f, hook{channel: telegramChannel, url: srv.URL + "/hook", secret: "a-secret"}
}

func TestClosedLoopCounts(t *testing.T) {
	var n atomic.Int64
	f, h := serveFake(t, func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1)%10 == 0 {
			w.Header().Set("Connection", "close")
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	var ta tally
	l := load{hooks: []hook{h}, seq: new(atomic.Int64), senders: 3, connections: 4}
	if err := l.run(t.Context(), time.Now().Add(100*time.Millisecond), &ta); err != nil {
		t.Fatal(err)
	}
	acked, refused, failed := ta.acked.Load(), ta.refused.Load(), ta.failed.Load()
	if int64(len(f.bodies)) != acked+refused || failed != 0 || refused != n.Load()/10 || acked == 0 {
		t.Errorf("%d bodies, %d acknowledged, %d refused of %d, %d failed (%v)", len(f.bodies), acked, refused, n.Load(), failed, ta.oops)
	}
	if int64(len(ta.samples)) != acked {
		t.Errorf("%d samples", len(ta.samples))
	}
}

// TestOpenLoopCountsFromWhenItWasDue holds every answer back until all that can be
// sent is sent: the messages that had to wait for a connection waited all the same.
func TestOpenLoopCountsFromWhenItWasDue(t *testing.T) {
	const connections, pace = 2, 1000
	held := make(chan struct{})
	_, h := serveFake(t, func(http.ResponseWriter, *http.Request) { <-held })
	begun := time.Now()
	until := begun.Add(50 * time.Millisecond)
	time.AfterFunc(100*time.Millisecond, func() { close(held) })
	var ta tally
	l := load{hooks: []hook{h}, seq: new(atomic.Int64), senders: 1, connections: connections, perSecond: pace}
	if err := l.run(t.Context(), until, &ta); err != nil {
		t.Fatal(err)
	}
	if n := len(ta.samples); n < 45 || n > 50 {
		t.Fatalf("%d samples of 50 due", n)
	}
	for _, s := range ta.samples {
		if waited := begun.Add(100 * time.Millisecond).Sub(s.at); s.took < waited {
			t.Errorf("due %v before the answers came, and took only %v", waited, s.took)
		}
	}
}

func TestLoadNobodyAnswers(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	srv.Close()
	var ta tally
	l := load{hooks: []hook{{channel: telegramChannel, url: srv.URL}}, seq: new(atomic.Int64), senders: 1, connections: 2}
	if err := l.run(t.Context(), time.Now().Add(time.Minute), &ta); err != nil {
		t.Fatal(err)
	}
	if ta.failed.Load() != 2 || ta.oops == nil {
		t.Errorf("%d failed: %v", ta.failed.Load(), ta.oops)
	}
}

func TestLoadSendsSoMany(t *testing.T) {
	f, h := serveFake(t, func(http.ResponseWriter, *http.Request) {})
	var ta tally
	l := load{hooks: []hook{h}, seq: new(atomic.Int64), senders: 5, connections: 3, most: 20}
	if err := l.run(t.Context(), time.Now().Add(time.Minute), &ta); err != nil {
		t.Fatal(err)
	}
	if len(f.bodies) != 20 || ta.acked.Load() != 20 {
		t.Errorf("%d bodies, %d acknowledged", len(f.bodies), ta.acked.Load())
	}
}

func TestLoadEndsWithContext(t *testing.T) {
	_, h := serveFake(t, func(http.ResponseWriter, *http.Request) {})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	var ta tally
	l := load{hooks: []hook{h}, seq: new(atomic.Int64), senders: 1, connections: 1}
	if err := l.run(ctx, time.Now().Add(time.Hour), &ta); err != nil {
		t.Fatal(err)
	}
}

func TestClientReadsAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		status int
		fails  bool
	}{
		"Empty":   {func(http.ResponseWriter, *http.Request) {}, 200, false},
		"Body":    {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<Response/>") }, 200, false},
		"Refusal": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }, 403, false},
		"Stream": {func(w http.ResponseWriter, _ *http.Request) {
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, "x")
		}, 0, true},
		"Cut": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			_, h := serveFake(t, c.answer)
			cs, err := (&load{hooks: []hook{h}}).connect()
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second time on the same connection, where it lives on
				status, err := cs[0].do(cs[0].write(nil, 1, 0))
				if (err != nil) != c.fails || err == nil && status != c.status {
					t.Errorf("%d, %v", status, err)
				}
			}
			cs[0].close()
		})
	}
}
