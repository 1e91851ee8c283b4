package outbox

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
	"hydragate/gateway"
	"hydragate/gateway/queue"
	"hydragate/gateway/queue/queuetest"
)

// panickingAdapter panics when it sends the text "broken". It is also the EndpointFinder.
type panickingAdapter struct{ adapters.Adapter }

func (panickingAdapter) Endpoint(context.Context, string, adapters.Channel) (adapters.Endpoint, error) {
	return adapters.Endpoint{}, nil
}

func (panickingAdapter) Send(_ context.Context, _ adapters.Endpoint, r adapters.Reply) (string, error) {
	if r.Text == "broken" {
		panic("oops")
	}
	return "1", nil
}

// replyStore is an in-memory ReplyStore.
type replyStore struct {
	*queuetest.Store[gateway.OutboxRow]
}

func (s replyStore) PendingReplies(_ context.Context, l gateway.Lease) ([]gateway.OutboxRow, time.Time, error) {
	return s.Items(l), time.Time{}, nil
}

func (replyStore) MoveConversation(context.Context, gateway.ConversationMove) error { return nil }

// TestSender_Panic checks that a reply whose adapter panics is retried and ends as unknown, that
// the panic is logged with its stack, and that no other reply is affected, not even the next one
// of the same conversation.
func TestSender_Panic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reply := func(id, text string) gateway.OutboxRow {
			return gateway.OutboxRow{ID: id, Text: text, Channel: adapters.Telegram, Status: adapters.Queued}
		}
		results := map[string]string{} // final status and attempts, by reply
		apply := func(c gateway.Commit, pending []gateway.OutboxRow) []gateway.OutboxRow {
			for _, r := range c.SendResults {
				first := &pending[0]
				switch first.Status = r.Status; r.Status {
				case gateway.Sending:
					first.Attempts++
				case adapters.Queued:
					first.PossiblySent = r.PossiblySent
				default:
					results[r.Row.ID] = fmt.Sprint(r.Status, " ", first.Attempts)
					pending = pending[1:]
				}
			}
			return pending
		}
		store := replyStore{queuetest.NewStore(map[string][]gateway.OutboxRow{
			"one": {reply("bad", "broken"), reply("next", "hello")},
			"two": {reply("other", "hello")},
		}, apply)}
		var out bytes.Buffer
		log := slog.New(slog.NewTextHandler(&out, nil))
		s := &Sender{
			Pacer: &LocalPacer{},
			Store: store, Endpoints: panickingAdapter{}, Log: log, Now: time.Now,
			Adapters: map[adapters.Channel]adapters.Adapter{adapters.Telegram: panickingAdapter{}},
		}
		r := queue.NewRunner(&queue.Runner{Kind: gateway.OutboxQueue, Store: store, Concurrency: 4, Log: log, Process: s.Run})
		queuetest.RunFor(r, time.Hour)

		want := fmt.Sprintf("map[bad:unknown %d next:sent 1 other:sent 1]", maxSendAttempts)
		if got := fmt.Sprint(results); got != want {
			t.Errorf("results = %s, want %s", got, want)
		}
		for _, want := range []string{"level=ERROR", "oops", "panic_test.go"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("log does not contain %q: %s", want, out.String())
			}
		}
	})
}
