package store

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
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

// checkLease is how long EndpointsToCheck leases an endpoint, longer than all calls of a check.
const checkLease = 4 * time.Minute

// noticeInterval is the shortest time between two equal notices of a kind, and between two checks of
// an endpoint that notices cause.
const noticeInterval = time.Minute

// EndpointsToCheck leases at most n endpoints whose provider is to be asked now. Endpoints whose set-up
// is not complete, or that do not own their address, are left out.
func (s *Store) EndpointsToCheck(ctx context.Context, n int) ([]gateway.EndpointCheck, error) {
	rs, err := s.db.Query(ctx, `
		update endpoints set check_at = `+s.dialect.NowPlus(int(checkLease/time.Second))+`
		where id in (
			select id from endpoints
			where check_at <= `+s.dialect.Now+` and retry_at is null and status in ('active', 'error')
				and exists (select 1 from provider_addresses p where p.endpoint_id = endpoints.id)
			order by check_at limit $1`+s.dialect.SkipLocked+`)
		returning `+s.endpointColumns()+`, check_failures, cast(coalesce(-(`+s.dialect.SecondsUntil("repaired_at")+`), 1e9)
			as double precision), exists (select 1 from endpoint_notices n where n.endpoint_id = endpoints.id
			and n.kind in ('provider', 'send') and (endpoints.checked_at is null or n.at >= endpoints.checked_at))`, n)
	checks, err := sqldb.ScanAll(rs, err, func(sc sqldb.ScanFunc) (c gateway.EndpointCheck, err error) {
		c.State, err = s.scanEndpoint(func(dest ...any) error {
			return sc(append(dest, &c.Failures, sqldb.Seconds(&c.SinceRepair), &c.Reported)...)
		})
		return c, err
	})
	return checks, s.endpointError("lease endpoints to check", err)
}

// ScheduleChecks makes the checks of all endpoints due now.
func (s *Store) ScheduleChecks(ctx context.Context) error {
	_, err := s.db.Exec(ctx, `update endpoints set check_at = `+s.dialect.Now+` where check_at > `+s.dialect.Now)
	return s.endpointError("schedule checks", err)
}

// RecordCheck stores what the provider says about an endpoint as it was saved at ep.UpdatedAt, and
// returns its status. A change of the status is an event. A check that a notice has made due meanwhile
// stays due. RecordCheck returns gateway.ErrNoEndpoint if the endpoint was saved again or removed since.
func (s *Store) RecordCheck(
	ctx context.Context, ep gateway.EndpointState, r gateway.CheckResult,
) (status gateway.EndpointStatus, err error) {
	settings := ""
	if r.Settings != nil {
		if settings, err = encodeJSON(r.Settings); err != nil {
			return "", err
		}
	}
	warnings, err := encodeJSON(append([]string{}, r.Warnings...))
	if err != nil {
		return "", err
	}
	err = s.db.InTx(ctx, func(tx sqldb.DB) error {
		rs, err := tx.Query(ctx, `
			update endpoints set checked_at = `+s.dialect.Now+`,
				check_at = case when check_at <= `+s.dialect.Now+` then check_at else `+s.dialect.NowPlusExpr("$4")+` end,
				check_failures = case when $10 then check_failures + 1 else 0 end,
				check_fault = case when $5 then check_fault else $6 end, warnings = $7, settings = coalesce($8, settings),
				repaired_at = case when $9 then `+s.dialect.Now+` else repaired_at end
			where tenant_id = $1 and id = $2 and updated_at = $3 returning `+faultColumns,
			ep.TenantID, ep.ID, sqldb.TimeOrNull(ep.UpdatedAt), r.Next.Seconds(), r.Unknown, sqldb.TextOrNull(r.Fault),
			warnings, sqldb.TextOrNull(settings), r.Repaired, r.Unknown || r.Fault != "")
		row, err := sqldb.ScanOne(rs, err, scanFaults)
		status = row.status
		if err != nil || r.Unknown {
			return err
		}
		status, err = s.applyFaults(ctx, tx, ep, row)
		return err
	})
	return status, s.endpointError("record check of endpoint", err)
}

// RecordPoll stores why an endpoint cannot be polled; nothing if fault is empty. It returns the status
// of the endpoint. A new fault makes a check due. RecordPoll returns gateway.ErrNoEndpoint unless c.Holder
// has the lease of the endpoint.
func (s *Store) RecordPoll(
	ctx context.Context, ep gateway.EndpointState, c gateway.Cursor, fault string,
) (status gateway.EndpointStatus, err error) {
	err = s.db.InTx(ctx, func(tx sqldb.DB) error {
		rs, err := tx.Query(ctx, `
			update endpoints set poll_fault = $5, check_at = case when $6 and poll_fault is null and check_at > `+
			s.dialect.Now+` then `+s.dialect.Now+` else check_at end
			where tenant_id = $1 and id = $2 and poll_holder = $3 and poll_epoch = $4 returning `+faultColumns,
			ep.TenantID, ep.ID, c.Holder, c.Epoch, sqldb.TextOrNull(fault), fault != "")
		row, err := sqldb.ScanOne(rs, err, scanFaults)
		if err != nil {
			return err
		}
		status, err = s.applyFaults(ctx, tx, ep, row)
		return err
	})
	return status, s.endpointError("record poll of endpoint", err)
}

// An endpointFaults is what determines the status of an endpoint.
type endpointFaults struct {
	status      gateway.EndpointStatus
	message     string
	check, poll string
	isSettingUp bool
}

const faultColumns = `status, error_message, check_fault, poll_fault, retry_at is not null`

func scanFaults(sc sqldb.ScanFunc) (f endpointFaults, err error) {
	err = sc(&f.status, sqldb.Text(&f.message), sqldb.Text(&f.check), sqldb.Text(&f.poll), &f.isSettingUp)
	return f, err
}

// applyFaults sets the status of an endpoint, whose row is locked, according to its faults, and returns
// it. A set-up that is not complete and a disabled endpoint keep their status.
func (s *Store) applyFaults(
	ctx context.Context, tx sqldb.DB, ep gateway.EndpointState, f endpointFaults,
) (gateway.EndpointStatus, error) {
	status, message := gateway.EndpointActive, cmp.Or(f.check, f.poll)
	if message != "" {
		status = gateway.EndpointError
	}
	if f.isSettingUp || f.status == gateway.EndpointDisabled || f.status == status && f.message == message {
		return f.status, nil
	}
	_, err := tx.Exec(ctx, `update endpoints set status = $3, error_message = $4 where tenant_id = $1 and id = $2`,
		ep.TenantID, ep.ID, string(status), sqldb.TextOrNull(message))
	if err != nil || f.status == status {
		return status, err
	}
	e := identity.Event{
		TenantID: ep.TenantID, Kind: "channel.status", Actor: identity.System, InstanceID: ep.InstanceID,
		Detail: map[string]string{"channel": string(ep.Channel), "from": string(f.status), "to": string(status)},
	}
	if message != "" {
		e.Detail["error"] = message
	}
	return status, recordEvents(ctx, tx, e)
}

// RecordNotice stores a notice about an endpoint and makes a check due. It does neither if an equal
// notice was stored within the last minute. Notices cause at most one check a minute, except for those of
// the provider itself, after which a check is due now.
func (s *Store) RecordNotice(ctx context.Context, ep adapters.Endpoint, n gateway.Notice) error {
	stored, err := s.db.Exec(ctx, `
		insert into endpoint_notices (endpoint_id, tenant_id, kind, reason, detail, at)
		select id, tenant_id, $3, $4, $5, `+s.dialect.Now+` from endpoints where tenant_id = $1 and id = $2
		on conflict (endpoint_id, kind) do update set reason = excluded.reason, detail = excluded.detail, at = excluded.at
			where endpoint_notices.reason <> excluded.reason
				or endpoint_notices.at <= `+s.dialect.NowPlus(-int(noticeInterval/time.Second)),
		ep.TenantID, ep.ID, string(n.Kind), n.Reason, n.Detail)
	if err != nil || stored == 0 {
		return s.endpointError("record notice of endpoint", err)
	}
	if n.Kind == gateway.ProviderNotice {
		_, err = s.db.Exec(ctx, `update endpoints set check_at = `+s.dialect.Now+`
			where tenant_id = $1 and id = $2 and check_at > `+s.dialect.Now, ep.TenantID, ep.ID)
		return s.endpointError("schedule check of endpoint", err)
	}
	interval := int(noticeInterval / time.Second)
	next := s.dialect.NowPlusExpr(fmt.Sprintf("(%d + (%s))", interval, s.dialect.SecondsUntil("checked_at")))
	_, err = s.db.Exec(ctx, `
		update endpoints set check_at = case
			when checked_at is null or checked_at <= `+s.dialect.NowPlus(-interval)+` then `+s.dialect.Now+`
			else `+next+` end
		where tenant_id = $1 and id = $2 and check_at > `+s.dialect.NowPlus(interval), ep.TenantID, ep.ID)
	return s.endpointError("schedule check of endpoint", err)
}

// EndpointNotices returns the notices of the last gateway.NoticeAge about the endpoints of an instance,
// by the ID of the endpoint.
func (s *Store) EndpointNotices(
	ctx context.Context, tenant, instance string,
) (map[string][]gateway.Notice, error) {
	rs, err := s.db.Query(ctx, `
		select n.endpoint_id, n.kind, n.reason, n.detail, n.at from endpoint_notices n
		join endpoints e on e.id = n.endpoint_id and e.tenant_id = n.tenant_id
		where n.tenant_id = $1 and e.instance_id = $2
			and n.at > `+s.dialect.NowPlus(-int(gateway.NoticeAge/time.Second))+`
		order by n.kind`, tenant, instance)
	notices := map[string][]gateway.Notice{}
	_, err = sqldb.ScanAll(rs, err, func(sc sqldb.ScanFunc) (id string, err error) {
		var n gateway.Notice
		err = sc(sqldb.Text(&id), &n.Kind, &n.Reason, &n.Detail, sqldb.Time(&n.At))
		notices[id] = append(notices[id], n)
		return id, err
	})
	if s.dialect.IsUnstorable(err) { // the instance is no UUID
		return notices, nil
	}
	return notices, s.endpointError("list notices of endpoints", err)
}

// EndpointStatuses returns the instance, channel and status of all endpoints of all tenants that are
// not disabled.
func (s *Store) EndpointStatuses(ctx context.Context) ([]gateway.EndpointState, error) {
	rs, err := s.db.Query(ctx, `select instance_id, channel, status from endpoints where status <> 'disabled'`)
	states, err := sqldb.ScanAll(rs, err, func(sc sqldb.ScanFunc) (ep gateway.EndpointState, err error) {
		return ep, sc(sqldb.Text(&ep.InstanceID), &ep.Channel, &ep.Status)
	})
	return states, s.endpointError("list statuses of endpoints", err)
}

func encodeJSON(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}
