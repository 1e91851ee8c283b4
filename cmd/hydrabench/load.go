package main

import (
	"context"
	"fmt"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// A load is requests to hooks. Message numbers are drawn from seq, so that no message
// is ever sent twice.
type load struct {
	hooks       []hook // in turn
	seq         *atomic.Int64
	senders     int
	connections int

	// perSecond is zero in a closed loop: each connection sends when it has the answer
	// before. In an open loop, messages are due at a fixed pace whatever the answers do,
	// and how long one took counts from when it was due.
	perSecond int
}

// A tally is what came of a load.
type tally struct {
	acked   atomic.Int64 // answered 2xx, kept up to date while the load runs
	refused atomic.Int64 // answered otherwise
	failed  atomic.Int64 // not answered: nobody knows whether they were taken

	mu      sync.Mutex
	samples []sample
	oops    error // the first failure
}

// A sample is one acknowledged message.
type sample struct {
	at   time.Time // when it was due in an open loop, when it was answered in a closed one
	took time.Duration
	late time.Duration // how long after it was due it was sent, in an open loop
}

// run sends until the time is up, or ctx ends, and returns when every answer is there.
func (l *load) run(ctx context.Context, until time.Time, t *tally) error {
	begun := time.Now()
	var turn atomic.Int64
	var wg sync.WaitGroup
	defer wg.Wait()
	for range l.connections {
		cs, err := l.connect()
		if err != nil {
			return err
		}
		wg.Go(func() {
			var samples []sample
			for ctx.Err() == nil {
				due := time.Time{}
				if l.perSecond > 0 {
					due = begun.Add(time.Duration(turn.Add(1)) * time.Second / time.Duration(l.perSecond))
					if due.After(until) {
						break
					}
					sleepUntil(due)
				} else if !time.Now().Before(until) {
					break
				}
				samples = l.one(cs, due, t, samples)
			}
			for _, c := range cs {
				c.close()
			}
			t.mu.Lock()
			defer t.mu.Unlock()
			t.samples = append(t.samples, samples...)
		})
	}
	return nil
}

// A caller is a connection to one hook.
type caller struct {
	client
	write writer
	buf   []byte
}

func (l *load) connect() ([]*caller, error) {
	var cs []*caller
	for _, h := range l.hooks {
		u, err := url.Parse(h.url)
		if err != nil {
			return nil, fmt.Errorf("read the hook's URL: %w", err)
		}
		w, err := h.writer()
		if err != nil {
			return nil, err
		}
		cs = append(cs, &caller{client: client{addr: u.Host}, write: w})
	}
	return cs, nil
}

// one sends one message and counts what came of it.
func (l *load) one(cs []*caller, due time.Time, t *tally, samples []sample) []sample {
	n := l.seq.Add(1)
	c := cs[n%int64(len(cs))]
	c.buf = c.write(c.buf[:0], n, int(n)%l.senders)
	sent := time.Now()
	status, err := c.do(c.buf)
	now := time.Now()
	switch {
	case err != nil:
		t.failed.Add(1)
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.oops == nil {
			t.oops = err
		}
	case status/100 != 2:
		t.refused.Add(1)
	case due.IsZero():
		t.acked.Add(1)
		return append(samples, sample{at: now, took: now.Sub(sent)})
	default:
		t.acked.Add(1)
		return append(samples, sample{at: due, took: now.Sub(due), late: sent.Sub(due)})
	}
	return samples
}
