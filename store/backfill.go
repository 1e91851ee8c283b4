package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
)

// TakeBackfills gives at most n active endpoints of these channels whose provider is
// to be asked again, each to one replica for gateway.BackfillLease.
func (s *Store) TakeBackfills(ctx context.Context, channels []adapters.Channel, n int) ([]gateway.BackfillTurn, error) {
	in, args := s.channels(channels, n)
	rs, err := s.db.Query(ctx, `
		update endpoints set backfill_at = `+s.d.in(int(gateway.BackfillLease/time.Second))+`
		where id in (
			select id from endpoints
			where channel in (`+in+`) and status = 'active' and (backfill_at is null or backfill_at <= `+s.d.now+`)
			order by backfill_at limit $1`+s.d.skipLocked+`)
		returning `+s.seatColumns()+`, backfilled_at, backfill_failures, `+s.d.now, args...)
	turns, err := all(rs, err, func(sc scan) (t gateway.BackfillTurn, err error) {
		t.Seat, err = s.scanSeat(func(dest ...any) error { return sc(append(dest, utc(&t.Since), &t.Failures, utc(&t.At))...) })
		if t.Since.IsZero() {
			t.Since, t.First = t.Seat.CreatedAt, true
		}
		return t, err
	})
	working := slices.DeleteFunc(turns, func(t gateway.BackfillTurn) bool { return t.Seat.Status != gateway.Active })
	return working, s.seatError("take endpoints to back-fill", err)
}

// DoneBackfill keeps that the provider's log was gone through up to a time of the
// database's clock, and when that is due again.
func (s *Store) DoneBackfill(ctx context.Context, tenant, endpoint string, upTo time.Time, next time.Duration) error {
	_, err := s.db.Exec(ctx, `
		update endpoints set backfilled_at = $3, backfill_failures = 0, backfill_at = `+s.d.after("$4")+`
		where tenant_id = $1 and id = $2`, tenant, endpoint, timeOrNull(upTo), next.Seconds())
	return s.seatError("note back-fill of endpoint", err)
}

// FailBackfill keeps that it could not be gone through, and when to try again.
func (s *Store) FailBackfill(ctx context.Context, tenant, endpoint string, next time.Duration) error {
	_, err := s.db.Exec(ctx, `
		update endpoints set backfill_failures = backfill_failures + 1, backfill_at = `+s.d.after("$3")+`
		where tenant_id = $1 and id = $2`, tenant, endpoint, next.Seconds())
	return s.seatError("note back-fill of endpoint", err)
}

// HurryBackfills makes every endpoint of these channels due now.
func (s *Store) HurryBackfills(ctx context.Context, channels []adapters.Channel) error {
	in, args := s.channels(channels)
	_, err := s.db.Exec(ctx, `update endpoints set backfill_at = null where channel in (`+in+`)`, args...)
	return s.seatError("hurry back-fills", err)
}

// channels gives places for channels, behind other values.
func (s *Store) channels(channels []adapters.Channel, others ...any) (in string, args []any) {
	args = others
	var places []string
	for _, c := range channels {
		args = append(args, string(c))
		places = append(places, place(len(args)))
	}
	return strings.Join(places, ", "), args
}

// MissingKeys gives those keys of an instance's channel under which nothing is stored.
func (s *Store) MissingKeys(ctx context.Context, tenant, instance string, channel adapters.Channel, keys []string) ([]string, error) {
	args, places := []any{tenant, instance, string(channel)}, make([]string, len(keys))
	for i, k := range keys {
		args = append(args, k)
		places[i] = place(len(args))
	}
	rs, err := s.db.Query(ctx, `
		select key from messages where tenant_id = $1 and instance_id = $2 and channel = $3 and key in (`+strings.Join(places, ", ")+`)`, args...)
	known, err := all(rs, err, scanString)
	if err != nil {
		return nil, fmt.Errorf("look for stored messages: %w", err)
	}
	return slices.DeleteFunc(slices.Clone(keys), func(k string) bool { return slices.Contains(known, k) }), nil
}

// ErasedSince tells who was erased since a time: the history of addresses keeps their
// pseudonyms, and when.
func (s *Store) ErasedSince(ctx context.Context, tenant string, since time.Time) (gateway.Erasures, error) {
	rs, err := s.db.Query(ctx, `
		select channel, external_id, max(erased_at) from identity_owners
		where tenant_id = $1 and erased_at >= $2 group by channel, external_id`, tenant, timeOrNull(since))
	at := map[[2]string]time.Time{}
	_, err = all(rs, err, func(sc scan) (struct{}, error) {
		var channel, pseudonym string
		var when time.Time
		err := sc(&channel, &pseudonym, utc(&when))
		at[[2]string{channel, pseudonym}] = when
		return struct{}{}, err
	})
	if err != nil {
		return nil, fmt.Errorf("read who was erased: %w", err)
	}
	if len(at) == 0 {
		return func(adapters.Channel, string, time.Time) bool { return false }, nil
	}
	keys, err := s.pseudonymKeys(ctx)
	if err != nil {
		return nil, err
	}
	return func(channel adapters.Channel, externalID string, said time.Time) bool {
		return slices.ContainsFunc(keys, func(key []byte) bool {
			when, ok := at[[2]string{string(channel), pseudonym(key, tenant, string(channel), externalID)}]
			return ok && !said.After(when)
		})
	}, nil
}
