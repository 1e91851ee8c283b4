//go:build unix

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

// telegramSenders are users who send messages on Telegram concurrently. Each sends its messages in
// sequence. As Telegram does, it repeats a message until the webhook is acknowledged before it sends
// the next: a killed gateway can leave a commit that Postgres completes later, so only messages that
// are sent one after the other have a defined order. An acknowledged message is not repeated.
type telegramSenders struct {
	harness.Broadcast
	stop chan struct{}
	wg   sync.WaitGroup

	mu           sync.Mutex
	acknowledged []string
}

const (
	senderCount     = 8
	firstSenderID   = 9000 // Telegram user ID of the first sender
	sendInterval    = 10 * time.Millisecond
	initialMessages = 120 // acknowledged messages after start
	moreMessages    = 40  // further acknowledged messages after continue
)

// sendersCommand implements the command senders.
func (w *scriptFixture) sendersCommand(ts *testscript.TestScript, args []string) error {
	switch verb := strings.Join(args, " "); verb {
	case "start":
		return w.startSenders(ts.Getenv("INSTANCE"))
	case "continue":
		return w.senders.waitAcknowledged(moreMessages)
	case "stop":
		close(w.senders.stop)
		w.senders.wg.Wait()
		return nil
	case "expect-delivered", "expect-delivered once":
		return w.app.WaitFor(harness.EventTimeout, func() error { return w.checkReceived(verb == "expect-delivered once") })
	case "expect-answered", "expect-answered once":
		return w.app.WaitFor(harness.EventTimeout, func() error { return w.checkReplies(verb == "expect-answered once") })
	}
	return errors.New("usage: senders start | continue | stop | expect-delivered [once] | expect-answered [once]")
}

// startSenders starts the senders. It returns when initialMessages are acknowledged.
func (w *scriptFixture) startSenders(instance string) error {
	_, secret := w.Telegram.Webhook(harness.TelegramBot)
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
				a, err := w.request(
					w.front.Addr(),
					"POST",
					"/hooks/telegram/"+instance,
					http.Header{
						"Content-Type":                    {"application/json"},
						"X-Telegram-Bot-Api-Secret-Token": {secret},
					},
					senderUpdate(who, n, text),
				)
				if err == nil && a.Status == http.StatusOK {
					c.acknowledge(text)
					n++
				}
			}
		})
	}
	return c.waitAcknowledged(initialMessages)
}

// waitAcknowledged waits until enough further messages are acknowledged.
func (c *telegramSenders) waitAcknowledged(enough int) error {
	before := c.count()
	return c.WaitFor(harness.EventTimeout, func() error {
		if more := c.count() - before; more < enough {
			return fmt.Errorf("%d further messages acknowledged", more)
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
	return fmt.Appendf(nil, `{"update_id":%d,"message":{"message_id":%d,"date":%d,"text":%q,`+
		`"from":{"id":%d,"is_bot":false,"first_name":"User"},`+
		`"chat":{"id":%[5]d,"type":"private","first_name":"User"}}}`,
		1_000_000*(who+1)+n, n+1, time.Now().Unix(), text, id)
}

func (c *telegramSenders) acknowledge(text string) {
	c.mu.Lock()
	c.acknowledged = append(c.acknowledged, text)
	c.mu.Unlock()
	c.Notify()
}

// checkReceived returns an error unless the application has received all acknowledged messages, those
// of each sender in order and without a gap.
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
		for _, text := range e.Texts() {
			var who, n int
			if _, err := fmt.Sscanf(text, "%d says %d", &who, &n); err != nil {
				continue
			}
			if n != next[who] {
				return fmt.Errorf("sender %d: application received message %d, want %d", who, n, next[who])
			}
			next[who]++
			times[text] += e.Deliveries
		}
	}
	return w.senders.compare("delivered", once, times)
}

// checkReplies returns an error unless each sender has received the replies to all acknowledged
// messages, in order and without a gap. A reply may be repeated before the next one, because a
// gateway may be killed before it stores that the reply was sent.
func (w *scriptFixture) checkReplies(once bool) error {
	w.senders.mu.Lock()
	defer w.senders.mu.Unlock()
	times := map[string]int{}
	for i := range senderCount {
		next := 0
		for _, l := range w.Telegram.Replies(fmt.Sprint(firstSenderID + i)) {
			text := strings.TrimPrefix(l.Text, "I heard that ")
			var who, n int
			if _, err := fmt.Sscanf(text, "%d says %d", &who, &n); err != nil {
				continue
			}
			if n != next && n != next-1 {
				return fmt.Errorf("sender %d: reply to message %d, want %d", who, n, next)
			}
			next = n + 1
			times[text]++
		}
	}
	return w.senders.compare("answered", once, times)
}

// compare returns an error unless each acknowledged message occurs in times. c.mu must be held.
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
		return fmt.Errorf(
			"of %d acknowledged messages, %d were not %s and %d more than once",
			len(c.acknowledged),
			lost,
			what,
			twice,
		)
	}
	return nil
}
