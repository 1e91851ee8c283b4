package store

import (
	"context"
	"errors"
	"fmt"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store/sqldb"
)

const instanceColumns = `id, tenant_id, name, agent_url, agent_disabled_at, unknown_senders, welcome_text, created_at, updated_at,
	coalesce(owner_max_age_days, 0), coalesce(customer_max_age_days, 0), coalesce(silence_max_days, 0), sms_invites`

func scanInstance(sc sqldb.ScanFunc) (i gateway.Instance, err error) {
	err = sc(sqldb.Text(&i.ID), sqldb.Text(&i.TenantID), &i.Name, sqldb.Text(&i.AgentURL), sqldb.Time(&i.AgentDisabledAt), &i.UnknownSenders, sqldb.Text(&i.WelcomeText),
		sqldb.Time(&i.CreatedAt), sqldb.Time(&i.UpdatedAt), &i.VerificationPolicy.OwnerDays, &i.VerificationPolicy.CustomerDays, &i.VerificationPolicy.InactivityDays, &i.SMSInvites)
	return i, err
}

// CreateInstance keeps an instance under its id, or a new one. Of its secrets the agent's
// key is kept as a hash and the signing secret sealed. An instance that is there already
// under its id stays as it is, but for its secrets: nobody was told those.
func (s *Store) CreateInstance(ctx context.Context, i gateway.Instance, secrets gateway.InstanceSecrets, by identity.Actor) (kept gateway.Instance, err error) {
	if i.UnknownSenders == "" {
		i.UnknownSenders = gateway.ForwardUnknown
	}
	id := orNewID(i.ID)
	hash, sealed := identity.HashToken(secrets.AgentSecretKey), s.keys.Seal([]byte(secrets.WebhookSecret), webhookSecretAAD(i.TenantID, id))
	err = s.db.InTx(ctx, func(tx sqldb.DB) error {
		rs, err := tx.Query(ctx, `
			insert into instances (id, tenant_id, name, agent_url, unknown_senders, welcome_text, agent_secret_hash, webhook_secret, created_at, updated_at,
				owner_max_age_days, customer_max_age_days, silence_max_days, sms_invites)
			values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10, $11, $12, $13)
			on conflict (id) do nothing
			returning `+instanceColumns,
			id, i.TenantID, i.Name, sqldb.TextOrNull(i.AgentURL), string(i.UnknownSenders), sqldb.TextOrNull(i.WelcomeText), hash, sealed, s.now(),
			daysOrNull(i.VerificationPolicy.OwnerDays), daysOrNull(i.VerificationPolicy.CustomerDays), daysOrNull(i.VerificationPolicy.InactivityDays), i.SMSInvites)
		kept, err = sqldb.ScanOne(rs, err, scanInstance)
		if sqldb.IsNoRows(err) {
			rs, err := tx.Query(ctx, `
				update instances set agent_secret_hash = $3, webhook_secret = $4
				where tenant_id = $1 and id = $2 returning `+instanceColumns, i.TenantID, id, hash, sealed)
			kept, err = sqldb.ScanOne(rs, err, scanInstance)
			return err
		}
		if err != nil {
			return err
		}
		return recordEvents(ctx, tx, identity.Event{TenantID: i.TenantID, Kind: "instance.created", Actor: by, InstanceID: id})
	})
	return kept, s.instanceError("create instance", err)
}

// Instance gives an instance; gateway.ErrNoInstance.
func (s *Store) Instance(ctx context.Context, tenant, id string) (gateway.Instance, error) {
	rs, err := s.db.Query(ctx, `select `+instanceColumns+` from instances where tenant_id = $1 and id = $2`, tenant, id)
	i, err := sqldb.ScanOne(rs, err, scanInstance)
	return i, s.instanceError("read instance", err)
}

// EditInstance changes the fields named and no others. A new agent URL ends a
// disabling, and no consent to invites over the phone ends those.
func (s *Store) EditInstance(ctx context.Context, tenant, id string, e gateway.InstanceEdit, by identity.Actor) (i gateway.Instance, err error) {
	ch := columnUpdate{args: []any{tenant, id, s.now()}}
	ch.setText("name", e.Name)
	ch.setText("agent_url", e.AgentURL)
	ch.setText("welcome_text", e.WelcomeText)
	if e.UnknownSenders != nil {
		ch.set("unknown_senders", string(*e.UnknownSenders))
	}
	ch.setDays("owner_max_age_days", e.OwnerDays)
	ch.setDays("customer_max_age_days", e.CustomerDays)
	ch.setDays("silence_max_days", e.InactivityDays)
	if e.SMSInvites != nil {
		ch.set("sms_invites", *e.SMSInvites)
	}
	assignments := ch.assignments
	if e.AgentURL != nil {
		assignments += `, agent_disabled_at = null`
	}
	err = s.db.InTx(ctx, func(tx sqldb.DB) error {
		rs, err := tx.Query(ctx, `
			update instances set updated_at = $3`+assignments+`
			where tenant_id = $1 and id = $2 returning `+instanceColumns, ch.args...)
		if i, err = sqldb.ScanOne(rs, err, scanInstance); err != nil {
			return err
		}
		if e.AgentURL != nil {
			if err := s.wakeDeliveries(ctx, tx, tenant, id); err != nil {
				return err
			}
		}
		if e.SMSInvites != nil && !*e.SMSInvites {
			carrierOnly := adapters.ChannelsWith(func(t adapters.Traits) bool { return t.CarrierOnly })
			in, args := s.channelPlaceholders(carrierOnly, tenant, id)
			err := s.revokeInvites(ctx, tx, by, "sms_invites_off",
				`tenant_id = $1 and instance_id = $2 and channel in (`+in+`)`, args...)
			if err != nil {
				return err
			}
		}
		return recordEvents(ctx, tx, identity.Event{TenantID: tenant, Kind: "instance.updated", Actor: by, InstanceID: id, Detail: changedFields(ch.fields)})
	})
	return i, s.instanceError("change instance", err)
}

// ListInstances gives instances in order of creation, after the id given.
func (s *Store) ListInstances(ctx context.Context, tenant, after string, limit int) ([]gateway.Instance, error) {
	rs, err := s.db.Query(ctx, `
		select `+instanceColumns+` from instances
		where tenant_id = $1 and id > $2 order by id limit $3`, tenant, startAfter(after), limit)
	is, err := sqldb.ScanAll(rs, err, scanInstance)
	return is, s.instanceError("list instances", err)
}

// DeleteInstance removes an instance with its endpoints, keys, conversations and
// scoped identities. The audit log keeps whose those identities were.
func (s *Store) DeleteInstance(ctx context.Context, tenant, id string, by identity.Actor) error {
	err := s.db.InTx(ctx, func(tx sqldb.DB) error {
		// The row is locked first: nothing joins an instance that is being removed.
		rs, err := tx.Query(ctx, `update instances set updated_at = $3 where tenant_id = $1 and id = $2 returning `+instanceColumns, tenant, id, s.now())
		if _, err = sqldb.ScanOne(rs, err, scanInstance); err != nil {
			return err
		}
		rs, err = tx.Query(ctx, `
			select `+identityColumns+` from identities
			where tenant_id = $1 and instance_id = $2 and customer_id is not null order by id`, tenant, id)
		gone, err := sqldb.ScanAll(rs, err, scanIdentity)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `delete from instances where tenant_id = $1 and id = $2`, tenant, id); err != nil {
			return err
		}
		events := []identity.Event{{TenantID: tenant, Kind: "instance.deleted", Actor: by, InstanceID: id}}
		for _, i := range gone {
			events = append(events, unlinkedEvent(i, by))
		}
		return recordEvents(ctx, tx, events...)
	})
	return s.instanceError("delete instance", err)
}

// instanceError puts the domain's errors in place of the database's.
func (s *Store) instanceError(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case sqldb.IsNoRows(err) || s.dialect.IsUnstorable(err):
		return gateway.ErrNoInstance
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// toIdentityError says ErrNoInstance in the words of package identity.
func toIdentityError(err error) error {
	if errors.Is(err, gateway.ErrNoInstance) {
		return identity.ErrNoInstance
	}
	return err
}
