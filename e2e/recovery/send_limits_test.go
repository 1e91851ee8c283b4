package recovery

import (
	"context"
	"fmt"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"hydragate/adapters/simulator"
	"hydragate/cmd/hydragate/app"
	"hydragate/e2e/harness"
)

const (
	budgetReplicas = 3
	budgetChats    = 200 // of the bot that is limited
	budgetOthers   = 100 // chats of the other bot
	budgetInterval = 10 * time.Second
	budgetEach     = 3 // messages of each chat, one in each interval
	limitedTopics  = 5 // conversations of the limited chat
	callsUnderWay  = 2 // when a hold is stored
	longHold       = 6775 * time.Second
)

// A budgetFixture is a load on two bots of three replicas. One chat of the first bot has several topics, so
// that several replicas send to it, and is limited at times.
type budgetFixture struct {
	*harness.Harness
	limit *rateLimitedChat
	chat  int64 // that is limited
}

// The replyTimes of a round are the times from the messages to the replies, of the bot that has the limited
// chat and of the other bot.
type replyTimes struct{ same, other []time.Duration }

// A replyTime is the time from a message to its reply.
type replyTime struct{ median, p99 time.Duration }

// TestSendLimits_Budget checks that a chat which Telegram limits is left alone by all replicas, for a time of
// any length, that one send probes when it is over, and that neither the other chats of the bot nor another
// bot get slower by more than a fifth. Replies go on while Redis is frozen.
func TestSendLimits_Budget(t *testing.T) {
	harness.RequireFullRun(t)
	b := newBudgetFixture(t)
	b.run("warm-up", 0)
	b.compare("one chat limited for 5 s", 5*time.Second, 3)
	b.requireHold()

	b.Proxies["redis"].SetState(harness.ProxyFrozen)
	b.run("Redis frozen", 0)
	b.Proxies["redis"].SetState(harness.ProxyUp)
	b.run("Redis available again", 0)

	b.compare("one chat limited for 6775 s", longHold, 1)
	if n := b.limit.refused; n < 1 || n > 1+callsUnderWay {
		t.Errorf("%d calls to a chat that is held for 6775 s were refused, want at most %d", n, 1+callsUnderWay)
	}
	b.CheckLog()
}

// compare runs rounds without a limit and as many in which a chat is limited, in turn, each pair with another
// chat. It fails the test if the others are slower by more than a fifth in all limited rounds together. Two
// chats must not be held at a time: the whole bot would be.
func (b *budgetFixture) compare(name string, heldFor time.Duration, rounds int) {
	b.T.Helper()
	var free, limited replyTimes
	for range rounds {
		b.chat++
		b.limit.chat = fmt.Sprint(b.chat)
		free.add(b.run("without a limit", 0))
		limited.add(b.run(name, heldFor))
	}
	for _, c := range []struct {
		bot           string
		free, limited []time.Duration
	}{
		{"same bot", free.same, limited.same},
		{"other bot", free.other, limited.other},
	} {
		unlimited, got := newReplyTime(c.free), newReplyTime(c.limited)
		b.T.Logf("%s, %s: %v, without a limit %v", name, c.bot, got, unlimited)
		if !got.isWithin(unlimited) {
			b.T.Errorf("%s, %s: %v, want at most a fifth more than %v", name, c.bot, got, unlimited)
		}
	}
}

// add adds the times of another round.
func (t *replyTimes) add(round replyTimes) {
	t.same, t.other = append(t.same, round.same...), append(t.other, round.other...)
}

// isWithin reports whether t is at most a fifth, or 50 ms, longer than without a limit.
func (t replyTime) isWithin(unlimited replyTime) bool {
	allow := func(d time.Duration) time.Duration { return d + max(d/5, 50*time.Millisecond) }
	return t.median <= allow(unlimited.median) && t.p99 <= allow(unlimited.p99)
}

func (t replyTime) String() string { return fmt.Sprintf("%v (99 %%: %v)", t.median, t.p99) }

func newBudgetFixture(t *testing.T) *budgetFixture {
	t.Helper()
	b := &budgetFixture{limit: &rateLimitedChat{}, chat: 712_000_000}
	b.limit.chat = fmt.Sprint(b.chat)
	b.Harness, _ = harness.Start(t, harness.Options{
		Replicas: budgetReplicas, InProcess: true, Settings: func(s *app.Settings) {
			u, err := url.Parse(s.TelegramAPIURL)
			if err != nil {
				t.Fatal(err)
			}
			b.limit.Handler = httputil.NewSingleHostReverseProxy(u)
			s.TelegramAPIURL, s.SendLimits = harness.ServeHTTP(t.Cleanup, b.limit), "true"
		},
	})
	return b
}

// run sends a round of messages and waits for the replies. If heldFor is not zero, the limited chat is refused
// for so long from its second message on.
func (b *budgetFixture) run(name string, heldFor time.Duration) (t replyTimes) {
	b.T.Helper()
	b.limit.reset(heldFor)
	r := b.NewLoad(0)
	for i := range budgetChats {
		r.Users = append(r.Users, b.TelegramUser(harness.TelegramBot, int64(300_000+i)))
	}
	for i := range budgetOthers {
		r.Users = append(r.Users, b.TelegramUser(harness.PollingBot, int64(400_000+i)))
	}
	b.send(r, r.Users, budgetInterval)
	held := b.NewLoad(0)
	if heldFor > 0 {
		held.Users = b.topicUsers()
		b.send(held, held.Users, time.Second)
	}
	r.Senders.Wait()
	held.Senders.Wait()
	harness.Eventually(b.T, name+": the replies", func() bool { return b.unanswered(r) == 0 })
	if heldFor < time.Minute {
		harness.Eventually(b.T, name+": the replies of the limited chat", func() bool { return b.unanswered(held) == 0 })
		if heldFor > 0 {
			held.RequireComplete(budgetEach*len(held.Users), 0)
		}
	}
	r.RequireComplete(budgetEach*len(r.Users), 0)
	t = replyTimes{b.measure(r, harness.TelegramBot), b.measure(r, harness.PollingBot)}
	b.T.Logf("%s: same bot %v, other bot %v, longest pause between replies %v", name,
		newReplyTime(t.same), newReplyTime(t.other), b.longestPause(r))
	return t
}

// send makes each user send budgetEach messages, one in each interval. The users take turns.
func (b *budgetFixture) send(r *harness.MessageLoad, users []harness.SimulatedUser, interval time.Duration) {
	start := time.Now()
	for n, u := range users {
		r.Senders.Go(func() {
			for i := range budgetEach {
				at := start.Add(interval*time.Duration(i) + interval*time.Duration(n)/time.Duration(len(users)))
				select {
				case <-time.After(time.Until(at)):
				case <-b.T.Context().Done():
					return
				}
				r.Send(b.T.Context(), u, fmt.Sprintf("%s: %s #%d", r.Name, u.Name, i))
			}
		})
	}
}

// topicUsers returns a user for each topic of the limited chat.
func (b *budgetFixture) topicUsers() (users []harness.SimulatedUser) {
	chat := b.chat
	for topic := range limitedTopics {
		name := fmt.Sprintf("%d topic %d", chat, topic)
		users = append(users, harness.SimulatedUser{Name: name, Send: func(_ context.Context, text string) func() bool {
			update := b.Telegram.SendText(harness.TelegramBot, simulator.TelegramUser{ID: chat}, text,
				func(message map[string]any) {
					message["message_thread_id"], message["is_topic_message"] = 100+topic, true
				})
			return func() bool { return b.Telegram.Delivered(update) }
		}})
	}
	return users
}

// repliedAt returns when the reply to each message reached Telegram.
func (b *budgetFixture) repliedAt() map[string]time.Time {
	at := map[string]time.Time{}
	for _, l := range b.Telegram.Replies("") {
		if text, ok := strings.CutPrefix(l.Text, "re "); ok && at[text].IsZero() {
			at[text] = l.At
		}
	}
	return at
}

func (b *budgetFixture) unanswered(r *harness.MessageLoad) (n int) {
	at := b.repliedAt()
	for _, m := range r.Sent {
		if at[m.Text].IsZero() {
			n++
		}
	}
	return n
}

// measure returns the reply times of the users of a bot.
func (b *budgetFixture) measure(r *harness.MessageLoad, bot string) (took []time.Duration) {
	at := b.repliedAt()
	for _, m := range r.Sent {
		if strings.Contains(m.Text, ": "+bot+" ") {
			took = append(took, at[m.Text].Sub(m.SentAt))
		}
	}
	return took
}

func newReplyTime(took []time.Duration) replyTime {
	took = slices.Sorted(slices.Values(took))
	return replyTime{took[len(took)/2].Round(time.Millisecond), took[len(took)*99/100].Round(time.Millisecond)}
}

// longestPause returns the longest time between two replies of a round.
func (b *budgetFixture) longestPause(r *harness.MessageLoad) (pause time.Duration) {
	var all []time.Time
	at := b.repliedAt()
	for _, m := range r.Sent {
		all = append(all, at[m.Text])
	}
	slices.SortFunc(all, time.Time.Compare)
	for i := 1; i < len(all); i++ {
		pause = max(pause, all[i].Sub(all[i-1]))
	}
	return pause.Round(time.Millisecond)
}

// requireHold checks the calls to the limited chat: almost none while it was held, one probe, then at most as
// many as the provider accepts.
func (b *budgetFixture) requireHold() {
	b.T.Helper()
	b.limit.mu.Lock()
	defer b.limit.mu.Unlock()
	l := b.limit
	if l.refused < 1 || l.refused > 1+callsUnderWay {
		b.T.Errorf("%d calls to the limited chat were refused, want at most %d", l.refused, 1+callsUnderWay)
	}
	after := slices.DeleteFunc(slices.Clone(l.finished), func(c limitedCall) bool { return c.began.Before(l.end) })
	slices.SortFunc(after, func(a, b limitedCall) int { return a.began.Compare(b.began) })
	if len(after) < 2 || after[1].began.Before(after[0].ended) {
		b.T.Errorf("%d calls after the hold, want one that ends before the others begin", len(after))
		return
	}
	for i := range after {
		for j := i + 5; j < len(after); j++ { // a burst of five, and one each second
			if d := after[j].began.Sub(after[i].began); d < time.Duration(j-i-5)*time.Second {
				b.T.Errorf("%d calls to one chat in %v", j-i+1, d)
			}
		}
	}
	b.T.Logf("%d calls refused; the probe began %v after the end of the hold and took %v; %d calls followed in %v",
		l.refused, after[0].began.Sub(l.end).Round(time.Millisecond),
		after[0].ended.Sub(after[0].began).Round(time.Millisecond), len(after)-1,
		after[len(after)-1].began.Sub(after[0].began).Round(time.Millisecond))
}
