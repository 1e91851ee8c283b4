package outbox

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/gateway/queue"
	"hydragate/identity"
)

// A Sender sends the replies of a conversation in order, one at a time. What the
// channel did not take is tried again, by reason; what it may have taken is tried
// again with a warning to the adapter, and ends as unknown.
type Sender struct {
	Store     ReplyStore
	Endpoints gateway.EndpointFinder
	Adapters  map[adapters.Channel]adapters.Adapter
	Log       *slog.Logger
	Metrics   *Metrics // nil: not counted
	Now       func() time.Time
}

// A ReplyStore gives replies to send and stores what became of them.
type ReplyStore interface {
	PendingReplies(ctx context.Context, l gateway.Lease) (rows []gateway.OutboxRow, next time.Time, err error)
	Apply(ctx context.Context, s gateway.Commit) error
}

const (
	sendTimeout     = 15 * time.Second
	maxSendAttempts = 8              // attempts that the channel may have taken
	maxReplyAge     = 24 * time.Hour // then a reply that nobody takes is given up
)

// Run sends until nothing waits, or until a reply must wait.
func (s *Sender) Run(ctx context.Context, l gateway.Lease, turn queue.Slice) error {
	for {
		rows, next, err := s.Store.PendingReplies(ctx, l)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			return s.release(ctx, l, next)
		}
		waits, err := s.sendBatch(ctx, l, rows, turn)
		if err != nil {
			return err
		}
		if waits != nil {
			return s.release(ctx, l, s.Now().Add(*waits))
		}
	}
}

func (s *Sender) release(ctx context.Context, l gateway.Lease, next time.Time) error {
	ctx, cancel := gateway.DetachedContext(ctx)
	defer cancel()
	return s.Store.Apply(ctx, gateway.Commit{Lease: l, Release: true, Next: next})
}

// sendBatch sends rows in order. It stops at the first that must wait, and says how long;
// the state of one row is stored together with the beginning of the next.
func (s *Sender) sendBatch(ctx context.Context, l gateway.Lease, rows []gateway.OutboxRow, turn queue.Slice) (waits *time.Duration, err error) {
	var done []gateway.SendResult
	for i := range rows {
		row := &rows[i]
		if turn.Expired() {
			return new(time.Duration), s.apply(ctx, l, done)
		}
		if row.Delay > 0 && row.Status == adapters.Queued && row.Attempts > 0 {
			return &row.Delay, s.apply(ctx, l, done)
		}
		if errors.Is(row.Err, gateway.ErrNoMasterKey) && !row.OptedOut {
			s.Log.ErrorContext(ctx, "reply not sent", "channel", row.Channel, "instance", row.InstanceID, "id", row.ID, "error", row.Err)
			wait := gateway.KeyRetryDelay
			return &wait, s.apply(ctx, l, done)
		}
		if r, ended := terminalResult(*row); ended {
			done = append(done, r)
			continue
		}
		again := row.Status == gateway.Sending || row.PossiblySent
		if err := s.apply(ctx, l, append(done, gateway.SendResult{Row: *row, Status: gateway.Sending})); err != nil {
			return nil, err
		}
		row.Attempts++
		ctx, span := startSend(ctx, *row)
		r := s.send(ctx, *row, again)
		endSend(span, r)
		done = []gateway.SendResult{r}
		s.Metrics.recordAttempt(r)
		s.Log.InfoContext(ctx, "reply", "channel", row.Channel, "instance", row.InstanceID, "id", row.ID, "cause", row.Cause,
			"outcome", r.Status, "reason", r.Reason, "code", r.Code, "attempt", row.Attempts, "waited", row.Age.Round(time.Millisecond))
		switch {
		case r.Status == adapters.Queued:
			return &r.Delay, s.apply(ctx, l, done)
		case r.Reason == adapters.Blocked || r.Reason == adapters.OptedOut:
			// Nothing more reaches this person: the rest would only be refused too.
			for _, rest := range rows[i+1:] {
				done = append(done, gateway.SendResult{Row: rest, Status: adapters.Failed, Reason: r.Reason})
			}
			return nil, s.applyUnreachable(ctx, l, done, r)
		}
	}
	return nil, s.apply(ctx, l, done)
}

// terminalResult ends rows that are not to be tried (again).
func terminalResult(row gateway.OutboxRow) (r gateway.SendResult, ended bool) {
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

func (s *Sender) apply(ctx context.Context, l gateway.Lease, done []gateway.SendResult) error {
	if len(done) == 0 {
		return nil
	}
	ctx, cancel := gateway.DetachedContext(ctx)
	defer cancel()
	return s.Store.Apply(ctx, gateway.Commit{Lease: l, SendResults: done})
}

// applyUnreachable stores that the person cannot be written to.
func (s *Sender) applyUnreachable(ctx context.Context, l gateway.Lease, done []gateway.SendResult, r gateway.SendResult) error {
	st := gateway.Commit{Lease: l, SendResults: done, Events: []identity.Event{{
		TenantID: l.TenantID, Kind: "identity.unreachable", Actor: identity.System, InstanceID: r.Row.InstanceID,
		Detail: map[string]string{"channel": string(r.Row.Channel), "reason": string(r.Reason)},
	}}}
	if !r.Row.Chat.Group {
		st.Unreachable = &gateway.Unreachable{ConversationID: l.ConversationID, OptedOut: r.Reason == adapters.OptedOut, ExpiryReason: expiryReason(r)}
	}
	ctx, cancel := gateway.DetachedContext(ctx)
	defer cancel()
	return s.Store.Apply(ctx, st)
}

// expiryReason says whether a refusal is a sign that somebody else may have the number or
// the account, or will.
func expiryReason(r gateway.SendResult) identity.ExpiryReason {
	switch {
	case r.RecipientGone:
		return identity.ExpiredByTermination
	case r.Reason == adapters.OptedOut:
		return identity.ExpiredByOptOut
	}
	return ""
}

// send makes one attempt. After a panic nobody knows whether the channel took the reply.
func (s *Sender) send(ctx context.Context, row gateway.OutboxRow, again bool) (r gateway.SendResult) {
	defer func() {
		if reason := recover(); reason != nil {
			s.Log.ErrorContext(ctx, "panic in a send", "channel", row.Channel, "instance", row.InstanceID, "id", row.ID, "error", reason, "stack", string(debug.Stack()))
			r = s.retryResult(row, &adapters.SendError{Reason: adapters.Ambiguous})
		}
	}()
	ep, err := s.Endpoints.Endpoint(ctx, row.InstanceID, row.Channel)
	a := s.Adapters[row.Channel]
	if errors.Is(err, gateway.ErrNoEndpoint) || a == nil {
		return gateway.SendResult{Row: row, Status: adapters.Failed, Reason: adapters.Refused, Code: "no_endpoint"}
	}
	if errors.Is(err, gateway.ErrNoMasterKey) {
		s.Log.ErrorContext(ctx, "reply not sent", "channel", row.Channel, "instance", row.InstanceID, "id", row.ID, "error", err)
		return gateway.SendResult{Row: row, Status: adapters.Queued, Reason: adapters.BadSecret, Delay: gateway.KeyRetryDelay, PossiblySent: again}
	}
	if err != nil {
		return s.retryResult(row, &adapters.SendError{Reason: adapters.Unreachable, Err: err})
	}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	id, err := a.Send(ctx, ep, adapters.Reply{
		ID: row.ID, Chat: row.Chat, To: row.Recipient, Text: row.Text, ReplyTo: row.ReplyTo, MaybeSent: again, StatusURL: ep.WebhookURL + "/status",
	})
	if err == nil {
		return gateway.SendResult{Row: row, Status: adapters.Sent, ProviderID: id}
	}
	var se *adapters.SendError
	if !errors.As(err, &se) {
		se = &adapters.SendError{Reason: adapters.Unreachable, Err: err}
	}
	return s.retryResult(row, se)
}

// retryResult decides what a failed attempt means.
func (s *Sender) retryResult(row gateway.OutboxRow, se *adapters.SendError) gateway.SendResult {
	r := gateway.SendResult{Row: row, Status: adapters.Failed, Reason: se.Reason, Code: se.Code, RecipientGone: se.Gone}
	old := row.Age > maxReplyAge
	switch {
	case se.Reason == adapters.Moved && !old:
		r.Row.Chat.ID = se.NewChatID
		r.Status = adapters.Queued
	case se.Reason == adapters.Ambiguous && row.Attempts >= maxSendAttempts, se.Reason == adapters.Ambiguous && old:
		r.Status = adapters.Unknown
	case se.Reason == adapters.Ambiguous:
		r.Status, r.Delay, r.PossiblySent = adapters.Queued, resendDelay(row.Attempts, 0), true
	case se.Reason == adapters.BadSecret && !old:
		// Somebody must look, and whoever does wants the replies to leave then.
		r.Status, r.Delay = adapters.Queued, resendDelay(row.Attempts, time.Minute)
	case se.Retryable() && !old:
		r.Status, r.Delay = adapters.Queued, resendDelay(row.Attempts, se.RetryAfter)
	}
	return r
}

// resendDelay is 1, 2, 4 … 300 s, more or less a quarter, and never less than asked for.
func resendDelay(attempts int, asked time.Duration) time.Duration {
	d := min(300*time.Second, time.Second<<min(max(attempts-1, 0), 9))
	d += time.Duration((rand.Float64() - 0.5) / 2 * float64(d))
	return max(d, asked)
}
