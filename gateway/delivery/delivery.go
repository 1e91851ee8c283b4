// Package delivery delivers events to applications: one signed POST for each event, in order
// within a conversation, with retries. It does not know where a message came from, nor how a reply
// reaches its channel. Requests follow the Standard Webhooks specification,
// https://www.standardwebhooks.com.
package delivery

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/standard-webhooks/standard-webhooks/libraries/go"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/gateway/queue"
)

// A Deliverer delivers the events of a conversation, oldest first.
type Deliverer struct {
	Store    Store
	Client   *http.Client // see NewClient
	Adapters map[adapters.Channel]adapters.Adapter
	Log      *slog.Logger
	Metrics  *Metrics // nil records nothing
	Now      func() time.Time

	// Wake is called after replies were stored.
	Wake func(kinds ...gateway.QueueKind)
}

// A Store provides events and stores the results of their delivery.
type Store interface {
	PendingEvents(ctx context.Context, l gateway.Lease) ([]gateway.Event, error)
	Apply(ctx context.Context, s gateway.Commit) error
	// SigningSecrets returns the valid signing secrets of an instance, newest first.
	SigningSecrets(ctx context.Context, tenant, instance string) ([]string, error)
	// DisableAgent stops deliveries to the application at url.
	DisableAgent(ctx context.Context, tenant, instance, url string) error
}

const (
	// ResponseTimeout is the time an application has to respond.
	ResponseTimeout = 30 * time.Second
	// NoticeTimeout is the time it has to respond to a notice, because messages may wait meanwhile.
	NoticeTimeout = 5 * time.Second
	// MaxEventAge is the age after which an event is no longer retried.
	MaxEventAge = 24 * time.Hour

	keyRetryDelay = 10 * time.Second // before an event is retried that needs an unknown master key

	// secretsMaxAge is the maximum age of the secrets with which an event is signed. After a
	// rotation all events are signed with the new secret within this time.
	secretsMaxAge = time.Second

	applyTimeout = 5 * time.Second
	maxResponse  = 256 << 10
	maxReplies   = 20
	maxErrorText = 300
)

// Run delivers events until none is left, or until the next one must wait.
func (p *Deliverer) Run(ctx context.Context, l gateway.Lease, turn queue.Slice) error {
	for {
		read := p.Now()
		es, err := p.Store.PendingEvents(ctx, l)
		if err != nil {
			return err
		}
		due, next := dueEvents(es, read)
		if len(due) == 0 {
			return p.apply(ctx, gateway.Commit{Lease: l, Release: true, Next: next})
		}
		if released, err := p.deliverAll(ctx, l, due, next, read, turn); err != nil || released {
			return err
		}
	}
}

// dueEvents returns the events to deliver now, and when the first of the other notices is due, or zero.
// Notices that have failed come last, so that other events do not wait for them again.
func dueEvents(es []gateway.Event, now time.Time) (due []gateway.Event, next time.Time) {
	var failed []gateway.Event
	for _, e := range es {
		switch {
		case e.Type.IsNotice() && e.Delay > 0:
			next = earliest(next, now.Add(e.Delay))
		case e.Type.IsNotice() && e.Attempts > 0:
			failed = append(failed, e)
		default:
			due = append(due, e)
		}
	}
	return append(due, failed...), next
}

// earliest returns the earlier of two times. The zero time means never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// deliverAll delivers the events that were read at a time. Other notices are due next. It reports whether
// it released the queue; otherwise there may be more events.
func (p *Deliverer) deliverAll(
	ctx context.Context, l gateway.Lease, es []gateway.Event, next, read time.Time, turn queue.Slice,
) (released bool, err error) {
	more := len(es) >= gateway.FetchLimit
	for n := 0; len(es) > 0; n++ {
		e, rest := nextEvent(es)
		if n > 0 && (isOpen(e) || e.Type.IsNotice() && e.Attempts > 0) {
			break // read again, with all messages that may be joined or come before it
		}
		if turn.Expired() {
			return true, p.apply(ctx, gateway.Commit{Lease: l, Release: true, Next: p.Now()})
		}
		if e.Err == nil && p.Now().Sub(read) > secretsMaxAge {
			if e.Secrets, err = p.Store.SigningSecrets(ctx, e.TenantID, e.InstanceID); err != nil {
				return false, fmt.Errorf("read signing secrets: %w", err)
			}
		}
		s, waits, err := p.deliverOne(ctx, l, e)
		if err != nil {
			return false, err
		}
		// The last commit also releases the queue. Events that have arrived since make it due
		// immediately.
		s.Release = waits || len(rest) == 0 && !more
		if !waits {
			next = earliest(next, s.Next)
			s.Next = next
		}
		if err := p.apply(ctx, s); err != nil {
			return false, err
		}
		if len(s.Replies) > 0 {
			p.Wake(gateway.OutboxQueue)
		}
		if s.Release {
			return true, nil
		}
		es = rest
	}
	return false, nil
}

// apply stores results even if the time slice has ended, because the events have been delivered.
func (p *Deliverer) apply(ctx context.Context, s gateway.Commit) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), applyTimeout)
	defer cancel()
	return p.Store.Apply(ctx, s)
}

// deliverOne delivers one event and returns the changes to store. waits reports whether later events must
// wait for this one, until s.Next; otherwise s.Next is when a notice is retried. It returns an error if the
// lease is lost or the store unavailable before the event is delivered.
func (p *Deliverer) deliverOne(
	ctx context.Context, l gateway.Lease, e gateway.Event,
) (s gateway.Commit, waits bool, err error) {
	s.Lease = l
	started := p.Now()
	noApplication := e.AgentURL == "" || !e.DisabledAt.IsZero()
	switch {
	case errors.Is(e.Err, gateway.ErrNoMasterKey): // another replica may have the key
		p.Log.ErrorContext(ctx, "deliver event failed", "id", e.ID, "instance", e.InstanceID, "error", e.Err)
		s.Next = started.Add(keyRetryDelay)
		return s, true, nil
	case e.Age > MaxEventAge && (noApplication || e.Attempts > 0):
		s.DeliveryResults = results(e, gateway.DeliveryResult{Status: gateway.Dead, Error: "not delivered within 24 hours"})
		return s, false, nil
	case noApplication:
		s.Next = started.Add(MaxEventAge - e.Age + time.Second) // woken when the instance gets a URL
		return s, true, nil
	case e.Delay > 0 && (e.Attempts > 0 || isOpen(e)):
		s.Next = started.Add(e.Delay)
		return s, true, nil
	case isOpen(e): // each attempt must deliver the same messages
		if err := p.apply(ctx, gateway.Commit{Lease: l, FormedEvent: deliveryIDs(e)}); err != nil {
			return s, false, err
		}
	}
	ctx, span := startPost(ctx, e)
	a, replies, err := p.roundTrip(ctx, e)
	endPost(span, a.status, err)
	r := gateway.DeliveryResult{HTTPStatus: a.status}
	switch {
	case err == nil:
		r.Status, r.Error = gateway.Delivered, a.problems
		s.Replies = replies
		if a.problems != "" {
			p.Metrics.recordAnswerErrors()
			p.Log.WarnContext(ctx, "application response not understood", "delivery", e.ID, "instance", e.InstanceID,
				"error", a.problems)
		}
	default:
		r.Status, r.Error, r.Delay = gateway.Pending, adapters.Sanitize(
			err.Error(),
			maxErrorText,
		), retryPolicy().Delay(e.Attempts, a.retryAfter)
		s.Next, waits = p.Now().Add(r.Delay), !e.Type.IsNotice()
	}
	if a.status == http.StatusGone {
		if err := p.Store.DisableAgent(ctx, e.TenantID, e.InstanceID, e.AgentURL); err != nil {
			p.Log.WarnContext(ctx, "disable agent URL failed", "instance", e.InstanceID, "error", err)
		}
	}
	s.DeliveryResults = results(e, r)
	p.Metrics.recordAttempt(a.status)
	p.Log.InfoContext(
		ctx,
		"delivery",
		"id",
		e.ID,
		"instance",
		e.InstanceID,
		"message",
		e.MessageID,
		"type",
		e.Type,
		"messages",
		len(e.Joined)+1,
		"outcome",
		r.Status,
		"status",
		a.status,
		"attempt",
		e.Attempts+1,
		"replies",
		len(s.Replies),
		"error",
		r.Error,
		"waited_ms",
		e.Age.Milliseconds(),
		"took_ms",
		p.Now().Sub(started).Milliseconds(),
	)
	return s, waits, nil
}

// results returns the result of an attempt for the deliveries of e. If it is not the last attempt, the
// first delivery stands for all.
func results(e gateway.Event, r gateway.DeliveryResult) (all []gateway.DeliveryResult) {
	for _, id := range deliveryIDs(e) {
		if r.ID = id; id == e.ID || r.Status != gateway.Pending {
			all = append(all, r)
		}
	}
	return all
}

type response struct {
	status     int
	body       []byte
	retryAfter time.Duration
	problems   string // what was not understood of the body
}

// roundTrip posts an event and parses the replies in the response. A panic is logged and becomes an
// error without details, because staff can read the error of a delivery.
func (p *Deliverer) roundTrip(ctx context.Context, e gateway.Event) (response, []gateway.OutboxRow, error) {
	a, replies, err := p.postSafely(ctx, e)
	if errors.Is(err, gateway.ErrPanic) {
		p.Log.ErrorContext(ctx, "delivery panicked", "id", e.ID, "instance", e.InstanceID, "error", err)
		err = errors.New("a fault of the gateway")
	}
	return a, replies, err
}

// postSafely posts an event and parses the replies in the response. A panic becomes an error.
func (p *Deliverer) postSafely(
	ctx context.Context,
	e gateway.Event,
) (a response, replies []gateway.OutboxRow, err error) {
	defer gateway.RecoverInto(&err)
	if a, err = p.post(ctx, e); err == nil && a.problems == "" {
		replies, a.problems = p.parseReplies(e, a.body)
	}
	return a, replies, err
}

func (p *Deliverer) post(ctx context.Context, e gateway.Event) (response, error) {
	if e.Err != nil {
		return response{}, fmt.Errorf("decode event: %w", e.Err)
	}
	payload, err := json.Marshal(document(e, p.Adapters[e.Channel], p.Now()))
	if err != nil {
		return response{}, err
	}
	timeout := ResponseTimeout
	if e.Type.IsNotice() {
		timeout = NoticeTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.AgentURL, bytes.NewReader(payload))
	if err != nil {
		return response{}, errors.New("invalid agent URL")
	}
	if err := sign(req.Header, e, payload, p.Now()); err != nil {
		return response{}, err
	}
	propagate(ctx, req)
	res, err := p.Client.Do(req)
	if err != nil {
		return response{}, redactURL(err)
	}
	defer func() { _ = res.Body.Close() }()
	a := response{status: res.StatusCode, retryAfter: retryAfter(res.Header, p.Now())}
	a.body, err = io.ReadAll(io.LimitReader(res.Body, maxResponse+1))
	switch {
	case res.StatusCode/100 != 2:
		return a, fmt.Errorf("the application responded with status %d", res.StatusCode)
	case err != nil:
		return a, redactURL(err)
	case len(a.body) > maxResponse:
		a.body, a.problems = nil, fmt.Sprintf("response is longer than %d bytes", maxResponse)
	}
	return a, nil
}

// sign sets the headers of the Standard Webhooks specification, with a signature for every valid
// secret.
func sign(h http.Header, e gateway.Event, payload []byte, now time.Time) error {
	id := "msg_" + e.ID
	h.Set("Content-Type", "application/json")
	h.Set("User-Agent", "hydragate")
	h.Set("Accept-Encoding", "identity")
	h.Set(standardwebhooks.HeaderWebhookID, id)
	h.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	var all []byte
	for _, secret := range e.Secrets {
		wh, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			return errors.New("invalid signing secret")
		}
		sig, err := wh.Sign(id, now, payload)
		if err != nil {
			return errors.New("sign event failed")
		}
		all = append(append(all, ' '), sig...)
	}
	if len(all) == 0 {
		return errors.New("no signing secret")
	}
	h.Set(standardwebhooks.HeaderWebhookSignature, string(bytes.TrimSpace(all)))
	return nil
}

// retryPolicy returns delays of 0.5 to 1 second after the first failed attempt, then twice as long
// after each, up to 5 to 10 minutes.
func retryPolicy() adapters.BackoffPolicy {
	return adapters.BackoffPolicy{Initial: 750 * time.Millisecond, Max: 450 * time.Second, Multiplier: 2, Jitter: 1.0 / 3}
}

// retryAfter returns the value of the Retry-After header (RFC 9110, section 10.2.3), at most one
// hour.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := h.Get("Retry-After")
	if s, err := strconv.Atoi(v); err == nil && s > 0 {
		return time.Duration(min(s, 3600)) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil {
		return min(max(t.Sub(now), 0), time.Hour)
	}
	return 0
}
