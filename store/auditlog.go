package store

import (
	"context"
	"encoding/json"
	"fmt"

	"hydragate/identity"
)

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
		filter(`at >= $%d`, timeOrNull(q.Since))
	}
	if !q.Until.IsZero() {
		filter(`at < $%d`, timeOrNull(q.Until))
	}
	rs, err := s.db.Query(ctx, `
		select id, tenant_id, kind, actor, customer_id, identity_id, instance_id, message_id, detail, at from audit_events
		where tenant_id = $1`+where+`
		order by seq desc limit $2`, s.planned(args)...)
	es, err := all(rs, err, scanEvent)
	if err != nil && !s.d.unstorable(err) {
		return nil, fmt.Errorf("read audit log: %w", err)
	}
	return es, nil
}

func scanEvent(sc scan) (e identity.Event, err error) {
	var detail string
	err = sc(text(&e.ID), text(&e.TenantID), &e.Kind, &e.Actor, text(&e.CustomerID), text(&e.IdentityID), text(&e.InstanceID), text(&e.MessageID), &detail, utc(&e.At))
	if err != nil {
		return e, err
	}
	return e, json.Unmarshal([]byte(detail), &e.Detail)
}

// rewriting lets a transaction rewrite details of the audit log, and nothing else of
// it, until its end or until it is called again with false.
func (s *Store) rewriting(ctx context.Context, tx db, on bool) error {
	query := `update audit_erasing set erasing = $1`
	args := []any{on}
	if s.d.name == "postgres" {
		query, args = `select set_config('hydragate.erasing', $1, true)`, []any{map[bool]string{true: "on", false: "off"}[on]}
	}
	_, err := tx.Exec(ctx, query, args...)
	return err
}
