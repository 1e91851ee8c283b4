package store

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store/sqldb"
)

// The owner of an address is decided by the primary key of provider_addresses, which spans all
// tenants. Transactions lock the row of an endpoint before those of its addresses, and these in
// order, so that they do not deadlock.

// An ownedAddress is a row of provider_addresses.
type ownedAddress struct {
	adapters.ProviderAddress
	endpointID string // of the owner; empty if the address is free
}

func scanOwnedAddress(sc sqldb.ScanFunc) (a ownedAddress, err error) {
	return a, sc(&a.Channel, &a.ID, sqldb.Text(&a.endpointID))
}

// isAddressTaken reports whether err is a *gateway.AddressTakenError.
func isAddressTaken(err error) bool {
	_, ok := errors.AsType[*gateway.AddressTakenError](err)
	return ok
}

// updateAddresses makes the addresses of an endpoint, whose row is locked, those that it has now. It
// releases the others. Addresses that the endpoint does not own yet are claimed only if the provider
// has confirmed the credentials; one that another endpoint owns is a *gateway.AddressTakenError. A
// pool that another endpoint owns remains with that endpoint.
func (s *Store) updateAddresses(ctx context.Context, tx sqldb.DB, ep adapters.Endpoint, checked bool) error {
	traits := adapters.TraitsOf(ep.Channel)
	wanted := traits.Addresses(ep)
	pool, pooled := traits.PoolAddress(ep)
	if pooled {
		wanted = append(wanted, pool)
	}
	rs, err := tx.Query(ctx,
		`select channel, address, endpoint_id from provider_addresses where endpoint_id = $1`, ep.ID)
	owned, err := sqldb.ScanAll(rs, err, scanOwnedAddress)
	if err != nil {
		return err
	}
	all := slices.Clone(wanted)
	for _, a := range owned {
		all = append(all, a.ProviderAddress)
	}
	slices.SortFunc(all, compareAddresses)
	released := false
	for _, a := range slices.Compact(all) {
		switch {
		case !slices.Contains(wanted, a):
			released = true
			if _, err := tx.Exec(ctx, `update provider_addresses set endpoint_id = null
				where channel = $1 and address = $2 and endpoint_id = $3`, string(a.Channel), a.ID, ep.ID); err != nil {
				return err
			}
		case checked:
			if err := s.claimAddress(ctx, tx, ep, a); err != nil && !(pooled && a == pool && isAddressTaken(err)) {
				return err
			}
		}
	}
	if !released {
		return nil
	}
	return s.deleteFreeAddresses(ctx, tx)
}

func compareAddresses(a, b adapters.ProviderAddress) int {
	return cmp.Or(cmp.Compare(a.Channel, b.Channel), cmp.Compare(a.ID, b.ID))
}

// claimAddress makes an endpoint the owner of an address. It returns a *gateway.AddressTakenError if
// another endpoint owns it. It waits for a transaction that is claiming the same address.
func (s *Store) claimAddress(
	ctx context.Context, tx sqldb.DB, ep adapters.Endpoint, a adapters.ProviderAddress,
) error {
	n, err := tx.Exec(ctx, `
		insert into provider_addresses (channel, address, endpoint_id, account) values ($1, $2, $3, $4)
		on conflict (channel, address) do update set endpoint_id = excluded.endpoint_id, account = excluded.account
			where provider_addresses.endpoint_id is null or provider_addresses.endpoint_id = excluded.endpoint_id`,
		string(a.Channel), a.ID, ep.ID, adapters.TraitsOf(ep.Channel).Account(ep))
	if err != nil || n > 0 {
		return err
	}
	return s.checkOwner(ctx, tx, ep, a)
}

// checkOwner returns a *gateway.AddressTakenError if an endpoint other than ep owns an address.
func (s *Store) checkOwner(ctx context.Context, d sqldb.DB, ep adapters.Endpoint, a adapters.ProviderAddress) error {
	rs, err := d.Query(ctx, `
		select i.id, i.tenant_id, i.name from provider_addresses p
		join endpoints e on e.id = p.endpoint_id
		join instances i on i.tenant_id = e.tenant_id and i.id = e.instance_id
		where p.channel = $1 and p.address = $2 and e.id <> $3`, string(a.Channel), a.ID, ep.ID)
	owner, err := sqldb.ScanOne(rs, err, func(sc sqldb.ScanFunc) (i gateway.Instance, err error) {
		return i, sc(sqldb.Text(&i.ID), sqldb.Text(&i.TenantID), &i.Name)
	})
	switch {
	case sqldb.IsNoRows(err):
		return nil
	case err != nil:
		return err
	}
	return &gateway.AddressTakenError{TenantID: ep.TenantID, Channel: ep.Channel, Owner: owner}
}

// deleteFreeAddresses deletes the addresses that no endpoint owns or polls.
func (s *Store) deleteFreeAddresses(ctx context.Context, tx sqldb.DB) error {
	_, err := tx.Exec(ctx, `
		delete from provider_addresses where (channel, address) in (
			select channel, address from provider_addresses
			where endpoint_id is null and poll_until <= `+s.dialect.Now+s.dialect.SkipLocked+`)`)
	return err
}

// ClaimAddresses makes an endpoint whose credentials the provider has just confirmed the owner of
// its addresses, before it is connected to the provider. If another endpoint owns one of them,
// ClaimAddresses disables the endpoint and returns a *gateway.AddressTakenError. ok is false if the
// endpoint was saved again or removed since state.UpdatedAt; then nothing is changed.
func (s *Store) ClaimAddresses(ctx context.Context, state gateway.EndpointState) (ok bool, err error) {
	ok = true
	err = s.db.InTx(ctx, func(tx sqldb.DB) error {
		rs, err := tx.Query(ctx, `
			update endpoints set retries = retries
			where tenant_id = $1 and id = $2 and updated_at = $3 and status <> 'disabled' returning id`,
			state.TenantID, state.ID, sqldb.TimeOrNull(state.UpdatedAt))
		if _, err := sqldb.ScanOne(rs, err, sqldb.ScanText); err != nil {
			return err
		}
		return s.updateAddresses(ctx, tx, state.Endpoint, true)
	})
	switch {
	case sqldb.IsNoRows(err):
		return false, nil
	case isAddressTaken(err):
		if disableErr := s.disableEndpoint(ctx, state, err.Error()); disableErr != nil {
			return false, s.endpointError("disable endpoint", disableErr)
		}
	}
	return ok, s.endpointError("claim addresses", err)
}

// disableEndpoint disables an endpoint for a reason that staff read. A set-up in progress does not
// enable it again.
func (s *Store) disableEndpoint(ctx context.Context, state gateway.EndpointState, reason string) error {
	return s.db.InTx(ctx, func(tx sqldb.DB) error {
		n, err := tx.Exec(ctx, `
			update endpoints set status = 'disabled', error_message = $3, retry_at = null, updated_at = $4,
				poll_epoch = poll_epoch + 1
			where tenant_id = $1 and id = $2 and status <> 'disabled'`, state.TenantID, state.ID, reason, s.now())
		if err != nil || n == 0 {
			return err
		}
		return recordEvents(ctx, tx, identity.Event{
			TenantID: state.TenantID, Kind: "channel.disabled", Actor: identity.System, InstanceID: state.InstanceID,
			Detail: map[string]string{"channel": string(state.Channel), "reason": "address_taken"},
		})
	})
}

// AssignAddresses makes every endpoint that was set up before addresses had owners the owner of its
// own. Of several endpoints with the same address, the active one that was set up last becomes the
// owner, because that is where the provider sends messages; the others are disabled. An endpoint
// that is not active only loses: it claims its address when its set-up succeeds. It returns all
// addresses that several endpoints have.
func (s *Store) AssignAddresses(ctx context.Context) ([]gateway.AddressConflict, error) {
	states, err := s.addressedEndpoints(ctx)
	if err != nil {
		return nil, err
	}
	for _, state := range states {
		if state.Err != nil || state.Status == gateway.EndpointDisabled {
			continue
		}
		if state.Status == gateway.EndpointActive {
			_, err = s.ClaimAddresses(ctx, state)
		} else {
			err = s.disableIfTaken(ctx, state)
		}
		if err != nil && !isAddressTaken(err) {
			return nil, err
		}
	}
	return s.AddressConflicts(ctx)
}

// disableIfTaken disables an endpoint if another one owns one of its addresses.
func (s *Store) disableIfTaken(ctx context.Context, state gateway.EndpointState) error {
	for _, a := range adapters.TraitsOf(state.Channel).Addresses(state.Endpoint) {
		err := s.checkOwner(ctx, s.db, state.Endpoint, a)
		if isAddressTaken(err) {
			return s.disableEndpoint(ctx, state, err.Error())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// AddressConflicts returns the addresses that several endpoints have, in any tenant.
func (s *Store) AddressConflicts(ctx context.Context) ([]gateway.AddressConflict, error) {
	states, err := s.addressedEndpoints(ctx)
	if err != nil {
		return nil, err
	}
	rs, err := s.db.Query(ctx, `select channel, address, endpoint_id from provider_addresses`)
	rows, err := sqldb.ScanAll(rs, err, scanOwnedAddress)
	if err != nil {
		return nil, s.endpointError("list addresses", err)
	}
	owners := map[adapters.ProviderAddress]string{}
	for _, a := range rows {
		owners[a.ProviderAddress] = a.endpointID
	}
	byAddress := map[adapters.ProviderAddress][]gateway.EndpointState{}
	for _, state := range states {
		for _, a := range adapters.TraitsOf(state.Channel).Addresses(state.Endpoint) {
			byAddress[a] = append(byAddress[a], state)
		}
	}
	var conflicts []gateway.AddressConflict
	for _, a := range slices.SortedFunc(maps.Keys(byAddress), compareAddresses) {
		sharing := byAddress[a]
		if i := slices.IndexFunc(sharing, func(e gateway.EndpointState) bool { return e.ID == owners[a] }); i > 0 {
			sharing = slices.Concat(sharing[i:i+1], sharing[:i], sharing[i+1:])
		}
		repeated := slices.ContainsFunc(conflicts, func(c gateway.AddressConflict) bool {
			return slices.EqualFunc(c.Endpoints, sharing, func(x, y gateway.EndpointState) bool { return x.ID == y.ID })
		})
		if len(sharing) > 1 && !repeated {
			conflicts = append(conflicts, gateway.AddressConflict{
				Address: a, Endpoints: sharing, Owned: sharing[0].ID == owners[a],
			})
		}
	}
	return conflicts, nil
}

// addressedEndpoints returns the endpoints of all tenants that have an address: active ones first,
// and of these the one that was set up last.
func (s *Store) addressedEndpoints(ctx context.Context) ([]gateway.EndpointState, error) {
	rs, err := s.db.Query(ctx, `
		select `+s.endpointColumns()+` from endpoints where address <> ''
		order by case when status = 'active' then 0 else 1 end, updated_at desc, id`)
	states, err := sqldb.ScanAll(rs, err, s.scanEndpoint)
	return states, s.endpointError("list endpoints", err)
}

// pool returns the pool of numbers that an endpoint owns, with the addresses that other endpoints of
// the same account own.
func (s *Store) pool(ctx context.Context, ep adapters.Endpoint) (pool adapters.Pool, err error) {
	traits := adapters.TraitsOf(ep.Channel)
	address, pooled := traits.PoolAddress(ep)
	if !pooled {
		return pool, nil
	}
	rs, err := s.db.Query(ctx, `
		select channel, address, endpoint_id from provider_addresses
		where account = $1 and endpoint_id is not null order by channel, address`, traits.Account(ep))
	ofAccount, err := sqldb.ScanAll(rs, err, scanOwnedAddress)
	for _, a := range ofAccount {
		switch {
		case a.endpointID != ep.ID:
			pool.Excluded = append(pool.Excluded, a.ProviderAddress)
		case a.ProviderAddress == address:
			pool.ID = address.ID
		}
	}
	return pool, err
}

// AcquirePollLease implements ingest.PollStore. It acquires or renews the lease of an active
// endpoint's poller and returns its epoch and the stored cursor. ok is false if another process
// holds the lease, or if the address belongs to another endpoint or is still polled for one.
func (s *Store) AcquirePollLease(
	ctx context.Context, tenant, endpoint, holder string,
) (epoch int64, cursor string, ok bool, err error) {
	err = s.db.InTx(ctx, func(tx sqldb.DB) error {
		rs, err := tx.Query(ctx, `
			update endpoints set poll_until = `+s.dialect.NowPlus(int(gateway.PollLeaseDuration/time.Second))+`,
				poll_epoch = case when poll_holder = $3 then poll_epoch else poll_epoch + 1 end, poll_holder = $3
			where tenant_id = $1 and id = $2 and `+isPolled+`
				and (poll_holder = $3 or poll_until <= `+s.dialect.Now+`)
			returning `+s.endpointColumns()+`, poll_epoch, poll_cursor`, tenant, endpoint, holder)
		state, err := sqldb.ScanOne(rs, err, func(sc sqldb.ScanFunc) (gateway.EndpointState, error) {
			return s.scanEndpoint(func(dest ...any) error { return sc(append(dest, &epoch, &cursor)...) })
		})
		if err != nil {
			return err
		}
		for _, a := range adapters.TraitsOf(state.Channel).Addresses(state.Endpoint) {
			if err := s.leaseAddress(ctx, tx, state.Endpoint, a, holder); err != nil {
				return err
			}
		}
		return nil
	})
	if sqldb.IsNoRows(err) || isAddressTaken(err) || errors.Is(err, gateway.ErrLeaseLost) {
		return 0, "", false, nil
	}
	return epoch, cursor, err == nil, err
}

// leaseAddress leases an address for the poller of an endpoint, so that no other endpoint polls it for two
// endpoints. It returns gateway.ErrLeaseLost if another process polls it, and a
// *gateway.AddressTakenError if another endpoint owns it. A replica of an older version may have set
// up the endpoint without making it the owner.
func (s *Store) leaseAddress(
	ctx context.Context, tx sqldb.DB, ep adapters.Endpoint, a adapters.ProviderAddress, holder string,
) error {
	for range 2 {
		n, err := tx.Exec(ctx, `
			update provider_addresses set poll_holder = $4,
				poll_until = `+s.dialect.NowPlus(int(gateway.PollLeaseDuration/time.Second))+`
			where channel = $1 and address = $2 and endpoint_id = $3
				and (poll_holder = $4 or poll_until <= `+s.dialect.Now+`)`, string(a.Channel), a.ID, ep.ID, holder)
		if err != nil || n > 0 {
			return err
		}
		if err := s.claimAddress(ctx, tx, ep, a); err != nil {
			return err
		}
	}
	return gateway.ErrLeaseLost
}

// ReleasePollLease implements ingest.PollStore. It does nothing if the lease is lost.
func (s *Store) ReleasePollLease(ctx context.Context, ep adapters.Endpoint, holder string, epoch int64) error {
	stmts := []sqldb.Statement{{
		Query: `
			update endpoints set poll_until = ` + s.dialect.Now + `, poll_holder = ''
			where tenant_id = $1 and id = $2 and poll_holder = $3 and poll_epoch = $4`,
		Args: []any{ep.TenantID, ep.ID, holder, epoch},
	}}
	for _, a := range adapters.TraitsOf(ep.Channel).Addresses(ep) {
		stmts = append(stmts, sqldb.Statement{
			Query: `
				update provider_addresses set poll_until = ` + s.dialect.Now + `, poll_holder = ''
				where channel = $1 and address = $2 and poll_holder = $3 and (endpoint_id is null or endpoint_id = $4)`,
			Args: []any{string(a.Channel), a.ID, holder, ep.ID},
		})
	}
	return s.db.Batch(ctx, stmts)
}
