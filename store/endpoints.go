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

// endpointColumns returns the columns for scanEndpoint. The last one is the number of seconds for
// which the previous credentials are still valid.
func (s *Store) endpointColumns() string {
	return `id, tenant_id, instance_id, channel, mode, address, status, error_message, settings, credentials, retries,
		warnings, last_event_at, created_at, updated_at,
		case when old_for is null then cast(0 as double precision)
			when old_until is null then cast(old_for as double precision) else ` + s.dialect.SecondsUntil("old_until") + ` end`
}

// credentialsUnreadable is the error message of an endpoint whose credentials cannot be decrypted.
// It is shown to staff.
const credentialsUnreadable = "The credentials cannot be decrypted with the given master keys. " +
	"Set up the channel again."

// scanEndpoint reads an endpoint and decrypts its credentials. If they cannot be decrypted, the
// endpoint has status error and Err set, so that it does not make a list of endpoints unreadable.
func (s *Store) scanEndpoint(sc sqldb.ScanFunc) (ep gateway.EndpointState, err error) {
	var settings, sealed, warnings string
	err = sc(
		sqldb.Text(&ep.ID),
		sqldb.Text(&ep.TenantID),
		sqldb.Text(&ep.InstanceID),
		&ep.Channel,
		&ep.Mode,
		&ep.Address,
		&ep.Status,
		sqldb.Text(&ep.ErrorMessage),
		&settings,
		&sealed,
		&ep.Retries,
		&warnings,
		sqldb.Time(&ep.LastEventAt),
		sqldb.Time(&ep.CreatedAt),
		sqldb.Time(&ep.UpdatedAt),
		sqldb.Seconds(&ep.GraceRemaining),
	)
	if err != nil {
		return ep, err
	}
	if err := json.Unmarshal([]byte(settings), &ep.Settings); err != nil {
		return ep, err
	}
	if err := json.Unmarshal([]byte(warnings), &ep.Warnings); err != nil {
		return ep, err
	}
	ep.Credentials, err = s.openCredentials(ep.Endpoint, sealed)
	var missing *keyring.MissingKeyError
	switch {
	case errors.As(err, &missing):
		ep.Status, ep.ErrorMessage, ep.Err, err = gateway.EndpointError,
			"The credentials cannot be decrypted: "+missing.Error()+".", err, nil
	case errors.Is(err, keyring.ErrDecrypt):
		ep.Status, ep.ErrorMessage, ep.Err, err = gateway.EndpointError, credentialsUnreadable, err, nil
	}
	return ep, err
}

// sealCredentials encrypts the credentials of an endpoint.
func (s *Store) sealCredentials(ep adapters.Endpoint) (string, error) {
	plain, err := json.Marshal(map[string]string(ep.Credentials))
	if err != nil {
		return "", err
	}
	return s.keys.Seal(plain, keyring.AssociatedData(ep.TenantID, "endpoints.credentials", ep.ID)), nil
}

// openCredentials decrypts the credentials of an endpoint, without the previous ones if their
// grace period has passed.
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

// EndpointState returns the endpoint of an instance on a channel. It returns gateway.ErrNoInstance
// or gateway.ErrNoEndpoint if there is no such instance or endpoint.
func (s *Store) EndpointState(
	ctx context.Context, tenant, instance string, channel adapters.Channel,
) (gateway.EndpointState, error) {
	rs, err := s.db.Query(ctx, `
		select `+s.endpointColumns()+` from endpoints
		where tenant_id = $1 and instance_id = $2 and channel = $3`, tenant, instance, string(channel))
	ep, err := sqldb.ScanOne(rs, err, s.scanEndpoint)
	if sqldb.IsNoRows(err) {
		if _, err := s.Instance(ctx, tenant, instance); err != nil {
			return gateway.EndpointState{}, err
		}
	}
	return ep, s.endpointError("read endpoint", err)
}

// EndpointStates returns the endpoints of an instance in order of channel. It returns
// gateway.ErrNoInstance for an unknown instance.
func (s *Store) EndpointStates(ctx context.Context, tenant, instance string) ([]gateway.EndpointState, error) {
	rs, err := s.db.Query(ctx, `
		select `+s.endpointColumns()+` from endpoints
		where tenant_id = $1 and instance_id = $2 order by channel`, tenant, instance)
	endpoints, err := sqldb.ScanAll(rs, err, s.scanEndpoint)
	if err == nil && len(endpoints) == 0 {
		_, err := s.Instance(ctx, tenant, instance)
		return nil, err
	}
	return endpoints, s.endpointError("list endpoints", err)
}

// WebhookEndpoint returns the endpoint for a webhook request, whose tenant is not yet known. It
// returns gateway.ErrNoEndpoint if there is none or it is disabled, an error that matches
// gateway.ErrUnavailable if the database is unavailable, and another error if the credentials
// cannot be decrypted.
func (s *Store) WebhookEndpoint(
	ctx context.Context, instance string, channel adapters.Channel,
) (adapters.Endpoint, error) {
	if id, err := uuid.Parse(instance); err != nil || id.String() != instance {
		return adapters.Endpoint{}, gateway.ErrNoEndpoint
	}
	rs, err := s.db.Query(ctx, `
		select `+s.endpointColumns()+` from endpoints
		where instance_id = $1 and channel = $2 and status <> 'disabled'`, instance, string(channel))
	ep, err := sqldb.ScanOne(rs, err, s.scanEndpoint)
	if err == nil && ep.Err != nil {
		return adapters.Endpoint{}, fmt.Errorf("decrypt credentials of %s endpoint %s: %w", channel, ep.ID, ep.Err)
	}
	if err == nil {
		ep.Pool, err = s.pool(ctx, ep.Endpoint)
	}
	return ep.Endpoint, s.endpointError("read endpoint", err)
}

// isPolled is the condition for endpoints that are polled: those that work, and those with a fault, which
// ends when polling succeeds. Endpoints whose set-up is not complete or failed are not polled.
const isPolled = `(status = 'active' or status = 'error' and (poll_fault is not null or check_fault is not null))
	and retry_at is null`

// PollingEndpoints returns the endpoints of all tenants that poll or hold a connection.
func (s *Store) PollingEndpoints(ctx context.Context) ([]gateway.EndpointState, error) {
	rs, err := s.db.Query(ctx,
		`select `+s.endpointColumns()+` from endpoints where mode in ('polling', 'socket') and `+isPolled+` order by id`)
	endpoints, err := sqldb.ScanAll(rs, err, s.scanEndpoint)
	readable := slices.DeleteFunc(endpoints, func(ep gateway.EndpointState) bool { return ep.Err != nil })
	return readable, s.endpointError("list polling endpoints", err)
}

// SaveEndpoint stores the endpoint of an instance on a channel, replacing the previous one, and
// returns it. Its credentials are encrypted. The previous credentials with which the provider
// signs requests remain valid for the grace period; for a secret that the gateway itself sets at
// the provider, the period starts when that succeeds. EndpointsToRetry returns the endpoint from
// retryAt on, or never if retryAt is zero.
//
// An endpoint that is Checked becomes the owner of its addresses; SaveEndpoint returns a
// *gateway.AddressTakenError, and stores nothing, if one of them belongs to another endpoint. It
// returns gateway.ErrNoInstance for an unknown instance.
func (s *Store) SaveEndpoint(
	ctx context.Context, ep gateway.EndpointState, retryAt time.Time, by identity.Actor,
) (saved gateway.EndpointState, err error) {
	err = s.db.InTx(ctx, func(tx sqldb.DB) error {
		for range 3 {
			// Lock the row before reading it.
			rs, err := tx.Query(ctx, `
				update endpoints set retries = retries
				where tenant_id = $1 and instance_id = $2 and channel = $3
				returning `+s.endpointColumns(), ep.TenantID, ep.InstanceID, string(ep.Channel))
			before, err := sqldb.ScanOne(rs, err, s.scanEndpoint)
			if sqldb.IsNoRows(err) {
				saved, err = s.insertEndpoint(ctx, tx, ep, retryAt)
			} else if err == nil {
				saved, err = s.updateEndpoint(ctx, tx, before, ep, retryAt)
			}
			if sqldb.IsNoRows(err) {
				continue // inserted or deleted concurrently
			}
			if err == nil {
				err = s.updateAddresses(ctx, tx, saved.Endpoint, ep.Checked)
			}
			if err != nil {
				return err
			}
			return recordEvents(ctx, tx, configuredEvent(before, ep, saved, by))
		}
		return gateway.ErrNoInstance
	})
	if err != nil && s.dialect.IsForeignKeyViolation(err) {
		err = gateway.ErrNoInstance
	}
	if err != nil {
		return gateway.EndpointState{}, s.endpointError("save endpoint", err)
	}
	return saved, nil
}

// insertEndpoint inserts an endpoint with a new ID. It returns sql.ErrNoRows if the instance has
// one on the channel.
func (s *Store) insertEndpoint(
	ctx context.Context, tx sqldb.DB, ep gateway.EndpointState, retryAt time.Time,
) (gateway.EndpointState, error) {
	ep.ID = newID()
	settings, sealed, err := s.encodeEndpoint(ep)
	if err != nil {
		return ep, err
	}
	rs, err := tx.Query(ctx, `
		insert into endpoints (id, tenant_id, instance_id, channel, mode, address, status, error_message, settings,
			credentials, retry_at, retries, created_at, updated_at)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $13)
		on conflict do nothing
		returning `+s.endpointColumns(),
		ep.ID, ep.TenantID, ep.InstanceID, string(ep.Channel), string(ep.Mode), ep.Address, string(ep.Status),
		sqldb.TextOrNull(ep.ErrorMessage),
		settings, sealed, sqldb.TimeOrNull(retryAt), ep.Retries, s.now())
	return sqldb.ScanOne(rs, err, s.scanEndpoint)
}

// updateEndpoint replaces an endpoint. If the address changes, polling and back-fill start from
// the beginning.
func (s *Store) updateEndpoint(
	ctx context.Context, tx sqldb.DB, before, ep gateway.EndpointState, retryAt time.Time,
) (gateway.EndpointState, error) {
	ep.ID = before.ID
	creds, graceSeconds, startNow := withPreviousCredentials(before, ep)
	ep.Credentials = creds
	settings, sealed, err := s.encodeEndpoint(ep)
	if err != nil {
		return ep, err
	}
	rs, err := tx.Query(ctx, `
		update endpoints set mode = $3, poll_cursor = case when address = $4 then poll_cursor else '' end,
			backfilled_at = case when address = $4 then backfilled_at else `+s.dialect.Now+` end, backfill_at = null,
				address = $4, status = $5, error_message = $6,
			settings = $7, credentials = $8, retry_at = $9, retries = $10, updated_at = $11, poll_epoch = poll_epoch + 1,
			check_fault = null, poll_fault = null, check_failures = 0, repaired_at = null, warnings = '[]',
			old_for = case when $12 = 0 then null when $13 then $12 else old_for end, old_until = case when $12 > 0 and $13
				and $14 then `+s.dialect.NowPlusExpr("$12")+` when $12 = 0 or $13 then null else old_until end
		where tenant_id = $1 and id = $2 returning `+s.endpointColumns(),
		ep.TenantID, ep.ID, string(ep.Mode), ep.Address, string(ep.Status), sqldb.TextOrNull(ep.ErrorMessage), settings,
		sealed, sqldb.TimeOrNull(retryAt),
		ep.Retries, s.now(), graceSeconds, startNow,
		!adapters.TraitsOf(ep.Channel).SecretSetByGateway)
	return sqldb.ScanOne(rs, err, s.scanEndpoint)
}

// encodeEndpoint returns the settings as JSON and the encrypted credentials.
func (s *Store) encodeEndpoint(ep gateway.EndpointState) (settings, credentials string, err error) {
	if ep.Settings == nil {
		ep.Settings = map[string]string{}
	}
	b, err := json.Marshal(ep.Settings)
	if err != nil {
		return "", "", err
	}
	credentials, err = s.sealCredentials(ep.Endpoint)
	return string(b), credentials, err
}

// configuredEvent returns the event for a saved endpoint, with the names of the changed fields.
func configuredEvent(before, requested, saved gateway.EndpointState, by identity.Actor) identity.Event {
	var changed []string
	for _, key := range slices.Sorted(maps.Keys(requested.Credentials)) {
		if before.Credentials[key] != requested.Credentials[key] {
			changed = append(changed, key)
		}
	}
	if before.Address != saved.Address {
		changed = append(changed, "address")
	}
	if before.Mode != saved.Mode {
		changed = append(changed, "mode")
	}
	e := identity.Event{
		TenantID: saved.TenantID, Kind: "channel.configured", Actor: by, InstanceID: saved.InstanceID,
		Detail: map[string]string{"channel": string(saved.Channel)},
	}
	maps.Copy(e.Detail, changedFields(changed))
	return e
}

// SetEndpointStatus stores the result of setting up an endpoint at the provider: status, error
// message, number of retries, address and settings. If the endpoint was saved again since
// ep.UpdatedAt, it is left unchanged and made due, because the provider may have received the
// older configuration last; a concurrent call is then outdated, too. stored is false in this case
// and if the endpoint was removed.
func (s *Store) SetEndpointStatus(
	ctx context.Context, ep gateway.EndpointState, retryAt time.Time,
) (stored bool, err error) {
	settings, _, err := s.encodeEndpoint(ep)
	if err != nil {
		return false, err
	}
	startGracePeriod := ``
	if retryAt.IsZero() { // the provider has the new configuration, or will never get it
		startGracePeriod = `, old_until = coalesce(old_until, case when old_for is not null then ` +
			s.dialect.NowPlusExpr("old_for") + ` end)`
	}
	n, err := s.db.Exec(ctx, `
		update endpoints set status = $4, error_message = $5, retries = $6, address = $7, settings = $8,
			check_fault = null, poll_fault = null, repaired_at = case when $10 then `+s.dialect.Now+` end,
			check_at = `+s.dialect.NowPlus(int(gateway.FirstCheckDelay/time.Second))+`, retry_at = $9`+startGracePeriod+`
		where tenant_id = $1 and id = $2 and updated_at = $3`,
		ep.TenantID, ep.ID, sqldb.TimeOrNull(ep.UpdatedAt), string(ep.Status), sqldb.TextOrNull(ep.ErrorMessage),
		ep.Retries, ep.Address, settings, sqldb.TimeOrNull(retryAt), ep.Settings[adapters.Warning] != "")
	if err == nil && n == 0 {
		_, err = s.db.Exec(ctx, `update endpoints set retry_at = $3, updated_at = $3 where tenant_id = $1 and id = $2`,
			ep.TenantID, ep.ID, s.now())
	}
	return n > 0, s.endpointError("set endpoint status", err)
}

// setupLease is how long EndpointsToRetry leases an endpoint, longer than any call to a provider.
const setupLease = 2 * time.Minute

// EndpointsToRetry leases at most limit endpoints whose set-up is due for a retry. If
// SetEndpointStatus is not called in time, another replica retries.
func (s *Store) EndpointsToRetry(ctx context.Context, limit int) ([]gateway.EndpointState, error) {
	rs, err := s.db.Query(ctx, `
		update endpoints set retry_at = $2
		where id in (
			select id from endpoints where retry_at <= $1 and status <> 'disabled' order by retry_at
				limit $3`+s.dialect.SkipLocked+`)
		returning `+s.endpointColumns(), s.now(), s.now().Add(setupLease), limit)
	endpoints, err := sqldb.ScanAll(rs, err, s.scanEndpoint)
	return endpoints, s.endpointError("lease endpoints to set up", err)
}

// TouchEndpoint records the time of the last event with a resolution of ten seconds.
func (s *Store) TouchEndpoint(ctx context.Context, id string, at time.Time) error {
	_, err := s.db.Exec(ctx, `
		update endpoints set last_event_at = $2
		where id = $1 and (last_event_at is null or last_event_at < $3)`, id, sqldb.TimeOrNull(at),
		sqldb.TimeOrNull(at.Add(-10*time.Second)))
	return s.endpointError("record event of endpoint", err)
}

// RemoveEndpoint deletes an endpoint with its credentials. It returns gateway.ErrNoEndpoint if
// there is none.
func (s *Store) RemoveEndpoint(
	ctx context.Context, tenant, instance string, channel adapters.Channel, by identity.Actor,
) error {
	err := s.db.InTx(ctx, func(tx sqldb.DB) error {
		n, err := tx.Exec(ctx, `delete from endpoints where tenant_id = $1 and instance_id = $2 and channel = $3`, tenant,
			instance, string(channel))
		if err != nil {
			return err
		}
		if n == 0 {
			return gateway.ErrNoEndpoint
		}
		if err := s.deleteFreeAddresses(ctx, tx); err != nil {
			return err
		}
		return recordEvents(ctx, tx, identity.Event{
			TenantID: tenant, Kind: "channel.removed", Actor: by,
			InstanceID: instance, Detail: map[string]string{"channel": string(channel)},
		})
	})
	return s.endpointError("remove endpoint", err)
}

// endpointError maps errors of the database to those of package gateway.
func (s *Store) endpointError(op string, err error) error {
	switch {
	case err == nil || errors.Is(err, gateway.ErrNoInstance) || errors.Is(err, gateway.ErrNoEndpoint):
		return err
	case isAddressTaken(err):
		return err
	case sqldb.IsNoRows(err) || s.dialect.IsUnstorable(err):
		return gateway.ErrNoEndpoint
	case s.dialect.IsUnavailable(err):
		return fmt.Errorf("%s: %w: %w", op, gateway.ErrUnavailable, err)
	}
	return fmt.Errorf("%s: %w", op, err)
}
