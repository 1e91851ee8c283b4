package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"hydragate/identity"
)

// Audit keeps events, all of them or none.
func (s *Store) Audit(ctx context.Context, events ...identity.Event) error {
	return record(ctx, s.db, events...)
}

// record keeps events in the transaction of what they tell about.
func record(ctx context.Context, d db, events ...identity.Event) error {
	if len(events) == 0 {
		return nil
	}
	stmts := make([]stmt, len(events))
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
func auditStmt(e identity.Event) stmt { return auditOf(e, `$5`) }

// auditOwner keeps an event of whoever owns its identity, when it names no customer.
func auditOwner(e identity.Event) stmt {
	return auditOf(e, `coalesce($5, (select customer_id from identities where tenant_id = $2 and id = $6))`)
}

func auditOf(e identity.Event, customer string) stmt {
	if e.ID == "" {
		e.ID = newID()
	}
	detail := []byte(`{}`)
	if len(e.Detail) > 0 {
		detail, _ = json.Marshal(e.Detail) // texts by name cannot fail
	}
	columns, places := ``, ``
	args := []any{
		e.ID, e.TenantID, e.Kind, string(e.Actor), orNull(e.CustomerID), orNull(e.IdentityID), orNull(e.InstanceID), orNull(e.MessageID),
		string(detail),
	}
	if !e.At.IsZero() {
		columns, places = `, at`, `, $10`
		args = append(args, timeOrNull(e.At))
	}
	return stmt{query: `
		insert into audit_events (id, tenant_id, kind, actor, customer_id, identity_id, instance_id, message_id, detail` + columns + `)
		values ($1, $2, $3, $4, ` + customer + `, $6, $7, $8, $9` + places + `)`, args: args}
}

// fields names what an event changed.
func fields(names []string) map[string]string {
	if len(names) == 0 {
		return nil
	}
	return map[string]string{"fields": strings.Join(names, " ")}
}

// unlinked tells that an identity is gone, and whose account it was.
func unlinked(i identity.Identity, by identity.Actor) identity.Event {
	return about(i, "identity.unlinked", by, map[string]string{"external_id": i.ExternalID})
}

// about is an event of an identity that belongs to somebody.
func about(i identity.Identity, kind string, by identity.Actor, detail map[string]string) identity.Event {
	d := map[string]string{"channel": i.Channel}
	for k, v := range detail {
		d[k] = v
	}
	return identity.Event{TenantID: i.TenantID, Kind: kind, Actor: by, CustomerID: i.CustomerID, IdentityID: i.ID, InstanceID: i.InstanceID, Detail: d}
}

// edited tells an edit in events: rights given, rights taken, and all else.
func edited(was, is identity.Identity, e identity.Edit, by identity.Actor) []identity.Event {
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
			events = append(events, about(is, k.kind, by, fields(k.fields)))
		}
	}
	return events
}
