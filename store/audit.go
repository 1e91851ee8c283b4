package store

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"hydragate/identity"
	"hydragate/store/sqldb"
)

// Audit stores events, all of them or none.
func (s *Store) Audit(ctx context.Context, events ...identity.Event) error {
	return recordEvents(ctx, s.db, events...)
}

// recordEvents stores events within the caller's transaction.
func recordEvents(ctx context.Context, d sqldb.DB, events ...identity.Event) error {
	if len(events) == 0 {
		return nil
	}
	stmts := make([]sqldb.Statement, len(events))
	for i, e := range events {
		stmts[i] = auditStmt(e)
	}
	if err := d.Batch(ctx, stmts); err != nil {
		return fmt.Errorf("write audit log: %w", err)
	}
	return nil
}

// auditStmt returns the statement that stores an event. A missing ID is assigned; if the event has
// no time, the database sets it.
func auditStmt(e identity.Event) sqldb.Statement { return auditInsertStmt(e, `$5`) }

// auditOwnerStmt is auditStmt for an event that may name no customer: the owner of its identity is
// stored instead.
func auditOwnerStmt(e identity.Event) sqldb.Statement {
	return auditInsertStmt(e, `coalesce($5, (select customer_id from identities where tenant_id = $2 and id = $6))`)
}

// auditInsertStmt returns the insert statement with the given expression for the customer.
func auditInsertStmt(e identity.Event, customer string) sqldb.Statement {
	if e.ID == "" {
		e.ID = newID()
	}
	detail := `{}`
	if len(e.Detail) > 0 {
		detail = encodeDetail(e.Detail)
	}
	columns, placeholders := ``, ``
	args := []any{
		e.ID, e.TenantID, e.Kind, string(e.Actor), sqldb.TextOrNull(e.CustomerID), sqldb.TextOrNull(e.IdentityID),
		sqldb.TextOrNull(e.InstanceID), sqldb.TextOrNull(e.MessageID),
		detail,
	}
	if !e.At.IsZero() {
		columns, placeholders = `, at`, `, $10`
		args = append(args, sqldb.TimeOrNull(e.At))
	}
	return sqldb.Statement{Query: `
		insert into audit_events (id, tenant_id, kind, actor, customer_id, identity_id, instance_id, message_id, detail` +
		columns + `)
		values ($1, $2, $3, $4, ` + customer + `, $6, $7, $8, $9` + placeholders + `)`, Args: args}
}

// encodeDetail returns the detail of an event as JSON.
func encodeDetail(detail map[string]string) string {
	b, err := json.Marshal(detail)
	if err != nil {
		panic(err) // maps of strings can be encoded
	}
	return string(b)
}

// changedFields returns the detail of an event that lists the changed fields.
func changedFields(names []string) map[string]string {
	if len(names) == 0 {
		return nil
	}
	return map[string]string{"fields": strings.Join(names, " ")}
}

// unlinkedEvent returns the event for the removal of an identity. It preserves the external ID.
func unlinkedEvent(i identity.Identity, by identity.Actor) identity.Event {
	return identityEvent(i, "identity.unlinked", by, map[string]string{"external_id": i.ExternalID})
}

// identityEvent returns an event about an identity. Its detail includes the channel.
func identityEvent(i identity.Identity, kind string, by identity.Actor, detail map[string]string) identity.Event {
	d := map[string]string{"channel": i.Channel}
	maps.Copy(d, detail)
	return identity.Event{
		TenantID: i.TenantID, Kind: kind, Actor: by, CustomerID: i.CustomerID, IdentityID: i.ID,
		InstanceID: i.InstanceID, Detail: d,
	}
}

// editEvents returns the events for an edit: one for granted rights, one for a withdrawn
// verification and one for all other fields.
func editEvents(before, after identity.Identity, e identity.Edit, by identity.Actor) []identity.Event {
	var granted, unverified, updated []string
	if e.DisplayName != nil {
		updated = append(updated, "display_name")
	}
	if e.Metadata != nil {
		updated = append(updated, "metadata")
	}
	switch {
	case e.RoleOverride == nil:
	case after.RoleOverride != "" && after.RoleOverride != before.RoleOverride:
		granted = append(granted, "role_override")
	default:
		updated = append(updated, "role_override")
	}
	switch {
	case e.Verified == nil:
	case after.IsVerified() && !before.IsVerified():
		granted = append(granted, "verified")
	case before.IsVerified() && !after.IsVerified():
		unverified = append(unverified, "verified")
	default:
		updated = append(updated, "verified")
	}
	var events []identity.Event
	for _, k := range []struct {
		kind   string
		fields []string
	}{{"identity.granted", granted}, {"identity.unverified", unverified}, {"identity.updated", updated}} {
		if len(k.fields) > 0 {
			events = append(events, identityEvent(after, k.kind, by, changedFields(k.fields)))
		}
	}
	return events
}

// AuditEvents returns at most limit events that match q, newest first, starting after the event
// with the ID before, or with the newest if before is empty. A filter value that the database
// cannot interpret matches nothing.
func (s *Store) AuditEvents(
	ctx context.Context, tenant string, q identity.EventQuery, before string, limit int,
) ([]identity.Event, error) {
	where, args := ``, []any{tenant, limit}
	filter := func(condition string, value any) {
		args = append(args, value)
		where += fmt.Sprintf(` and `+condition, len(args))
	}
	for _, f := range []struct{ condition, value string }{
		{`kind = $%d`, q.Kind},
		{`actor = $%d`, string(q.Actor)},
		{`customer_id = $%d`, q.CustomerID},
		{`identity_id = $%d`, q.IdentityID},
		{`instance_id = $%d`, q.InstanceID},
		{`seq < (select b.seq from audit_events b where b.tenant_id = $1 and b.id = $%d)`, before},
	} {
		if f.value != "" {
			filter(f.condition, f.value)
		}
	}
	if !q.Since.IsZero() {
		filter(`at >= $%d`, sqldb.TimeOrNull(q.Since))
	}
	if !q.Until.IsZero() {
		filter(`at < $%d`, sqldb.TimeOrNull(q.Until))
	}
	rs, err := s.db.Query(ctx, `
		select `+eventColumns+`, (
			select name from actor_names n where n.tenant_id = audit_events.tenant_id and n.actor = audit_events.actor)
		from audit_events
		where tenant_id = $1`+where+`
		order by seq desc limit $2`, s.dialect.PlanPerCall(args)...)
	events, err := sqldb.ScanAll(rs, err, func(sc sqldb.ScanFunc) (identity.Event, error) {
		var name string
		e, err := scanEvent(func(dest ...any) error { return sc(append(dest, sqldb.Text(&name))...) })
		e.ActorName = name
		return e, err
	})
	if err != nil && !s.dialect.IsUnstorable(err) {
		return nil, fmt.Errorf("read audit log: %w", err)
	}
	return events, nil
}

// eventColumns are the columns that scanEvent reads.
const eventColumns = `id, tenant_id, kind, actor, customer_id, identity_id, instance_id, message_id, detail, at`

func scanEvent(sc sqldb.ScanFunc) (e identity.Event, err error) {
	var detail string
	err = sc(sqldb.Text(&e.ID), sqldb.Text(&e.TenantID), &e.Kind, &e.Actor, sqldb.Text(&e.CustomerID),
		sqldb.Text(&e.IdentityID), sqldb.Text(&e.InstanceID), sqldb.Text(&e.MessageID), &detail, sqldb.Time(&e.At))
	if err != nil {
		return e, err
	}
	return e, json.Unmarshal([]byte(detail), &e.Detail)
}

// SaveActorName stores the name of an actor, which the audit log shows beside it.
func (s *Store) SaveActorName(ctx context.Context, tenant string, actor identity.Actor, name string) error {
	return saveActorName(ctx, s.db, tenant, actor, name)
}

// saveActorName implements SaveActorName, possibly in a transaction.
func saveActorName(ctx context.Context, d sqldb.DB, tenant string, actor identity.Actor, name string) error {
	_, err := d.Exec(ctx, `
		insert into actor_names (tenant_id, actor, name) values ($1, $2, $3)
		on conflict (tenant_id, actor) do update set name = $3`, tenant, string(actor), name)
	if err != nil {
		return fmt.Errorf("save name of actor: %w", err)
	}
	return nil
}

// allowAuditRewrite lets the transaction change the details of audit events, and nothing else
// of them, until it ends or allowAuditRewrite is called with false.
func (s *Store) allowAuditRewrite(ctx context.Context, tx sqldb.DB, allow bool) error {
	return tx.Batch(ctx, []sqldb.Statement{s.dialect.AllowAuditRewrite(allow)})
}

// maxOwnerships limits AddressHistory to the newest entries.
const maxOwnerships = 1000

const ownershipColumns = `identity_id, instance_id, channel, external_id, customer_id, since, until, erased_at`

func scanOwnership(sc sqldb.ScanFunc) (o identity.Ownership, err error) {
	err = sc(sqldb.Text(&o.IdentityID), sqldb.Text(&o.InstanceID), &o.Channel, &o.ExternalID, sqldb.Text(&o.CustomerID),
		sqldb.Time(&o.Since), sqldb.Time(&o.Until), sqldb.Time(&o.ErasedAt))
	return o, err
}

// IdentityAddress returns the address of an identity. For an identity that no longer exists, it
// returns the last address under which a customer owned it. InstanceID is empty if the identity is
// valid for all instances. It returns identity.ErrNotFound if neither is known.
func (s *Store) IdentityAddress(ctx context.Context, tenant, id string) (identity.Address, error) {
	a := identity.Address{TenantID: tenant}
	rs, err := s.db.Query(ctx, `
		select instance_id, channel, external_id from (
			select instance_id, channel, external_id, 0 as n from identities where tenant_id = $1 and id = $2
			union all
			select instance_id, channel, external_id, seq as n from identity_owners where tenant_id = $1 and identity_id = $2) a
		order by (case when n = 0 then 0 else 1 end), n desc limit 1`, tenant, id)
	_, err = sqldb.ScanOne(rs, err, func(sc sqldb.ScanFunc) (struct{}, error) {
		return struct{}{}, sc(sqldb.Text(&a.InstanceID), &a.Channel, &a.ExternalID)
	})
	return a, s.identityError("read address", err)
}

// AddressHistory returns who owned an address and when, oldest first, in all instances. It
// includes deleted identities and, under their pseudonyms, those of erased customers.
func (s *Store) AddressHistory(ctx context.Context, a identity.Address) ([]identity.Ownership, error) {
	args, placeholders := []any{a.TenantID, a.Channel, a.ExternalID, maxOwnerships}, []string{"$3"}
	pseudonyms, err := s.pseudonyms(ctx, a.TenantID, a.Channel, a.ExternalID)
	if err != nil {
		return nil, err
	}
	for _, p := range pseudonyms {
		args = append(args, p)
		placeholders = append(placeholders, fmt.Sprintf("$%d", len(args)))
	}
	rs, err := s.db.Query(ctx, `
		select `+ownershipColumns+` from (
			select * from identity_owners
			where tenant_id = $1 and channel = $2 and external_id in (`+strings.Join(placeholders, ", ")+`)
			order by seq desc limit $4) o
		order by seq`, args...)
	history, err := sqldb.ScanAll(rs, err, scanOwnership)
	return history, s.identityError("read address history", err)
}

// CustomerHistory returns the addresses that a customer owned and when, oldest first. It is empty
// for an unknown customer.
func (s *Store) CustomerHistory(ctx context.Context, tenant, customer string) ([]identity.Ownership, error) {
	rs, err := s.db.Query(ctx, `
		select `+ownershipColumns+` from identity_owners
		where tenant_id = $1 and customer_id = $2 order by seq`, tenant, customer)
	history, err := sqldb.ScanAll(rs, err, scanOwnership)
	return history, s.identityError("read customer history", err)
}
