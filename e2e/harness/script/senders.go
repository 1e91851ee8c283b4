package script

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"hydragate/e2e/harness"
)

// A telegramSenders is many people who write on Telegram at the same time, each one message
// after the other. As Telegram does it, a message is handed over again until it is
// acknowledged, and the next one of its chat not before: a gateway that is killed
// leaves behind commits that Postgres goes on with, and what those store late comes
// after whatever was stored meanwhile, which no gateway could prevent. So whoever hands
// over the next one too early has no order to expect; whoever waits has all of it.
// What was acknowledged is never handed over again: that is the gateway's to keep.
type telegramSenders struct {
	harness.Broadcast
	stop chan struct{}
	wg   sync.WaitGroup

	mu           sync.Mutex
	acknowledged []string
}

const (
	senderCount     = 8
	firstSenderID   = 9000 // Telegram id of the first
	sendInterval    = 10 * time.Millisecond
	initialMessages = 120 // acknowledged messages that make a crowd
	moreMessages    = 40  // and that show that it writes on
)

// crowd writes [on] | stops writing | was heard [once] | was answered [once]
func (w *scriptFixture) sendersCommand(ts *testscript.TestScript, args []string) error {
	switch does := strings.Join(args, " "); does {
	case "writes":
		return w.startSenders(ts.Getenv("INSTANCE"))
	case "writes on":
		return w.senders.waitAcknowledged(moreMessages)
	case "stops writing":
		close(w.senders.stop)
		w.senders.wg.Wait()
		return nil
	case "was heard", "was heard once":
		return w.app.WaitFor(harness.EventTimeout, func() error { return w.checkReceived(does == "was heard once") })
	case "was answered", "was answered once":
		return w.app.WaitFor(harness.EventTimeout, func() error { return w.checkReplies(does == "was answered once") })
	}
	return errors.New("usage: crowd writes [on] | stops writing | was heard [once] | was answered [once]")
}

// startSenders lets them write, and returns when enough was acknowledged.
func (w *scriptFixture) startSenders(instance string) error {
	_, secret := w.telegram.Webhook(harness.TelegramBot)
	c := &telegramSenders{stop: make(chan struct{})}
	w.senders = c
	for who := range senderCount {
		c.wg.Go(func() {
			pace := time.NewTicker(sendInterval)
			defer pace.Stop()
			for n := 0; ; {
				select {
				case <-c.stop:
					return
				case <-w.ctx.Done():
					return
				case <-pace.C:
				}
				text := fmt.Sprintf("%d says %d", firstSenderID+who, n)
				a, err := w.request(w.front.Addr(), "POST", "/hooks/telegram/"+instance,
					http.Header{"Content-Type": {"application/json"}, "X-Telegram-Bot-Api-Secret-Token": {secret}}, senderUpdate(who, n, text))
				if err == nil && a.Status == http.StatusOK {
					c.acknowledge(text)
					n++
				}
			}
		})
	}
	return c.waitAcknowledged(initialMessages)
}

// waitAcknowledged waits until so many more messages are acknowledged.
func (c *telegramSenders) waitAcknowledged(enough int) error {
	before := c.count()
	return c.WaitFor(harness.EventTimeout, func() error {
		if more := c.count() - before; more < enough {
			return fmt.Errorf("only %d more messages of the crowd are acknowledged", more)
		}
		return nil
	})
}

func (c *telegramSenders) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.acknowledged)
}

func senderUpdate(who, n int, text string) []byte {
	id := firstSenderID + who
	return fmt.Appendf(nil, `{"update_id":%d,"message":{"message_id":%d,"date":%d,"text":%q,"from":{"id":%d,"is_bot":false,"first_name":"Somebody"},"chat":{"id":%d,"type":"private","first_name":"Somebody"}}}`,
		1_000_000*(who+1)+n, n+1, time.Now().Unix(), text, id, id)
}

func (c *telegramSenders) acknowledge(text string) {
	c.mu.Lock()
	c.acknowledged = append(c.acknowledged, text)
	c.mu.Unlock()
	c.Notify()
}

// checkReceived gives an error unless the agent heard all that was acknowledged, of each
// person in order and without a gap.
func (w *scriptFixture) checkReceived(once bool) error {
	w.app.Mu.Lock()
	defer w.app.Mu.Unlock()
	w.senders.mu.Lock()
	defer w.senders.mu.Unlock()
	if err := errors.Join(w.app.Errs...); err != nil {
		return err
	}
	times, next := map[string]int{}, map[int]int{}
	for _, e := range w.app.Events {
		var who, n int
		if _, err := fmt.Sscanf(e.Field("text"), "%d says %d", &who, &n); err != nil {
			continue
		}
		if n != next[who] {
			return fmt.Errorf("of %d the agent heard %d where %d is next", who, n, next[who])
		}
		next[who]++
		times[e.Field("text")] += e.Deliveries
	}
	return w.senders.compare("heard", once, times)
}

// checkReplies gives an error unless everybody got the answers to what was
// acknowledged, in order and without a gap. An answer may come again, as its sender
// may be killed before it notes that it was sent, but then before the next one.
func (w *scriptFixture) checkReplies(once bool) error {
	w.senders.mu.Lock()
	defer w.senders.mu.Unlock()
	times := map[string]int{}
	for i := range senderCount {
		next := 0
		for _, l := range w.telegram.Replies(fmt.Sprint(firstSenderID + i)) {
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
	return w.senders.compare("answered", once, times)
}

// compare compares what was acknowledged with what became of it; c.mu is held.
func (c *telegramSenders) compare(what string, once bool, times map[string]int) error {
	lost, twice := 0, 0
	for _, text := range c.acknowledged {
		switch n := times[text]; {
		case n == 0:
			lost++
		case n > 1 && once:
			twice++
		}
	}
	if lost+twice > 0 {
		return fmt.Errorf("of %d acknowledged messages %d were not %s, and %d more than once", len(c.acknowledged), lost, what, twice)
	}
	return nil
}
