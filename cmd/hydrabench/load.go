package main

import (
	"context"
	"fmt"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// A load sends messages to webhooks. It takes message numbers from seq, so no message is sent twice.
type load struct {
	webhooks    []webhook // used alternately
	seq         *atomic.Int64
	senders     int
	connections int

	maxMessages int // total number of messages; 0 means no limit

	// perSecond is zero in a closed loop: each connection sends a message after the response to the
	// previous one. In an open loop, messages are due at a fixed rate, independent of responses, and
	// their latency counts from the time at which they were due.
	perSecond int
}

// results are the results of a load.
type results struct {
	acked   atomic.Int64 // responses 2xx; updated while the load runs
	refused atomic.Int64 // other responses
	failed  atomic.Int64 // no response: the message may be stored or not

	mu       sync.Mutex
	samples  []sample
	firstErr error // of the first failure
}

// A sample is one acknowledged message.
type sample struct {
	at        time.Time     // when it was due in an open loop; when it was acknowledged in a closed loop
	took      time.Duration // latency
	sendDelay time.Duration // time from being due to being sent, in an open loop
}

// run sends messages until the time until, or until ctx ends, and returns after the last response. A
// connection without a response is not used again, because the run has failed then.
func (l *load) run(ctx context.Context, until time.Time, t *results) error {
	var all [][]*connection
	for range l.connections {
		cs, err := l.newConnections()
		if err != nil {
			return err
		}
		all = append(all, cs)
	}
	started := time.Now()
	var count atomic.Int64
	due := func() (at time.Time, more bool) {
		n := count.Add(1)
		if l.maxMessages > 0 && n > int64(l.maxMessages) {
			return time.Time{}, false
		}
		if l.perSecond == 0 {
			return time.Time{}, time.Now().Before(until)
		}
		at = started.Add(time.Duration(n) * time.Second / time.Duration(l.perSecond))
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

// A connection is a connection to one webhook.
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
			return nil, fmt.Errorf("parse the URL of the webhook: %w", err)
		}
		w, err := h.newWriter()
		if err != nil {
			return nil, err
		}
		cs = append(cs, &connection{client: client{addr: u.Host}, write: w})
	}
	return cs, nil
}

// sendOne sends one message and counts the response. The sample is zero if the message was refused.
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
