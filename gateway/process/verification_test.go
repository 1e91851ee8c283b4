package process

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
)

// commitRecorder is a store that writes down what is settled.
type commitRecorder struct{ commits []gateway.Commit }

func (n *commitRecorder) PendingMessages(context.Context, gateway.Lease) ([]gateway.StoredMessage, error) {
	return nil, nil
}

func (n *commitRecorder) Apply(_ context.Context, s gateway.Commit) error {
	n.commits = append(n.commits, s)
	return nil
}

// noEndpoints has no endpoints.
type noEndpoints struct{}

func (noEndpoints) Endpoint(context.Context, string, adapters.Channel) (adapters.Endpoint, error) {
	return adapters.Endpoint{}, gateway.ErrNoEndpoint
}

func TestWorker_ReclaimNotice(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	ago := func(days int) time.Time { return now.AddDate(0, 0, -days) }
	for name, c := range map[string]struct {
		change    func(*gateway.StoredMessage)
		told      bool
		doubt     identity.ExpiryReason
		forwarded bool
	}{
		"Fresh":      {func(*gateway.StoredMessage) {}, false, "", true},
		"Expired":    {func(in *gateway.StoredMessage) { in.Sender.VerifiedAt = ago(31) }, true, "", true},
		"ToldBefore": {func(in *gateway.StoredMessage) { in.Sender.VerifiedAt, in.ReclaimNotified = ago(31), true }, false, "", true},
		"InGroup":    {func(in *gateway.StoredMessage) { in.Sender.VerifiedAt, in.Message.Chat.Group = ago(31), true }, false, "", true},
		"Silent":     {func(in *gateway.StoredMessage) { in.Sender.VerifiedAt, in.Sender.LastSeenAt = ago(20), ago(15) }, true, identity.ExpiredByInactivity, true},
		"Doubted":    {func(in *gateway.StoredMessage) { in.Sender.ExpiryReason = identity.ExpiredByTermination }, true, "", true},
		"SaysStop":   {func(in *gateway.StoredMessage) { in.Sender.VerifiedAt, in.Message.Kind = ago(31), adapters.OptOut }, false, "", false},
		"AsksWho": {func(in *gateway.StoredMessage) {
			in.Sender.VerifiedAt = ago(31)
			in.Message.Command = &adapters.Command{Name: "whoami"}
		}, true, "", false},
		"KnowsNobody":   {func(in *gateway.StoredMessage) { in.Sender.CustomerID, in.Sender.VerifiedAt = "", time.Time{} }, false, "", true},
		"UnverifiedYet": {func(in *gateway.StoredMessage) { in.Sender.VerifiedAt = time.Time{} }, false, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			n := &commitRecorder{}
			w := &Worker{Store: n, Endpoints: noEndpoints{}, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return now }, Wake: func(...gateway.QueueKind) {}}
			in := gateway.StoredMessage{
				ID: "m", TenantID: "t", InstanceID: "i", ConversationID: "c", Channel: adapters.SMS, ReceivedAt: now,
				Message:  adapters.Message{Kind: adapters.Text, Text: "hello", Sender: adapters.Sender{ID: "1"}, Chat: adapters.Chat{ID: "1"}},
				Sender:   identity.Identity{ID: "id", CustomerID: "cu", VerifiedAt: ago(1), RoleOverride: identity.RoleOwner, LastSeenAt: now},
				Instance: gateway.Instance{UnknownSenders: gateway.ForwardUnknown, VerificationPolicy: identity.VerificationPolicy{OwnerDays: 30, InactivityDays: 14}},
			}
			c.change(&in)
			if _, err := w.processBatch(t.Context(), gateway.Lease{}, []gateway.StoredMessage{in}, false); err != nil {
				t.Fatal(err)
			}
			s := n.commits[0]
			told := len(s.Replies) == 1 && s.Replies[0].Text == textReclaim
			if told != c.told || len(s.Deliveries) == 1 != c.forwarded {
				t.Errorf("told %v, forwarded %d; %+v", told, len(s.Deliveries), s)
			}
			var seen gateway.IdentityUpdate
			if len(s.IdentityUpdates) > 0 {
				seen = s.IdentityUpdates[0]
			}
			if seen.ExpiryReason != c.doubt || c.forwarded && seen.ReclaimNotified != c.told {
				t.Errorf("%+v", seen)
			}
		})
	}
}
