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
	webhooks    []webhook // in turn
	seq         *atomic.Int64
	senders     int
	connections int

	maxMessages int // messages in all; 0 means no limit

	// perSecond is zero in a closed loop: each connection sends when it has the answer
	// before. In an open loop, messages are due at a fixed pace whatever the answers do,
	// and how long one took counts from when it was due.
	perSecond int
}

// A results is what came of a load.
type results struct {
	acked   atomic.Int64 // answered 2xx, kept up to date while the load runs
	refused atomic.Int64 // answered otherwise
	failed  atomic.Int64 // not answered: nobody knows whether they were taken

	mu       sync.Mutex
	samples  []sample
	firstErr error // the first failure
}

// A sample is one acknowledged message.
type sample struct {
	at        time.Time // when it was due in an open loop, when it was answered in a closed one
	took      time.Duration
	sendDelay time.Duration // how long after it was due it was sent, in an open loop
}

// run sends until the time is up, or ctx ends, and returns when every answer is there.
// A connection that got no answer is not used again: the run has failed by then.
func (l *load) run(ctx context.Context, until time.Time, t *results) error {
	var all [][]*connection
	for range l.connections {
		cs, err := l.newConnections()
		if err != nil {
			return err
		}
		all = append(all, cs)
	}
	begun := time.Now()
	var turn atomic.Int64
	due := func() (at time.Time, more bool) {
		n := turn.Add(1)
		if l.maxMessages > 0 && n > int64(l.maxMessages) {
			return time.Time{}, false
		}
		if l.perSecond == 0 {
			return time.Time{}, time.Now().Before(until)
		}
		at = begun.Add(time.Duration(n) * time.Second / time.Duration(l.perSecond))
		return at, at.Before(until)
	}
	var wg sync.WaitGroup
	for _, cs := range all {
		wg.Go(func() {
			var samples []sample
			for ctx.Err() == nil {
				at, more := due()
				if !more {
					break
				}
				sleepUntil(at)
				s, err := l.sendOne(cs, at, t)
				if err != nil {
					t.addFailure(err)
					break
				}
				if s.took > 0 {
					samples = append(samples, s)
				}
			}
			for _, c := range cs {
				c.close()
			}
			t.addSamples(samples)
		})
	}
	wg.Wait()
	return nil
}

func (t *results) addFailure(err error) {
	t.failed.Add(1)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.firstErr == nil {
		t.firstErr = err
	}
}

func (t *results) addSamples(ss []sample) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.samples = append(t.samples, ss...)
}

// A connection is a connection to one hook.
type connection struct {
	client
	write requestWriter
	buf   []byte
}

func (l *load) newConnections() ([]*connection, error) {
	var cs []*connection
	for _, h := range l.webhooks {
		u, err := url.Parse(h.url)
		if err != nil {
			return nil, fmt.Errorf("read the hook's URL: %w", err)
		}
		w, err := h.newWriter()
		if err != nil {
			return nil, err
		}
		cs = append(cs, &connection{client: client{addr: u.Host}, write: w})
	}
	return cs, nil
}

// sendOne sends one message and counts the answer. The sample is zero when the answer is a
// refusal.
func (l *load) sendOne(cs []*connection, due time.Time, t *results) (sample, error) {
	n := l.seq.Add(1)
	c := cs[n%int64(len(cs))]
	c.buf = c.write(c.buf[:0], n, int(n%int64(l.senders)))
	sent := time.Now()
	status, err := c.do(c.buf)
	if err != nil {
		return sample{}, err
	}
	now := time.Now()
	if status/100 != 2 {
		t.refused.Add(1)
		return sample{}, nil
	}
	t.acked.Add(1)
	if due.IsZero() {
		return sample{at: now, took: now.Sub(sent)}, nil
	}
	return sample{at: due, took: now.Sub(due), sendDelay: sent.Sub(due)}, nil
}
