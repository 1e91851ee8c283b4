package main

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// A crowd is many people who write on Telegram at the same time, each one message
// after the other. As Telegram does it, a message is handed over again until it is
// acknowledged, and the next one of its chat not before: a gateway that is killed
// leaves behind commits that Postgres goes on with, and what those store late comes
// after whatever was stored meanwhile, which no gateway could prevent. So whoever hands
// over the next one too early has no order to expect; whoever waits has all of it.
// What was acknowledged is never handed over again: that is the gateway's to keep.
type crowd struct {
	bell
	stop chan struct{}
	all  sync.WaitGroup

	mu    sync.Mutex
	acked []string
}

const (
	crowdSize  = 8
	crowdFirst = 9000 // Telegram id of the first
	crowdPace  = 10 * time.Millisecond
	crowdEager = 120 // acknowledged messages that make a crowd
	crowdOn    = 40  // and that show that it writes on
)

// crowd writes [on] | stops writing | was heard [once] | was answered [once]
func (w *world) crowdDoes(ts *testscript.TestScript, args []string) error {
	switch does := strings.Join(args, " "); does {
	case "writes":
		return w.crowdWrites(ts.Getenv("INSTANCE"))
	case "writes on":
		return w.crowd.writesUntil(crowdOn)
	case "stops writing":
		close(w.crowd.stop)
		w.crowd.all.Wait()
		return nil
	case "was heard", "was heard once":
		return w.mind.until(patience, func() error { return w.crowdHeard(does == "was heard once") })
	case "was answered", "was answered once":
		return w.mind.until(patience, func() error { return w.crowdAnswered(does == "was answered once") })
	}
	return errors.New("usage: crowd writes [on] | stops writing | was heard [once] | was answered [once]")
}

// crowdWrites lets them write, and returns when enough was acknowledged.
func (w *world) crowdWrites(instance string) error {
	_, secret := w.telegram.Webhook(telegramBot)
	c := &crowd{stop: make(chan struct{})}
	w.crowd = c
	for who := range crowdSize {
		c.all.Go(func() {
			pace := time.NewTicker(crowdPace)
			defer pace.Stop()
			for n := 0; ; {
				select {
				case <-c.stop:
					return
				case <-w.ctx.Done():
					return
				case <-pace.C:
				}
				text := fmt.Sprintf("%d says %d", crowdFirst+who, n)
				a, err := w.request(w.front.addr(), "POST", "/hooks/telegram/"+instance,
					http.Header{"Content-Type": {"application/json"}, "X-Telegram-Bot-Api-Secret-Token": {secret}}, crowdUpdate(who, n, text))
				if err == nil && a.status == http.StatusOK {
					c.ack(text)
					n++
				}
			}
		})
	}
	return c.writesUntil(crowdEager)
}

// writesUntil waits until so many more messages are acknowledged.
func (c *crowd) writesUntil(enough int) error {
	before := c.count()
	return c.until(patience, func() error {
		if more := c.count() - before; more < enough {
			return fmt.Errorf("only %d more messages of the crowd are acknowledged", more)
		}
		return nil
	})
}

func (c *crowd) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.acked)
}

func crowdUpdate(who, n int, text string) []byte {
	id := crowdFirst + who
	return fmt.Appendf(nil, `{"update_id":%d,"message":{"message_id":%d,"date":%d,"text":%q,"from":{"id":%d,"is_bot":false,"first_name":"Somebody"},"chat":{"id":%d,"type":"private","first_name":"Somebody"}}}`,
		1_000_000*(who+1)+n, n+1, time.Now().Unix(), text, id, id)
}

func (c *crowd) ack(text string) {
	c.mu.Lock()
	c.acked = append(c.acked, text)
	c.mu.Unlock()
	c.ring()
}

// crowdHeard gives an error unless the agent heard all that was acknowledged, of each
// person in order and without a gap.
func (w *world) crowdHeard(once bool) error {
	w.mind.mu.Lock()
	defer w.mind.mu.Unlock()
	w.crowd.mu.Lock()
	defer w.crowd.mu.Unlock()
	if err := errors.Join(w.mind.wrong...); err != nil {
		return err
	}
	times, next := map[string]int{}, map[int]int{}
	for _, e := range w.mind.events {
		var who, n int
		if _, err := fmt.Sscanf(e.at("text"), "%d says %d", &who, &n); err != nil {
			continue
		}
		if n != next[who] {
			return fmt.Errorf("of %d the agent heard %d where %d is next", who, n, next[who])
		}
		next[who]++
		times[e.at("text")] += e.times
	}
	return w.crowd.check("heard", once, times)
}

// crowdAnswered gives an error unless everybody got the answers to what was
// acknowledged, in order and without a gap. An answer may come again, as its sender
// may be killed before it notes that it was sent, but then before the next one.
func (w *world) crowdAnswered(once bool) error {
	w.crowd.mu.Lock()
	defer w.crowd.mu.Unlock()
	times := map[string]int{}
	for i := range crowdSize {
		next := 0
		for _, l := range w.telegram.Answers(fmt.Sprint(crowdFirst + i)) {
			text := strings.TrimPrefix(l.Text, "I heard that ")
			var who, n int
			if _, err := fmt.Sscanf(text, "%d says %d", &who, &n); err != nil {
				continue
			}
			if n != next && n != next-1 {
				return fmt.Errorf("%d was answered %d where %d is next", who, n, next)
			}
			next = n + 1
			times[text]++
		}
	}
	return w.crowd.check("answered", once, times)
}

// check compares what was acknowledged with what became of it; c.mu is held.
func (c *crowd) check(what string, once bool, times map[string]int) error {
	lost, twice := 0, 0
	for _, text := range c.acked {
		switch n := times[text]; {
		case n == 0:
			lost++
		case n > 1 && once:
			twice++
		}
	}
	if lost+twice > 0 {
		return fmt.Errorf("of %d acknowledged messages %d were not %s, and %d more than once", len(c.acked), lost, what, twice)
	}
	return nil
}
