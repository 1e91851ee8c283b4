package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"hydragate/adapters"
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
