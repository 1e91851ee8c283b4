package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"hydragate/gateway/spool"
)

// replay stores what is kept, until nothing is or the database cannot.
func (s *Spooler) replay(ctx context.Context) {
	const nextTry = replayTime + 2*replayTick
	for s.Spool.Holding() && !s.Pressure.High() {
		if s.isAway() {
			s.away.Store(s.ticks() + int64(nextTry)) // while this tries, no hook does
		}
		if err := s.replaySome(ctx); err != nil {
			s.lost(ctx, nextTry, err)
			if time.Since(s.said) > sayTime {
				s.said = time.Now()
				s.Log.ErrorContext(ctx, "spool not replayed", "messages", s.pending(), "error", err)
			}
			return
		}
		s.away.Store(0)
		if ctx.Err() != nil {
			return
		}
	}
	if s.outage.Load() && !s.Spool.Holding() && !s.isAway() {
		asked, cancel := context.WithTimeout(ctx, seatTime)
		defer cancel()
		if err := s.Store.Ping(asked); err == nil {
			s.found()
		}
	}
}

// replaySome stores one batch. What is stored already is left as it is.
func (s *Spooler) replaySome(ctx context.Context) (err error) {
	defer caught(&err)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), replayTime)
	defer cancel()
	rs, err := s.Spool.Next(maxBatch)
	if err != nil {
		return err
	}
	as, from, err := s.arrivals(ctx, rs)
	if err != nil {
		return err
	}
	stored := 0
	if len(as) > 0 {
		if stored, err = s.inbox.take(ctx, as, nil); errors.Is(err, ErrUnstorable) || errors.Is(err, ErrRejected) {
			stored, err = s.oneByOne(ctx, as, from)
		}
	}
	if err != nil {
		return err
	}
	inboxStored.Add(float64(stored))
	spoolReplayed.Add(float64(len(as)))
	if stored > 0 {
		s.inbox.Wake()
	}
	return s.Spool.Done(rs)
}

// arrivals reads records and gives those that are to be stored, each with its record.
// A message whose endpoint was removed, whose credential staff ended, or whose sender
// was erased, since it was kept is not.
func (s *Spooler) arrivals(ctx context.Context, rs []spool.Record) (as []Arrival, from []spool.Record, err error) {
	erased := map[string]Erasures{} // by tenant
	for _, r := range rs {
		kept, err := s.read(r)
		if errors.Is(err, ErrNoMasterKey) { // it waits until the key is here
			return nil, nil, fmt.Errorf("read a spooled message: %w", err)
		}
		if err != nil {
			if err := s.putAside(ctx, r, err); err != nil {
				return nil, nil, err
			}
			continue
		}
		ep, err := s.Seats.Endpoint(ctx, kept.Instance, kept.Channel)
		if errors.Is(err, ErrNoEndpoint) || err == nil && ep.ID != kept.Endpoint {
			s.drop(ctx, kept, "endpoint removed")
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("read the endpoint of a spooled message: %w", err)
		}
		if good := proofs(ep); len(kept.Proofs) > 0 && !slices.ContainsFunc(kept.Proofs, func(p string) bool { return slices.Contains(good, p) }) {
			s.drop(ctx, kept, "credential ended")
			continue
		}
		if erased[ep.TenantID] == nil {
			if erased[ep.TenantID], err = s.Store.ErasedSince(ctx, ep.TenantID, oldest(rs)); err != nil {
				return nil, nil, err
			}
		}
		if erased[ep.TenantID](kept.Channel, kept.Message.Sender.ID, r.At) {
			s.drop(ctx, kept, "sender erased")
			continue
		}
		a := arrive(ep, kept.Message)
		a.Age = s.age(r, kept)
		as, from = append(as, a), append(from, r)
	}
	return as, from, nil
}

// age gives how long ago a message was kept. Of one that another process kept it is the
// shorter of what two clocks of the machine say, the one that nobody can set and the one
// that shows the time; what neither tells is no time at all. So a code may be called
// expired that was typed in time, but whoever sets a clock makes no expired code good.
func (s *Spooler) age(r spool.Record, kept spooled) time.Duration {
	age := r.Age
	if age == 0 {
		age = min(s.uptime().since(kept.Up), time.Since(r.At))
	}
	return min(max(0, age), MaxAge)
}

func oldest(rs []spool.Record) time.Time {
	at := rs[0].At
	for _, r := range rs {
		if r.At.Before(at) {
			at = r.At
		}
	}
	return at
}

func (s *Spooler) read(r spool.Record) (kept spooled, err error) {
	plain, _, err := s.Keys.Open(string(r.Body), spoolBind)
	if err != nil {
		return kept, err
	}
	return kept, json.Unmarshal(plain, &kept)
}

// oneByOne stores arrivals each alone. One that the database refuses while it takes
// another is put aside: it is at fault itself, and must hold up nobody.
func (s *Spooler) oneByOne(ctx context.Context, as []Arrival, from []spool.Record) (stored int, err error) {
	type refusal struct {
		record spool.Record
		err    error
	}
	var refused []refusal
	taken := 0
	for i := range as {
		_, err := s.inbox.alone(ctx, as[i])
		switch {
		case err == nil:
			taken++
		case errors.Is(err, ErrRejected):
			refused = append(refused, refusal{from[i], err})
		default:
			return 0, err
		}
	}
	if taken == 0 {
		return 0, refused[0].err
	}
	for _, r := range refused {
		if err := s.putAside(ctx, r.record, r.err); err != nil {
			return 0, err
		}
	}
	return taken, nil
}

// putAside keeps a record where nothing reads it, for whoever is woken by the log.
func (s *Spooler) putAside(ctx context.Context, r spool.Record, cause error) error {
	if err := s.Spool.PutAside(r); err != nil {
		return err
	}
	spoolDropped.WithLabelValues("put aside").Inc()
	s.Log.ErrorContext(ctx, "spooled message put aside", "kept", r.At, "error", cause)
	return nil
}

func (s *Spooler) drop(ctx context.Context, kept spooled, reason string) {
	spoolDropped.WithLabelValues(reason).Inc()
	s.Log.WarnContext(ctx, "spooled message dropped", "reason", reason, "channel", kept.Channel, "instance", kept.Instance, "provider_id", kept.Message.ProviderID)
}
