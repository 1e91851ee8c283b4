package gateway

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"hydragate/adapters"
	"hydragate/identity"
)

// A Sender sends the replies of a conversation in order, one at a time. What the
// channel did not take is tried again, by reason; what it may have taken is tried
// again with a warning to the adapter, and ends as unknown.
type Sender struct {
	Store    SendStore
	Channels Endpoints
	Adapters map[adapters.Channel]adapters.Adapter
	Log      *slog.Logger
	Now      func() time.Time
}

// A SendStore gives replies to send and stores what became of them.
type SendStore interface {
	Outgoing(ctx context.Context, l Lease) (rows []OutboxRow, next time.Time, err error)
	Settle(ctx context.Context, s Settlement) error
}

const (
	sendTimeout = 15 * time.Second
	maxSends    = 8              // attempts that the channel may have taken
	sendLife    = 24 * time.Hour // then a reply that nobody takes is given up
)

// Work sends until nothing waits, or until a reply must wait.
func (s *Sender) Work(ctx context.Context, l Lease, turn Turn) error {
	for {
		rows, next, err := s.Store.Outgoing(ctx, l)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			return s.release(ctx, l, next)
		}
		waits, err := s.some(ctx, l, rows, turn)
		if err != nil {
			return err
		}
		if waits != nil {
			return s.release(ctx, l, s.Now().Add(*waits))
		}
	}
}

func (s *Sender) release(ctx context.Context, l Lease, next time.Time) error {
	ctx, cancel := outlive(ctx)
	defer cancel()
	return s.Store.Settle(ctx, Settlement{Lease: l, Release: true, Next: next})
}

// some sends rows in order. It stops at the first that must wait, and says how long;
// the state of one row is stored together with the beginning of the next.
func (s *Sender) some(ctx context.Context, l Lease, rows []OutboxRow, turn Turn) (waits *time.Duration, err error) {
	var done []SendResult
	for i := range rows {
		row := &rows[i]
		if turn.Over() {
			return new(time.Duration), s.settle(ctx, l, done)
		}
		if row.Wait > 0 && row.Status == adapters.Queued && row.Attempts > 0 {
			return &row.Wait, s.settle(ctx, l, done)
		}
		if errors.Is(row.Fault, ErrNoMasterKey) && !row.OptedOut {
			s.Log.ErrorContext(ctx, "reply not sent", "channel", row.Channel, "instance", row.InstanceID, "id", row.ID, "error", row.Fault)
			wait := keyPatience
			return &wait, s.settle(ctx, l, done)
		}
		if r, ended := hopeless(*row); ended {
			done = append(done, r)
			continue
		}
		again := row.Status == Sending || row.Maybe
		if err := s.settle(ctx, l, append(done, SendResult{Row: *row, Status: Sending})); err != nil {
			return nil, err
		}
		row.Attempts++
		ctx, span := startSend(ctx, *row)
		r := s.send(ctx, *row, again)
		endSend(span, r)
		done = []SendResult{r}
		sends.WithLabelValues(string(row.Channel), result(r)).Inc()
		s.Log.InfoContext(ctx, "reply", "channel", row.Channel, "instance", row.InstanceID, "id", row.ID, "cause", row.Cause,
			"outcome", r.Status, "reason", r.Reason, "code", r.Code, "attempt", row.Attempts, "waited", row.Age.Round(time.Millisecond))
		switch {
		case r.Status == adapters.Queued:
			return &r.Wait, s.settle(ctx, l, done)
		case r.Reason == adapters.Blocked || r.Reason == adapters.OptedOut:
			// Nothing more reaches this person: the rest would only be refused too.
			for _, rest := range rows[i+1:] {
				done = append(done, SendResult{Row: rest, Status: adapters.Failed, Reason: r.Reason})
			}
			return nil, s.settleUnreachable(ctx, l, done, r)
		}
	}
	return nil, s.settle(ctx, l, done)
}

// hopeless ends rows that are not to be tried (again).
func hopeless(row OutboxRow) (r SendResult, ended bool) {
	switch {
	case row.OptedOut:
		return SendResult{Row: row, Status: adapters.Failed, Reason: adapters.OptedOut}, true
	case row.Fault != nil:
		return SendResult{Row: row, Status: adapters.Failed, Reason: adapters.Refused, Code: "unreadable"}, true
	case row.Status == Sending && row.Attempts >= maxSends:
		return SendResult{Row: row, Status: adapters.Unknown, Reason: adapters.Ambiguous}, true
	}
	return r, false
}

func result(r SendResult) string {
	if r.Reason != "" {
		return string(r.Reason)
	}
	return string(r.Status)
}

func (s *Sender) settle(ctx context.Context, l Lease, done []SendResult) error {
	if len(done) == 0 {
		return nil
	}
	ctx, cancel := outlive(ctx)
	defer cancel()
	return s.Store.Settle(ctx, Settlement{Lease: l, SendDone: done})
}

// settleUnreachable stores that the person cannot be written to.
func (s *Sender) settleUnreachable(ctx context.Context, l Lease, done []SendResult, r SendResult) error {
	st := Settlement{Lease: l, SendDone: done, Events: []identity.Event{{
		TenantID: l.TenantID, Kind: "identity.unreachable", Actor: identity.System, InstanceID: r.Row.InstanceID,
		Detail: map[string]string{"channel": string(r.Row.Channel), "reason": string(r.Reason)},
	}}}
	if !r.Row.Place.Group {
		st.Unreachable = &Unreachable{ConversationID: l.ConversationID, OptedOut: r.Reason == adapters.OptedOut, Doubt: doubtOf(r)}
	}
	ctx, cancel := outlive(ctx)
	defer cancel()
	return s.Store.Settle(ctx, st)
}

// doubtOf says whether a refusal is a sign that somebody else may have the number or
// the account, or will.
func doubtOf(r SendResult) identity.Doubt {
	switch {
	case r.Gone:
		return identity.Terminated
	case r.Reason == adapters.OptedOut:
		return identity.Unwanted
	}
	return ""
}

// settleTime bounds the note of what has already happened outside.
const settleTime = 5 * time.Second

// outlive gives a context for that note: it must not be lost because the time for the
// work before it is over.
func outlive(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), settleTime)
}

// send makes one attempt. After a panic nobody knows whether the channel took the reply.
func (s *Sender) send(ctx context.Context, row OutboxRow, again bool) (r SendResult) {
	defer func() {
		if reason := recover(); reason != nil {
			s.Log.ErrorContext(ctx, "panic in a send", "channel", row.Channel, "instance", row.InstanceID, "id", row.ID, "error", reason, "stack", string(debug.Stack()))
			r = s.retry(row, &adapters.SendError{Reason: adapters.Ambiguous})
		}
	}()
	ep, err := s.Channels.Endpoint(ctx, row.InstanceID, row.Channel)
	a := s.Adapters[row.Channel]
	if errors.Is(err, ErrNoEndpoint) || a == nil {
		return SendResult{Row: row, Status: adapters.Failed, Reason: adapters.Refused, Code: "no_endpoint"}
	}
	if errors.Is(err, ErrNoMasterKey) {
		s.Log.ErrorContext(ctx, "reply not sent", "channel", row.Channel, "instance", row.InstanceID, "id", row.ID, "error", err)
		return SendResult{Row: row, Status: adapters.Queued, Reason: adapters.BadSecret, Wait: keyPatience, Maybe: again}
	}
	if err != nil {
		return s.retry(row, &adapters.SendError{Reason: adapters.Unreachable, Err: err})
	}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	id, err := a.Send(ctx, ep, adapters.Reply{
		ID: row.ID, Place: row.Place, To: row.Recipient, Text: row.Text, ReplyTo: row.ReplyTo, Again: again, StatusURL: ep.WebhookURL + "/status",
	})
	if err == nil {
		return SendResult{Row: row, Status: adapters.Sent, ProviderID: id}
	}
	var se *adapters.SendError
	if !errors.As(err, &se) {
		se = &adapters.SendError{Reason: adapters.Unreachable, Err: err}
	}
	return s.retry(row, se)
}

// retry decides what a failed attempt means.
func (s *Sender) retry(row OutboxRow, se *adapters.SendError) SendResult {
	r := SendResult{Row: row, Status: adapters.Failed, Reason: se.Reason, Code: se.Code, Gone: se.Gone}
	old := row.Age > sendLife
	switch {
	case se.Reason == adapters.Moved && !old:
		r.Row.Place.ID = se.Place
		r.Status = adapters.Queued
	case se.Reason == adapters.Ambiguous && row.Attempts >= maxSends, se.Reason == adapters.Ambiguous && old:
		r.Status = adapters.Unknown
	case se.Reason == adapters.Ambiguous:
		r.Status, r.Wait, r.Maybe = adapters.Queued, resendIn(row.Attempts, 0), true
	case se.Reason == adapters.BadSecret && !old:
		// Somebody must look, and whoever does wants the replies to leave then.
		r.Status, r.Wait = adapters.Queued, resendIn(row.Attempts, time.Minute)
	case se.Again() && !old:
		r.Status, r.Wait = adapters.Queued, resendIn(row.Attempts, se.RetryAfter)
	}
	return r
}

// resendIn is 1, 2, 4 … 300 s, more or less a quarter, and never less than asked for.
func resendIn(attempts int, asked time.Duration) time.Duration {
	d := min(300*time.Second, time.Second<<min(max(attempts-1, 0), 9))
	d += time.Duration((rand.Float64() - 0.5) / 2 * float64(d))
	return max(d, asked)
}
