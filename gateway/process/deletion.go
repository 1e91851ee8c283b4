package process

import (
	"context"
	"fmt"

	"hydragate/adapters"
	"hydragate/gateway"
)

// decideDeletion returns the decision about the report that a person deleted a message: the content of
// all its versions that the application has not received is removed.
func (w *Worker) decideDeletion(ctx context.Context, in gateway.StoredMessage) (decision, error) {
	versions, err := w.Store.UndeliveredVersions(ctx, in)
	if err != nil {
		return decision{}, fmt.Errorf("look up deleted message: %w", err)
	}
	d := decision{outcome: string(adapters.Delete), commitNow: true}
	for _, v := range versions {
		m := v.Message
		if m.Sender.ID != in.Message.Sender.ID {
			continue
		}
		d.emptied = append(d.emptied, gateway.EmptiedMessage{ID: v.ID, Message: adapters.Message{
			Kind: m.Kind, ProviderID: m.ProviderID, Sender: m.Sender, Chat: m.Chat, GroupKey: m.GroupKey, SentAt: m.SentAt,
			UnprovenReason: m.UnprovenReason, Deleted: true,
		}})
	}
	return d, nil
}
