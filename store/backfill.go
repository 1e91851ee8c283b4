package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/store/sqldb"
)

// LeaseBackfills leases at most n active endpoints of the given channels whose back-fill is due,
// each for gateway.BackfillLeaseDuration. Endpoints whose credentials cannot be decrypted are left
// out.
func (s *Store) LeaseBackfills(
	ctx context.Context, channels []adapters.Channel, n int,
) ([]gateway.BackfillTask, error) {
	in, args := s.channelPlaceholders(channels, n)
	rs, err := s.db.Query(ctx, `
		update endpoints set backfill_at = `+s.dialect.NowPlus(int(gateway.BackfillLeaseDuration/time.Second))+`
		where id in (
			select id from endpoints
			where channel in (`+in+`) and status = 'active' and (backfill_at is null or backfill_at <= `+s.dialect.Now+`)
			order by backfill_at limit $1`+s.dialect.SkipLocked+`)
		returning `+s.endpointColumns()+`, backfilled_at, backfill_failures, `+s.dialect.Now, args...)
	tasks, err := sqldb.ScanAll(rs, err, func(sc sqldb.ScanFunc) (t gateway.BackfillTask, err error) {
		t.State, err = s.scanEndpoint(func(dest ...any) error {
			return sc(append(dest, sqldb.Time(&t.Since), &t.Failures, sqldb.Time(&t.StartedAt))...)
		})
		if t.Since.IsZero() {
			t.Since, t.FirstRun = t.State.CreatedAt, true
		}
		return t, err
	})
	active := slices.DeleteFunc(tasks,
		func(t gateway.BackfillTask) bool { return t.State.Status != gateway.EndpointActive })
	for i := range active {
		if err == nil {
			active[i].State.Pool, err = s.pool(ctx, active[i].State.Endpoint)
		}
	}
	return active, s.endpointError("lease endpoints to back-fill", err)
}

// CompleteBackfill records that the provider's log was read up to upTo, a time of the database
// clock, and makes the next back-fill due after next.
func (s *Store) CompleteBackfill(
	ctx context.Context, tenant, endpoint string, upTo time.Time, next time.Duration,
) error {
	_, err := s.db.Exec(ctx, `
		update endpoints set backfilled_at = $3, backfill_failures = 0, backfill_at = `+s.dialect.NowPlusExpr("$4")+`
		where tenant_id = $1 and id = $2`, tenant, endpoint, sqldb.TimeOrNull(upTo), next.Seconds())
	return s.endpointError("record back-fill of endpoint", err)
}

// FailBackfill records a failed back-fill and schedules the retry. next is the delay.
func (s *Store) FailBackfill(ctx context.Context, tenant, endpoint string, next time.Duration) error {
	_, err := s.db.Exec(ctx, `
		update endpoints set backfill_failures = backfill_failures + 1, backfill_at = `+s.dialect.NowPlusExpr("$3")+`
		where tenant_id = $1 and id = $2`, tenant, endpoint, next.Seconds())
	return s.endpointError("record back-fill of endpoint", err)
}

// ScheduleBackfills makes the back-fill of all endpoints of the given channels due now.
func (s *Store) ScheduleBackfills(ctx context.Context, channels []adapters.Channel) error {
	in, args := s.channelPlaceholders(channels)
	_, err := s.db.Exec(ctx, `update endpoints set backfill_at = null where channel in (`+in+`)`, args...)
	return s.endpointError("schedule back-fills", err)
}

// channelPlaceholders appends channels to the given arguments and returns a comma-separated list
// of their placeholders.
func (s *Store) channelPlaceholders(channels []adapters.Channel, others ...any) (in string, args []any) {
	args = others
	var placeholders []string
	for _, c := range channels {
		args = append(args, string(c))
		placeholders = append(placeholders, sqldb.Placeholder(len(args)))
	}
	return strings.Join(placeholders, ", "), args
}

// MissingKeys returns the keys for which no message is stored for the channel of an instance.
func (s *Store) MissingKeys(
	ctx context.Context, tenant, instance string, channel adapters.Channel, keys []string,
) ([]string, error) {
	args, placeholders := []any{tenant, instance, string(channel)}, make([]string, len(keys))
	for i, k := range keys {
		args = append(args, k)
		placeholders[i] = sqldb.Placeholder(len(args))
	}
	rs, err := s.db.Query(ctx, `
		select key from messages where tenant_id = $1 and instance_id = $2 and channel = $3
			and key in (`+strings.Join(placeholders, ", ")+`)`, args...)
	known, err := sqldb.ScanAll(rs, err, sqldb.ScanString)
	if err != nil {
		return nil, fmt.Errorf("look up stored messages: %w", err)
	}
	return slices.DeleteFunc(slices.Clone(keys), func(k string) bool { return slices.Contains(known, k) }), nil
}

// ErasedSince returns a function that reports whether an external account was erased after it sent
// a message at a given time. It considers erasures since the given time, which the address history
// records under pseudonyms, and those of unknown senders, which the audit log does.
func (s *Store) ErasedSince(ctx context.Context, tenant string, since time.Time) (gateway.ErasedFunc, error) {
	rs, err := s.db.Query(ctx, `
		select channel, external_id, max(erased_at) from identity_owners
		where tenant_id = $1 and erased_at >= $2 group by channel, external_id`, tenant, sqldb.TimeOrNull(since))
	erasedAt := map[[2]string]time.Time{}
	_, err = sqldb.ScanAll(rs, err, func(sc sqldb.ScanFunc) (struct{}, error) {
		var channel, pseudonym string
		var when time.Time
		err := sc(&channel, &pseudonym, sqldb.Time(&when))
		erasedAt[[2]string{channel, pseudonym}] = when
		return struct{}{}, err
	})
	if err == nil {
		err = s.addErasedSenders(ctx, tenant, since, erasedAt)
	}
	if err != nil {
		return nil, fmt.Errorf("read erasures: %w", err)
	}
	if len(erasedAt) == 0 {
		return func(adapters.Channel, string, time.Time) bool { return false }, nil
	}
	keys, err := s.pseudonymKeys(ctx)
	if err != nil {
		return nil, err
	}
	return func(channel adapters.Channel, externalID string, sentAt time.Time) bool {
		return slices.ContainsFunc(keys, func(key []byte) bool {
			when, ok := erasedAt[[2]string{string(channel), pseudonym(key, tenant, string(channel), externalID)}]
			return ok && !sentAt.After(when)
		})
	}, nil
}

// addErasedSenders adds the times at which unknown senders were erased to erasedAt, by channel and
// pseudonym.
func (s *Store) addErasedSenders(
	ctx context.Context, tenant string, since time.Time, erasedAt map[[2]string]time.Time,
) error {
	rs, err := s.db.Query(ctx, `
		select id, tenant_id, kind, actor, customer_id, identity_id, instance_id, message_id, detail, at from audit_events
		where tenant_id = $1 and kind = $2 and at >= $3`, tenant, senderErased, sqldb.TimeOrNull(since))
	events, err := sqldb.ScanAll(rs, err, scanEvent)
	for _, e := range events {
		key := [2]string{e.Detail["channel"], e.Detail["external_id"]}
		if e.At.After(erasedAt[key]) {
			erasedAt[key] = e.At
		}
	}
	return err
}
