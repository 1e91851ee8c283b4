package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"hydragate/identity"
	"hydragate/store/sqldb"
)

// Audit keeps events, all of them or none.
func (s *Store) Audit(ctx context.Context, events ...identity.Event) error {
	return recordEvents(ctx, s.db, events...)
}

// recordEvents keeps events in the transaction of what they tell about.
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

// auditStmt keeps an event. An event without an id gets one, and an event without a
// time gets the database's.
func auditStmt(e identity.Event) sqldb.Statement { return auditInsertStmt(e, `$5`) }

// auditOwnerStmt keeps an event of whoever owns its identity, when it names no customer.
func auditOwnerStmt(e identity.Event) sqldb.Statement {
	return auditInsertStmt(e, `coalesce($5, (select customer_id from identities where tenant_id = $2 and id = $6))`)
}

func auditInsertStmt(e identity.Event, customer string) sqldb.Statement {
	if e.ID == "" {
		e.ID = newID()
	}
	detail := []byte(`{}`)
	if len(e.Detail) > 0 {
		detail, _ = json.Marshal(e.Detail) // texts by name cannot fail
	}
	columns, places := ``, ``
	args := []any{
		e.ID, e.TenantID, e.Kind, string(e.Actor), sqldb.TextOrNull(e.CustomerID), sqldb.TextOrNull(e.IdentityID), sqldb.TextOrNull(e.InstanceID), sqldb.TextOrNull(e.MessageID),
		string(detail),
	}
	if !e.At.IsZero() {
		columns, places = `, at`, `, $10`
		args = append(args, sqldb.TimeOrNull(e.At))
	}
	return sqldb.Statement{Query: `
		insert into audit_events (id, tenant_id, kind, actor, customer_id, identity_id, instance_id, message_id, detail` + columns + `)
		values ($1, $2, $3, $4, ` + customer + `, $6, $7, $8, $9` + places + `)`, Args: args}
}

// changedFields names what an event changed.
func changedFields(names []string) map[string]string {
	if len(names) == 0 {
		return nil
	}
	return map[string]string{"fields": strings.Join(names, " ")}
}

// unlinkedEvent tells that an identity is gone, and whose account it was.
func unlinkedEvent(i identity.Identity, by identity.Actor) identity.Event {
	return identityEvent(i, "identity.unlinked", by, map[string]string{"external_id": i.ExternalID})
}

// identityEvent is an event of an identity that belongs to somebody.
func identityEvent(i identity.Identity, kind string, by identity.Actor, detail map[string]string) identity.Event {
	d := map[string]string{"channel": i.Channel}
	for k, v := range detail {
		d[k] = v
	}
	return identity.Event{TenantID: i.TenantID, Kind: kind, Actor: by, CustomerID: i.CustomerID, IdentityID: i.ID, InstanceID: i.InstanceID, Detail: d}
}

// editEvents tells an edit in events: rights given, rights taken, and all else.
func editEvents(was, is identity.Identity, e identity.Edit, by identity.Actor) []identity.Event {
	var granted, taken, updated []string
	if e.DisplayName != nil {
		updated = append(updated, "display_name")
	}
	if e.Metadata != nil {
		updated = append(updated, "metadata")
	}
	switch {
	case e.RoleOverride == nil:
	case is.RoleOverride != "" && is.RoleOverride != was.RoleOverride:
		granted = append(granted, "role_override")
	default:
		updated = append(updated, "role_override")
	}
	switch {
	case e.Verified == nil:
	case is.IsVerified() && !was.IsVerified():
		granted = append(granted, "verified")
	case was.IsVerified() && !is.IsVerified():
		taken = append(taken, "verified")
	default:
		updated = append(updated, "verified")
	}
	var events []identity.Event
	for _, k := range []struct {
		kind   string
		fields []string
	}{{"identity.granted", granted}, {"identity.unverified", taken}, {"identity.updated", updated}} {
		if len(k.fields) > 0 {
			events = append(events, identityEvent(is, k.kind, by, changedFields(k.fields)))
		}
	}
	return events
}

// AuditEvents gives events of the audit log, newest first, after the one whose id is
// before (empty: from the newest).
func (s *Store) AuditEvents(ctx context.Context, tenant string, q identity.EventQuery, before string, limit int) ([]identity.Event, error) {
	where, args := ``, []any{tenant, limit}
	filter := func(condition string, value any) {
		args = append(args, value)
		where += fmt.Sprintf(` and `+condition, len(args))
	}
	for _, f := range []struct{ condition, value string }{
		{`kind = $%d`, q.Kind}, {`actor = $%d`, string(q.Actor)}, {`customer_id = $%d`, q.CustomerID}, {`identity_id = $%d`, q.IdentityID}, {`instance_id = $%d`, q.InstanceID},
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
		select id, tenant_id, kind, actor, customer_id, identity_id, instance_id, message_id, detail, at from audit_events
		where tenant_id = $1`+where+`
		order by seq desc limit $2`, s.dialect.PlanPerCall(args)...)
	es, err := sqldb.ScanAll(rs, err, scanEvent)
	if err != nil && !s.dialect.IsUnstorable(err) {
		return nil, fmt.Errorf("read audit log: %w", err)
	}
	return es, nil
}

func scanEvent(sc sqldb.ScanFunc) (e identity.Event, err error) {
	var detail string
	err = sc(sqldb.Text(&e.ID), sqldb.Text(&e.TenantID), &e.Kind, &e.Actor, sqldb.Text(&e.CustomerID), sqldb.Text(&e.IdentityID), sqldb.Text(&e.InstanceID), sqldb.Text(&e.MessageID), &detail, sqldb.Time(&e.At))
	if err != nil {
		return e, err
	}
	return e, json.Unmarshal([]byte(detail), &e.Detail)
}

// allowAuditRewrite lets the transaction change the details of audit events, and nothing else
// of them, until it ends or allowAuditRewrite is called with false.
func (s *Store) allowAuditRewrite(ctx context.Context, tx sqldb.DB, allow bool) error {
	return tx.Batch(ctx, []sqldb.Statement{s.dialect.AllowAuditRewrite(allow)})
}
