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

// A conversationStore is a MessageStore with the messages of one conversation.
type conversationStore struct {
	pending   []gateway.StoredMessage
	reject    func(gateway.Commit) error // nil: all commits are stored
	commits   []gateway.Commit           // stored
	outcomes  []string                   // IDs and outcomes of the committed messages, in order
	forwarded []gateway.StoredMessage
	attempts  int // calls of Apply
	released  bool
	retryAt   time.Time // when the queue is due again
}

func (s *conversationStore) PendingMessages(context.Context, gateway.Lease) ([]gateway.StoredMessage, error) {
	return slices.Clone(s.pending[:min(len(s.pending), gateway.FetchLimit)]), nil
}

func (s *conversationStore) Apply(_ context.Context, c gateway.Commit) error {
	if s.released {
		return gateway.ErrLeaseLost
	}
	s.attempts++
	if s.reject != nil {
		if err := s.reject(c); err != nil {
			return err
		}
	}
	s.commits, s.released, s.retryAt = append(s.commits, c), c.Release, c.Next
	for _, m := range c.Messages {
		i := slices.IndexFunc(s.pending, func(in gateway.StoredMessage) bool { return in.ID == m.ID })
		if m.Retry {
			s.outcomes = append(s.outcomes, m.ID+" retry")
			s.pending[i].Attempts++
			continue
		}
		s.outcomes = append(s.outcomes, m.ID+" "+m.Outcome)
		if m.Outcome == "forwarded" {
			s.forwarded = append(s.forwarded, s.pending[i])
		}
		s.pending = slices.Delete(s.pending, i, i+1)
	}
	return nil
}

// UndeliveredVersions returns the messages that were forwarded before, whatever their ProviderID.
func (s *conversationStore) UndeliveredVersions(
	context.Context, gateway.StoredMessage,
) ([]gateway.StoredMessage, error) {
	return s.forwarded, nil
}

func (s *conversationStore) PreviousVersion(context.Context, gateway.StoredMessage) (string, error) {
	return "", nil
}

func (s *conversationStore) LinkedConversations(
	context.Context, string, string,
) ([]claim.LinkedConversation, error) {
	return []claim.LinkedConversation{{InstanceID: "i", Channel: "telegram", Recipient: "2", ChatID: "2"}}, nil
}

// newConversation returns a store with messages from a verified owner.
func newConversation(texts ...string) *conversationStore {
	s := &conversationStore{}
	for i, text := range texts {
		in := gateway.StoredMessage{
			ID: fmt.Sprint(i), TenantID: "t", InstanceID: "i", ConversationID: "c", ConversationIdentity: "id",
			Channel: adapters.Telegram, ReceivedAt: time.Now(),
			Message: adapters.Message{
				Kind: adapters.Text, Text: text, Sender: adapters.Sender{ID: "1"}, Chat: adapters.Chat{ID: "1"},
			},
			Sender:   identity.Identity{ID: "id", CustomerID: "cu", VerifiedAt: time.Now(), LastSeenAt: time.Now()},
			Instance: gateway.Instance{UnknownSenders: gateway.ForwardUnknown},
		}
		if c, ok := adapters.ParseCommand(text, ""); ok {
			in.Message.Command = &c
		}
		s.pending = append(s.pending, in)
	}
	return s
}

// newWorker returns a worker on store, for which every claim code is right.
func newWorker(store MessageStore) *Worker {
	return &Worker{
		Store: store, Claims: &claim.Service{Store: validCodes{}, Codes: validCodes{}},
		Endpoints: endpointFinder(func(string) error { return gateway.ErrNoEndpoint }),
		Log:       slog.New(slog.DiscardHandler), Now: time.Now, Wake: func(...gateway.QueueKind) {},
	}
}

// run calls w.Run with a slice that does not expire.
func run(t *testing.T, w *Worker) {
	t.Helper()
	if err := w.Run(t.Context(), gateway.Lease{}, queue.NewSlice(t.Context(), time.Hour)); err != nil {
		t.Fatalf("Run() = %v, want nil", err)
	}
}

// An endpointFinder is a gateway.EndpointFinder of empty endpoints. The function may return an error.
type endpointFinder func(instance string) error

func (f endpointFinder) Endpoint(_ context.Context, instance string, _ adapters.Channel) (adapters.Endpoint, error) {
	return adapters.Endpoint{}, f(instance)
}

// validCodes is a claim.Store with a live code for every sender, and a claim.CodeStore in which every
// code matches.
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

// TestWorker_UnstorableMessage checks that a message whose decision cannot be stored ends as dead, and
// that the messages around it are processed.
func TestWorker_UnstorableMessage(t *testing.T) {
	s := newConversation("good", "unstorable", "good", "/help", "good")
	s.reject = func(c gateway.Commit) error {
		unstorable := func(m gateway.MessageResult) bool { return m.ID == "1" && !m.Retry && !m.Dead }
		if slices.ContainsFunc(c.Messages, unstorable) {
			return gateway.ErrUnstorable
		}
		return nil
	}
	s.pending[1].Attempts = maxAttempts - 1
	for len(s.pending) > 0 {
		s.released = false
		run(t, newWorker(s))
		if len(s.pending) > 0 && s.retryAt.IsZero() {
			t.Fatalf("released without a retry, with %d messages pending", len(s.pending))
		}
	}
	if got, want := fmt.Sprint(s.outcomes), "[0 forwarded 1 dead 2 forwarded 3 helped 4 forwarded]"; got != want {
		t.Errorf("outcomes = %s, want %s", got, want)
	}
}

// TestWorker_FencedClaim checks that a claim rejected by its fence is decided again, and retried like
// any failed message if that does not help. The message before it is not affected.
func TestWorker_FencedClaim(t *testing.T) {
	const always = 1 << 30
	for _, tt := range []struct {
		name       string
		rejections int    // by the fence
		attempts   int    // failed before
		applies    int    // calls of Apply, including the rejected ones
		want       string // outcomes
		retry      bool   // the queue is due again
	}{
		{"not rejected", 0, 0, 2, "[0 forwarded 1 claimed 2 forwarded]", false},
		{"rejected once", 1, 0, 3, "[0 forwarded 1 claimed 2 forwarded]", false},
		{"rejected twice", 2, 0, 4, "[0 forwarded 1 claimed 2 forwarded]", false},
		{"rejected three times", 3, 0, 5, "[0 forwarded 1 retry]", true},
		{"always rejected", always, 0, 5, "[0 forwarded 1 retry]", true},
		{"last attempt", always, maxAttempts - 1, 5, "[0 forwarded 1 dead]", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newConversation("hello", "/claim WDJBMJ", "bye")
			s.pending[1].Attempts = tt.attempts
			rejections := 0
			s.reject = func(c gateway.Commit) error {
				if s.attempts > 20 {
					return fmt.Errorf("Apply called %d times", s.attempts)
				}
				if rejections < tt.rejections && c.Claim != nil && c.Claim.Grant != nil {
					rejections++
					return gateway.ErrFenced
				}
				return nil
			}
			started := time.Now()
			run(t, newWorker(s))
			if got := fmt.Sprint(s.outcomes); got != tt.want || s.attempts != tt.applies {
				t.Errorf("outcomes = %s after %d calls of Apply, want %s after %d", got, s.attempts, tt.want, tt.applies)
			}
			if retry := !s.retryAt.IsZero(); !s.released || retry != tt.retry || s.retryAt.Sub(started) > time.Minute {
				t.Errorf("released = %v, due again at %v, want released, due again: %v", s.released, s.retryAt, tt.retry)
			}
		})
	}
}

// TestWorker_PaidReplyLimit checks which replies are limited per hour.
func TestWorker_PaidReplyLimit(t *testing.T) {
	for _, tt := range []struct {
		name    string
		channel adapters.Channel
		text    string
		change  func(*gateway.StoredMessage)
		want    int
	}{
		{"help by SMS", adapters.SMS, "/help", nil, maxPaidReplies},
		{"help by WhatsApp", adapters.WhatsApp, "/help", nil, maxPaidReplies},
		{"help on Telegram", adapters.Telegram, "/help", nil, 0},
		{"whoami", adapters.SMS, "/whoami", nil, maxPaidReplies},
		{"start", adapters.SMS, "/start", nil, maxPaidReplies},
		{"claim without code", adapters.SMS, "/claim", nil, maxPaidReplies},
		{"claim", adapters.SMS, "/claim WDJBMJ", nil, 0},
		{"unlink requested", adapters.SMS, "/unlink", nil, maxPaidReplies},
		{"unlink confirmed", adapters.SMS, "/unlink KQZVB", func(in *gateway.StoredMessage) {
			in.UnlinkRequested, in.UnlinkWord = true, "KQZVB"
		}, 0},
		{"unlink with a wrong word", adapters.SMS, "/unlink KQZVC", func(in *gateway.StoredMessage) {
			in.UnlinkRequested, in.UnlinkWord = true, "KQZVB"
		}, maxPaidReplies},
		{"unknown sender", adapters.SMS, "hello", func(in *gateway.StoredMessage) {
			in.Sender, in.Instance.UnknownSenders = identity.Identity{}, gateway.ReplyToUnknown
		}, maxPaidReplies},
		{"unlink without link", adapters.SMS, "/unlink", func(in *gateway.StoredMessage) {
			in.Sender.CustomerID, in.Sender.VerifiedAt = "", time.Time{}
		}, maxPaidReplies},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newConversation(tt.text)
			s.pending[0].Channel = tt.channel
			if tt.change != nil {
				tt.change(&s.pending[0])
			}
			run(t, newWorker(s))
			wantPerInstance := 0
			if tt.want > 0 {
				wantPerInstance = maxPaidRepliesPerInstance
			}
			rows := s.commits[0].Replies
			if len(rows) == 0 || rows[0].MaxPerHour != tt.want || rows[0].MaxPerInstance != wantPerInstance {
				t.Errorf("replies = %+v, want MaxPerHour %d and MaxPerInstance %d", rows, tt.want, wantPerInstance)
			}
		})
	}
}
