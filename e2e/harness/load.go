package harness

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hydragate/adapters/simulator"
)

// percentile gives the value below which the part p of all lies.
func percentile(all []time.Duration, p float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	all = slices.Sorted(slices.Values(all))
	return all[min(len(all)-1, int(p*float64(len(all))))]
}

// A MessageLoad is a crowd that talks to the bots of a storm, and the ledger of what the
// gateway took from it. Every text is said once.
type MessageLoad struct {
	*Harness
	Name    string
	Pace    func(ctx context.Context, i int) // waits until message i may be said; nil: at once
	Users   []SimulatedUser
	mu      sync.Mutex
	Sent    []sentMessage
	Senders sync.WaitGroup
}

// A SimulatedUser is one person in a conversation of their own.
type SimulatedUser struct {
	Name string
	// says types a text, and returns when the provider handed it over or gave up. taken
	// tells whether the gateway took it, by what it answered.
	Send func(ctx context.Context, text string) (taken func() bool)
}

type sentMessage struct {
	Text     string
	SentAt   time.Time
	accepted func() bool
}

// NewLoad makes a round with so many people on each of the four ways in.
func (s *Harness) NewLoad(each int) *MessageLoad {
	s.LoadCount++
	r := &MessageLoad{Harness: s, Name: fmt.Sprintf("round %d", s.LoadCount)}
	for i := range each {
		n := s.LoadCount*1000 + i
		r.Users = append(r.Users, s.TelegramUser(TelegramBot, int64(100_000+n)), s.TelegramUser(PollingBot, int64(200_000+n)), s.smsUser(fmt.Sprintf("+1415555%04d", n)), s.SlackUser(fmt.Sprintf("U%05d", n)))
	}
	return r
}

func (s *Harness) TelegramUser(bot string, id int64) SimulatedUser {
	return SimulatedUser{Name: fmt.Sprintf("%s %d", bot, id), Send: func(_ context.Context, text string) func() bool {
		update := s.Telegram.SendText(bot, simulator.TelegramUser{ID: id, FirstName: "Somebody"}, text)
		return func() bool { return s.Telegram.Delivered(update) }
	}}
}

// smsUser is somebody whose provider posts a message again until it is taken, as it
// may do at any time.
func (s *Harness) smsUser(number string) SimulatedUser {
	return SimulatedUser{Name: number, Send: func(ctx context.Context, text string) func() bool {
		sid := s.Twilio.SendText(number, SMSBotNumber, text)
		taken := func() bool {
			return slices.ContainsFunc(s.Twilio.Attempts(sid), func(a simulator.TwilioAttempt) bool { return a.Status/100 == 2 })
		}
		again := EveryInterval(250 * time.Millisecond)
		for !taken() && ctx.Err() == nil {
			again(ctx, 0)
			s.Twilio.Redeliver(sid)
		}
		return taken
	}}
}

// SlackUser is somebody whose provider gives up after four attempts.
func (s *Harness) SlackUser(id string) SimulatedUser {
	u := simulator.SlackUser{Team: SlackTeamID, ID: id, Name: "Somebody"}
	return SimulatedUser{Name: id, Send: func(ctx context.Context, text string) func() bool {
		d, err := s.Slack.SendText(ctx, SlackAppID, u, text)
		taken := err == nil && slices.ContainsFunc(d.Attempts, func(a simulator.SlackAttempt) bool { return a.Err == nil && a.Status/100 == 2 })
		return func() bool { return taken }
	}}
}

// StartSending lets everybody say n messages, one after the other, and returns at once.
func (r *MessageLoad) StartSending(ctx context.Context, n int) {
	for _, who := range r.Users {
		r.Senders.Go(func() {
			for i := 0; i < n && ctx.Err() == nil; i++ {
				if r.Pace != nil {
					r.Pace(ctx, i)
				}
				r.Send(ctx, who, fmt.Sprintf("%s: %s #%d", r.Name, who.Name, i))
			}
		})
	}
}

func (r *MessageLoad) Send(ctx context.Context, who SimulatedUser, text string) {
	at := time.Now()
	taken := who.Send(ctx, text)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Sent = append(r.Sent, sentMessage{text, at, taken})
}

// A LoadReport counts what is not as promised, of the messages that were taken.
type LoadReport struct {
	Sent, Accepted, stored    int
	Lost                      int // taken and not in the database
	StoredTwice               int // in the database more than once
	undelivered               int // never handed to the agent
	duplicated                int // handed over as more than one message, or under more than one id
	reordered                 int // handed over before an earlier one of the same conversation
	Unanswered                int // the reply was never sent
	spoolReordered            int // the same of texts that a spool may have kept, beside another gateway
	Redelivered, ExtraReplies int // calls of the agent and replies beyond the first
	examples                  []string
}

// Violations counts what may never be, whatever breaks.
func (v LoadReport) Violations() int {
	return v.Lost + v.StoredTwice + v.undelivered + v.duplicated + v.reordered + v.Unanswered
}

func (v LoadReport) String() string {
	s := fmt.Sprintf("%d messages said, %d taken, %d stored: %d lost, %d stored twice, %d never handed over, %d of two effects, %d out of order, %d unanswered; handed over again %d, replies again %d",
		v.Sent, v.Accepted, v.stored, v.Lost, v.StoredTwice, v.undelivered, v.duplicated, v.reordered, v.Unanswered, v.Redelivered, v.ExtraReplies)
	if v.spoolReordered > 0 {
		s += fmt.Sprintf("; %d texts from a spool out of order", v.spoolReordered)
	}
	if len(v.examples) > 0 {
		s += fmt.Sprintf("; such as %q", v.examples)
	}
	return s
}

// Report compares what was said and taken with what is stored, what the agent heard and
// what the people read. Everybody must have stopped talking.
func (r *MessageLoad) Report() (v LoadReport) {
	r.T.Helper()
	r.Senders.Wait()
	stored, read := r.storedCounts(), r.ReplyCounts()
	turns := map[string][]sentMessage{}
	for _, u := range r.Sent {
		v.Sent++
		taken, h := u.accepted(), r.App.Received(u.Text)
		blame := func(counter *int, what string) {
			*counter++
			if len(v.examples) < 5 {
				v.examples = append(v.examples, what+": "+u.Text)
			}
		}
		if stored[u.Text] > 1 {
			blame(&v.StoredTwice, "stored twice")
		}
		if h.Messages > 1 || h.Events > 1 {
			blame(&v.duplicated, "two effects")
		}
		v.Redelivered += max(0, h.Calls-1)
		v.ExtraReplies += max(0, read["re "+u.Text]-1)
		if h.Calls > 0 {
			sender, _, _ := strings.Cut(u.Text, " #")
			turns[sender] = append(turns[sender], u)
		}
		v.stored += min(1, stored[u.Text])
		if !taken {
			continue
		}
		v.Accepted++
		switch {
		case stored[u.Text] == 0:
			blame(&v.Lost, "lost")
		case h.Calls == 0:
			blame(&v.undelivered, "unheard")
		case read["re "+u.Text] == 0:
			blame(&v.Unanswered, "unanswered")
		}
	}
	for _, us := range turns { // in the order they were said in
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

// storedCounts counts the rows of each text of the round.
func (r *MessageLoad) storedCounts() map[string]int {
	r.T.Helper()
	counts := map[string]int{}
	for _, text := range r.QueryTexts(`select text from messages where text like $1`, r.Name+":%") {
		counts[text]++
	}
	return counts
}

// ReplyCounts counts what the people read, on all channels.
func (s *Harness) ReplyCounts() map[string]int {
	read := map[string]int{}
	for _, tr := range []*simulator.Transcript{&s.Telegram.Transcript, &s.Twilio.Transcript, &s.Slack.Transcript} {
		for _, l := range tr.Replies("") {
			read[l.Text]++
		}
	}
	return read
}

// RequireComplete fails the test unless everything promised holds, with at most so many replies
// sent again, and at least least messages taken.
func (r *MessageLoad) RequireComplete(least, echoes int) LoadReport {
	r.T.Helper()
	v := r.Report()
	r.T.Log(v)
	if v.Violations() > 0 || v.ExtraReplies > echoes || v.Accepted < least {
		r.T.Errorf("of %d messages that had to be taken, and at most %d replies again: %s\n%s", least, echoes, v, r.LogTail())
	}
	return v
}

// RequireFault fails the test unless the control, of which this is the round, shows the
// fault it is there for.
func (r *MessageLoad) RequireFault(count func(LoadReport) int) {
	r.T.Helper()
	v := r.Report()
	r.T.Log("control:", v)
	if count(v) == 0 {
		r.T.Errorf("the check does not see what it is for: %s", v)
	}
}

// A TurnCounter turns again and again; people may wait for it.
type TurnCounter struct {
	Broadcast
	turns atomic.Int64
}

func (t *TurnCounter) Advance() {
	t.turns.Add(1)
	t.Notify()
}

// DuringTurns paces a round so that its n messages are spread over so many turns of a tide.
func DuringTurns(n, turns int, t *TurnCounter) func(context.Context, int) {
	return func(ctx context.Context, i int) {
		for {
			next := t.changed()
			if t.turns.Load() >= int64(i*turns/n) {
				return
			}
			select {
			case <-next:
			case <-ctx.Done():
				return
			}
		}
	}
}

// EveryInterval paces a round by the clock.
func EveryInterval(d time.Duration) func(context.Context, int) {
	return func(ctx context.Context, _ int) {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
}

func Median(ds []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(ds))
	return sorted[len(sorted)/2]
}
