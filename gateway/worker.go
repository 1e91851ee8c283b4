package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/identity"
)

// A Worker works the messages of a conversation: who is it, a command, hand on.
type Worker struct {
	Store    WorkStore
	Desk     *claim.Desk
	Channels Endpoints
	Adapters map[adapters.Channel]adapters.Adapter
	Log      *slog.Logger
	Now      func() time.Time

	// Woken is called when there is new work of another kind in the store.
	Woken func(kinds ...LaneKind)
}

// A WorkStore gives messages to work and stores what became of them.
type WorkStore interface {
	Inbound(ctx context.Context, l Lease) ([]Inbound, error)
	Settle(ctx context.Context, s Settlement) error
}

// Endpoints finds the endpoint of an instance on a channel; ErrNoEndpoint.
type Endpoints interface {
	Endpoint(ctx context.Context, instance string, channel adapters.Channel) (adapters.Endpoint, error)
}

const (
	keyPatience   = 10 * time.Second // before what needs a master key that is not here is looked at again
	maxAttempts   = 8                // then a message is dead and its conversation goes on
	maxFalls      = 3                // looks at a claim in a row that its fence refused; then it has failed
	oneTimeout    = 20 * time.Second // for deciding about one message
	proofPatience = 5 * time.Second  // then the sender is told that checking takes longer
)

// Work works one lane until nothing waits, or until a message must wait.
func (w *Worker) Work(ctx context.Context, l Lease, turn Turn) error {
	falls := 0
	for {
		ins, err := w.Store.Inbound(ctx, l)
		if err != nil {
			return err
		}
		more, err := w.some(ctx, l, ins, len(ins) == FetchMost)
		var f *fall
		if errors.As(err, &f) {
			if falls++; falls < maxFalls {
				continue // it has another answer now
			}
			return w.fell(ctx, l, f.ins)
		}
		falls = 0
		if err != nil || !more {
			return err
		}
		if turn.Over() {
			return w.Store.Settle(ctx, Settlement{Lease: l, Release: true, Next: w.Now()})
		}
	}
}

// some works ins in order; behind says that others may wait behind them. Ordinary
// messages are settled together; after a command the rest is read again, for it may have
// changed who is speaking.
func (w *Worker) some(ctx context.Context, l Lease, ins []Inbound, behind bool) (more bool, err error) {
	s := Settlement{Lease: l}
	if len(ins) == 0 {
		s.Release = true
		return false, w.Store.Settle(ctx, s)
	}
	var spans workSpans
	defer func() { spans.end() }()
	for i, in := range ins {
		started := w.Now()
		one, err := w.try(spans.begin(ctx, in), in)
		spans.decided(one, err)
		if err != nil {
			return false, w.stumble(ctx, s, in, err)
		}
		one.into(&s, in)
		w.note(ctx, in, one, w.Now().Sub(started))
		if one.alone {
			more = !one.waits && (i < len(ins)-1 || behind)
			s.Release, s.Next = !more, one.next
			return w.settle(ctx, s, ins[:i+1], more)
		}
	}
	s.Release = !behind
	return w.settle(ctx, s, ins, behind)
}

// try decides about one message; a panic is an error like any other.
func (w *Worker) try(ctx context.Context, in Inbound) (v verdict, err error) {
	defer caught(&err)
	if in.Fault != nil {
		return v, fmt.Errorf("read stored message: %w", in.Fault)
	}
	ctx, cancel := context.WithTimeout(ctx, oneTimeout)
	defer cancel()
	return w.one(ctx, in)
}

// A verdict is what becomes of one message.
type verdict struct {
	outcome string
	text    *string // replaces the stored text
	alone   bool    // to be settled before the next message is looked at
	waits   bool    // not settled: looked at again at next
	next    time.Time

	met      *identity.Identity
	seen     *Sighting
	events   []identity.Event
	deliver  []Delivery
	replies  []OutboxRow
	claim    *claim.Ruling
	unlink   *Unlinking
	isPerson bool
}

func (v verdict) into(s *Settlement, in Inbound) {
	if !v.waits { // waiting is no failed attempt
		s.Messages = append(s.Messages, Settled{ID: in.ID, Outcome: v.outcome, Text: v.text})
	}
	if v.met != nil {
		s.Met = append(s.Met, *v.met)
	}
	if v.seen != nil {
		s.Seen = append(s.Seen, *v.seen)
	}
	if v.isPerson {
		s.Person = &ConversationPerson{ConversationID: in.ConversationID, TenantID: in.TenantID, Address: in.address()}
	}
	s.Events = append(s.Events, v.events...)
	s.Deliveries = append(s.Deliveries, v.deliver...)
	s.Replies = append(s.Replies, v.replies...)
	s.Claim, s.UnlinkOf = v.claim, v.unlink
}

func (in Inbound) address() identity.Address {
	return identity.Address{TenantID: in.TenantID, InstanceID: in.InstanceID, Channel: string(in.Channel), ExternalID: in.Message.Sender.ID}
}

// A fall says that nothing of ins was stored: the fence refused the claim that is the
// last of them.
type fall struct{ ins []Inbound }

func (f *fall) Error() string { return ErrFenced.Error() }

// fell ends looking at a claim that is ruled good and refused by its fence time after
// time. What was said before it is settled without it.
func (w *Worker) fell(ctx context.Context, l Lease, ins []Inbound) error {
	before, in := ins[:len(ins)-1], ins[len(ins)-1]
	if len(before) > 0 {
		if more, err := w.some(ctx, l, before, true); err != nil || !more {
			return err
		}
	}
	return w.stumble(ctx, Settlement{Lease: l}, in, ErrFenced)
}

// settle stores what became of ins, and says whether there is more to do. A claim
// whose fence fell meanwhile is to be looked at again with everything beside it, a *fall;
// of several messages that cannot be stored together each is tried alone.
func (w *Worker) settle(ctx context.Context, s Settlement, ins []Inbound, more bool) (bool, error) {
	err := w.Store.Settle(ctx, s)
	switch {
	case errors.Is(err, ErrFenced):
		return false, &fall{ins}
	case errors.Is(err, ErrUnstorable) && len(ins) > 1:
		return w.some(ctx, s.Lease, ins[:1], true)
	case errors.Is(err, ErrUnstorable):
		return false, w.stumble(ctx, Settlement{Lease: s.Lease}, ins[0], err)
	case err != nil:
		return false, err
	}
	for _, m := range s.Messages {
		if !m.Retry {
			worked.WithLabelValues(string(ins[0].Channel), m.Outcome).Inc()
		}
	}
	if len(s.Deliveries) > 0 {
		w.Woken(DeliveryLane)
	}
	if len(s.Replies) > 0 {
		w.Woken(OutboxLane)
	}
	if s.Claim != nil {
		if err := w.Desk.Forget(ctx, *s.Claim); err != nil {
			w.Log.InfoContext(ctx, "proof not dropped", "error", err)
		}
	}
	return more, nil
}

// stumble ends a look that failed: what was decided before stays, the message is tried
// again later, and after maxAttempts it is put aside so that the conversation goes on.
func (w *Worker) stumble(ctx context.Context, s Settlement, in Inbound, cause error) error {
	w.Log.ErrorContext(ctx, "message not worked", "channel", in.Channel, "instance", in.InstanceID, "id", in.ID, "attempt", in.Attempts+1, "error", cause)
	s.Release = true
	if errors.Is(cause, ErrNoMasterKey) { // no fault of the message: another process may have the key
		s.Next = w.Now().Add(keyPatience)
		return w.Store.Settle(ctx, s)
	}
	m := Settled{ID: in.ID, Retry: true}
	s.Next = w.Now().Add(retryIn(in.Attempts))
	if in.Attempts+1 >= maxAttempts {
		m = Settled{ID: in.ID, Dead: true, Outcome: "dead"}
		s.Next = w.Now()
		s.Events = append(s.Events, identity.Event{TenantID: in.TenantID, Kind: "message.dead", Actor: identity.System, InstanceID: in.InstanceID, MessageID: in.ID})
	}
	s.Messages = append(s.Messages, m)
	return w.Store.Settle(ctx, s)
}

// retryIn is 1, 2, 4 … 30 s after that many attempts.
func retryIn(attempts int) time.Duration {
	return min(30*time.Second, time.Second<<min(max(attempts, 0), 5))
}

// one decides about one message. It changes nothing by itself.
func (w *Worker) one(ctx context.Context, in Inbound) (verdict, error) {
	switch in.Message.Kind {
	case adapters.Undecodable:
		return verdict{outcome: "undecodable"}, nil
	case adapters.Unsupported:
		return verdict{outcome: "unsupported"}, nil
	}
	if in.Message.Sender.ID == "" {
		if in.Sealed || in.Instance.UnknownSenders != Forward {
			return verdict{outcome: "dropped"}, nil
		}
		return w.handOn(in, verdict{}), nil
	}
	if in.Refused {
		return verdict{outcome: "refused"}, nil
	}
	v := w.meet(&in)
	switch in.Message.Kind {
	case adapters.Block, adapters.Unblock, adapters.OptOut, adapters.OptIn, adapters.Help:
		return wish(in, v), nil
	}
	if v, mine, err := w.command(ctx, in, v); mine || err != nil {
		return v, err
	}
	if in.Sealed { // it looked like a code, and is none: what was hidden is shown
		v.text = &in.Message.Text
	}
	if in.Sender.CustomerID == "" && in.Instance.UnknownSenders != Forward {
		return w.policy(in, v), nil
	}
	return w.handOn(in, w.reclaim(in, v)), nil
}

// reclaim tells a person once that the account must be claimed again.
func (w *Worker) reclaim(in Inbound, v verdict) verdict {
	if in.ReclaimTold || in.Message.Place.Group || in.standing(w.Now()).Reason == "" {
		return v
	}
	s := Sighting{IdentityID: in.Sender.ID}
	if v.seen != nil {
		s = *v.seen
	}
	s.ReclaimTold = true
	v.seen, v.alone = &s, true
	v.replies = append(v.replies, w.answer(in, textReclaim)...)
	return v
}

// standing is the right with which the sender speaks to the instance.
func (in Inbound) standing(now time.Time) identity.Standing {
	return in.Instance.Freshness.Standing(in.Sender, now)
}

// meet makes sure that the sender has an identity, and notes what is new about them.
func (w *Worker) meet(in *Inbound) verdict {
	var v verdict
	m := in.Message
	v.isPerson = !m.Place.Group && (in.Sender.ID == "" || in.ConversationIdentity != in.Sender.ID)
	if in.Sender.ID == "" {
		a := in.address()
		in.Sender = identity.Identity{
			ID: newID(), TenantID: a.TenantID, InstanceID: a.InstanceID, Channel: a.Channel, ExternalID: a.ExternalID,
			DisplayName: m.Sender.Name, Username: m.Sender.Username,
		}
		met := in.Sender
		v.met = &met
		v.alone = true // the next message is read with this identity
		return v
	}
	var s Sighting
	if in.Sender.CustomerID == "" && m.Sender.Name != "" && m.Sender.Name != in.Sender.DisplayName {
		s.DisplayName = m.Sender.Name
	}
	if m.Sender.Username != "" && m.Sender.Username != in.Sender.Username {
		s.Username = m.Sender.Username
	}
	if !in.Sender.BlockedAt.IsZero() && m.Kind != adapters.Block {
		s.Blocked = new(bool)
	}
	s.Heard = in.Sender.IsVerified() && in.ReceivedAt.Sub(in.Sender.LastHeardAt) > identity.Heard
	if in.Sender.Doubt == "" && in.Instance.Freshness.Broken(in.Sender, in.ReceivedAt) {
		s.Doubt, in.Sender.Doubt = identity.Silent, identity.Silent
		v.alone = true // the next message is read with this doubt
	}
	if s != (Sighting{}) {
		s.IdentityID = in.Sender.ID
		v.seen = &s
	}
	return v
}

// wish stores what a carrier or a channel says of the person's wishes. None of it is
// for the runtime, and nothing is answered: the carrier does that.
func wish(in Inbound, v verdict) verdict {
	v.outcome = string(in.Message.Kind)
	s := Sighting{IdentityID: in.Sender.ID}
	if v.seen != nil {
		s = *v.seen
	}
	yes, no := true, false
	switch in.Message.Kind {
	case adapters.OptOut:
		s.OptedOut = &yes
	case adapters.OptIn:
		s.OptedOut = &no
	case adapters.Block:
		s.Blocked = &yes
	case adapters.Unblock:
		s.Blocked = &no
	default:
		return v
	}
	v.seen = &s
	return v
}

// policy keeps strangers from the runtime, as the instance wishes.
func (w *Worker) policy(in Inbound, v verdict) verdict {
	v.outcome = "dropped"
	if in.Instance.UnknownSenders == Answer && v.met != nil && !in.Message.Place.Group {
		v.outcome = "answered"
		v.replies = w.answer(in, textStranger)
	}
	return v
}

// handOn leaves the message to the agent runtime.
func (w *Worker) handOn(in Inbound, v verdict) verdict {
	v.outcome = "forwarded"
	v.deliver = append(v.deliver, Delivery{
		ID: newID(), TenantID: in.TenantID, ConversationID: in.ConversationID, InstanceID: in.InstanceID, MessageID: in.ID, Type: "message.received",
		Parked: in.Instance.AgentURL == "",
	})
	return v
}

// answer is the house's own answer to a message, where it was said.
func (w *Worker) answer(in Inbound, text string) []OutboxRow {
	return Replies(w.Adapters[in.Channel], OutboxRow{
		TenantID: in.TenantID, ConversationID: in.ConversationID, InstanceID: in.InstanceID, Channel: in.Channel,
		Recipient: in.Message.Sender.ID, Place: in.Message.Place, Cause: "command", MessageID: in.ID,
	}, text)
}

// Replies makes the rows that carry text within the limits of a's channel, all like
// row. Only the first carries a short-lived address.
func Replies(a adapters.Adapter, row OutboxRow, text string) []OutboxRow {
	parts := []string{text}
	if a != nil {
		parts = a.Limits().Split(text)
	}
	var rows []OutboxRow
	for _, p := range parts {
		row.ID, row.Text = newID(), p
		rows = append(rows, row)
		row.Place.Answer, row.ReplyTo = "", ""
	}
	return rows
}

// newID gives a random, time-ordered id.
func newID() string { return uuid.Must(uuid.NewV7()).String() }

// note writes the one line that tells what became of a message.
func (w *Worker) note(ctx context.Context, in Inbound, v verdict, took time.Duration) {
	role := in.standing(w.Now()).Role
	w.Log.InfoContext(ctx, "message", "channel", in.Channel, "instance", in.InstanceID, "id", in.ID, "outcome", v.outcome,
		"role", role, "identity", in.Sender.ID, "waited", in.Age.Round(time.Millisecond), "took", took.Round(time.Microsecond))
}

func (w *Worker) me(ctx context.Context, in Inbound) (string, error) {
	ep, err := w.Channels.Endpoint(ctx, in.InstanceID, in.Channel)
	if errors.Is(err, ErrNoEndpoint) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look up endpoint: %w", err)
	}
	return ep.Settings[adapters.BotUsername], nil
}
