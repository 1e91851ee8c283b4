// Package process processes the messages of conversations: it resolves the sender, executes chat
// commands and claims, and passes other messages on to delivery. It neither receives messages nor
// sends replies; its results are commits for the store.
package process

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/gateway"
	"hydragate/gateway/queue"
	"hydragate/identity"
)

// A Worker processes the messages of a conversation: it resolves the sender, executes commands and
// passes other messages on to delivery.
type Worker struct {
	Store     MessageStore
	Claims    *claim.Service
	Endpoints gateway.EndpointFinder
	Adapters  map[adapters.Channel]adapters.Adapter
	Log       *slog.Logger
	Metrics   *Metrics // nil: not counted
	Now       func() time.Time

	// Wake is called with the kinds of queue to which work was added.
	Wake func(kinds ...gateway.QueueKind)

	profiles      profiles
	lookupsResume atomic.Int64 // Unix time in nanoseconds before which letters are not looked up
}

// A MessageStore returns messages to be processed and stores the results.
type MessageStore interface {
	// PendingMessages returns the oldest unprocessed messages of a conversation, at most
	// gateway.FetchLimit.
	PendingMessages(ctx context.Context, l gateway.Lease) ([]gateway.StoredMessage, error)
	// Apply stores a commit under its lease. It returns gateway.ErrFenced if a claim in it is no
	// longer valid, and gateway.ErrUnstorable if the data cannot be stored.
	Apply(ctx context.Context, c gateway.Commit) error
	// UndeliveredVersions returns the messages in the conversation of a message that have its ProviderID,
	// are among the last ones, and wait for their delivery.
	UndeliveredVersions(ctx context.Context, in gateway.StoredMessage) ([]gateway.StoredMessage, error)
	// PreviousVersion returns the Version of the newest message before the given one in its conversation
	// with the same ProviderID, or "" if it is not among the last ones.
	PreviousVersion(ctx context.Context, in gateway.StoredMessage) (string, error)
	// LinkedConversations returns the direct conversations with the other verified identities of the
	// customer to whom an identity belongs.
	LinkedConversations(ctx context.Context, tenant, identityID string) ([]claim.LinkedConversation, error)
}

const (
	maxAttempts      = 8                // after which a message is dead
	maxFenceRetries  = 3                // consecutive decisions about a claim that its fence rejects
	decideTimeout    = 20 * time.Second // for the decision about one message
	checkNoticeDelay = 5 * time.Second  // after which the sender is notified that a code check takes longer
)

// Run processes messages until none is left, one must be retried later, or the slice expires. It then
// releases the lease. It has the signature of queue.Runner.Process.
func (w *Worker) Run(ctx context.Context, l gateway.Lease, slice queue.Slice) error {
	fenced := 0
	for {
		messages, err := w.Store.PendingMessages(ctx, l)
		if err != nil {
			return err
		}
		more, err := w.processBatch(ctx, l, messages, len(messages) == gateway.FetchLimit)
		if f, ok := errors.AsType[*fencedError](err); ok {
			if fenced++; fenced < maxFenceRetries {
				continue // the decision will differ
			}
			return w.retryFenced(ctx, l, f.messages)
		}
		fenced = 0
		if err != nil || !more {
			return err
		}
		if slice.Expired() {
			return w.Store.Apply(ctx, gateway.Commit{Lease: l, Release: true, Next: w.Now()})
		}
	}
}

// processBatch processes messages in order and reports whether there is more to do. If behind is set,
// other messages may be waiting behind them. Ordinary messages share a commit. A message that may
// change who the sender is ends the commit, and the rest is read again.
func (w *Worker) processBatch(
	ctx context.Context, l gateway.Lease, messages []gateway.StoredMessage, behind bool,
) (more bool, err error) {
	c := gateway.Commit{Lease: l}
	if len(messages) == 0 {
		c.Release = true
		return false, w.Store.Apply(ctx, c)
	}
	var spans messageSpans
	defer func() { spans.end() }()
	for i, in := range messages {
		if i > 0 && in.Message.Kind == adapters.Delete { // the message may be one of those before it
			return w.apply(ctx, c, messages[:i], true)
		}
		started := w.Now()
		d, err := w.decideSafely(spans.start(ctx, in), in)
		spans.setOutcome(d, err)
		if err != nil {
			return false, w.recordFailure(ctx, c, in, err)
		}
		d.addTo(&c, in)
		w.logOutcome(ctx, in, d, w.Now().Sub(started))
		if d.commitNow {
			more = !d.deferred && (i < len(messages)-1 || behind)
			c.Release, c.Next = !more, d.retryAt
			return w.apply(ctx, c, messages[:i+1], more)
		}
	}
	c.Release = !behind
	return w.apply(ctx, c, messages, behind)
}

// decideSafely returns the decision about one message. A panic is returned as an error.
func (w *Worker) decideSafely(ctx context.Context, in gateway.StoredMessage) (d decision, err error) {
	defer gateway.RecoverInto(&err)
	if in.Err != nil {
		return d, fmt.Errorf("read stored message: %w", in.Err)
	}
	ctx, cancel := context.WithTimeout(ctx, decideTimeout)
	defer cancel()
	return w.decide(ctx, in)
}

// fencedError reports that a commit was rolled back because the claim in its last message was
// rejected by its fence.
type fencedError struct{ messages []gateway.StoredMessage }

func (f *fencedError) Error() string { return gateway.ErrFenced.Error() }

// retryFenced schedules a retry of a claim that its fence has rejected repeatedly. The messages before
// it are committed without it.
func (w *Worker) retryFenced(ctx context.Context, l gateway.Lease, messages []gateway.StoredMessage) error {
	before, in := messages[:len(messages)-1], messages[len(messages)-1]
	if len(before) > 0 {
		if more, err := w.processBatch(ctx, l, before, true); err != nil || !more {
			return err
		}
	}
	return w.recordFailure(ctx, gateway.Commit{Lease: l}, in, gateway.ErrFenced)
}

// apply stores the decisions about messages and returns more, or an error. It returns a *fencedError
// if the claim in the last message was rejected by its fence. If several messages cannot be stored
// together, it processes the first alone, to isolate the one at fault.
func (w *Worker) apply(
	ctx context.Context, c gateway.Commit, messages []gateway.StoredMessage, more bool,
) (bool, error) {
	err := w.Store.Apply(ctx, c)
	switch {
	case errors.Is(err, gateway.ErrFenced):
		return false, &fencedError{messages}
	case errors.Is(err, gateway.ErrUnstorable) && len(messages) > 1:
		return w.processBatch(ctx, c.Lease, messages[:1], true)
	case errors.Is(err, gateway.ErrUnstorable):
		return false, w.recordFailure(ctx, gateway.Commit{Lease: c.Lease}, messages[0], err)
	case err != nil:
		return false, err
	}
	w.afterCommit(ctx, c, messages[0].Channel)
	w.acknowledge(ctx, c, messages)
	return more, nil
}

// afterCommit counts the processed messages of a commit, wakes the queues to which it added work and
// drops the codes that it redeemed.
func (w *Worker) afterCommit(ctx context.Context, c gateway.Commit, channel adapters.Channel) {
	for _, m := range c.Messages {
		if !m.Retry {
			w.Metrics.recordProcessed(channel, m.Outcome)
		}
	}
	if len(c.Deliveries) > 0 || slices.ContainsFunc(c.IdentityUpdates, changesSubscription) {
		w.Wake(gateway.DeliveryQueue)
	}
	if len(c.Replies) > 0 {
		w.Wake(gateway.OutboxQueue)
	}
	if c.Claim != nil {
		if err := w.Claims.DropCodes(ctx, *c.Claim); err != nil {
			w.Log.InfoContext(ctx, "drop claim code failed", "error", err)
		}
	}
}

// changesSubscription reports whether an update may cause an event.
func changesSubscription(u gateway.IdentityUpdate) bool { return u.OptedOut != nil }

// acknowledgeTimeout limits how long the messages behind a button press wait for its acknowledgement.
const acknowledgeTimeout = 5 * time.Second

// acknowledge reports to the provider that the button presses of a commit were received. The provider does not
// wait for the application, so that the app of the person does not show progress for longer.
func (w *Worker) acknowledge(ctx context.Context, c gateway.Commit, messages []gateway.StoredMessage) {
	a, ok := w.Adapters[messages[0].Channel].(adapters.Acknowledger)
	if !ok {
		return
	}
	processed := map[string]bool{}
	for _, m := range c.Messages {
		processed[m.ID] = !m.Retry
	}
	ctx, cancel := context.WithTimeout(ctx, acknowledgeTimeout)
	defer cancel()
	for _, in := range messages {
		if !processed[in.ID] || in.Message.Chat.ReplyToken == "" || ctx.Err() != nil {
			continue
		}
		ep, err := w.Endpoints.Endpoint(ctx, in.InstanceID, in.Channel)
		if err == nil {
			err = a.Acknowledge(ctx, ep, in.Message)
		}
		if err != nil {
			w.Log.InfoContext(ctx, "acknowledge failed", "channel", in.Channel, "instance", in.InstanceID, "id", in.ID,
				"error", err)
		}
	}
}

// recordFailure commits the decisions before a failed message, and schedules a retry of the message.
// After maxAttempts the message is dead, so that its conversation goes on.
func (w *Worker) recordFailure(ctx context.Context, c gateway.Commit, in gateway.StoredMessage, cause error) error {
	w.Log.ErrorContext(ctx, "process message failed", "channel", in.Channel, "instance", in.InstanceID, "id", in.ID,
		"attempt", in.Attempts+1, "error", cause)
	c.Release = true
	if errors.Is(cause, gateway.ErrNoMasterKey) { // not counted: another process may have the key
		c.Next = w.Now().Add(gateway.KeyRetryDelay)
		return w.Store.Apply(ctx, c)
	}
	m := gateway.MessageResult{ID: in.ID, Retry: true}
	c.Next = w.Now().Add(retryPolicy().Delay(in.Attempts, 0))
	if in.Attempts+1 >= maxAttempts {
		m = gateway.MessageResult{ID: in.ID, Dead: true, Outcome: "dead"}
		c.Next = w.Now()
		c.Events = append(c.Events, identity.Event{
			TenantID: in.TenantID, Kind: "message.dead", Actor: identity.System,
			InstanceID: in.InstanceID, MessageID: in.ID,
		})
	}
	c.Messages = append(c.Messages, m)
	return w.Store.Apply(ctx, c)
}

// retryPolicy returns delays of 1, 2, 4, 8, 16 and then 30 seconds.
func retryPolicy() adapters.BackoffPolicy {
	return adapters.BackoffPolicy{Initial: time.Second, Max: 30 * time.Second, Multiplier: 2}
}

// decide returns the decision about one message. It stores nothing, but checking a claim code counts
// as an attempt.
func (w *Worker) decide(ctx context.Context, in gateway.StoredMessage) (decision, error) {
	if k := in.Message.Kind; k == adapters.Undecodable || k == adapters.Unsupported {
		return decision{outcome: string(k)}, nil
	}
	if in.Message.Kind == adapters.Delete {
		return w.decideDeletion(ctx, in)
	}
	w.addProfile(ctx, &in)
	if unchanged, err := w.isUnchanged(ctx, in); unchanged || err != nil {
		return decision{outcome: "unchanged"}, err
	}
	s, err := w.screen(ctx, &in)
	if err != nil {
		return decision{}, err
	}
	if in.Message.Sender.ID == "" || in.SenderBlocked {
		return w.decideWithoutSender(ctx, in, s)
	}
	d := w.resolveSender(&in)
	if !in.Sender.IsOptedOut() {
		in.Message = withoutKeyword(in.Message)
	}
	switch in.Message.Kind {
	case adapters.Block, adapters.Unblock, adapters.OptOut, adapters.OptIn, adapters.Help:
		return applyOptOut(in, d), nil
	default: // the message has content
	}
	if d, handled, err := w.handleOwnerAnswer(ctx, in, d); handled || err != nil {
		return d, err
	}
	if d, handled, err := w.handleCommand(ctx, &in, d, s); handled || err != nil {
		return d, err
	}
	d = w.passOn(&in, d, s)
	if !w.isForwarded(in) {
		return w.applyUnknownPolicy(in, d), nil
	}
	return w.forward(in, w.notifyReclaim(in, d)), nil
}

// isUnchanged reports whether a message is a new version of another in which nothing changed that a person
// wrote. Channels announce reactions and link previews in this way.
func (w *Worker) isUnchanged(ctx context.Context, in gateway.StoredMessage) (bool, error) {
	if in.Message.Kind != adapters.Edit || in.Message.Version == "" || in.Message.ProviderID == "" {
		return false, nil
	}
	previous, err := w.Store.PreviousVersion(ctx, in)
	if err != nil {
		return false, fmt.Errorf("look up previous version: %w", err)
	}
	return previous == in.Message.Version, nil
}

// decideWithoutSender returns the decision about a message of a sender whom the channel does not
// identify, or whom staff blocked.
func (w *Worker) decideWithoutSender(
	ctx context.Context, in gateway.StoredMessage, s screening,
) (decision, error) {
	outcome := "dropped"
	if in.SenderBlocked {
		outcome = "refused"
	}
	if in.Message.Chat.Group && in.Message.Command != nil && in.Message.Kind == adapters.Text && !in.SenderBlocked &&
		!s.live {
		// Anonymous administrators get the replies that members get.
		if d, handled, err := w.handleChatCommand(ctx, in, decision{}); handled || err != nil {
			return d, err
		}
	}
	switch {
	case s.live:
		return w.handleExposed(ctx, in, decision{}, s)
	case in.SenderBlocked:
		return decision{outcome: outcome}, nil
	case in.Message.Chat.Group && s.isClaim && s.parsed.Command:
		return w.reply(in, decision{}, "not_private", textPrivateOnly), nil
	case s.isClaim && s.parsed.Command, in.Encrypted && claim.IsAddressedToBot(in.Message.Text),
		in.Instance.UnknownSenders != gateway.ForwardUnknown:
		return decision{outcome: outcome}, nil
	}
	return w.forward(in, w.passOn(&in, decision{}, s)), nil
}

// passOn prepares a message without a live code for the application and for storage: it is no longer
// redacted, except for letters that could not be looked up.
func (w *Worker) passOn(in *gateway.StoredMessage, d decision, s screening) decision {
	switch {
	case s.Lost != "":
		in.Message = withhold(in.Message)
		d = w.applyClaimDecision(*in, d, w.Claims.DecideLost(w.newAttempt(*in, claim.ParsedText{}), s.Exposure))
	case s.unknown:
		in.Message = withhold(in.Message)
		if s.isBare() && in.HasLiveCode && isPersonal(in.Message) {
			d = w.reply(*in, d, "", textHint)
		}
	case in.Message.Sender.ID != "":
		d = w.countMiss(*in, d, s)
	}
	if in.Encrypted || s.unknown || s.inNames || s.Lost != "" {
		m := in.Message
		m.Raw, m.Chat.ReplyToken = nil, ""
		d.message = &m
	}
	return d
}

// notifyReclaim asks the sender, once, to claim the account again if its verification has expired.
func (w *Worker) notifyReclaim(in gateway.StoredMessage, d decision) decision {
	if in.ReclaimNotified || in.Message.Chat.Group || in.EffectiveRole(w.Now()).Reason == "" {
		return d
	}
	u := d.identityUpdate(in)
	u.ReclaimNotified = true
	d.updated, d.commitNow = &u, true
	d.replies = append(d.replies, w.replyRows(in, textReclaim)...)
	return d
}

// applyUnknownPolicy does not deliver a message from an unknown sender. It replies to the sender's
// first private message if the instance is configured to.
func (w *Worker) applyUnknownPolicy(in gateway.StoredMessage, d decision) decision {
	d.outcome = "dropped"
	if in.Instance.UnknownSenders == gateway.ReplyToUnknown && d.created != nil && !in.Message.Chat.Group {
		d.outcome = "answered"
		d.replies = w.replyRows(in, textUnknownSender)
	}
	return d
}

// forward delivers the message to the application.
func (w *Worker) forward(in gateway.StoredMessage, d decision) decision {
	outcome := "forwarded"
	if !in.Instance.Receives(gateway.MessageReceived) {
		outcome = "not_subscribed"
	}
	d.outcome = cmp.Or(d.outcome, outcome)
	d.deliveries = append(d.deliveries, messageDelivery(in))
	return d
}

func messageDelivery(in gateway.StoredMessage) gateway.Delivery {
	delivery := gateway.Delivery{
		ID: gateway.NewID(), TenantID: in.TenantID, ConversationID: in.ConversationID, InstanceID: in.InstanceID,
		MessageID: in.ID, Type: gateway.MessageReceived, Parked: in.Instance.AgentURL == "",
	}
	setJoinKey(&delivery, in)
	return delivery
}

// Limits on the replies of the gateway itself on channels that charge for messages, per hour. They
// bound the cost that one sender can cause, and that anyone can cause by forging many senders.
const (
	maxPaidReplies            = 10  // per conversation
	maxPaidRepliesPerInstance = 100 // on all paid channels together
)

// replyRows returns the outbox rows of a reply by the gateway itself, to the chat of the message. On a
// paid channel they are subject to the limits.
func (w *Worker) replyRows(in gateway.StoredMessage, text string) []gateway.OutboxRow {
	row := gateway.OutboxRow{
		TenantID: in.TenantID, ConversationID: in.ConversationID, InstanceID: in.InstanceID, Channel: in.Channel,
		Recipient: in.Message.Sender.ID, Chat: in.Message.Chat, Cause: "command", MessageID: in.ID,
		ReplyTo: in.Message.ReplyAnchor(),
	}
	if adapters.TraitsOf(in.Channel).Paid {
		row.MaxPerHour, row.MaxPerInstance = maxPaidReplies, maxPaidRepliesPerInstance
	}
	return gateway.SplitReply(w.Adapters[in.Channel], row, text)
}

// logOutcome writes the log line of a processed message.
func (w *Worker) logOutcome(ctx context.Context, in gateway.StoredMessage, d decision, took time.Duration) {
	w.Log.InfoContext(ctx, "message processed", "channel", in.Channel, "instance", in.InstanceID, "id", in.ID,
		"outcome", d.outcome, "role", in.EffectiveRole(w.Now()).Role, "identity", in.Sender.ID,
		"waited_ms", in.Age.Milliseconds(), "took_ms", took.Milliseconds())
}

// botUsername returns the username of the bot at the message's endpoint, or "" if it has none.
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
