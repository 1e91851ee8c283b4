package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store/keyring"
	"hydragate/store/sqldb"
)

// endpointColumns ends with how long the credential that was replaced is good still.
func (s *Store) endpointColumns() string {
	return `id, tenant_id, instance_id, channel, mode, address, status, error_message, settings, credentials, retries, last_event_at, created_at, updated_at,
		case when old_for is null then cast(0 as double precision) when old_until is null then cast(old_for as double precision) else ` + s.dialect.SecondsUntil("old_until") + ` end`
}

// credentialsUnreadable is told of an endpoint whose credentials no master key opens.
const credentialsUnreadable = "The credentials cannot be opened with the master keys given. Set the channel up again."

// scanEndpoint opens the credentials. Those that do not open make the seat faulty, so
// that one of them does not hide all others.
func (s *Store) scanEndpoint(sc sqldb.ScanFunc) (seat gateway.EndpointState, err error) {
	var settings, sealed string
	err = sc(sqldb.Text(&seat.ID), sqldb.Text(&seat.TenantID), sqldb.Text(&seat.InstanceID), &seat.Channel, &seat.Mode, &seat.Address, &seat.Status, sqldb.Text(&seat.ErrorMessage),
		&settings, &sealed, &seat.Retries, sqldb.Time(&seat.LastEventAt), sqldb.Time(&seat.CreatedAt), sqldb.Time(&seat.UpdatedAt), sqldb.Seconds(&seat.GraceRemaining))
	if err != nil {
		return seat, err
	}
	if err := json.Unmarshal([]byte(settings), &seat.Settings); err != nil {
		return seat, err
	}
	seat.Credentials, err = s.openCredentials(seat.Endpoint, sealed)
	var missing *keyring.MissingKeyError
	switch {
	case errors.As(err, &missing):
		seat.Status, seat.ErrorMessage, seat.Err, err = gateway.EndpointError, "The credentials cannot be opened: "+missing.Error()+".", err, nil
	case errors.Is(err, keyring.ErrDecrypt):
		seat.Status, seat.ErrorMessage, seat.Err, err = gateway.EndpointError, credentialsUnreadable, err, nil
	}
	return seat, err
}

func (s *Store) sealCredentials(ep adapters.Endpoint) (string, error) {
	plain, err := json.Marshal(map[string]string(ep.Credentials))
	if err != nil {
		return "", err
	}
	return s.keys.Seal(plain, keyring.AssociatedData(ep.TenantID, "endpoints.credentials", ep.ID)), nil
}

func (s *Store) openCredentials(ep adapters.Endpoint, sealed string) (adapters.Credentials, error) {
	plain, _, err := s.keys.Open(sealed, keyring.AssociatedData(ep.TenantID, "endpoints.credentials", ep.ID))
	if err != nil {
		return nil, err
	}
	var creds map[string]string
	if err := json.Unmarshal(plain, &creds); err != nil {
		return nil, err
	}
	if ep.GraceRemaining <= 0 {
		return adapters.Credentials(creds).WithoutPrevious(), nil
	}
	return creds, nil
}

// EndpointState gives an instance's seat on a channel; gateway.ErrNoInstance,
// gateway.ErrNoEndpoint.
func (s *Store) EndpointState(ctx context.Context, tenant, instance string, channel adapters.Channel) (gateway.EndpointState, error) {
	rs, err := s.db.Query(ctx, `
		select `+s.endpointColumns()+` from endpoints
		where tenant_id = $1 and instance_id = $2 and channel = $3`, tenant, instance, string(channel))
	seat, err := sqldb.ScanOne(rs, err, s.scanEndpoint)
	if sqldb.IsNoRows(err) {
		if _, err := s.Instance(ctx, tenant, instance); err != nil {
			return gateway.EndpointState{}, err
		}
	}
	return seat, s.endpointError("read endpoint", err)
}

// EndpointStates gives all seats of an instance by channel; gateway.ErrNoInstance.
func (s *Store) EndpointStates(ctx context.Context, tenant, instance string) ([]gateway.EndpointState, error) {
	rs, err := s.db.Query(ctx, `
		select `+s.endpointColumns()+` from endpoints
		where tenant_id = $1 and instance_id = $2 order by channel`, tenant, instance)
	seats, err := sqldb.ScanAll(rs, err, s.scanEndpoint)
	if err == nil && len(seats) == 0 {
		_, err := s.Instance(ctx, tenant, instance)
		return nil, err
	}
	return seats, s.endpointError("list endpoints", err)
}

// WebhookEndpoint gives the endpoint that a request in public is for, by the instance
// alone: nobody has said yet whose it is. gateway.ErrNoEndpoint, also for one that is
// disabled; gateway.ErrAway. Credentials that do not open are an error: nothing is to
// be done without.
func (s *Store) WebhookEndpoint(ctx context.Context, instance string, channel adapters.Channel) (adapters.Endpoint, error) {
	if id, err := uuid.Parse(instance); err != nil || id.String() != instance {
		return adapters.Endpoint{}, gateway.ErrNoEndpoint
	}
	rs, err := s.db.Query(ctx, `
		select `+s.endpointColumns()+` from endpoints
		where instance_id = $1 and channel = $2 and status <> 'disabled'`, instance, string(channel))
	seat, err := sqldb.ScanOne(rs, err, s.scanEndpoint)
	if err == nil && seat.Err != nil {
		return adapters.Endpoint{}, fmt.Errorf("open the credentials of %s endpoint %s: %w", channel, seat.ID, seat.Err)
	}
	return seat.Endpoint, s.endpointError("read endpoint", err)
}

// PollingEndpoints gives all seats of all tenants that fetch their messages, or connect for
// them, and work.
func (s *Store) PollingEndpoints(ctx context.Context) ([]gateway.EndpointState, error) {
	rs, err := s.db.Query(ctx, `select `+s.endpointColumns()+` from endpoints where mode in ('polling', 'socket') and status = 'active' order by id`)
	seats, err := sqldb.ScanAll(rs, err, s.scanEndpoint)
	working := slices.DeleteFunc(seats, func(seat gateway.EndpointState) bool { return seat.Status != gateway.EndpointActive })
	return working, s.endpointError("list polling endpoints", err)
}

// SaveEndpoint keeps a seat, one for each instance and channel: the same again gives the
// same row. Its credentials are sealed; the ones that a provider signs with stay good
// beside newer ones for seat.Overlap after the provider was told of those. retryAt is when SeatsToRetry gives it (zero: never).
// gateway.ErrNoInstance.
func (s *Store) SaveEndpoint(ctx context.Context, seat gateway.EndpointState, retryAt time.Time, by identity.Actor) (kept gateway.EndpointState, err error) {
	err = s.db.InTx(ctx, func(tx sqldb.DB) error {
		for range 3 {
			// The row is locked before it is read.
			rs, err := tx.Query(ctx, `
				update endpoints set retries = retries
				where tenant_id = $1 and instance_id = $2 and channel = $3
				returning `+s.endpointColumns(), seat.TenantID, seat.InstanceID, string(seat.Channel))
			was, err := sqldb.ScanOne(rs, err, s.scanEndpoint)
			if sqldb.IsNoRows(err) {
				kept, err = s.insertEndpoint(ctx, tx, seat, retryAt)
			} else if err == nil {
				kept, err = s.updateEndpoint(ctx, tx, was, seat, retryAt)
			}
			if sqldb.IsNoRows(err) {
				continue // it came or went in this moment
			}
			if err != nil {
				return err
			}
			return recordEvents(ctx, tx, configuredEvent(was, seat, kept, by))
		}
		return gateway.ErrNoInstance
	})
	if err != nil && s.dialect.IsForeignKeyViolation(err) {
		err = gateway.ErrNoInstance
	}
	if err != nil {
		return gateway.EndpointState{}, s.endpointError("save endpoint", err)
	}
	return kept, nil
}

func (s *Store) insertEndpoint(ctx context.Context, tx sqldb.DB, seat gateway.EndpointState, retryAt time.Time) (gateway.EndpointState, error) {
	seat.ID = newID()
	settings, sealed, err := s.encodeEndpoint(seat)
	if err != nil {
		return seat, err
	}
	rs, err := tx.Query(ctx, `
		insert into endpoints (id, tenant_id, instance_id, channel, mode, address, status, error_message, settings, credentials, retry_at, retries, created_at, updated_at)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $13)
		on conflict do nothing
		returning `+s.endpointColumns(),
		seat.ID, seat.TenantID, seat.InstanceID, string(seat.Channel), string(seat.Mode), seat.Address, string(seat.Status), sqldb.TextOrNull(seat.ErrorMessage),
		settings, sealed, sqldb.TimeOrNull(retryAt), seat.Retries, s.now())
	return sqldb.ScanOne(rs, err, s.scanEndpoint)
}

// updateEndpoint puts seat in place of was. A poller of another bot starts anew.
func (s *Store) updateEndpoint(ctx context.Context, tx sqldb.DB, was, seat gateway.EndpointState, retryAt time.Time) (gateway.EndpointState, error) {
	seat.ID = was.ID
	creds, overlap, begun := withPreviousCredentials(was, seat)
	seat.Credentials = creds
	settings, sealed, err := s.encodeEndpoint(seat)
	if err != nil {
		return seat, err
	}
	rs, err := tx.Query(ctx, `
		update endpoints set mode = $3, poll_cursor = case when address = $4 then poll_cursor else '' end,
			backfilled_at = case when address = $4 then backfilled_at else `+s.dialect.Now+` end, backfill_at = null, address = $4, status = $5, error_message = $6,
			settings = $7, credentials = $8, retry_at = $9, retries = $10, updated_at = $11, poll_epoch = poll_epoch + 1,
			old_for = case when $12 = 0 then null when $13 then $12 else old_for end, old_until = case when $12 > 0 and $13 and $14 then `+s.dialect.NowPlusExpr("$12")+` when $12 = 0 or $13 then null else old_until end
		where tenant_id = $1 and id = $2 returning `+s.endpointColumns(),
		seat.TenantID, seat.ID, string(seat.Mode), seat.Address, string(seat.Status), sqldb.TextOrNull(seat.ErrorMessage), settings, sealed, sqldb.TimeOrNull(retryAt),
		seat.Retries, s.now(), overlap, begun, !adapters.TraitsOf(seat.Channel).SecretSetByGateway)
	return sqldb.ScanOne(rs, err, s.scanEndpoint)
}

func (s *Store) encodeEndpoint(seat gateway.EndpointState) (settings, credentials string, err error) {
	if seat.Settings == nil {
		seat.Settings = map[string]string{}
	}
	b, err := json.Marshal(seat.Settings)
	if err != nil {
		return "", "", err
	}
	credentials, err = s.sealCredentials(seat.Endpoint)
	return string(b), credentials, err
}

// configuredEvent names what a set-up changed.
func configuredEvent(was, asked, kept gateway.EndpointState, by identity.Actor) identity.Event {
	var changed []string
	for _, key := range slices.Sorted(maps.Keys(asked.Credentials)) {
		if was.Credentials[key] != asked.Credentials[key] {
			changed = append(changed, key)
		}
	}
	if was.Address != kept.Address {
		changed = append(changed, "address")
	}
	if was.Mode != kept.Mode {
		changed = append(changed, "mode")
	}
	e := identity.Event{TenantID: kept.TenantID, Kind: "channel.configured", Actor: by, InstanceID: kept.InstanceID, Detail: map[string]string{"channel": string(kept.Channel)}}
	maps.Copy(e.Detail, changedFields(changed))
	return e
}

// SetEndpointStatus keeps what became of setting a seat up: status, message, retries and what
// the provider told. A seat that was saved again in the meantime keeps what it has
// and is due at once, because the provider may have heard the older word last; who
// else is about to mark it is overtaken too. kept is false then, and for a seat that
// was removed.
func (s *Store) SetEndpointStatus(ctx context.Context, seat gateway.EndpointState, retryAt time.Time) (kept bool, err error) {
	settings, _, err := s.encodeEndpoint(seat)
	if err != nil {
		return false, err
	}
	begun := ``
	if retryAt.IsZero() { // the provider was told, or never will be
		begun = `, old_until = coalesce(old_until, case when old_for is not null then ` + s.dialect.NowPlusExpr("old_for") + ` end)`
	}
	n, err := s.db.Exec(ctx, `
		update endpoints set status = $4, error_message = $5, retries = $6, address = $7, settings = $8, retry_at = $9`+begun+`
		where tenant_id = $1 and id = $2 and updated_at = $3`,
		seat.TenantID, seat.ID, sqldb.TimeOrNull(seat.UpdatedAt), string(seat.Status), sqldb.TextOrNull(seat.ErrorMessage), seat.Retries, seat.Address, settings, sqldb.TimeOrNull(retryAt))
	if err == nil && n == 0 {
		_, err = s.db.Exec(ctx, `update endpoints set retry_at = $3, updated_at = $3 where tenant_id = $1 and id = $2`, seat.TenantID, seat.ID, s.now())
	}
	return n > 0, s.endpointError("mark endpoint", err)
}

// setupLease is for how long SeatsToRetry keeps a seat from other replicas: longer
// than a provider is waited for.
const setupLease = 2 * time.Minute

// EndpointsToRetry gives at most limit seats whose set-up is due again, each to one
// replica. Who does not mark a seat in time leaves it to another.
func (s *Store) EndpointsToRetry(ctx context.Context, limit int) ([]gateway.EndpointState, error) {
	rs, err := s.db.Query(ctx, `
		update endpoints set retry_at = $2
		where id in (
			select id from endpoints where retry_at <= $1 and status <> 'disabled' order by retry_at limit $3`+s.dialect.SkipLocked+`)
		returning `+s.endpointColumns(), s.now(), s.now().Add(setupLease), limit)
	seats, err := sqldb.ScanAll(rs, err, s.scanEndpoint)
	return seats, s.endpointError("take endpoints to set up again", err)
}

// TouchEndpoint notes that an endpoint heard something, to within ten seconds.
func (s *Store) TouchEndpoint(ctx context.Context, id string, at time.Time) error {
	_, err := s.db.Exec(ctx, `
		update endpoints set last_event_at = $2
		where id = $1 and (last_event_at is null or last_event_at < $3)`, id, sqldb.TimeOrNull(at), sqldb.TimeOrNull(at.Add(-10*time.Second)))
	return s.endpointError("note event of endpoint", err)
}

// RemoveEndpoint removes an endpoint with its credentials; gateway.ErrNoEndpoint.
func (s *Store) RemoveEndpoint(ctx context.Context, tenant, instance string, channel adapters.Channel, by identity.Actor) error {
	err := s.db.InTx(ctx, func(tx sqldb.DB) error {
		n, err := tx.Exec(ctx, `delete from endpoints where tenant_id = $1 and instance_id = $2 and channel = $3`, tenant, instance, string(channel))
		if err != nil {
			return err
		}
		if n == 0 {
			return gateway.ErrNoEndpoint
		}
		return recordEvents(ctx, tx, identity.Event{TenantID: tenant, Kind: "channel.removed", Actor: by, InstanceID: instance, Detail: map[string]string{"channel": string(channel)}})
	})
	return s.endpointError("remove endpoint", err)
}

// endpointError puts the domain's errors in place of the database's.
func (s *Store) endpointError(doing string, err error) error {
	switch {
	case err == nil || errors.Is(err, gateway.ErrNoInstance) || errors.Is(err, gateway.ErrNoEndpoint):
		return err
	case sqldb.IsNoRows(err) || s.dialect.IsUnstorable(err):
		return gateway.ErrNoEndpoint
	case s.dialect.IsUnavailable(err):
		return fmt.Errorf("%s: %w: %w", doing, gateway.ErrUnavailable, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}
