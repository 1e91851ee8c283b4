package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/gateway"
	"hydragate/gateway/queue"
	"hydragate/identity"
)

// A Worker works the messages of a conversation: who is it, a command, hand on.
type Worker struct {
	Store     MessageStore
	Claims    *claim.Service
	Endpoints gateway.EndpointFinder
	Adapters  map[adapters.Channel]adapters.Adapter
	Log       *slog.Logger
	Metrics   *Metrics // nil: not counted
	Now       func() time.Time

	// Woken is called when there is new work of another kind in the store.
	Wake func(kinds ...gateway.QueueKind)
}

// A MessageStore gives messages to work and stores what became of them.
type MessageStore interface {
	PendingMessages(ctx context.Context, l gateway.Lease) ([]gateway.StoredMessage, error)
	Apply(ctx context.Context, s gateway.Commit) error
}

const (
	maxAttempts      = 8                // then a message is dead and its conversation goes on
	maxFenceRetries  = 3                // looks at a claim in a row that its fence refused; then it has failed
	decideTimeout    = 20 * time.Second // for deciding about one message
	checkNoticeDelay = 5 * time.Second  // then the sender is told that checking takes longer
)

// Run works one lane until nothing waits, or until a message must wait.
func (w *Worker) Run(ctx context.Context, l gateway.Lease, turn queue.Slice) error {
	falls := 0
	for {
		ins, err := w.Store.PendingMessages(ctx, l)
		if err != nil {
			return err
		}
		more, err := w.processBatch(ctx, l, ins, len(ins) == gateway.FetchLimit)
		var f *fencedError
		if errors.As(err, &f) {
			if falls++; falls < maxFenceRetries {
				continue // it has another answer now
			}
			return w.retryFenced(ctx, l, f.messages)
		}
		falls = 0
		if err != nil || !more {
			return err
		}
		if turn.Expired() {
			return w.Store.Apply(ctx, gateway.Commit{Lease: l, Release: true, Next: w.Now()})
		}
	}
}

// processBatch works ins in order; behind says that others may wait behind them. Ordinary
// messages are settled together; after a command the rest is read again, for it may have
// changed who is speaking.
func (w *Worker) processBatch(ctx context.Context, l gateway.Lease, ins []gateway.StoredMessage, behind bool) (more bool, err error) {
	s := gateway.Commit{Lease: l}
	if len(ins) == 0 {
		s.Release = true
		return false, w.Store.Apply(ctx, s)
	}
	var spans messageSpans
	defer func() { spans.end() }()
	for i, in := range ins {
		started := w.Now()
		one, err := w.decideSafely(spans.start(ctx, in), in)
		spans.setOutcome(one, err)
		if err != nil {
			return false, w.recordFailure(ctx, s, in, err)
		}
		one.addTo(&s, in)
		w.logOutcome(ctx, in, one, w.Now().Sub(started))
		if one.commitNow {
			more = !one.deferred && (i < len(ins)-1 || behind)
			s.Release, s.Next = !more, one.retryAt
			return w.apply(ctx, s, ins[:i+1], more)
		}
	}
	s.Release = !behind
	return w.apply(ctx, s, ins, behind)
}

// decideSafely decides about one message; a panic is an error like any other.
func (w *Worker) decideSafely(ctx context.Context, in gateway.StoredMessage) (v decision, err error) {
	defer gateway.RecoverInto(&err)
	if in.Err != nil {
		return v, fmt.Errorf("read stored message: %w", in.Err)
	}
	ctx, cancel := context.WithTimeout(ctx, decideTimeout)
	defer cancel()
	return w.decide(ctx, in)
}

// A fencedError says that nothing of ins was stored: the fence refused the claim that is the
// last of them.
type fencedError struct{ messages []gateway.StoredMessage }

func (f *fencedError) Error() string { return gateway.ErrFenced.Error() }

// retryFenced ends looking at a claim that is ruled good and refused by its fence time after
// time. What was said before it is settled without it.
func (w *Worker) retryFenced(ctx context.Context, l gateway.Lease, ins []gateway.StoredMessage) error {
	before, in := ins[:len(ins)-1], ins[len(ins)-1]
	if len(before) > 0 {
		if more, err := w.processBatch(ctx, l, before, true); err != nil || !more {
			return err
		}
	}
	return w.recordFailure(ctx, gateway.Commit{Lease: l}, in, gateway.ErrFenced)
}

// apply stores what became of ins, and says whether there is more to do. A claim
// whose fence fell meanwhile is to be looked at again with everything beside it, a *fall;
// of several messages that cannot be stored together each is tried alone.
func (w *Worker) apply(ctx context.Context, s gateway.Commit, ins []gateway.StoredMessage, more bool) (bool, error) {
	err := w.Store.Apply(ctx, s)
	switch {
	case errors.Is(err, gateway.ErrFenced):
		return false, &fencedError{ins}
	case errors.Is(err, gateway.ErrUnstorable) && len(ins) > 1:
		return w.processBatch(ctx, s.Lease, ins[:1], true)
	case errors.Is(err, gateway.ErrUnstorable):
		return false, w.recordFailure(ctx, gateway.Commit{Lease: s.Lease}, ins[0], err)
	case err != nil:
		return false, err
	}
	for _, m := range s.Messages {
		if !m.Retry {
			w.Metrics.recordProcessed(ins[0].Channel, m.Outcome)
		}
	}
	if len(s.Deliveries) > 0 {
		w.Wake(gateway.DeliveryQueue)
	}
	if len(s.Replies) > 0 {
		w.Wake(gateway.OutboxQueue)
	}
	if s.Claim != nil {
		if err := w.Claims.DropCodes(ctx, *s.Claim); err != nil {
			w.Log.InfoContext(ctx, "proof not dropped", "error", err)
		}
	}
	return more, nil
}

// recordFailure ends a look that failed: what was decided before stays, the message is tried
// again later, and after maxAttempts it is put aside so that the conversation goes on.
func (w *Worker) recordFailure(ctx context.Context, s gateway.Commit, in gateway.StoredMessage, cause error) error {
	w.Log.ErrorContext(ctx, "message not worked", "channel", in.Channel, "instance", in.InstanceID, "id", in.ID, "attempt", in.Attempts+1, "error", cause)
	s.Release = true
	if errors.Is(cause, gateway.ErrNoMasterKey) { // no fault of the message: another process may have the key
		s.Next = w.Now().Add(gateway.KeyRetryDelay)
		return w.Store.Apply(ctx, s)
	}
	m := gateway.MessageResult{ID: in.ID, Retry: true}
	s.Next = w.Now().Add(retryDelay(in.Attempts))
	if in.Attempts+1 >= maxAttempts {
		m = gateway.MessageResult{ID: in.ID, Dead: true, Outcome: "dead"}
		s.Next = w.Now()
		s.Events = append(s.Events, identity.Event{TenantID: in.TenantID, Kind: "message.dead", Actor: identity.System, InstanceID: in.InstanceID, MessageID: in.ID})
	}
	s.Messages = append(s.Messages, m)
	return w.Store.Apply(ctx, s)
}

// retryDelay is 1, 2, 4 … 30 s after that many attempts.
func retryDelay(attempts int) time.Duration {
	return min(30*time.Second, time.Second<<min(max(attempts, 0), 5))
}

// decide decides about one message. It changes nothing by itself.
func (w *Worker) decide(ctx context.Context, in gateway.StoredMessage) (decision, error) {
	switch in.Message.Kind {
	case adapters.Undecodable:
		return decision{outcome: "undecodable"}, nil
	case adapters.Unsupported:
		return decision{outcome: "unsupported"}, nil
	}
	if in.Message.Sender.ID == "" {
		if in.Encrypted || in.Instance.UnknownSenders != gateway.ForwardUnknown {
			return decision{outcome: "dropped"}, nil
		}
		return w.forward(in, decision{}), nil
	}
	if in.SenderBlocked {
		return decision{outcome: "refused"}, nil
	}
	v := w.resolveSender(&in)
	switch in.Message.Kind {
	case adapters.Block, adapters.Unblock, adapters.OptOut, adapters.OptIn, adapters.Help:
		return applyOptOut(in, v), nil
	}
	if v, mine, err := w.handleCommand(ctx, in, v); mine || err != nil {
		return v, err
	}
	if in.Encrypted { // it looked like a code, and is none: what was hidden is shown
		v.text = &in.Message.Text
	}
	if in.Sender.CustomerID == "" && in.Instance.UnknownSenders != gateway.ForwardUnknown {
		return w.applyUnknownPolicy(in, v), nil
	}
	return w.forward(in, w.notifyReclaim(in, v)), nil
}

// notifyReclaim tells a person once that the account must be claimed again.
func (w *Worker) notifyReclaim(in gateway.StoredMessage, v decision) decision {
	if in.ReclaimNotified || in.Message.Chat.Group || in.EffectiveRole(w.Now()).Reason == "" {
		return v
	}
	s := gateway.IdentityUpdate{IdentityID: in.Sender.ID}
	if v.updated != nil {
		s = *v.updated
	}
	s.ReclaimNotified = true
	v.updated, v.commitNow = &s, true
	v.replies = append(v.replies, w.replyRows(in, textReclaim)...)
	return v
}

// resolveSender makes sure that the sender has an identity, and notes what is new about them.
func (w *Worker) resolveSender(in *gateway.StoredMessage) decision {
	var v decision
	m := in.Message
	v.setParticipant = !m.Chat.Group && (in.Sender.ID == "" || in.ConversationIdentity != in.Sender.ID)
	if in.Sender.ID == "" {
		a := in.SenderAddress()
		in.Sender = identity.Identity{
			ID: gateway.NewID(), TenantID: a.TenantID, InstanceID: a.InstanceID, Channel: a.Channel, ExternalID: a.ExternalID,
			DisplayName: m.Sender.Name, Username: m.Sender.Username,
		}
		met := in.Sender
		v.created = &met
		v.commitNow = true // the next message is read with this identity
		return v
	}
	var s gateway.IdentityUpdate
	if in.Sender.CustomerID == "" && m.Sender.Name != "" && m.Sender.Name != in.Sender.DisplayName {
		s.DisplayName = m.Sender.Name
	}
	if m.Sender.Username != "" && m.Sender.Username != in.Sender.Username {
		s.Username = m.Sender.Username
	}
	if !in.Sender.BlockedAt.IsZero() && m.Kind != adapters.Block {
		s.Blocked = new(bool)
	}
	s.UpdateLastSeen = in.Sender.IsVerified() && in.ReceivedAt.Sub(in.Sender.LastSeenAt) > identity.LastSeenPrecision
	if in.Sender.ExpiryReason == "" && in.Instance.VerificationPolicy.InactivityExceeded(in.Sender, in.ReceivedAt) {
		s.ExpiryReason, in.Sender.ExpiryReason = identity.ExpiredByInactivity, identity.ExpiredByInactivity
		v.commitNow = true // the next message is read with this doubt
	}
	if s != (gateway.IdentityUpdate{}) {
		s.IdentityID = in.Sender.ID
		v.updated = &s
	}
	return v
}

// applyOptOut stores what a carrier or a channel says of the person's wishes. None of it is
// for the runtime, and nothing is answered: the carrier does that.
func applyOptOut(in gateway.StoredMessage, v decision) decision {
	v.outcome = string(in.Message.Kind)
	s := gateway.IdentityUpdate{IdentityID: in.Sender.ID}
	if v.updated != nil {
		s = *v.updated
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
	v.updated = &s
	return v
}

// applyUnknownPolicy keeps strangers from the runtime, as the instance wishes.
func (w *Worker) applyUnknownPolicy(in gateway.StoredMessage, v decision) decision {
	v.outcome = "dropped"
	if in.Instance.UnknownSenders == gateway.ReplyToUnknown && v.created != nil && !in.Message.Chat.Group {
		v.outcome = "answered"
		v.replies = w.replyRows(in, textUnknownSender)
	}
	return v
}

// forward leaves the message to the agent runtime.
func (w *Worker) forward(in gateway.StoredMessage, v decision) decision {
	v.outcome = "forwarded"
	v.deliveries = append(v.deliveries, gateway.Delivery{
		ID: gateway.NewID(), TenantID: in.TenantID, ConversationID: in.ConversationID, InstanceID: in.InstanceID, MessageID: in.ID, Type: "message.received",
		Parked: in.Instance.AgentURL == "",
	})
	return v
}

// replyRows is the house's own answer to a message, where it was said.
func (w *Worker) replyRows(in gateway.StoredMessage, text string) []gateway.OutboxRow {
	return gateway.SplitReply(w.Adapters[in.Channel], gateway.OutboxRow{
		TenantID: in.TenantID, ConversationID: in.ConversationID, InstanceID: in.InstanceID, Channel: in.Channel,
		Recipient: in.Message.Sender.ID, Chat: in.Message.Chat, Cause: "command", MessageID: in.ID,
	}, text)
}

// logOutcome writes the one line that tells what became of a message.
func (w *Worker) logOutcome(ctx context.Context, in gateway.StoredMessage, v decision, took time.Duration) {
	role := in.EffectiveRole(w.Now()).Role
	w.Log.InfoContext(ctx, "message", "channel", in.Channel, "instance", in.InstanceID, "id", in.ID, "outcome", v.outcome,
		"role", role, "identity", in.Sender.ID, "waited", in.Age.Round(time.Millisecond), "took", took.Round(time.Microsecond))
}

func (w *Worker) botUsername(ctx context.Context, in gateway.StoredMessage) (string, error) {
	ep, err := w.Endpoints.Endpoint(ctx, in.InstanceID, in.Channel)
	if errors.Is(err, gateway.ErrNoEndpoint) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look up endpoint: %w", err)
	}
	return ep.Settings[adapters.BotUsername], nil
}
