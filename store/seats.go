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
)

// seatColumns ends with how long the credential that was replaced is good still.
func (s *Store) seatColumns() string {
	return `id, tenant_id, instance_id, channel, mode, address, status, error_message, settings, credentials, retries, last_event_at, created_at, updated_at,
		case when old_for is null then cast(0 as double precision) when old_until is null then cast(old_for as double precision) else ` + s.d.until("old_until") + ` end`
}

// unopened is told of an endpoint whose credentials no master key opens.
const unopened = "The credentials cannot be opened with the master keys given. Set the channel up again."

// scanSeat opens the credentials. Those that do not open make the seat faulty, so
// that one of them does not hide all others.
func (s *Store) scanSeat(sc scan) (seat gateway.Seat, err error) {
	var settings, sealed string
	err = sc(text(&seat.ID), text(&seat.TenantID), text(&seat.InstanceID), &seat.Channel, &seat.Mode, &seat.Address, &seat.Status, text(&seat.ErrorMessage),
		&settings, &sealed, &seat.Retries, utc(&seat.LastEventAt), utc(&seat.CreatedAt), utc(&seat.UpdatedAt), age(&seat.OldFor))
	if err != nil {
		return seat, err
	}
	if err := json.Unmarshal([]byte(settings), &seat.Settings); err != nil {
		return seat, err
	}
	seat.Credentials, err = s.openCredentials(seat.Endpoint, sealed)
	var missing *MissingKey
	switch {
	case errors.As(err, &missing):
		seat.Status, seat.ErrorMessage, seat.Fault, err = gateway.Faulty, "The credentials cannot be opened: "+missing.Error()+".", err, nil
	case errors.Is(err, ErrSealed):
		seat.Status, seat.ErrorMessage, seat.Fault, err = gateway.Faulty, unopened, err, nil
	}
	return seat, err
}

func (s *Store) sealCredentials(ep adapters.Endpoint) (string, error) {
	plain, err := json.Marshal(map[string]string(ep.Credentials))
	if err != nil {
		return "", err
	}
	return s.keys.Seal(plain, bind(ep.TenantID, "endpoints.credentials", ep.ID)), nil
}

func (s *Store) openCredentials(ep adapters.Endpoint, sealed string) (adapters.Credentials, error) {
	plain, _, err := s.keys.Open(sealed, bind(ep.TenantID, "endpoints.credentials", ep.ID))
	if err != nil {
		return nil, err
	}
	var creds map[string]string
	if err := json.Unmarshal(plain, &creds); err != nil {
		return nil, err
	}
	if ep.OldFor <= 0 {
		return adapters.Credentials(creds).WithoutOld(), nil
	}
	return creds, nil
}

// Seat gives an instance's seat on a channel; gateway.ErrNoInstance,
// gateway.ErrNoEndpoint.
func (s *Store) Seat(ctx context.Context, tenant, instance string, channel adapters.Channel) (gateway.Seat, error) {
	rs, err := s.db.Query(ctx, `
		select `+s.seatColumns()+` from endpoints
		where tenant_id = $1 and instance_id = $2 and channel = $3`, tenant, instance, string(channel))
	seat, err := one(rs, err, s.scanSeat)
	if noRows(err) {
		if _, err := s.Instance(ctx, tenant, instance); err != nil {
			return gateway.Seat{}, err
		}
	}
	return seat, s.seatError("read endpoint", err)
}

// Seats gives all seats of an instance by channel; gateway.ErrNoInstance.
func (s *Store) Seats(ctx context.Context, tenant, instance string) ([]gateway.Seat, error) {
	rs, err := s.db.Query(ctx, `
		select `+s.seatColumns()+` from endpoints
		where tenant_id = $1 and instance_id = $2 order by channel`, tenant, instance)
	seats, err := all(rs, err, s.scanSeat)
	if err == nil && len(seats) == 0 {
		_, err := s.Instance(ctx, tenant, instance)
		return nil, err
	}
	return seats, s.seatError("list endpoints", err)
}

// EndpointForHook gives the endpoint that a request in public is for, by the instance
// alone: nobody has said yet whose it is. gateway.ErrNoEndpoint, also for one that is
// disabled; gateway.ErrAway. Credentials that do not open are an error: nothing is to
// be done without.
func (s *Store) EndpointForHook(ctx context.Context, instance string, channel adapters.Channel) (adapters.Endpoint, error) {
	if id, err := uuid.Parse(instance); err != nil || id.String() != instance {
		return adapters.Endpoint{}, gateway.ErrNoEndpoint
	}
	rs, err := s.db.Query(ctx, `
		select `+s.seatColumns()+` from endpoints
		where instance_id = $1 and channel = $2 and status <> 'disabled'`, instance, string(channel))
	seat, err := one(rs, err, s.scanSeat)
	if err == nil && seat.Fault != nil {
		return adapters.Endpoint{}, fmt.Errorf("open the credentials of %s endpoint %s: %w", channel, seat.ID, seat.Fault)
	}
	return seat.Endpoint, s.seatError("read endpoint", err)
}

// PollingSeats gives all seats of all tenants that fetch their messages, or connect for
// them, and work.
func (s *Store) PollingSeats(ctx context.Context) ([]gateway.Seat, error) {
	rs, err := s.db.Query(ctx, `select `+s.seatColumns()+` from endpoints where mode in ('polling', 'socket') and status = 'active' order by id`)
	seats, err := all(rs, err, s.scanSeat)
	working := slices.DeleteFunc(seats, func(seat gateway.Seat) bool { return seat.Status != gateway.Active })
	return working, s.seatError("list polling endpoints", err)
}

// SaveSeat keeps a seat, one for each instance and channel: the same again gives the
// same row. Its credentials are sealed; the ones that a provider signs with stay good
// beside newer ones for seat.Overlap after the provider was told of those. retryAt is when SeatsToRetry gives it (zero: never).
// gateway.ErrNoInstance.
func (s *Store) SaveSeat(ctx context.Context, seat gateway.Seat, retryAt time.Time, by identity.Actor) (kept gateway.Seat, err error) {
	err = s.db.InTx(ctx, func(tx db) error {
		for range 3 {
			// The row is locked before it is read.
			rs, err := tx.Query(ctx, `
				update endpoints set retries = retries
				where tenant_id = $1 and instance_id = $2 and channel = $3
				returning `+s.seatColumns(), seat.TenantID, seat.InstanceID, string(seat.Channel))
			was, err := one(rs, err, s.scanSeat)
			if noRows(err) {
				kept, err = s.insertSeat(ctx, tx, seat, retryAt)
			} else if err == nil {
				kept, err = s.replaceSeat(ctx, tx, was, seat, retryAt)
			}
			if noRows(err) {
				continue // it came or went in this moment
			}
			if err != nil {
				return err
			}
			return record(ctx, tx, configured(was, seat, kept, by))
		}
		return gateway.ErrNoInstance
	})
	if err != nil && s.d.orphan(err) {
		err = gateway.ErrNoInstance
	}
	if err != nil {
		return gateway.Seat{}, s.seatError("save endpoint", err)
	}
	return kept, nil
}

func (s *Store) insertSeat(ctx context.Context, tx db, seat gateway.Seat, retryAt time.Time) (gateway.Seat, error) {
	seat.ID = newID()
	settings, sealed, err := s.seatTexts(seat)
	if err != nil {
		return seat, err
	}
	rs, err := tx.Query(ctx, `
		insert into endpoints (id, tenant_id, instance_id, channel, mode, address, status, error_message, settings, credentials, retry_at, retries, created_at, updated_at)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $13)
		on conflict do nothing
		returning `+s.seatColumns(),
		seat.ID, seat.TenantID, seat.InstanceID, string(seat.Channel), string(seat.Mode), seat.Address, string(seat.Status), orNull(seat.ErrorMessage),
		settings, sealed, timeOrNull(retryAt), seat.Retries, s.now())
	return one(rs, err, s.scanSeat)
}

// replaceSeat puts seat in place of was. A poller of another bot starts anew.
func (s *Store) replaceSeat(ctx context.Context, tx db, was, seat gateway.Seat, retryAt time.Time) (gateway.Seat, error) {
	seat.ID = was.ID
	creds, overlap, begun := succeed(was, seat)
	seat.Credentials = creds
	settings, sealed, err := s.seatTexts(seat)
	if err != nil {
		return seat, err
	}
	rs, err := tx.Query(ctx, `
		update endpoints set mode = $3, poll_cursor = case when address = $4 then poll_cursor else '' end,
			backfilled_at = case when address = $4 then backfilled_at else `+s.d.now+` end, backfill_at = null, address = $4, status = $5, error_message = $6,
			settings = $7, credentials = $8, retry_at = $9, retries = $10, updated_at = $11, poll_epoch = poll_epoch + 1,
			old_for = case when $12 = 0 then null when $13 then $12 else old_for end, old_until = case when $12 > 0 and $13 and channel <> 'telegram' then `+s.d.after("$12")+` when $12 = 0 or $13 then null else old_until end
		where tenant_id = $1 and id = $2 returning `+s.seatColumns(),
		seat.TenantID, seat.ID, string(seat.Mode), seat.Address, string(seat.Status), orNull(seat.ErrorMessage), settings, sealed, timeOrNull(retryAt),
		seat.Retries, s.now(), overlap, begun)
	return one(rs, err, s.scanSeat)
}

func (s *Store) seatTexts(seat gateway.Seat) (settings, credentials string, err error) {
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

// configured names what a set-up changed.
func configured(was, asked, kept gateway.Seat, by identity.Actor) identity.Event {
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
	maps.Copy(e.Detail, fields(changed))
	return e
}

// MarkSeat keeps what became of setting a seat up: status, message, retries and what
// the provider told. A seat that was saved again in the meantime keeps what it has
// and is due at once, because the provider may have heard the older word last; who
// else is about to mark it is overtaken too. kept is false then, and for a seat that
// was removed.
func (s *Store) MarkSeat(ctx context.Context, seat gateway.Seat, retryAt time.Time) (kept bool, err error) {
	settings, _, err := s.seatTexts(seat)
	if err != nil {
		return false, err
	}
	begun := ``
	if retryAt.IsZero() { // the provider was told, or never will be
		begun = `, old_until = coalesce(old_until, case when old_for is not null then ` + s.d.after("old_for") + ` end)`
	}
	n, err := s.db.Exec(ctx, `
		update endpoints set status = $4, error_message = $5, retries = $6, address = $7, settings = $8, retry_at = $9`+begun+`
		where tenant_id = $1 and id = $2 and updated_at = $3`,
		seat.TenantID, seat.ID, timeOrNull(seat.UpdatedAt), string(seat.Status), orNull(seat.ErrorMessage), seat.Retries, seat.Address, settings, timeOrNull(retryAt))
	if err == nil && n == 0 {
		_, err = s.db.Exec(ctx, `update endpoints set retry_at = $3, updated_at = $3 where tenant_id = $1 and id = $2`, seat.TenantID, seat.ID, s.now())
	}
	return n > 0, s.seatError("mark endpoint", err)
}

// claimTime is for how long SeatsToRetry keeps a seat from other replicas: longer
// than a provider is waited for.
const claimTime = 2 * time.Minute

// SeatsToRetry gives at most limit seats whose set-up is due again, each to one
// replica. Who does not mark a seat in time leaves it to another.
func (s *Store) SeatsToRetry(ctx context.Context, limit int) ([]gateway.Seat, error) {
	rs, err := s.db.Query(ctx, `
		update endpoints set retry_at = $2
		where id in (
			select id from endpoints where retry_at <= $1 and status <> 'disabled' order by retry_at limit $3`+s.d.skipLocked+`)
		returning `+s.seatColumns(), s.now(), s.now().Add(claimTime), limit)
	seats, err := all(rs, err, s.scanSeat)
	return seats, s.seatError("take endpoints to set up again", err)
}

// TouchSeat notes that an endpoint heard something, to within ten seconds.
func (s *Store) TouchSeat(ctx context.Context, id string, at time.Time) error {
	_, err := s.db.Exec(ctx, `
		update endpoints set last_event_at = $2
		where id = $1 and (last_event_at is null or last_event_at < $3)`, id, timeOrNull(at), timeOrNull(at.Add(-10*time.Second)))
	return s.seatError("note event of endpoint", err)
}

// RemoveSeat removes an endpoint with its credentials; gateway.ErrNoEndpoint.
func (s *Store) RemoveSeat(ctx context.Context, tenant, instance string, channel adapters.Channel, by identity.Actor) error {
	err := s.db.InTx(ctx, func(tx db) error {
		n, err := tx.Exec(ctx, `delete from endpoints where tenant_id = $1 and instance_id = $2 and channel = $3`, tenant, instance, string(channel))
		if err != nil {
			return err
		}
		if n == 0 {
			return gateway.ErrNoEndpoint
		}
		return record(ctx, tx, identity.Event{TenantID: tenant, Kind: "channel.removed", Actor: by, InstanceID: instance, Detail: map[string]string{"channel": string(channel)}})
	})
	return s.seatError("remove endpoint", err)
}

// seatError puts the domain's errors in place of the database's.
func (s *Store) seatError(doing string, err error) error {
	switch {
	case err == nil || errors.Is(err, gateway.ErrNoInstance) || errors.Is(err, gateway.ErrNoEndpoint):
		return err
	case noRows(err) || s.d.unstorable(err):
		return gateway.ErrNoEndpoint
	case s.d.away(err):
		return fmt.Errorf("%s: %w: %w", doing, gateway.ErrAway, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}
