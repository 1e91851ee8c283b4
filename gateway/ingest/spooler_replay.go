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

// replay stores what is kept, until nothing is or the database cannot.
func (s *Spooler) replay(ctx context.Context) {
	const nextTry = replayTimeout + 2*replayInterval
	for s.Spool.HasRecords() && !s.Backpressure.Active() {
		if s.databaseUnavailable() {
			s.unavailableUntil.Store(s.monotonic() + int64(nextTry)) // while this tries, no hook does
		}
		if err := s.replayBatch(ctx); err != nil {
			s.recordFailure(ctx, nextTry, err)
			if time.Since(s.lastLogged) > logInterval {
				s.lastLogged = time.Now()
				s.Log.ErrorContext(ctx, "spool not replayed", "messages", s.pending(), "error", err)
			}
			return
		}
		s.unavailableUntil.Store(0)
		if ctx.Err() != nil {
			return
		}
	}
	if s.inOutage.Load() && !s.Spool.HasRecords() && !s.databaseUnavailable() {
		asked, cancel := context.WithTimeout(ctx, endpointTimeout)
		defer cancel()
		if err := s.Store.Ping(asked); err == nil {
			s.recordSuccess()
		}
	}
}

// replayBatch stores one batch. What is stored already is left as it is.
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
		if stored, err = s.inbox.insert(ctx, as, nil); errors.Is(err, gateway.ErrUnstorable) || errors.Is(err, gateway.ErrRejected) {
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

// loadRecords reads records and gives those that are to be stored, each with its record.
// A message whose endpoint was removed, whose credential staff ended, or whose sender
// was erased, since it was kept is not.
func (s *Spooler) loadRecords(ctx context.Context, rs []spool.Record) (as []gateway.IncomingMessage, from []spool.Record, err error) {
	erased := map[string]gateway.ErasedFunc{} // by tenant
	for _, r := range rs {
		kept, err := s.decode(r)
		if errors.Is(err, gateway.ErrNoMasterKey) { // it waits until the key is here
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
		if good := credentialFingerprints(ep); len(kept.Fingerprints) > 0 && !slices.ContainsFunc(kept.Fingerprints, func(p string) bool { return slices.Contains(good, p) }) {
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
		a.Age = s.age(r, kept)
		as, from = append(as, a), append(from, r)
	}
	return as, from, nil
}

// age gives how long ago a message was kept. Of one that another process kept it is the
// shorter of what two clocks of the machine say, the one that nobody can set and the one
// that shows the time; what neither tells is no time at all. So a code may be called
// expired that was typed in time, but whoever sets a clock makes no expired code good.
func (s *Spooler) age(r spool.Record, kept spoolRecord) time.Duration {
	age := r.Age
	if age == 0 {
		age = min(s.readClock().since(kept.KeptAt), time.Since(r.At))
	}
	return min(max(0, age), gateway.MaxOutage)
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
	return kept, json.Unmarshal(plain, &kept)
}

// replayEach stores arrivals each alone. One that the database refuses while it takes
// another is put aside: it is at fault itself, and must hold up nobody.
func (s *Spooler) replayEach(ctx context.Context, as []gateway.IncomingMessage, from []spool.Record) (stored int, err error) {
	type refusal struct {
		record spool.Record
		err    error
	}
	var refused []refusal
	taken := 0
	for i := range as {
		_, err := s.inbox.storeOne(ctx, as[i])
		switch {
		case err == nil:
			taken++
		case errors.Is(err, gateway.ErrRejected):
			refused = append(refused, refusal{from[i], err})
		default:
			return 0, err
		}
	}
	if taken == 0 {
		return 0, refused[0].err
	}
	for _, r := range refused {
		if err := s.quarantine(ctx, r.record, r.err); err != nil {
			return 0, err
		}
	}
	return taken, nil
}

// quarantine keeps a record where nothing reads it, for whoever is woken by the log.
func (s *Spooler) quarantine(ctx context.Context, r spool.Record, cause error) error {
	if err := s.Spool.Quarantine(r); err != nil {
		return err
	}
	s.Metrics.recordDropped(dropQuarantined)
	s.Log.ErrorContext(ctx, "spooled message put aside", "kept", r.At, "error", cause)
	return nil
}

func (s *Spooler) recordDropped(ctx context.Context, kept spoolRecord, reason dropReason) {
	s.Metrics.recordDropped(reason)
	s.Log.WarnContext(ctx, "spooled message dropped", "reason", reason, "channel", kept.Channel, "instance", kept.Instance, "provider_id", kept.Message.ProviderID)
}
