package store

import (
	"context"
	"errors"
	"fmt"

	"hydragate/gateway"
	"hydragate/identity"
)

const instanceColumns = `id, tenant_id, name, agent_url, agent_disabled_at, unknown_senders, welcome_text, created_at, updated_at,
	coalesce(owner_max_age_days, 0), coalesce(customer_max_age_days, 0), coalesce(silence_max_days, 0), sms_invites`

func scanInstance(sc scan) (i gateway.Instance, err error) {
	err = sc(text(&i.ID), text(&i.TenantID), &i.Name, text(&i.AgentURL), utc(&i.AgentDisabledAt), &i.UnknownSenders, text(&i.WelcomeText),
		utc(&i.CreatedAt), utc(&i.UpdatedAt), &i.Freshness.OwnerDays, &i.Freshness.CustomerDays, &i.Freshness.SilenceDays, &i.SMSInvites)
	return i, err
}

// CreateInstance keeps an instance under its id, or a new one. Of its secrets the agent's
// key is kept as a hash and the signing secret sealed. An instance that is there already
// under its id stays as it is, but for its secrets: nobody was told those.
func (s *Store) CreateInstance(ctx context.Context, i gateway.Instance, secrets gateway.InstanceSecrets, by identity.Actor) (kept gateway.Instance, err error) {
	if i.UnknownSenders == "" {
		i.UnknownSenders = gateway.Forward
	}
	id := orNew(i.ID)
	hash, sealed := identity.HashToken(secrets.AgentSecretKey), s.keys.Seal([]byte(secrets.WebhookSecret), bindWebhookSecret(i.TenantID, id))
	err = s.db.InTx(ctx, func(tx db) error {
		rs, err := tx.Query(ctx, `
			insert into instances (id, tenant_id, name, agent_url, unknown_senders, welcome_text, agent_secret_hash, webhook_secret, created_at, updated_at,
				owner_max_age_days, customer_max_age_days, silence_max_days, sms_invites)
			values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10, $11, $12, $13)
			on conflict (id) do nothing
			returning `+instanceColumns,
			id, i.TenantID, i.Name, orNull(i.AgentURL), string(i.UnknownSenders), orNull(i.WelcomeText), hash, sealed, s.now(),
			daysOrNull(i.Freshness.OwnerDays), daysOrNull(i.Freshness.CustomerDays), daysOrNull(i.Freshness.SilenceDays), i.SMSInvites)
		kept, err = one(rs, err, scanInstance)
		if noRows(err) {
			rs, err := tx.Query(ctx, `
				update instances set agent_secret_hash = $3, webhook_secret = $4
				where tenant_id = $1 and id = $2 returning `+instanceColumns, i.TenantID, id, hash, sealed)
			kept, err = one(rs, err, scanInstance)
			return err
		}
		if err != nil {
			return err
		}
		return record(ctx, tx, identity.Event{TenantID: i.TenantID, Kind: "instance.created", Actor: by, InstanceID: id})
	})
	return kept, s.instanceError("create instance", err)
}

// Instance gives an instance; gateway.ErrNoInstance.
func (s *Store) Instance(ctx context.Context, tenant, id string) (gateway.Instance, error) {
	rs, err := s.db.Query(ctx, `select `+instanceColumns+` from instances where tenant_id = $1 and id = $2`, tenant, id)
	i, err := one(rs, err, scanInstance)
	return i, s.instanceError("read instance", err)
}

// EditInstance changes the fields named and no others. A new agent URL ends a
// disabling, and no consent to invites over the phone ends those.
func (s *Store) EditInstance(ctx context.Context, tenant, id string, e gateway.InstanceEdit, by identity.Actor) (i gateway.Instance, err error) {
	ch := change{args: []any{tenant, id, s.now()}}
	ch.text("name", e.Name)
	ch.text("agent_url", e.AgentURL)
	ch.text("welcome_text", e.WelcomeText)
	if e.UnknownSenders != nil {
		ch.set("unknown_senders", string(*e.UnknownSenders))
	}
	ch.days("owner_max_age_days", e.OwnerDays)
	ch.days("customer_max_age_days", e.CustomerDays)
	ch.days("silence_max_days", e.SilenceDays)
	if e.SMSInvites != nil {
		ch.set("sms_invites", *e.SMSInvites)
	}
	assignments := ch.assignments
	if e.AgentURL != nil {
		assignments += `, agent_disabled_at = null`
	}
	err = s.db.InTx(ctx, func(tx db) error {
		rs, err := tx.Query(ctx, `
			update instances set updated_at = $3`+assignments+`
			where tenant_id = $1 and id = $2 returning `+instanceColumns, ch.args...)
		if i, err = one(rs, err, scanInstance); err != nil {
			return err
		}
		if e.AgentURL != nil {
			if err := s.wakeDeliveries(ctx, tx, tenant, id); err != nil {
				return err
			}
		}
		if e.SMSInvites != nil && !*e.SMSInvites {
			err := s.endInvites(ctx, tx, by, "sms_invites_off", `tenant_id = $1 and instance_id = $2 and channel in ('sms', 'whatsapp')`, tenant, id)
			if err != nil {
				return err
			}
		}
		return record(ctx, tx, identity.Event{TenantID: tenant, Kind: "instance.updated", Actor: by, InstanceID: id, Detail: fields(ch.fields)})
	})
	return i, s.instanceError("change instance", err)
}

// ListInstances gives instances in order of creation, after the id given.
func (s *Store) ListInstances(ctx context.Context, tenant, after string, limit int) ([]gateway.Instance, error) {
	rs, err := s.db.Query(ctx, `
		select `+instanceColumns+` from instances
		where tenant_id = $1 and id > $2 order by id limit $3`, tenant, start(after), limit)
	is, err := all(rs, err, scanInstance)
	return is, s.instanceError("list instances", err)
}

// DeleteInstance removes an instance with its endpoints, keys, conversations and
// scoped identities. The audit log keeps whose those identities were.
func (s *Store) DeleteInstance(ctx context.Context, tenant, id string, by identity.Actor) error {
	err := s.db.InTx(ctx, func(tx db) error {
		// The row is locked first: nothing joins an instance that is being removed.
		rs, err := tx.Query(ctx, `update instances set updated_at = $3 where tenant_id = $1 and id = $2 returning `+instanceColumns, tenant, id, s.now())
		if _, err = one(rs, err, scanInstance); err != nil {
			return err
		}
		rs, err = tx.Query(ctx, `
			select `+identityColumns+` from identities
			where tenant_id = $1 and instance_id = $2 and customer_id is not null order by id`, tenant, id)
		gone, err := all(rs, err, scanIdentity)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `delete from instances where tenant_id = $1 and id = $2`, tenant, id); err != nil {
			return err
		}
		events := []identity.Event{{TenantID: tenant, Kind: "instance.deleted", Actor: by, InstanceID: id}}
		for _, i := range gone {
			events = append(events, unlinked(i, by))
		}
		return record(ctx, tx, events...)
	})
	return s.instanceError("delete instance", err)
}

// instanceError puts the domain's errors in place of the database's.
func (s *Store) instanceError(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case noRows(err) || s.d.unstorable(err):
		return gateway.ErrNoInstance
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// noInstance says ErrNoInstance in the words of package identity.
func noInstance(err error) error {
	if errors.Is(err, gateway.ErrNoInstance) {
		return identity.ErrNoInstance
	}
	return err
}
