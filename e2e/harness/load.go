//go:build unix

package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hydragate/adapters/simulator"
)

// percentile returns the p-quantile of all, or 0 if there are none.
func percentile(all []time.Duration, p float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	all = slices.Sorted(slices.Values(all))
	return all[min(len(all)-1, int(p*float64(len(all))))]
}

// A MessageLoad is a group of users who send messages, and a record of the messages that the gateway
// accepted. Each text is sent once.
type MessageLoad struct {
	*Harness
	Name    string
	Pace    func(ctx context.Context, i int) // waits before message i; may be nil
	Users   []SimulatedUser
	mu      sync.Mutex
	Sent    []sentMessage
	Senders sync.WaitGroup
}

// A SimulatedUser is a user with a private conversation.
type SimulatedUser struct {
	Name string
	// Send sends a text. It returns when the provider has delivered it or has given up. accepted
	// reports whether the gateway acknowledged the message.
	Send func(ctx context.Context, text string) (accepted func() bool)
}

type sentMessage struct {
	Text     string
	SentAt   time.Time
	accepted func() bool
}

// NewLoad returns a load with a number of users on each of Telegram by webhook, Telegram by polling,
// SMS and Slack.
func (s *Harness) NewLoad(each int) *MessageLoad {
	s.LoadCount++
	r := &MessageLoad{Harness: s, Name: fmt.Sprintf("round %d", s.LoadCount)}
	for i := range each {
		n := s.LoadCount*1000 + i
		r.Users = append(r.Users,
			s.TelegramUser(TelegramBot, int64(100_000+n)),
			s.TelegramUser(PollingBot, int64(200_000+n)),
			s.smsUser(fmt.Sprintf("+1415555%04d", n)),
			s.SlackUser(fmt.Sprintf("U%05d", n)),
		)
	}
	return r
}

// TelegramUser returns a user of a Telegram bot.
func (s *Harness) TelegramUser(bot string, id int64) SimulatedUser {
	return SimulatedUser{Name: fmt.Sprintf("%s %d", bot, id), Send: func(_ context.Context, text string) func() bool {
		update := s.Telegram.SendText(bot, simulator.TelegramUser{ID: id, FirstName: "User"}, text)
		return func() bool { return s.Telegram.Delivered(update) }
	}}
}

// smsUser returns a user whose provider repeats each message until it is accepted.
func (s *Harness) smsUser(number string) SimulatedUser {
	return SimulatedUser{Name: number, Send: func(ctx context.Context, text string) func() bool {
		sid := s.Twilio.SendText(number, SMSBotNumber, text)
		accepted := func() bool {
			return slices.ContainsFunc(s.Twilio.Attempts(sid), func(a simulator.TwilioAttempt) bool {
				return a.Status/100 == 2
			})
		}
		wait := EveryInterval(250 * time.Millisecond)
		for !accepted() && ctx.Err() == nil {
			wait(ctx, 0)
			s.Twilio.Redeliver(sid)
		}
		return accepted
	}}
}

// SlackUser returns a user whose provider gives up after four attempts.
func (s *Harness) SlackUser(id string) SimulatedUser {
	u := simulator.SlackUser{Team: SlackTeamID, ID: id, Name: "User"}
	return SimulatedUser{Name: id, Send: func(ctx context.Context, text string) func() bool {
		d, err := s.Slack.SendText(ctx, SlackAppID, u, text)
		accepted := err == nil && slices.ContainsFunc(d.Attempts, func(a simulator.SlackAttempt) bool {
			return a.Err == nil && a.Status/100 == 2
		})
		return func() bool { return accepted }
	}}
}

// MentioningSlackUser returns a Slack user who mentions the bot in a channel. Slack reports each mention
// as a message event and an app_mention event with different event IDs; the order alternates.
func (s *Harness) MentioningSlackUser(id string) SimulatedUser {
	kinds := []string{"app_mention", "message"}
	return SimulatedUser{Name: id, Send: func(ctx context.Context, text string) func() bool {
		slices.Reverse(kinds)
		ts := fmt.Sprintf("%d.%06d", time.Now().Unix(), rand.N(1_000_000))
		accepted := false
		for _, kind := range kinds {
			event, _ := json.Marshal(map[string]string{
				"type": kind, "user": id, "text": "<@U0BOT> " + text, "ts": ts, "event_ts": ts,
				"channel": SlackChannelID, "team": SlackTeamID,
			})
			d, err := s.Slack.SendEvent(ctx, SlackAppID, event)
			accepted = accepted || err == nil && d.Accepted()
		}
		return func() bool { return accepted }
	}}
}

// StartSending makes each user send n messages in sequence. It does not wait for them.
func (r *MessageLoad) StartSending(ctx context.Context, n int) {
	for _, user := range r.Users {
		r.Senders.Go(func() {
			for i := 0; i < n && ctx.Err() == nil; i++ {
				if r.Pace != nil {
					r.Pace(ctx, i)
				}
				r.Send(ctx, user, fmt.Sprintf("%s: %s #%d", r.Name, user.Name, i))
			}
		})
	}
}

// SendDuring makes each user send n messages, spread evenly over a number of turns. It calls turn that
// often, and returns when all messages are sent.
func (r *MessageLoad) SendDuring(n, turns int, turn func()) {
	var over Broadcast
	var ended atomic.Int64
	r.Pace = func(ctx context.Context, i int) {
		for {
			next := over.changed()
			if ended.Load() >= int64(i*turns/n) {
				return
			}
			select {
			case <-next:
			case <-ctx.Done():
				return
			}
		}
	}
	r.StartSending(r.T.Context(), n)
	for range turns {
		turn()
		ended.Add(1)
		over.Notify()
	}
	r.Senders.Wait()
}

// Send sends a text as a user and records it.
func (r *MessageLoad) Send(ctx context.Context, user SimulatedUser, text string) {
	at := time.Now()
	accepted := user.Send(ctx, text)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Sent = append(r.Sent, sentMessage{text, at, accepted})
}

// A LoadReport counts the accepted messages that were not processed as guaranteed.
type LoadReport struct {
	Sent, Accepted, stored    int
	Lost                      int // accepted but not in the database
	StoredTwice               int // in the database more than once
	undelivered               int // never delivered to the application
	duplicated                int // delivered as more than one message, or with more than one event ID
	reordered                 int // delivered before an earlier message of the same conversation
	Unanswered                int // without a reply
	spoolReordered            int // reordered SMS while several gateways ran, each with a spool
	Redelivered, ExtraReplies int // deliveries and replies after the first
	examples                  []string
}

// Violations returns the number of violated guarantees.
func (v LoadReport) Violations() int {
	return v.Lost + v.StoredTwice + v.undelivered + v.duplicated + v.reordered + v.Unanswered
}

// String returns the counts and some of the messages.
func (v LoadReport) String() string {
	s := fmt.Sprintf("%d messages sent, %d accepted, %d stored: %d lost, %d stored twice, %d undelivered, "+
		"%d duplicated, %d out of order, %d unanswered; %d redelivered, %d extra replies",
		v.Sent, v.Accepted, v.stored, v.Lost, v.StoredTwice, v.undelivered,
		v.duplicated, v.reordered, v.Unanswered, v.Redelivered, v.ExtraReplies)
	if v.spoolReordered > 0 {
		s += fmt.Sprintf("; %d spooled texts out of order", v.spoolReordered)
	}
	if len(v.examples) > 0 {
		s += fmt.Sprintf("; such as %q", v.examples)
	}
	return s
}

// Report compares the accepted messages with those that were stored, delivered and answered. It waits
// until all messages are sent.
func (r *MessageLoad) Report() (v LoadReport) {
	r.T.Helper()
	r.Senders.Wait()
	stored, read := r.storedCounts(), r.ReplyCounts()
	bySender := map[string][]sentMessage{}
	for _, u := range r.Sent {
		v.Sent++
		accepted, h := u.accepted(), r.App.Received(u.Text)
		count := func(counter *int, what string) {
			*counter++
			if len(v.examples) < 5 {
				v.examples = append(v.examples, what+": "+u.Text)
			}
		}
		if stored[u.Text] > 1 {
			count(&v.StoredTwice, "stored twice")
		}
		if h.Messages > 1 || h.Events > 1 {
			count(&v.duplicated, "duplicated")
		}
		v.Redelivered += max(0, h.Calls-1)
		v.ExtraReplies += max(0, read["re "+u.Text]-1)
		if h.Calls > 0 {
			sender, _, _ := strings.Cut(u.Text, " #")
			bySender[sender] = append(bySender[sender], u)
		}
		v.stored += min(1, stored[u.Text])
		if !accepted {
			continue
		}
		v.Accepted++
		switch {
		case stored[u.Text] == 0:
			count(&v.Lost, "lost")
		case h.Calls == 0:
			count(&v.undelivered, "undelivered")
		case read["re "+u.Text] == 0:
			count(&v.Unanswered, "unanswered")
		}
	}
	for _, us := range bySender { // in the order in which they were sent
		for i := 1; i < len(us); i++ {
			if r.App.Received(us[i].Text).order > r.App.Received(us[i-1].Text).order {
				continue
			}
			if r.Replicated && strings.HasPrefix(us[i].Text, r.Name+": +") {
				v.spoolReordered++
			} else {
				v.reordered++
				v.examples = append(v.examples, "out of order: "+us[i].Text)
			}
		}
	}
	return v
}

// storedCounts returns the number of stored messages by text.
func (r *MessageLoad) storedCounts() map[string]int {
	r.T.Helper()
	counts := map[string]int{}
	for _, text := range r.QueryTexts(`select text from messages where text like $1`, r.Name+":%") {
		counts[text]++
	}
	return counts
}

// ReplyCounts returns the number of replies by text, on all channels.
func (s *Harness) ReplyCounts() map[string]int {
	read := map[string]int{}
	for _, tr := range []*simulator.Transcript{&s.Telegram.Transcript, &s.Twilio.Transcript, &s.Slack.Transcript} {
		for _, l := range tr.Replies("") {
			read[l.Text]++
		}
	}
	return read
}

// RequireComplete fails the test unless the report shows no violation, at least minAccepted
// accepted messages and at most maxExtraReplies extra replies. It returns the report.
func (r *MessageLoad) RequireComplete(minAccepted, maxExtraReplies int) LoadReport {
	r.T.Helper()
	v := r.Report()
	r.T.Log(v)
	if v.Violations() > 0 || v.ExtraReplies > maxExtraReplies || v.Accepted < minAccepted {
		r.T.Errorf("Report = %s, want no violations, at least %d messages accepted and at most %d extra replies\n%s",
			v, minAccepted, maxExtraReplies, r.LogTail())
	}
	return v
}

// RequireDelivered fails the test unless every message was accepted and delivered once and in order.
// Replies may be missing, because a faulty application may not have sent one. It returns the report.
func (r *MessageLoad) RequireDelivered() LoadReport {
	r.T.Helper()
	v := r.Report()
	if v.Violations() > v.Unanswered || v.Sent != v.Accepted {
		r.T.Errorf("Report = %s, want no lost, duplicate or reordered messages\n%s", v, r.LogTail())
	}
	return v
}

// RequireFault fails the test if count returns 0, which means that the load did not detect the fault
// of a broken build.
func (r *MessageLoad) RequireFault(count func(LoadReport) int) {
	r.T.Helper()
	v := r.Report()
	r.T.Log("control:", v)
	if count(v) == 0 {
		r.T.Errorf("the load did not detect the fault: %s", v)
	}
}

// EveryInterval returns a function for MessageLoad.Pace that waits for d before each message.
func EveryInterval(d time.Duration) func(context.Context, int) {
	return func(ctx context.Context, _ int) {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
}

// Median returns the median of ds, which must not be empty.
func Median(ds []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(ds))
	return sorted[len(sorted)/2]
}
