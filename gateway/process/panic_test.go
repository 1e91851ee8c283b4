package process

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/gateway/queue"
	"hydragate/gateway/queue/queuetest"
	"hydragate/identity"
)

// panickingEndpoints panics when it looks up the endpoint of the instance "broken".
type panickingEndpoints struct{}

func (panickingEndpoints) Endpoint(_ context.Context, instance string, _ adapters.Channel) (adapters.Endpoint, error) {
	if instance == "broken" {
		panic("oops")
	}
	return adapters.Endpoint{}, nil
}

// messageQueue is a lease store that holds the messages of its conversations.
type messageQueue struct {
	*queuetest.LeaseStore
	mu       sync.Mutex
	pending  map[string][]gateway.StoredMessage // by conversation
	outcomes map[string]string                  // by message
	failures int                                // attempts
}

func (q *messageQueue) PendingMessages(_ context.Context, l gateway.Lease) ([]gateway.StoredMessage, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return append([]gateway.StoredMessage(nil), q.pending[l.ConversationID]...), nil
}

func (q *messageQueue) Apply(ctx context.Context, c gateway.Commit) error {
	q.mu.Lock()
	for _, m := range c.Messages {
		pending := q.pending[c.Lease.ConversationID]
		if m.Retry || m.Dead {
			q.failures++
		}
		if m.Retry {
			pending[0].Attempts++
			continue
		}
		q.outcomes[m.ID] = m.Outcome
		q.pending[c.Lease.ConversationID] = pending[1:]
	}
	q.mu.Unlock()
	return q.LeaseStore.Apply(ctx, c)
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
		instanceOf := func(conversation string) string { return conversation }
		q := &messageQueue{
			LeaseStore: queuetest.NewLeaseStore(instanceOf, "one", "two"),
			outcomes:   map[string]string{},
			pending: map[string][]gateway.StoredMessage{
				"one": {message("bad", "one", "broken"), message("next", "one", "i")},
				"two": {message("other", "two", "i")},
			},
		}
		var out bytes.Buffer
		log := slog.New(slog.NewTextHandler(&out, nil))
		w := &Worker{
			Store: q, Endpoints: panickingEndpoints{}, Log: log, Now: time.Now, Wake: func(...gateway.QueueKind) {},
		}
		r := queue.NewRunner(&queue.Runner{Kind: gateway.InboxQueue, Store: q, Concurrency: 4, Log: log, Process: w.Run})
		queuetest.RunFor(r, 5*time.Minute)

		if got, want := fmt.Sprint(q.outcomes), "map[bad:dead next:forwarded other:forwarded]"; got != want {
			t.Errorf("outcomes = %s, want %s", got, want)
		}
		if q.failures != maxAttempts {
			t.Errorf("failed attempts = %d, want %d", q.failures, maxAttempts)
		}
		for _, want := range []string{"level=ERROR", "oops", "panic_test.go"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("log does not contain %q: %s", want, out.String())
			}
		}
	})
}
