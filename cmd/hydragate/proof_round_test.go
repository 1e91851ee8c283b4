//go:build unix

package main

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

// A round is a crowd that talks to the bots of a storm, and the ledger of what the
// gateway took from it. Every text is said once.
type round struct {
	*storm
	name  string
	pace  func(ctx context.Context, i int) // waits until message i may be said; nil: at once
	folk  []talker
	mu    sync.Mutex
	said  []utterance
	talks sync.WaitGroup
}

// A talker is one person in a conversation of their own.
type talker struct {
	name string
	// says types a text, and returns when the provider handed it over or gave up. taken
	// tells whether the gateway took it, by what it answered.
	says func(ctx context.Context, text string) (taken func() bool)
}

type utterance struct {
	text  string
	at    time.Time
	taken func() bool
}

// gather makes a round with so many people on each of the four ways in.
func (s *storm) gather(each int) *round {
	s.rounds++
	r := &round{storm: s, name: fmt.Sprintf("round %d", s.rounds)}
	for i := range each {
		n := s.rounds*1000 + i
		r.folk = append(r.folk, s.onTelegram(telegramBot, int64(100_000+n)), s.onTelegram(polledBot, int64(200_000+n)), s.onPhone(fmt.Sprintf("+1415555%04d", n)), s.onSlack(fmt.Sprintf("U%05d", n)))
	}
	return r
}

func (s *storm) onTelegram(bot string, id int64) talker {
	return talker{fmt.Sprintf("%s %d", bot, id), func(_ context.Context, text string) func() bool {
		update := s.telegram.Say(bot, simulator.Person{ID: id, First: "Somebody"}, text)
		return func() bool { return s.telegram.Delivered(update) }
	}}
}

// onPhone is somebody whose provider posts a message again until it is taken, as it
// may do at any time.
func (s *storm) onPhone(number string) talker {
	return talker{number, func(ctx context.Context, text string) func() bool {
		sid := s.twilio.Text(number, phoneBot, text)
		taken := func() bool {
			return slices.ContainsFunc(s.twilio.Attempts(sid), func(a simulator.TwilioAttempt) bool { return a.Status/100 == 2 })
		}
		again := each(250 * time.Millisecond)
		for !taken() && ctx.Err() == nil {
			again(ctx, 0)
			s.twilio.Redeliver(sid)
		}
		return taken
	}}
}

// onSlack is somebody whose provider gives up after four attempts.
func (s *storm) onSlack(id string) talker {
	u := simulator.SlackUser{Team: slackTeam, ID: id, Name: "Somebody"}
	return talker{id, func(ctx context.Context, text string) func() bool {
		d, err := s.slack.Message(ctx, slackApp, u, text)
		taken := err == nil && slices.ContainsFunc(d.Attempts, func(a simulator.SlackAttempt) bool { return a.Err == nil && a.Status/100 == 2 })
		return func() bool { return taken }
	}}
}

// talk lets everybody say n messages, one after the other, and returns at once.
func (r *round) talk(ctx context.Context, n int) {
	for _, who := range r.folk {
		r.talks.Go(func() {
			for i := 0; i < n && ctx.Err() == nil; i++ {
				if r.pace != nil {
					r.pace(ctx, i)
				}
				r.say(ctx, who, fmt.Sprintf("%s: %s #%d", r.name, who.name, i))
			}
		})
	}
}

func (r *round) say(ctx context.Context, who talker, text string) {
	at := time.Now()
	taken := who.says(ctx, text)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = append(r.said, utterance{text, at, taken})
}

// A verdict counts what is not as promised, of the messages that were taken.
type verdict struct {
	said, taken, stored int
	lost                int // taken and not in the database
	stacked             int // in the database more than once
	unheard             int // never handed to the agent
	effects             int // handed over as more than one message, or under more than one id
	inverted            int // handed over before an earlier one of the same conversation
	unanswered          int // the reply was never sent
	late                int // the same of texts that a spool may have kept, beside another gateway
	again, echoes       int // calls of the agent and replies beyond the first
	sample              []string
}

// broken counts what may never be, whatever breaks.
func (v verdict) broken() int {
	return v.lost + v.stacked + v.unheard + v.effects + v.inverted + v.unanswered
}

func (v verdict) String() string {
	s := fmt.Sprintf("%d messages said, %d taken, %d stored: %d lost, %d stored twice, %d never handed over, %d of two effects, %d out of order, %d unanswered; handed over again %d, replies again %d",
		v.said, v.taken, v.stored, v.lost, v.stacked, v.unheard, v.effects, v.inverted, v.unanswered, v.again, v.echoes)
	if v.late > 0 {
		s += fmt.Sprintf("; %d texts from a spool out of order", v.late)
	}
	if len(v.sample) > 0 {
		s += fmt.Sprintf("; such as %q", v.sample)
	}
	return s
}

// judge compares what was said and taken with what is stored, what the agent heard and
// what the people read. Everybody must have stopped talking.
func (r *round) judge() (v verdict) {
	r.t.Helper()
	r.talks.Wait()
	stored, read := r.storedTexts(), r.repliesRead()
	turns := map[string][]utterance{}
	for _, u := range r.said {
		v.said++
		taken, h := u.taken(), r.ear.heard(u.text)
		blame := func(counter *int, what string) {
			*counter++
			if len(v.sample) < 5 {
				v.sample = append(v.sample, what+": "+u.text)
			}
		}
		if stored[u.text] > 1 {
			blame(&v.stacked, "stored twice")
		}
		if len(h.messages) > 1 || len(h.events) > 1 {
			blame(&v.effects, "two effects")
		}
		v.again += max(0, h.calls-1)
		v.echoes += max(0, read["re "+u.text]-1)
		if h.calls > 0 {
			turns[speaker(u.text)] = append(turns[speaker(u.text)], u)
		}
		v.stored += min(1, stored[u.text])
		if !taken {
			continue
		}
		v.taken++
		switch {
		case stored[u.text] == 0:
			blame(&v.lost, "lost")
		case h.calls == 0:
			blame(&v.unheard, "unheard")
		case read["re "+u.text] == 0:
			blame(&v.unanswered, "unanswered")
		}
	}
	for _, us := range turns { // in the order they were said in
		for i := 1; i < len(us); i++ {
			if r.ear.heard(us[i].text).turn > r.ear.heard(us[i-1].text).turn {
				continue
			}
			if r.sideBySide && strings.HasPrefix(us[i].text, r.name+": +") {
				v.late++
			} else {
				v.inverted++
				v.sample = append(v.sample, "out of order: "+us[i].text)
			}
		}
	}
	return v
}

// storedTexts counts the rows of each text of the round.
func (r *round) storedTexts() map[string]int {
	r.t.Helper()
	rows, err := r.sql.QueryContext(r.t.Context(), `select text, count(*) from messages where text like $1 group by text`, r.name+":%")
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	found := map[string]int{}
	for rows.Next() {
		var text string
		var n int
		if err := rows.Scan(&text, &n); err != nil {
			r.t.Fatal(err)
		}
		found[text] = n
	}
	if err := rows.Err(); err != nil {
		r.t.Fatal(err)
	}
	return found
}

// repliesRead counts what the people read, on all channels.
func (s *storm) repliesRead() map[string]int {
	read := map[string]int{}
	for _, tr := range []*simulator.Transcript{&s.telegram.Transcript, &s.twilio.Transcript, &s.slack.Transcript} {
		for _, l := range tr.Answers("") {
			read[l.Text]++
		}
	}
	return read
}

// holds fails the test unless everything promised holds, with at most so many replies
// sent again, and at least least messages taken.
func (r *round) holds(least, echoes int) verdict {
	r.t.Helper()
	v := r.judge()
	r.t.Log(v)
	if v.broken() > 0 || v.echoes > echoes || v.taken < least {
		r.t.Errorf("of %d messages that had to be taken, and at most %d replies again: %s\n%s", least, echoes, v, r.tail())
	}
	return v
}

// failing fails the test unless the control, of which this is the round, shows the
// fault it is there for.
func (r *round) failing(count func(verdict) int) {
	r.t.Helper()
	v := r.judge()
	r.t.Log("control:", v)
	if count(v) == 0 {
		r.t.Errorf("the check does not see what it is for: %s", v)
	}
}

// A tide turns again and again; people may wait for it.
type tide struct {
	bell
	turns atomic.Int64
}

func (t *tide) turn() {
	t.turns.Add(1)
	t.ring()
}

// during paces a round so that its n messages are spread over so many turns of a tide.
func during(n, turns int, t *tide) func(context.Context, int) {
	return func(ctx context.Context, i int) {
		for {
			next := t.next()
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

// each paces a round by the clock.
func each(d time.Duration) func(context.Context, int) {
	return func(ctx context.Context, _ int) {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
}
