package process

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/gateway"
	"hydragate/gateway/queue"
	"hydragate/gateway/queue/queuetest"
	"hydragate/identity"
)

// messageStore is an in-memory MessageStore.
type messageStore struct {
	*queuetest.Store[gateway.StoredMessage]
}

func (s messageStore) PendingMessages(_ context.Context, l gateway.Lease) ([]gateway.StoredMessage, error) {
	return s.Items(l), nil
}

func (messageStore) UndeliveredVersions(
	context.Context, gateway.StoredMessage,
) ([]gateway.StoredMessage, error) {
	return nil, nil
}

func (s messageStore) PreviousVersion(context.Context, gateway.StoredMessage) (string, error) {
	return "", nil
}

func (s messageStore) LinkedConversations(context.Context, string, string) ([]claim.LinkedConversation, error) {
	return nil, nil
}

// TestWorker_Panic checks that a message whose processing panics is retried and given up like any
// failed message, that the panic is logged with its stack, and that no other message is affected,
// not even the next one of the same conversation.
func TestWorker_Panic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		message := func(id, conversation, instance string) gateway.StoredMessage {
			return gateway.StoredMessage{
				ID: id, ConversationID: conversation, InstanceID: instance, Channel: adapters.Telegram,
				Message:  adapters.Message{Kind: adapters.Text, Text: "hello", Sender: adapters.Sender{ID: "1"}},
				Sender:   identity.Identity{ID: "sender"},
				Instance: gateway.Instance{UnknownSenders: gateway.ForwardUnknown},
			}
		}
		failures, outcomes := 0, map[string]string{} // attempts that failed; outcomes by message
		apply := func(c gateway.Commit, pending []gateway.StoredMessage) []gateway.StoredMessage {
			for _, m := range c.Messages {
				if m.Retry || m.Dead {
					failures++
				}
				if m.Retry {
					pending[0].Attempts++
					continue
				}
				outcomes[m.ID] = m.Outcome
				pending = pending[1:]
			}
			return pending
		}
		store := messageStore{queuetest.NewStore(map[string][]gateway.StoredMessage{
			"one": {message("bad", "one", "broken"), message("next", "one", "i")},
			"two": {message("other", "two", "i")},
		}, apply)}
		finder := endpointFinder(func(instance string) error {
			if instance == "broken" {
				panic("oops")
			}
			return gateway.ErrNoEndpoint
		})
		var out bytes.Buffer
		log := slog.New(slog.NewTextHandler(&out, nil))
		w := &Worker{
			Store: store, Endpoints: finder, Log: log, Now: time.Now, Wake: func(...gateway.QueueKind) {},
		}
		r := queue.NewRunner(&queue.Runner{Kind: gateway.InboxQueue, Store: store, Concurrency: 4, Log: log, Process: w.Run})
		queuetest.RunFor(r, 5*time.Minute)

		if got, want := fmt.Sprint(outcomes), "map[bad:dead next:forwarded other:forwarded]"; got != want {
			t.Errorf("outcomes = %s, want %s", got, want)
		}
		if failures != maxAttempts {
			t.Errorf("failed attempts = %d, want %d", failures, maxAttempts)
		}
		for _, want := range []string{"level=ERROR", "oops", "panic_test.go"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("log does not contain %q: %s", want, out.String())
			}
		}
	})
}
