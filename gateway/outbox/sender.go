// Package outbox sends replies to channels: in order within a conversation, with retries, and with
// status unknown if it stays unclear whether the channel accepted a reply. It does not know how a
// channel sends; see package adapters.
package outbox

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/gateway/queue"
	"hydragate/identity"
)

// A Sender sends the replies of a conversation in order, one at a time. A reply that the channel
// did not accept is retried, depending on the reason. A reply that the channel may have accepted is
// retried with Reply.MaybeSent set, and ends with status unknown if its outcome stays unclear.
type Sender struct {
	Store     ReplyStore
	Endpoints gateway.EndpointFinder
	Adapters  map[adapters.Channel]adapters.Adapter
	Log       *slog.Logger
	Metrics   *Metrics // nil: not counted
	Pacer     Pacer
	// Unlimited leaves out the limits that providers publish. Holds still apply.
	Unlimited bool
	Notices   Notifier // nil: no notices
	Now       func() time.Time
}

// A ReplyStore returns replies to be sent and stores the results.
type ReplyStore interface {
	// PendingReplies returns the oldest unsent replies of a conversation, at most
	// gateway.FetchLimit, without reminders that are not due. next is when the first such reminder
	// is due, or zero.
	PendingReplies(ctx context.Context, l gateway.Lease) (rows []gateway.OutboxRow, next time.Time, err error)
	// Apply stores a commit under its lease.
	Apply(ctx context.Context, c gateway.Commit) error
	// MoveConversation records that the chat of a conversation has another ID. From then on, replies to the
	// previous ID are returned with the new one, and messages from it belong to the same conversation.
	MoveConversation(ctx context.Context, m gateway.ConversationMove) error
}

// A Notifier records that a channel rejected the credentials of an endpoint.
type Notifier interface {
	Notify(ctx context.Context, ep adapters.Endpoint, n gateway.Notice)
}

const (
	sendTimeout     = 15 * time.Second
	maxSendAttempts = 8              // attempts that the channel may have accepted
	maxReplyAge     = 24 * time.Hour // after which failed attempts are not retried
	maxMoves        = 2              // attempts after which a reply that is moved waits
)

// Run sends replies until none is left, one must wait, or the slice expires. It then releases the
// lease. It has the signature of queue.Runner.Process.
func (s *Sender) Run(ctx context.Context, l gateway.Lease, slice queue.Slice) error {
	for {
		rows, next, err := s.Store.PendingReplies(ctx, l)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			return s.release(ctx, l, next)
		}
		delay, err := s.sendBatch(ctx, l, rows, slice)
		if err != nil {
			return err
		}
		if delay != nil {
			return s.release(ctx, l, s.Now().Add(*delay))
		}
	}
}

func (s *Sender) release(ctx context.Context, l gateway.Lease, next time.Time) error {
	ctx, cancel := gateway.DetachedContext(ctx)
	defer cancel()
	return s.Store.Apply(ctx, gateway.Commit{Lease: l, Release: true, Next: next})
}

// sendBatch sends rows in order. It stops at the first that must wait and returns the delay, or nil
// if there is none. The result of a row is stored together with the start of the next.
func (s *Sender) sendBatch(
	ctx context.Context, l gateway.Lease, rows []gateway.OutboxRow, slice queue.Slice,
) (delay *time.Duration, err error) {
	var results []gateway.SendResult // not stored yet
	for i := range rows {
		row := &rows[i]
		if slice.Expired() {
			return new(time.Duration), s.apply(ctx, l, results)
		}
		if d := s.delay(ctx, *row); d > 0 {
			return &d, s.apply(ctx, l, results)
		}
		if r, ok := terminalResult(*row); ok {
			results = append(results, r)
			continue
		}
		grant, wait := s.Pacer.Reserve(ctx, newTarget(*row, !s.Unlimited))
		if wait > 0 {
			wait = Jitter(wait)
			return &wait, s.apply(ctx, l, results)
		}
		resend := row.Status == gateway.Sending || row.PossiblySent
		sending := gateway.SendResult{Row: *row, Status: gateway.Sending}
		if err := s.apply(ctx, l, append(results, sending)); err != nil {
			return nil, err
		}
		row.Attempts++
		r := s.attempt(ctx, *row, resend)
		s.report(ctx, *row, grant, r)
		results = []gateway.SendResult{r}
		switch {
		case r.Status == adapters.Queued:
			return &r.Delay, s.apply(ctx, l, results)
		case r.Reason == adapters.Blocked || r.Reason == adapters.OptedOut:
			// The recipient is unreachable: the other replies would fail for the same reason.
			for _, rest := range rows[i+1:] {
				results = append(results, gateway.SendResult{Row: rest, Status: adapters.Failed, Reason: r.Reason})
			}
			return nil, s.applyUnreachable(ctx, l, results, r)
		}
	}
	return nil, s.apply(ctx, l, results)
}

// report passes the result of an attempt to the pacer.
func (s *Sender) report(ctx context.Context, row gateway.OutboxRow, g Grant, r gateway.SendResult) {
	ctx, cancel := gateway.DetachedContext(ctx)
	defer cancel()
	s.Pacer.Report(ctx, newTarget(row, !s.Unlimited), g, SendOutcome{
		Throttled: r.Reason == adapters.Throttled, RetryAfter: r.Delay,
		Unclear: r.Reason == adapters.Unreachable || r.Reason == adapters.Ambiguous || r.Reason == adapters.BadSecret,
	})
	if r.Reason == adapters.Throttled {
		s.Log.WarnContext(ctx, "chat held, the provider limits the rate", "channel", row.Channel,
			"instance", row.InstanceID, "id", row.ID, "hold_ms", HoldDuration(r.Delay).Milliseconds())
	}
}

// delay returns how long row must wait before an attempt, or zero. A row waits for its next retry, or
// for a process that has the master key.
func (s *Sender) delay(ctx context.Context, row gateway.OutboxRow) time.Duration {
	if row.Delay > 0 && row.Status == adapters.Queued && row.Attempts > 0 {
		return row.Delay
	}
	if errors.Is(row.Err, gateway.ErrNoMasterKey) && !row.OptedOut {
		s.logNoMasterKey(ctx, row, row.Err)
		return gateway.KeyRetryDelay
	}
	return 0
}

func (s *Sender) logNoMasterKey(ctx context.Context, row gateway.OutboxRow, err error) {
	s.Log.ErrorContext(ctx, "send postponed", "channel", row.Channel, "instance", row.InstanceID, "id", row.ID,
		"retry_in_ms", gateway.KeyRetryDelay.Milliseconds(), "error", err)
}

// attempt sends row once and logs, traces and counts the result.
func (s *Sender) attempt(ctx context.Context, row gateway.OutboxRow, resend bool) gateway.SendResult {
	ctx, span := startSend(ctx, row)
	started := s.Now()
	r := s.send(ctx, row, resend)
	endSend(span, r)
	s.Metrics.recordAttempt(r)
	s.Log.InfoContext(ctx, "send attempted", "channel", row.Channel, "instance", row.InstanceID, "id", row.ID,
		"cause", row.Cause, "outcome", r.Status, "reason", r.Reason, "code", r.Code, "attempt", row.Attempts,
		"waited_ms", row.Age.Milliseconds(), "took_ms", s.Now().Sub(started).Milliseconds())
	return r
}

// terminalResult returns the result of a row that must not be attempted (again).
func terminalResult(row gateway.OutboxRow) (r gateway.SendResult, ok bool) {
	switch {
	case row.OptedOut:
		return gateway.SendResult{Row: row, Status: adapters.Failed, Reason: adapters.OptedOut}, true
	case row.Err != nil:
		return gateway.SendResult{Row: row, Status: adapters.Failed, Reason: adapters.Refused, Code: "unreadable"}, true
	case row.Status == gateway.Sending && row.Attempts >= maxSendAttempts:
		return gateway.SendResult{Row: row, Status: adapters.Unknown, Reason: adapters.Ambiguous}, true
	}
	return r, false
}

func (s *Sender) apply(ctx context.Context, l gateway.Lease, results []gateway.SendResult) error {
	if len(results) == 0 {
		return nil
	}
	ctx, cancel := gateway.DetachedContext(ctx)
	defer cancel()
	return s.Store.Apply(ctx, gateway.Commit{Lease: l, SendResults: results})
}

// applyUnreachable stores results and records that the recipient is unreachable, as reported in r.
func (s *Sender) applyUnreachable(
	ctx context.Context, l gateway.Lease, results []gateway.SendResult, r gateway.SendResult,
) error {
	c := gateway.Commit{Lease: l, SendResults: results, Events: []identity.Event{{
		TenantID: l.TenantID, Kind: "identity.unreachable", Actor: identity.System, InstanceID: r.Row.InstanceID,
		Detail: map[string]string{"channel": string(r.Row.Channel), "reason": string(r.Reason)},
	}}}
	if !r.Row.Chat.Group {
		c.Unreachable = &gateway.Unreachable{
			ConversationID: l.ConversationID, OptedOut: r.Reason == adapters.OptedOut, ExpiryReason: expiryReason(r),
		}
	}
	ctx, cancel := gateway.DetachedContext(ctx)
	defer cancel()
	return s.Store.Apply(ctx, c)
}

// expiryReason returns why a verification expires with r, or "" if it does not. It expires if the
// account or number may pass to another person.
func expiryReason(r gateway.SendResult) identity.ExpiryReason {
	switch {
	case r.RecipientGone:
		return identity.ExpiredByTermination
	case r.Reason == adapters.OptedOut:
		return identity.ExpiredByOptOut
	}
	return ""
}

// send sends row once. resend says that the channel may have accepted it before. After a panic of
// the adapter the outcome is ambiguous.
func (s *Sender) send(ctx context.Context, row gateway.OutboxRow, resend bool) gateway.SendResult {
	r, err := s.sendSafely(ctx, row, resend)
	if err != nil {
		s.Log.ErrorContext(ctx, "send panicked",
			"channel", row.Channel, "instance", row.InstanceID, "id", row.ID, "error", err)
		return s.retryResult(row, &adapters.SendError{Reason: adapters.Ambiguous})
	}
	return r
}

// sendSafely sends row once. It returns an error only if the adapter panicked.
func (s *Sender) sendSafely(ctx context.Context, row gateway.OutboxRow, resend bool) (r gateway.SendResult, err error) {
	defer gateway.RecoverInto(&err)
	return s.sendOnce(ctx, row, resend), nil
}

func (s *Sender) sendOnce(ctx context.Context, row gateway.OutboxRow, resend bool) gateway.SendResult {
	ep, err := s.Endpoints.Endpoint(ctx, row.InstanceID, row.Channel)
	a := s.Adapters[row.Channel]
	if errors.Is(err, gateway.ErrNoEndpoint) || a == nil {
		return gateway.SendResult{Row: row, Status: adapters.Failed, Reason: adapters.Refused, Code: "no_endpoint"}
	}
	if errors.Is(err, gateway.ErrNoMasterKey) {
		s.logNoMasterKey(ctx, row, err)
		return gateway.SendResult{
			Row: row, Status: adapters.Queued, Reason: adapters.BadSecret, Delay: gateway.KeyRetryDelay, PossiblySent: resend,
		}
	}
	if err != nil {
		return s.retryResult(row, &adapters.SendError{Reason: adapters.Unreachable, Err: err})
	}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	id, err := a.Send(ctx, ep, adapters.Reply{
		ID: row.ID, Chat: row.Chat, To: row.Recipient, Text: row.Text, ReplyTo: row.ReplyTo, MaybeSent: resend,
		OtherIDs: row.OtherIDs, StatusURL: ep.WebhookURL + "/status",
	})
	if err == nil {
		return gateway.SendResult{Row: row, Status: adapters.Sent, ProviderID: id}
	}
	var se *adapters.SendError
	if !errors.As(err, &se) {
		se = &adapters.SendError{Reason: adapters.Unreachable, Err: err}
	}
	if se.Reason == adapters.BadSecret && s.Notices != nil {
		s.Notices.Notify(ctx, ep, gateway.Notice{Kind: gateway.SendRefused, Reason: se.Code})
	}
	if se.Reason == adapters.Moved {
		s.move(ctx, row, se.NewChatID)
	}
	if parts := divide(a, row, se); parts != nil {
		s.Log.WarnContext(ctx, "reply divided, the channel found it too long", "channel", row.Channel,
			"instance", row.InstanceID, "id", row.ID, "code", se.Code, "parts", len(parts))
		return gateway.SendResult{
			Row: parts[0], Rest: parts[1:], Status: adapters.Queued, Reason: se.Reason, Code: se.Code,
		}
	}
	return s.retryResult(row, se)
}

// move records that the chat of a row has another ID. If it fails, the next reply to the previous ID tries again.
func (s *Sender) move(ctx context.Context, row gateway.OutboxRow, to string) {
	ctx, cancel := gateway.DetachedContext(ctx)
	defer cancel()
	chat := adapters.ChatMove{From: row.Chat.ID, To: to}
	err := s.Store.MoveConversation(ctx, gateway.NewConversationMove(row.TenantID, row.InstanceID, row.Channel, chat))
	if err != nil {
		s.Log.WarnContext(ctx, "move conversation failed", "channel", row.Channel, "instance", row.InstanceID,
			"id", row.ID, "error", err)
	}
}

// divide returns the parts in which a row is sent that its channel found too long, or nil.
func divide(a adapters.Adapter, row gateway.OutboxRow, se *adapters.SendError) []gateway.OutboxRow {
	if se.Reason != adapters.TooLong || row.Age > maxReplyAge {
		return nil
	}
	return gateway.DivideReply(a, row)
}

// retryResult returns the result of a failed attempt: queued for a retry, failed, or unknown if the
// channel may have accepted the reply and it is not retried.
func (s *Sender) retryResult(row gateway.OutboxRow, se *adapters.SendError) gateway.SendResult {
	r := gateway.SendResult{Row: row, Status: adapters.Failed, Reason: se.Reason, Code: se.Code, RecipientGone: se.Gone}
	expired := row.Age > maxReplyAge
	switch {
	case se.Reason == adapters.Moved && !expired:
		// The messages in the chat have other IDs there.
		r.Row.Chat.ID, r.Row.ReplyTo = se.NewChatID, ""
		r.Status = adapters.Queued
		if row.Attempts > maxMoves {
			r.Delay = resendDelay(row.Attempts, 0)
		}
	case se.Reason == adapters.Ambiguous && row.Attempts >= maxSendAttempts, se.Reason == adapters.Ambiguous && expired:
		r.Status = adapters.Unknown
	case se.Reason == adapters.Ambiguous:
		r.Status, r.Delay, r.PossiblySent = adapters.Queued, resendDelay(row.Attempts, 0), true
	case se.Reason == adapters.BadSecret && !expired:
		// Retried because staff may correct the credentials.
		r.Status, r.Delay = adapters.Queued, resendDelay(row.Attempts, time.Minute)
	case se.Reason == adapters.Throttled && se.RetryAfter > 0 && !expired:
		r.Status, r.Delay = adapters.Queued, HoldDuration(se.RetryAfter)
	case se.Retryable() && !expired:
		r.Status, r.Delay = adapters.Queued, resendDelay(row.Attempts, se.RetryAfter)
	}
	return r
}

// resendDelay returns the delay after the given number of attempts: 1, 2, 4 … 300 seconds, give or
// take a quarter, and at least retryAfter.
func resendDelay(attempts int, retryAfter time.Duration) time.Duration {
	policy := adapters.BackoffPolicy{Initial: time.Second, Max: 300 * time.Second, Multiplier: 2, Jitter: 0.25}
	return policy.Delay(attempts-1, retryAfter)
}
