package process

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/gateway"
	"hydragate/gateway/queue"
	"hydragate/identity"
)

// A conversationStore is a store with one conversation in it, whose messages wait to be worked.
type conversationStore struct {
	pending  []gateway.StoredMessage
	reject   func(gateway.Commit) error // nil: everything is stored
	commits  []gateway.Commit           // and stored
	attempts int
	released bool
	retryAt  time.Time // when the line is looked at again
}

func (l *conversationStore) PendingMessages(context.Context, gateway.Lease) ([]gateway.StoredMessage, error) {
	return slices.Clone(l.pending[:min(len(l.pending), gateway.FetchLimit)]), nil
}

func (l *conversationStore) Apply(_ context.Context, s gateway.Commit) error {
	if l.released {
		return gateway.ErrLeaseLost
	}
	l.attempts++
	if l.reject != nil {
		if err := l.reject(s); err != nil {
			return err
		}
	}
	l.commits, l.released, l.retryAt = append(l.commits, s), s.Release, s.Next
	for _, m := range s.Messages {
		i := slices.IndexFunc(l.pending, func(in gateway.StoredMessage) bool { return in.ID == m.ID })
		if m.Retry {
			l.pending[i].Attempts++
			continue
		}
		l.pending = slices.Delete(l.pending, i, i+1)
	}
	return nil
}

// outcomes gives what became of the messages that were settled, in order.
func (l *conversationStore) outcomes() (all []string) {
	for _, s := range l.commits {
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

// newConversation gives a line in which an owner says texts.
func newConversation(texts ...string) *conversationStore {
	l := &conversationStore{}
	for i, text := range texts {
		in := gateway.StoredMessage{
			ID: fmt.Sprint(i), TenantID: "t", InstanceID: "i", ConversationID: "c", ConversationIdentity: "id", Channel: adapters.Telegram, ReceivedAt: time.Now(),
			Message:  adapters.Message{Kind: adapters.Text, Text: text, Sender: adapters.Sender{ID: "1"}, Chat: adapters.Chat{ID: "1"}},
			Sender:   identity.Identity{ID: "id", CustomerID: "cu", VerifiedAt: time.Now(), LastSeenAt: time.Now()},
			Instance: gateway.Instance{UnknownSenders: gateway.ForwardUnknown},
		}
		if c, ok := adapters.ParseCommand(text, ""); ok {
			in.Message.Command = &c
		}
		l.pending = append(l.pending, in)
	}
	return l
}

func (l *conversationStore) newWorker() *Worker {
	return &Worker{Store: l, Endpoints: noEndpoints{}, Log: slog.New(slog.DiscardHandler), Now: time.Now, Wake: func(...gateway.QueueKind) {}}
}

func TestWorker_UnstorableMessage(t *testing.T) {
	l := newConversation("good", "poison", "good", "/help", "good")
	l.reject = func(s gateway.Commit) error {
		if slices.ContainsFunc(s.Messages, func(m gateway.MessageResult) bool { return m.ID == "1" && !m.Retry && !m.Dead }) {
			return gateway.ErrUnstorable
		}
		return nil
	}
	l.pending[1].Attempts = maxAttempts - 1
	for len(l.pending) > 0 {
		l.released = false
		if err := l.newWorker().Run(t.Context(), gateway.Lease{}, queue.NewSlice(t.Context(), time.Hour)); err != nil {
			t.Fatal(err)
		}
		if len(l.pending) > 0 && l.retryAt.IsZero() {
			t.Fatalf("the line was given back, for nobody to look at again, with %d messages in it", len(l.pending))
		}
	}
	if got, want := fmt.Sprint(l.outcomes()), "[0 forwarded 1 dead 2 forwarded 3 helped 4 forwarded]"; got != want {
		t.Errorf("%s; want %s", got, want)
	}
}

// A validCodes ledger has a live code for whoever asks, and its proofs find every code right.
type validCodes struct {
	claim.Store
	claim.CodeStore
}

func (validCodes) CodeState(context.Context, claim.Attempt) (claim.CodeState, error) {
	return claim.CodeState{CustomerID: "cu", Status: claim.Live}, nil
}

func (validCodes) Check(context.Context, claim.Target, string, string, string) (claim.CheckResult, error) {
	return claim.CheckResult{Result: claim.Match}, nil
}

func (validCodes) Drop(context.Context, claim.Target) error { return nil }

func TestWorker_FencedClaim(t *testing.T) {
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
			l := newConversation("hello", "/claim WDJBMJ", "bye")
			l.pending[1].Attempts = c.attempts
			falls := 0
			l.reject = func(s gateway.Commit) error {
				if l.attempts > 20 {
					return fmt.Errorf("tried %d times", l.attempts)
				}
				if falls < c.falls && s.Claim != nil && s.Claim.Grant != nil {
					falls++
					return gateway.ErrFenced
				}
				return nil
			}
			w := l.newWorker()
			w.Claims = &claim.Service{Store: validCodes{}, Codes: validCodes{}}
			began := time.Now()
			if err := w.Run(t.Context(), gateway.Lease{}, queue.NewSlice(t.Context(), time.Hour)); err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(l.outcomes()); got != c.want || l.attempts != c.tried {
				t.Errorf("%s in %d settlements; want %s in %d", got, l.attempts, c.want, c.tried)
			}
			if soon := !l.retryAt.IsZero(); !l.released || soon != c.soon || l.retryAt.Sub(began) > time.Minute {
				t.Errorf("given back %v, to be looked at again at %v", l.released, l.retryAt)
			}
		})
	}
}

func TestWorker_PaidReplyLimit(t *testing.T) {
	for name, c := range map[string]struct {
		channel adapters.Channel
		text    string
		change  func(*gateway.StoredMessage)
		want    int
	}{
		"HelpBySMS":      {adapters.SMS, "/help", nil, maxPaidReplies},
		"HelpByWhatsApp": {adapters.WhatsApp, "/help", nil, maxPaidReplies},
		"HelpOnTelegram": {adapters.Telegram, "/help", nil, 0},
		"Whoami":         {adapters.SMS, "/whoami", nil, maxPaidReplies},
		"Start":          {adapters.SMS, "/start", nil, maxPaidReplies},
		"Hint":           {adapters.SMS, "/claim", nil, maxPaidReplies},
		"Claimed":        {adapters.SMS, "/claim WDJBMJ", nil, 0},
		"AsksToUnlink":   {adapters.SMS, "/unlink", nil, 0},
		"Unlinks":        {adapters.SMS, "/unlink", func(in *gateway.StoredMessage) { in.UnlinkRequested = true }, 0},
		"NothingToUnlink": {adapters.SMS, "/unlink", func(in *gateway.StoredMessage) {
			in.Sender.CustomerID, in.Sender.VerifiedAt = "", time.Time{}
		}, maxPaidReplies},
	} {
		t.Run(name, func(t *testing.T) {
			l := newConversation(c.text)
			in := &l.pending[0]
			in.Channel = c.channel
			if c.change != nil {
				c.change(in)
			}
			w := l.newWorker()
			w.Claims = &claim.Service{Store: validCodes{}, Codes: validCodes{}}
			if err := w.Run(t.Context(), gateway.Lease{}, queue.NewSlice(t.Context(), time.Hour)); err != nil {
				t.Fatal(err)
			}
			if rows := l.commits[0].Replies; len(rows) != 1 || rows[0].MaxPerHour != c.want {
				t.Errorf("%+v; want one answer, of at most %d", rows, c.want)
			}
		})
	}
}
