package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store/sqldb"
)

const instanceColumns = `id, tenant_id, name, agent_url, agent_disabled_at, unknown_senders, welcome_text, created_at,
	updated_at,
	coalesce(owner_max_age_days, 0), coalesce(customer_max_age_days, 0), coalesce(silence_max_days, 0), sms_invites,
	owner_channels, default_region, events`

func scanInstance(sc sqldb.ScanFunc) (i gateway.Instance, err error) {
	var owners, events *string
	err = sc(sqldb.Text(&i.ID), sqldb.Text(&i.TenantID), &i.Name, sqldb.Text(&i.AgentURL),
		sqldb.Time(&i.AgentDisabledAt), &i.UnknownSenders, sqldb.Text(&i.WelcomeText),
		sqldb.Time(&i.CreatedAt), sqldb.Time(&i.UpdatedAt), &i.VerificationPolicy.OwnerDays,
		&i.VerificationPolicy.CustomerDays, &i.VerificationPolicy.InactivityDays, &i.SMSInvites,
		&owners, sqldb.Text(&i.DefaultRegion), &events)
	if owners != nil {
		channels := splitNames[adapters.Channel](*owners)
		i.OwnerChannels = &channels
	}
	i.Events = splitEvents(events)
	return i, err
}

// CreateInstance stores an instance and returns it. If i.ID is empty, a new ID is assigned. The
// agent's key is stored as a hash and the signing secret encrypted. If the instance exists,
// because the caller retries, only its secrets are replaced: the previous ones were never returned
// to anyone.
func (s *Store) CreateInstance(
	ctx context.Context, i gateway.Instance, secrets gateway.InstanceSecrets, by identity.Actor,
) (created gateway.Instance, err error) {
	if i.UnknownSenders == "" {
		i.UnknownSenders = gateway.ForwardUnknown
	}
	id := orNewID(i.ID)
	hash, sealed := identity.HashToken(secrets.AgentSecretKey),
		s.keys.Seal([]byte(secrets.WebhookSecret), webhookSecretAAD(i.TenantID, id))
	err = s.db.InTx(ctx, func(tx sqldb.DB) error {
		rs, err := tx.Query(ctx, `
			insert into instances (id, tenant_id, name, agent_url, unknown_senders, welcome_text, agent_secret_hash,
				webhook_secret, created_at, updated_at,
				owner_max_age_days, customer_max_age_days, silence_max_days, sms_invites, owner_channels,
				default_region, events)
			values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10, $11, $12, $13, $14, $15, $16)
			on conflict (id) do nothing
			returning `+instanceColumns,
			id, i.TenantID, i.Name, sqldb.TextOrNull(i.AgentURL), string(i.UnknownSenders), sqldb.TextOrNull(i.WelcomeText),
			hash, sealed, s.now(),
			numberOrNull(i.VerificationPolicy.OwnerDays), numberOrNull(i.VerificationPolicy.CustomerDays),
			numberOrNull(i.VerificationPolicy.InactivityDays), i.SMSInvites, channelsOrNull(i.OwnerChannels),
			sqldb.TextOrNull(i.DefaultRegion), eventsOrNull(i.Events))
		created, err = sqldb.ScanOne(rs, err, scanInstance)
		if sqldb.IsNoRows(err) {
			rs, err := tx.Query(ctx, `
				update instances set agent_secret_hash = $3, webhook_secret = $4
				where tenant_id = $1 and id = $2 returning `+instanceColumns, i.TenantID, id, hash, sealed)
			created, err = sqldb.ScanOne(rs, err, scanInstance)
			return err
		}
		if err != nil {
			return err
		}
		return recordEvents(ctx, tx, identity.Event{
			TenantID: i.TenantID, Kind: "instance.created", Actor: by,
			InstanceID: id,
		})
	})
	return created, s.instanceError("create instance", err)
}

// Instance returns an instance. It returns gateway.ErrNoInstance if the tenant has none with the
// ID.
func (s *Store) Instance(ctx context.Context, tenant, id string) (gateway.Instance, error) {
	rs, err := s.db.Query(ctx, `select `+instanceColumns+` from instances where tenant_id = $1 and id = $2`, tenant, id)
	i, err := sqldb.ScanOne(rs, err, scanInstance)
	return i, s.instanceError("read instance", err)
}

// EditInstance changes the fields that e sets and returns the instance. A new application URL
// enables the application again and makes its pending events due; setting SMSInvites to false
// revokes the live invites on phone channels. It returns gateway.ErrNoInstance for an unknown
// instance.
func (s *Store) EditInstance(
	ctx context.Context, tenant, id string, e gateway.InstanceEdit, by identity.Actor,
) (i gateway.Instance, err error) {
	update := columnUpdate{args: []any{tenant, id, s.now()}}
	update.setText("name", e.Name)
	update.setText("agent_url", e.AgentURL)
	update.setText("welcome_text", e.WelcomeText)
	update.setText("default_region", e.DefaultRegion)
	if e.UnknownSenders != nil {
		update.set("unknown_senders", string(*e.UnknownSenders))
	}
	update.setDays("owner_max_age_days", e.OwnerDays)
	update.setDays("customer_max_age_days", e.CustomerDays)
	update.setDays("silence_max_days", e.InactivityDays)
	if e.SMSInvites != nil {
		update.set("sms_invites", *e.SMSInvites)
	}
	if e.OwnerChannels != nil {
		update.set("owner_channels", channelsOrNull(e.OwnerChannels.Channels))
	}
	if e.Events != nil {
		update.set("events", eventsOrNull(e.Events.Types))
	}
	assignments := update.assignments
	if e.AgentURL != nil {
		assignments += `, agent_disabled_at = null`
	}
	err = s.db.InTx(ctx, func(tx sqldb.DB) error {
		rs, err := tx.Query(ctx, `
			update instances set updated_at = $3`+assignments+`
			where tenant_id = $1 and id = $2 returning `+instanceColumns, update.args...)
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
		return recordEvents(ctx, tx, identity.Event{
			TenantID: tenant, Kind: "instance.updated", Actor: by, InstanceID: id,
			Detail: changedFields(update.fields),
		})
	})
	return i, s.instanceError("change instance", err)
}

// DefaultRegion returns the country of phone numbers without a country code: that of an instance, or, if
// instance is empty, that of all instances of the tenant. It is empty if there is none, and if they
// differ.
func (s *Store) DefaultRegion(ctx context.Context, tenant, instance string) (string, error) {
	where, args := ``, []any{tenant}
	if instance != "" {
		where, args = ` and id = $2`, append(args, instance)
	}
	rs, err := s.db.Query(ctx, `
		select distinct coalesce(default_region, '') from instances where tenant_id = $1`+where+` limit 2`, args...)
	regions, err := sqldb.ScanAll(rs, err, sqldb.ScanString)
	if err != nil || len(regions) != 1 {
		return "", err
	}
	return regions[0], nil
}

// ListInstances returns at most limit instances of a tenant in order of creation, starting after
// the ID after.
func (s *Store) ListInstances(ctx context.Context, tenant, after string, limit int) ([]gateway.Instance, error) {
	rs, err := s.db.Query(ctx, `
		select `+instanceColumns+` from instances
		where tenant_id = $1 and id > $2 order by id limit $3`, tenant, startAfter(after), limit)
	instances, err := sqldb.ScanAll(rs, err, scanInstance)
	return instances, s.instanceError("list instances", err)
}

// DeleteInstance deletes an instance with its endpoints, API keys, conversations and scoped
// identities. The audit log keeps the owners of those identities. It returns gateway.ErrNoInstance
// for an unknown instance.
func (s *Store) DeleteInstance(ctx context.Context, tenant, id string, by identity.Actor) error {
	err := s.db.InTx(ctx, func(tx sqldb.DB) error {
		// Lock the row first, so that nothing is added to the instance.
		rs, err := tx.Query(ctx,
			`update instances set updated_at = $3 where tenant_id = $1 and id = $2 returning `+instanceColumns, tenant, id,
			s.now())
		if _, err = sqldb.ScanOne(rs, err, scanInstance); err != nil {
			return err
		}
		rs, err = tx.Query(ctx, `
			select `+identityColumns+` from identities
			where tenant_id = $1 and instance_id = $2 and customer_id is not null order by id`, tenant, id)
		identities, err := sqldb.ScanAll(rs, err, scanIdentity)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `delete from instances where tenant_id = $1 and id = $2`, tenant, id); err != nil {
			return err
		}
		if err := s.deleteFreeAddresses(ctx, tx); err != nil {
			return err
		}
		events := []identity.Event{{TenantID: tenant, Kind: "instance.deleted", Actor: by, InstanceID: id}}
		for _, i := range identities {
			events = append(events, unlinkedEvent(i, by))
		}
		return recordEvents(ctx, tx, events...)
	})
	return s.instanceError("delete instance", err)
}

// instanceError maps errors of the database to gateway.ErrNoInstance.
func (s *Store) instanceError(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case sqldb.IsNoRows(err) || s.dialect.IsUnstorable(err):
		return gateway.ErrNoInstance
	}
	return fmt.Errorf("%s: %w", op, err)
}

// toIdentityError returns identity.ErrNoInstance for gateway.ErrNoInstance, and otherwise err.
func toIdentityError(err error) error {
	if errors.Is(err, gateway.ErrNoInstance) {
		return identity.ErrNoInstance
	}
	return err
}

// channelsOrNull returns channels as they are stored. Nil is null.
func channelsOrNull(channels *[]adapters.Channel) any {
	if channels == nil {
		return nil
	}
	return joinNames(*channels)
}

// eventsOrNull returns types of events as they are stored. Nil is null.
func eventsOrNull(events *[]gateway.EventType) any {
	if events == nil {
		return nil
	}
	return joinNames(*events)
}

// splitEvents is the inverse of eventsOrNull.
func splitEvents(stored *string) *[]gateway.EventType {
	if stored == nil {
		return nil
	}
	events := splitNames[gateway.EventType](*stored)
	return &events
}

// joinNames returns names as they are stored: ",telegram,slack,", so that a statement can search for one.
func joinNames[T ~string](names []T) string {
	var joined strings.Builder
	joined.WriteByte(',')
	for _, name := range names {
		joined.WriteString(string(name) + ",")
	}
	return joined.String()
}

// splitNames is the inverse of joinNames. The result is not nil.
func splitNames[T ~string](stored string) []T {
	names := []T{}
	for _, name := range strings.FieldsFunc(stored, func(r rune) bool { return r == ',' }) {
		names = append(names, T(name))
	}
	return names
}

const tenantColumns = `owner_confirmation, unknown_sender_days`

func scanTenantSettings(sc sqldb.ScanFunc) (t identity.TenantSettings, err error) {
	err = sc(&t.OwnerConfirmation, &t.UnknownSenderDays)
	return t, err
}

// TenantSettings returns the settings of a tenant. It returns identity.ErrNotFound for an unknown
// tenant.
func (s *Store) TenantSettings(ctx context.Context, tenant string) (identity.TenantSettings, error) {
	rs, err := s.db.Query(ctx, `select `+tenantColumns+` from tenants where id = $1`, tenant)
	t, err := sqldb.ScanOne(rs, err, scanTenantSettings)
	return t, s.identityError("read tenant", err)
}

// EditTenant changes the settings of a tenant that e sets and returns all of them. It returns
// identity.ErrNotFound for an unknown tenant.
func (s *Store) EditTenant(
	ctx context.Context, tenant string, e identity.TenantEdit, by identity.Actor,
) (t identity.TenantSettings, err error) {
	update := columnUpdate{args: []any{tenant}}
	if e.OwnerConfirmation != nil {
		update.set("owner_confirmation", *e.OwnerConfirmation)
	}
	if e.UnknownSenderDays != nil {
		update.set("unknown_sender_days", *e.UnknownSenderDays)
	}
	err = s.db.InTx(ctx, func(tx sqldb.DB) error {
		rs, err := tx.Query(ctx, `
			update tenants set name = name`+update.assignments+` where id = $1 returning `+tenantColumns, update.args...)
		if t, err = sqldb.ScanOne(rs, err, scanTenantSettings); err != nil {
			return err
		}
		detail := changedFields(update.fields)
		if e.OwnerConfirmation != nil {
			detail["owner_confirmation"] = fmt.Sprint(*e.OwnerConfirmation)
		}
		return recordEvents(ctx, tx, identity.Event{TenantID: tenant, Kind: "tenant.updated", Actor: by, Detail: detail})
	})
	return t, s.identityError("change tenant", err)
}
