package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/identity"
)

// A line is a store with one conversation in it, whose messages wait to be worked.
type line struct {
	waiting []Inbound
	refuse  func(Settlement) error // nil: everything is stored
	settled []Settlement           // and stored
	tried   int
	free    bool
	next    time.Time // when the line is looked at again
}

func (l *line) Inbound(context.Context, Lease) ([]Inbound, error) {
	return slices.Clone(l.waiting[:min(len(l.waiting), FetchMost)]), nil
}

func (l *line) Settle(_ context.Context, s Settlement) error {
	if l.free {
		return ErrLeaseLost
	}
	l.tried++
	if l.refuse != nil {
		if err := l.refuse(s); err != nil {
			return err
		}
	}
	l.settled, l.free, l.next = append(l.settled, s), s.Release, s.Next
	for _, m := range s.Messages {
		i := slices.IndexFunc(l.waiting, func(in Inbound) bool { return in.ID == m.ID })
		if m.Retry {
			l.waiting[i].Attempts++
			continue
		}
		l.waiting = slices.Delete(l.waiting, i, i+1)
	}
	return nil
}

// outcomes gives what became of the messages that were settled, in order.
func (l *line) outcomes() (all []string) {
	for _, s := range l.settled {
		for _, m := range s.Messages {
			outcome := m.Outcome
			if m.Retry {
				outcome = "retry"
			}
			all = append(all, m.ID+" "+outcome)
		}
	}
	return all
}

// lined gives a line in which an owner says texts.
func lined(texts ...string) *line {
	l := &line{}
	for i, text := range texts {
		in := Inbound{
			ID: fmt.Sprint(i), TenantID: "t", InstanceID: "i", ConversationID: "c", ConversationIdentity: "id", Channel: adapters.Telegram, ReceivedAt: time.Now(),
			Message:  adapters.Message{Kind: adapters.Text, Text: text, Sender: adapters.Sender{ID: "1"}, Place: adapters.Place{ID: "1"}},
			Sender:   identity.Identity{ID: "id", CustomerID: "cu", VerifiedAt: time.Now(), LastHeardAt: time.Now()},
			Instance: Instance{UnknownSenders: Forward},
		}
		if c, ok := adapters.ParseCommand(text, ""); ok {
			in.Message.Command = &c
		}
		l.waiting = append(l.waiting, in)
	}
	return l
}

func (l *line) worker() *Worker {
	return &Worker{Store: l, Channels: nowhere{}, Log: slog.New(slog.DiscardHandler), Now: time.Now, Woken: func(...LaneKind) {}}
}

func TestUnstorableHoldsUpNobody(t *testing.T) {
	l := lined("good", "poison", "good", "/help", "good")
	l.refuse = func(s Settlement) error {
		if slices.ContainsFunc(s.Messages, func(m Settled) bool { return m.ID == "1" && !m.Retry && !m.Dead }) {
			return ErrUnstorable
		}
		return nil
	}
	l.waiting[1].Attempts = maxAttempts - 1
	for len(l.waiting) > 0 {
		l.free = false
		if err := l.worker().Work(t.Context(), Lease{}, NewTurn(t.Context(), time.Hour)); err != nil {
			t.Fatal(err)
		}
		if len(l.waiting) > 0 && l.next.IsZero() {
			t.Fatalf("the line was given back, for nobody to look at again, with %d messages in it", len(l.waiting))
		}
	}
	if got, want := fmt.Sprint(l.outcomes()), "[0 forwarded 1 dead 2 forwarded 3 helped 4 forwarded]"; got != want {
		t.Errorf("%s; want %s", got, want)
	}
}

// A hopeful ledger has a live code for whoever asks, and its proofs find every code right.
type hopeful struct {
	claim.Ledger
	claim.Proofs
}

func (hopeful) State(context.Context, claim.Attempt) (claim.State, error) {
	return claim.State{Customer: "cu", Fence: claim.Live}, nil
}

func (hopeful) Check(context.Context, claim.Subject, string, string, string) (claim.Finding, error) {
	return claim.Finding{Verdict: claim.Match}, nil
}

func (hopeful) Drop(context.Context, claim.Subject) error { return nil }

func TestFencedClaimIsLookedAtAgain(t *testing.T) {
	for name, c := range map[string]struct {
		falls    int // how often the fence refuses
		attempts int // before
		tried    int // settlements, those that were refused among them
		want     string
		soon     bool // the line is looked at again
	}{
		"Never":       {0, 0, 2, "[0 forwarded 1 claimed 2 forwarded]", false},
		"Once":        {1, 0, 3, "[0 forwarded 1 claimed 2 forwarded]", false},
		"Twice":       {2, 0, 4, "[0 forwarded 1 claimed 2 forwarded]", false},
		"Thrice":      {3, 0, 5, "[0 forwarded 1 retry]", true},
		"ForEver":     {1 << 30, 0, 5, "[0 forwarded 1 retry]", true},
		"AndLongTime": {1 << 30, maxAttempts - 1, 5, "[0 forwarded 1 dead]", true},
	} {
		t.Run(name, func(t *testing.T) {
			l := lined("hello", "/claim WDJBMJ", "bye")
			l.waiting[1].Attempts = c.attempts
			falls := 0
			l.refuse = func(s Settlement) error {
				if l.tried > 20 {
					return fmt.Errorf("tried %d times", l.tried)
				}
				if falls < c.falls && s.Claim != nil && s.Claim.Grant != nil {
					falls++
					return ErrFenced
				}
				return nil
			}
			w := l.worker()
			w.Desk = &claim.Desk{Ledger: hopeful{}, Proofs: hopeful{}}
			began := time.Now()
			if err := w.Work(t.Context(), Lease{}, NewTurn(t.Context(), time.Hour)); err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(l.outcomes()); got != c.want || l.tried != c.tried {
				t.Errorf("%s in %d settlements; want %s in %d", got, l.tried, c.want, c.tried)
			}
			if soon := !l.next.IsZero(); !l.free || soon != c.soon || l.next.Sub(began) > time.Minute {
				t.Errorf("given back %v, to be looked at again at %v", l.free, l.next)
			}
		})
	}
}

func TestPaidAnswersAreLimited(t *testing.T) {
	for name, c := range map[string]struct {
		channel adapters.Channel
		text    string
		change  func(*Inbound)
		want    int
	}{
		"HelpBySMS":      {adapters.SMS, "/help", nil, paidAnswers},
		"HelpByWhatsApp": {adapters.WhatsApp, "/help", nil, paidAnswers},
		"HelpOnTelegram": {adapters.Telegram, "/help", nil, 0},
		"Whoami":         {adapters.SMS, "/whoami", nil, paidAnswers},
		"Start":          {adapters.SMS, "/start", nil, paidAnswers},
		"Hint":           {adapters.SMS, "/claim", nil, paidAnswers},
		"Claimed":        {adapters.SMS, "/claim WDJBMJ", nil, 0},
		"AsksToUnlink":   {adapters.SMS, "/unlink", nil, 0},
		"Unlinks":        {adapters.SMS, "/unlink", func(in *Inbound) { in.UnlinkAsked = true }, 0},
		"NothingToUnlink": {adapters.SMS, "/unlink", func(in *Inbound) {
			in.Sender.CustomerID, in.Sender.VerifiedAt = "", time.Time{}
		}, paidAnswers},
	} {
		t.Run(name, func(t *testing.T) {
			l := lined(c.text)
			in := &l.waiting[0]
			in.Channel = c.channel
			if c.change != nil {
				c.change(in)
			}
			w := l.worker()
			w.Desk = &claim.Desk{Ledger: hopeful{}, Proofs: hopeful{}}
			if err := w.Work(t.Context(), Lease{}, NewTurn(t.Context(), time.Hour)); err != nil {
				t.Fatal(err)
			}
			if rows := l.settled[0].Replies; len(rows) != 1 || rows[0].AtMost != c.want {
				t.Errorf("%+v; want one answer, of at most %d", rows, c.want)
			}
		})
	}
}
