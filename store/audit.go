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
func auditStmt(e identity.Event) stmt {
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
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9` + places + `)`, args: args}
}

// fields names what an event changed.
func fields(names []string) map[string]string {
	if len(names) == 0 {
		return nil
	}
	return map[string]string{"fields": strings.Join(names, " ")}
}
