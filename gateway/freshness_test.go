package gateway

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/identity"
)

// notes is a store that writes down what is settled.
type notes struct{ settled []Settlement }

func (n *notes) Inbound(context.Context, Lease) ([]Inbound, error) { return nil, nil }
func (n *notes) Settle(_ context.Context, s Settlement) error {
	n.settled = append(n.settled, s)
	return nil
}

// nowhere has no endpoints.
type nowhere struct{}

func (nowhere) Endpoint(context.Context, string, adapters.Channel) (adapters.Endpoint, error) {
	return adapters.Endpoint{}, ErrNoEndpoint
}

func TestWhoIsNotBelievedIsToldOnce(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	ago := func(days int) time.Time { return now.AddDate(0, 0, -days) }
	for name, c := range map[string]struct {
		change    func(*Inbound)
		told      bool
		doubt     identity.Doubt
		forwarded bool
	}{
		"Fresh":      {func(*Inbound) {}, false, "", true},
		"Expired":    {func(in *Inbound) { in.Sender.VerifiedAt = ago(31) }, true, "", true},
		"ToldBefore": {func(in *Inbound) { in.Sender.VerifiedAt, in.ReclaimTold = ago(31), true }, false, "", true},
		"InGroup":    {func(in *Inbound) { in.Sender.VerifiedAt, in.Message.Place.Group = ago(31), true }, false, "", true},
		"Silent":     {func(in *Inbound) { in.Sender.VerifiedAt, in.Sender.LastHeardAt = ago(20), ago(15) }, true, identity.Silent, true},
		"Doubted":    {func(in *Inbound) { in.Sender.Doubt = identity.Terminated }, true, "", true},
		"SaysStop":   {func(in *Inbound) { in.Sender.VerifiedAt, in.Message.Kind = ago(31), adapters.OptOut }, false, "", false},
		"AsksWho": {func(in *Inbound) {
			in.Sender.VerifiedAt = ago(31)
			in.Message.Command = &adapters.Command{Name: "whoami"}
		}, true, "", false},
		"KnowsNobody":   {func(in *Inbound) { in.Sender.CustomerID, in.Sender.VerifiedAt = "", time.Time{} }, false, "", true},
		"UnverifiedYet": {func(in *Inbound) { in.Sender.VerifiedAt = time.Time{} }, false, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			n := &notes{}
			w := &Worker{Store: n, Channels: nowhere{}, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return now }, Woken: func(...LaneKind) {}}
			in := Inbound{
				ID: "m", TenantID: "t", InstanceID: "i", ConversationID: "c", Channel: adapters.SMS, ReceivedAt: now,
				Message:  adapters.Message{Kind: adapters.Text, Text: "hello", Sender: adapters.Sender{ID: "1"}, Place: adapters.Place{ID: "1"}},
				Sender:   identity.Identity{ID: "id", CustomerID: "cu", VerifiedAt: ago(1), RoleOverride: identity.RoleOwner, LastHeardAt: now},
				Instance: Instance{UnknownSenders: Forward, Freshness: identity.Freshness{OwnerDays: 30, SilenceDays: 14}},
			}
			c.change(&in)
			if _, err := w.some(t.Context(), Lease{}, []Inbound{in}, false); err != nil {
				t.Fatal(err)
			}
			s := n.settled[0]
			told := len(s.Replies) == 1 && s.Replies[0].Text == textReclaim
			if told != c.told || len(s.Deliveries) == 1 != c.forwarded {
				t.Errorf("told %v, forwarded %d; %+v", told, len(s.Deliveries), s)
			}
			var seen Sighting
			if len(s.Seen) > 0 {
				seen = s.Seen[0]
			}
			if seen.Doubt != c.doubt || c.forwarded && seen.ReclaimTold != c.told {
				t.Errorf("%+v", seen)
			}
		})
	}
}
