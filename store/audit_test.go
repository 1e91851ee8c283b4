package store

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"hydragate/identity"
	"hydragate/store/sqldb"
	"hydragate/store/storetest"
)

func TestAudit(t *testing.T) {
	forEachEngine(t, func(t *testing.T, s *Store) {
		tenant := newTenant(t, s)
		at := time.Date(2026, 1, 2, 3, 4, 5, 678000, time.UTC)
		if err := s.Audit(t.Context()); err != nil {
			t.Errorf("Audit() without events: %v", err)
		}
		err := s.Audit(t.Context(),
			identity.Event{
				TenantID: tenant, Kind: "claim.failed", Actor: "sender:x", IdentityID: newID(), MessageID: newID(),
				Detail: map[string]string{"reason": "wrong \x00 \xff"}, At: at,
			},
			identity.Event{TenantID: tenant, Kind: "claim.issued", Actor: identity.System})
		if err != nil {
			t.Fatal(err)
		}
		es := auditLog(t, s, tenant)
		if len(es) != 2 || !es[0].At.Equal(at) || es[0].MessageID == "" || es[0].CustomerID != "" || es[0].ID == "" {
			t.Fatalf("audit log = %+v", es)
		}
		if age := time.Since(es[1].At); age < -time.Minute || age > time.Minute {
			t.Errorf("time of an event without time = %v, want now", es[1].At)
		}
		if err := s.Audit(t.Context(), identity.Event{TenantID: tenant, Kind: "a"},
			identity.Event{TenantID: unknownID, Kind: "b"}); err == nil {
			t.Error("an event of an unknown tenant was stored")
		}
		if n := len(auditLog(t, s, tenant)); n != 2 {
			t.Errorf("%d events stored, want all events of a call or none", n)
		}
	})
}

func TestAuditEvents(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		customer, identityID, instance := newID(), newID(), newID()
		at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		for i, e := range []identity.Event{
			{Kind: "a", Actor: "key:1", CustomerID: customer},
			{Kind: "b", Actor: "key:2", IdentityID: identityID},
			{Kind: "a", Actor: "key:2", InstanceID: instance},
			{Kind: "c", Actor: "system"},
		} {
			e.TenantID, e.At, e.Detail = f.tenant, at.Add(time.Duration(i)*time.Millisecond),
				map[string]string{"n": fmt.Sprint(i)}
			if err := f.Audit(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
		list := func(q identity.EventQuery, before string, limit int) (ns, last string) {
			t.Helper()
			es, err := f.AuditEvents(t.Context(), f.tenant, q, before, limit)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range es {
				if e.Kind == "instance.created" {
					continue
				}
				ns, last = ns+e.Detail["n"], e.ID
			}
			return ns, last
		}
		for _, c := range []struct {
			q    identity.EventQuery
			want string
		}{
			{identity.EventQuery{}, "3210"},
			{identity.EventQuery{Kind: "a"}, "20"},
			{identity.EventQuery{Actor: "key:2"}, "21"},
			{identity.EventQuery{CustomerID: customer}, "0"},
			{identity.EventQuery{IdentityID: identityID}, "1"},
			{identity.EventQuery{InstanceID: instance}, "2"},
			{identity.EventQuery{Kind: "a", Actor: "key:2"}, "2"},
			{identity.EventQuery{Since: at.Add(time.Millisecond), Until: at.Add(3 * time.Millisecond)}, "21"},
			{identity.EventQuery{Since: at.Add(4 * time.Millisecond), Until: at.Add(time.Hour)}, ""},
			{identity.EventQuery{CustomerID: "x"}, ""},
			{identity.EventQuery{Kind: "' or 1=1 --"}, ""},
		} {
			if got, _ := list(c.q, "", 10); got != c.want {
				t.Errorf("AuditEvents(%+v) = %s, want %s", c.q, got, c.want)
			}
		}
		first, last := list(identity.EventQuery{}, "", 2)
		second, _ := list(identity.EventQuery{}, last, 2)
		if first != "32" || second != "10" {
			t.Errorf("pages = %s and %s, want 32 and 10", first, second)
		}
		if es, err := f.AuditEvents(t.Context(), newTenant(t, f.Store), identity.EventQuery{}, last, 10); err != nil ||
			len(es) != 0 {
			t.Errorf("AuditEvents() of another tenant = %d events, %v, want none", len(es), err)
		}
	})
}

// TestAuditLog_AppendOnly tries to change stored events with SQL statements.
func TestAuditLog_AppendOnly(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		e := identity.Event{ID: newID(), TenantID: f.tenant, Kind: "a", Actor: "key:1", Detail: map[string]string{"a": "b"}}
		if err := f.Audit(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		attacks := []string{
			`update audit_events set detail = '{}'`, `update audit_events set actor = 'system'`, `delete from audit_events`,
			`delete from audit_events where id = '` + e.ID + `'`,
		}
		if f.Engine() == "postgres" {
			attacks = append(attacks, `truncate audit_events`, `truncate tenants cascade`)
		} else {
			attacks = append(attacks,
				`insert or replace into audit_events (seq, id, tenant_id, kind, actor) select seq, id, tenant_id, 'x', 'x'
					from audit_events`,
				`insert or replace into audit_events (id, tenant_id, kind, actor) select id, tenant_id, 'x', 'x' from audit_events`)
		}
		for _, attack := range attacks {
			if _, err := f.db.Exec(t.Context(), attack); err == nil || !strings.Contains(err.Error(), "only grows") {
				t.Errorf("%s: %v, want an error", attack, err)
			}
		}
		// An erasure may rewrite details, and nothing else; afterwards nothing may be rewritten.
		err := f.db.InTx(t.Context(), func(tx sqldb.DB) error {
			if err := f.allowAuditRewrite(t.Context(), tx, true); err != nil {
				return err
			}
			if _, err := tx.Exec(t.Context(), `update audit_events set detail = '{"a":"c"}' where id = $1`, e.ID); err != nil {
				return err
			}
			return f.allowAuditRewrite(t.Context(), tx, false)
		})
		if err != nil {
			t.Error(err)
		}
		for _, attack := range []string{
			`update audit_events set actor = 'system'`,
			`update audit_events set detail = '{}', kind = 'x'`, `delete from audit_events`,
		} {
			err := f.db.InTx(t.Context(), func(tx sqldb.DB) error {
				if err := f.allowAuditRewrite(t.Context(), tx, true); err != nil {
					return err
				}
				_, err := tx.Exec(t.Context(), attack)
				return err
			})
			if err == nil || !strings.Contains(err.Error(), "only grows") {
				t.Errorf("%s during an erasure: %v, want an error", attack, err)
			}
		}
		if _, err := f.db.Exec(t.Context(), `update audit_events set detail = '{}'`); err == nil {
			t.Error("details can be rewritten after an erasure")
		}
	})
}

// TestAuditLog_UnprivilegedRoleCannotRewrite connects as a role that may write all tables and owns
// none, as recommended for the gateway.
func TestAuditLog_UnprivilegedRoleCannotRewrite(t *testing.T) {
	dsn := storetest.NewPostgres(t)
	s := mustOpen(t, dsn)
	must(t, s.Audit(t.Context(), identity.Event{TenantID: identity.DefaultTenant, Kind: "a", Actor: "key:1"}))
	role := "r_" + strings.ReplaceAll(newID(), "-", "")
	mustExec(t, s, `create role `+role+` login password 'plain'`)
	mustExec(t, s, `grant all on all tables in schema public to `+role)
	mustExec(t, s, `grant all on all sequences in schema public to `+role)
	defer func() {
		mustExec(t, s, `drop owned by `+role)
		mustExec(t, s, `drop role `+role)
	}()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(role, "plain")
	plain, err := pgx.Connect(t.Context(), u.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = plain.Close(t.Context()) }()
	if _, err := plain.Exec(t.Context(),
		`insert into audit_events (id, tenant_id, kind, actor) values ($1, $2, 'b', 'key:1')`,
		newID(), identity.DefaultTenant); err != nil {
		t.Errorf("insert as unprivileged role: %v", err)
	}
	for _, attack := range []string{
		`update audit_events set detail = '{}'`, `delete from audit_events`, `truncate audit_events`,
		`alter table audit_events disable trigger all`,
		`drop trigger audit_events_keep on audit_events`, `drop table audit_events`, `set session_replication_role = replica`,
		`create or replace function audit_events_keep() returns trigger language plpgsql as 'begin return new; end'`,
	} {
		if _, err := plain.Exec(t.Context(), attack); err == nil {
			t.Errorf("%s as unprivileged role succeeded, want an error", attack)
		}
	}
	if n := queryText(t, s, `select cast(count(*) as text) from audit_events`); n != "2" {
		t.Errorf("%s events stored, want 2", n)
	}
}
