package process

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hydragate/claim"
	"hydragate/gateway"
	"hydragate/gateway/queue"
)

// A slowCodeStore finds no code. Each of its calls takes some time, or ends without a result after the
// longest time for a call.
type slowCodeStore struct {
	validCodes
	find, peek time.Duration
}

func (slowCodeStore) ExposureState(context.Context, claim.Attempt, []string) (claim.ExposureState, error) {
	return claim.ExposureState{}, nil
}

func (s slowCodeStore) Find(ctx context.Context, _ claim.Target, _ []string) (map[string]claim.Target, error) {
	return map[string]claim.Target{}, s.wait(ctx, s.find)
}

func (s slowCodeStore) Peek(ctx context.Context, _ claim.Target, _ string) (claim.Result, error) {
	return claim.Wrong, s.wait(ctx, s.peek)
}

func (slowCodeStore) wait(ctx context.Context, takes time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, 600*time.Millisecond) // that of package rediscode
	defer cancel()
	select {
	case <-time.After(takes):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// chatStores is a MessageStore of several conversations by ID.
type chatStores struct {
	MessageStore
	chats map[string]*conversationStore
}

func (s chatStores) PendingMessages(ctx context.Context, l gateway.Lease) ([]gateway.StoredMessage, error) {
	return s.chats[l.ConversationID].PendingMessages(ctx, l)
}

func (s chatStores) Apply(ctx context.Context, c gateway.Commit) error {
	return s.chats[c.Lease.ConversationID].Apply(ctx, c)
}

// TestWorker_SlowCodeStore checks how long chats wait for a code store that is slow or does not respond,
// while people write words that could be a code.
func TestWorker_SlowCodeStore(t *testing.T) {
	const slow, never = 590 * time.Millisecond, time.Hour
	for _, tt := range []struct {
		name       string
		find, peek time.Duration
		want       time.Duration // until all messages are processed
	}{
		{"responds", 0, 0, 0},
		{"responds late", slow, 0, 3 * slow},
		{"no response", never, never, lookupTimeout},
		{"late response, then none", slow, never, lookupTimeout},
		{"no response to comparisons", 0, never, lookupTimeout},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				codes := slowCodeStore{find: tt.find, peek: tt.peek}
				s := chatStores{chats: map[string]*conversationStore{}}
				w := newWorker(s)
				w.Claims = &claim.Service{Store: codes, Codes: codes}
				for _, id := range []string{"a", "b", "c"} {
					chat := newConversation("BCDFGH", "BCDFGH", "BCDFGH")
					for i := range chat.pending {
						chat.pending[i].LiveCodes, chat.pending[i].HasLiveCode = true, true
					}
					s.chats[id] = chat
				}
				started := time.Now()
				var chats sync.WaitGroup
				for id, chat := range s.chats {
					chats.Go(func() {
						l := gateway.Lease{ConversationID: id}
						if err := w.Run(t.Context(), l, queue.NewSlice(t.Context(), time.Hour)); err != nil {
							t.Errorf("Run() = %v, want nil", err)
						}
						if len(chat.forwarded) != 3 {
							t.Errorf("outcomes = %q, want three messages forwarded", chat.outcomes)
						}
					})
				}
				chats.Wait()
				if took := time.Since(started); took != tt.want {
					t.Errorf("processed after %s, want %s", took, tt.want)
				}
			})
		})
	}
}

// TestWorker_TooManyCandidates checks that a message with more letters that could be a code than are looked
// up is passed on without them, so that they do not hide a live code.
func TestWorker_TooManyCandidates(t *testing.T) {
	var text strings.Builder
	for range 1500 {
		text.WriteString("see " + claim.NewCode() + " or " + claim.NewInviteCode() + "\n")
	}
	s := newConversation("ok", text.String())
	for i := range s.pending {
		s.pending[i].LiveCodes, s.pending[i].Encrypted = true, true
	}
	w := newWorker(s)
	w.Claims = &claim.Service{Store: slowCodeStore{}, Codes: slowCodeStore{}}
	run(t, w)
	passed := s.commits[len(s.commits)-1].Messages[1].Message
	if passed == nil || len(claim.Scan(passed.Text)) > 0 || !strings.Contains(passed.Text, "[withheld]") {
		t.Errorf("stored %.100q, want it without what could be a code", passed.Text)
	}
}
