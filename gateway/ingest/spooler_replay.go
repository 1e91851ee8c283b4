package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"hydragate/gateway"
	"hydragate/gateway/ingest/spool"
)

// replay stores the spooled messages in the database until none is left or the database fails.
func (s *Spooler) replay(ctx context.Context) {
	const nextTry = replayTimeout + 2*replayInterval
	for s.Spool.HasRecords() && !s.Backpressure.Active() {
		if s.databaseUnavailable() {
			s.unavailableUntil.Store(s.monotonic() + int64(nextTry)) // webhooks do not try while replay does
		}
		if err := s.replayBatch(ctx); err != nil {
			s.recordFailure(ctx, nextTry, err)
			if time.Since(s.lastLogged) > logInterval {
				s.lastLogged = time.Now()
				s.Log.ErrorContext(ctx, "replay spool failed", "messages", s.pending(), "error", err)
			}
			return
		}
		s.unavailableUntil.Store(0)
		if ctx.Err() != nil {
			return
		}
	}
	if s.inOutage.Load() && !s.Spool.HasRecords() && !s.databaseUnavailable() {
		bounded, cancel := context.WithTimeout(ctx, endpointTimeout)
		defer cancel()
		if err := s.Store.Ping(bounded); err == nil {
			s.recordSuccess()
		}
	}
}

// replayBatch stores one batch. Messages that are already stored are left unchanged.
func (s *Spooler) replayBatch(ctx context.Context) (err error) {
	defer gateway.RecoverInto(&err)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), replayTimeout)
	defer cancel()
	rs, err := s.Spool.Next(maxBatch)
	if err != nil {
		return err
	}
	as, from, err := s.loadRecords(ctx, rs)
	if err != nil {
		return err
	}
	stored := 0
	if len(as) > 0 {
		if stored, err = s.inbox.insert(ctx, as, nil); errors.Is(err, gateway.ErrUnstorable) ||
			errors.Is(err, gateway.ErrRejected) {
			stored, err = s.replayEach(ctx, as, from)
		}
	}
	if err != nil {
		return err
	}
	s.Metrics.recordStored(stored, 0)
	s.Metrics.recordReplayed(len(as))
	if stored > 0 {
		s.inbox.Wake()
	}
	return s.Spool.Ack(rs)
}

// loadRecords decodes records and returns the messages to store, each with its record. It drops
// messages whose endpoint was removed, whose credential was revoked, or whose sender was erased
// after spooling.
func (s *Spooler) loadRecords(
	ctx context.Context,
	rs []spool.Record,
) (as []gateway.IncomingMessage, from []spool.Record, err error) {
	erased := map[string]gateway.ErasedFunc{} // by tenant ID
	for _, r := range rs {
		kept, err := s.decode(r)
		if errors.Is(err, gateway.ErrNoMasterKey) { // wait until the key is configured
			return nil, nil, fmt.Errorf("read a spooled message: %w", err)
		}
		if err != nil {
			if err := s.quarantine(ctx, r, err); err != nil {
				return nil, nil, err
			}
			continue
		}
		ep, err := s.Endpoints.Endpoint(ctx, kept.Instance, kept.Channel)
		if errors.Is(err, gateway.ErrNoEndpoint) || err == nil && ep.ID != kept.Endpoint {
			s.recordDropped(ctx, kept, dropEndpointRemoved)
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("read the endpoint of a spooled message: %w", err)
		}
		if good := credentialFingerprints(ep); len(kept.Fingerprints) > 0 &&
			!slices.ContainsFunc(kept.Fingerprints, func(p string) bool { return slices.Contains(good, p) }) {
			s.recordDropped(ctx, kept, dropCredentialEnded)
			continue
		}
		if erased[ep.TenantID] == nil {
			if erased[ep.TenantID], err = s.Store.ErasedSince(ctx, ep.TenantID, oldestRecordTime(rs)); err != nil {
				return nil, nil, err
			}
		}
		if erased[ep.TenantID](kept.Channel, kept.Message.Sender.ID, r.At) {
			s.recordDropped(ctx, kept, dropSenderErased)
			continue
		}
		a := newIncomingMessage(ep, kept.Message)
		a.ReceivedAt = s.receivedAt(r, kept)
		as, from = append(as, a), append(from, r)
	}
	return as, from, nil
}

// receivedAt returns when a message was spooled, by the monotonic clock. For a message of another
// process, its age is the smaller of what two clocks show: the time since boot, which cannot be set,
// and the wall clock; zero if unknown. A code that was typed in time may thus be treated as expired,
// but setting a clock never makes an expired code valid.
func (s *Spooler) receivedAt(r spool.Record, kept spoolRecord) time.Time {
	now := time.Now()
	age := now.Sub(r.Appended)
	if r.Appended.IsZero() {
		age = min(s.readClock().since(kept.KeptAt), now.Sub(r.At))
	}
	return now.Add(-min(max(0, age), gateway.MaxOutage))
}

func oldestRecordTime(rs []spool.Record) time.Time {
	at := rs[0].At
	for _, r := range rs {
		if r.At.Before(at) {
			at = r.At
		}
	}
	return at
}

func (s *Spooler) decode(r spool.Record) (kept spoolRecord, err error) {
	plain, _, err := s.Cipher.Open(string(r.Body), spoolAAD)
	if err != nil {
		return kept, err
	}
	err = json.Unmarshal(plain, &kept)
	return kept, err
}

// replayEach stores messages one by one. A message that the database rejects while it accepts
// another is quarantined, so that it does not block the others.
func (s *Spooler) replayEach(
	ctx context.Context,
	as []gateway.IncomingMessage,
	from []spool.Record,
) (stored int, err error) {
	type rejection struct {
		record spool.Record
		err    error
	}
	var rejected []rejection
	accepted := 0
	for i := range as {
		_, n, err := s.inbox.storeOne(ctx, as[i])
		switch {
		case err == nil:
			accepted++
			stored += n
		case errors.Is(err, gateway.ErrRejected):
			rejected = append(rejected, rejection{from[i], err})
		default:
			return 0, err
		}
	}
	if accepted == 0 {
		return 0, rejected[0].err
	}
	for _, r := range rejected {
		if err := s.quarantine(ctx, r.record, r.err); err != nil {
			return 0, err
		}
	}
	return stored, nil
}

// quarantine moves a record to the quarantine file and logs an error.
func (s *Spooler) quarantine(ctx context.Context, r spool.Record, cause error) error {
	if err := s.Spool.Quarantine(r); err != nil {
		return err
	}
	s.Metrics.recordDropped(dropQuarantined)
	s.Log.ErrorContext(ctx, "spooled message quarantined", "spooled_at", r.At, "error", cause)
	return nil
}

func (s *Spooler) recordDropped(ctx context.Context, kept spoolRecord, reason dropReason) {
	s.Metrics.recordDropped(reason)
	s.Log.WarnContext(ctx, "spooled message dropped", "reason", reason, "channel", kept.Channel,
		"instance", kept.Instance, "provider_id", kept.Message.ProviderID)
}
