package store

import (
	"testing"
	"time"

	"hydragate/identity"
)

func TestAudit(t *testing.T) {
	engines(t, func(t *testing.T, open func(*testing.T) *Store) {
		s := open(t)
		tenant := newTenant(t, s)
		at := time.Date(2026, 1, 2, 3, 4, 5, 678000, time.UTC)
		if err := s.Audit(t.Context()); err != nil {
			t.Errorf("nothing: %v", err)
		}
		err := s.Audit(t.Context(),
			identity.Event{TenantID: tenant, Kind: "claim.failed", Actor: "sender:x", IdentityID: newID(), MessageID: newID(), Detail: map[string]string{"reason": "wrong \x00 \xff"}, At: at},
			identity.Event{TenantID: tenant, Kind: "claim.issued", Actor: identity.System})
		if err != nil {
			t.Fatal(err)
		}
		es := auditLog(t, s, tenant)
		if len(es) != 2 || !es[0].At.Equal(at) || es[0].MessageID == "" || es[0].CustomerID != "" || es[0].ID == "" {
			t.Fatalf("%+v", es)
		}
		if age := time.Since(es[1].At); age < -time.Minute || age > time.Minute {
			t.Errorf("without a time: %v; want now", es[1].At)
		}
		if err := s.Audit(t.Context(), identity.Event{TenantID: tenant, Kind: "a"}, identity.Event{TenantID: nobody, Kind: "b"}); err == nil {
			t.Error("an event of no tenant was kept")
		}
		if n := len(auditLog(t, s, tenant)); n != 2 {
			t.Errorf("%d events; want all of a call or none", n)
		}
	})
}
