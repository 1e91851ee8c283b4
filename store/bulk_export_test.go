package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"hydragate/gateway"
	"hydragate/identity"
)

func TestRecords_RoundTrip(t *testing.T) {
	forEachEngine(t, func(t *testing.T, from *Store) {
		to := newStore(t, from.Engine())
		newNamedInstance(t, from, "Support")
		newNamedInstance(t, to, "Support")
		r := newRecord("steve@example.com", "telegram:1", "sms:+61400000001", "wechat:o'steve")
		r.FirstName, r.LastName, r.CompanyName, r.Locale, r.Timezone, r.PhoneNumber = "Steve", "=cmd()", "'Acme", "en-AU",
			"Australia/Sydney", "+61400000001"
		r.Metadata, r.FKID, r.FKUserID, r.Source, r.Context = json.RawMessage(`{"a":[1,2]}`), "crm-1", "u", "web", "a\nb"
		r.Identities[0].Instance, r.Identities[0].RoleOverride, r.Identities[0].DisplayName = "Support", identity.RoleOwner,
			"Steve"
		r.Identities[1].Metadata, r.Identities[2].AvatarURL, r.Identities[2].Username = json.RawMessage(`{"b":null}`),
			"https://example.com/a.png", "steve"
		wantResults(t, importRecords(t, from, nil, r, newRecord("alone@example.com")), "created 3", "created 0")
		out := allRecords(t, from)
		wantResults(t, importRecords(t, to, nil, out...), "created 3", "created 0")
		if a, b := formatRecords(out), formatRecords(allRecords(t, to)); a != b {
			t.Errorf("records before:\n%s\nafter:\n%s", a, b)
		}
		wantResults(t, importRecords(t, to, nil, out...), "kept 0", "kept 0")
	})
}

func TestRecords_Paging(t *testing.T) {
	forEachEngine(t, func(t *testing.T, s *Store) {
		var records []identity.Record
		for n := range 25 {
			records = append(records, newRecord(fmt.Sprintf("p%d@example.com", n), fmt.Sprintf("telegram:%d", n+1)))
		}
		importRecords(t, s, nil, records...)
		if got := allRecords(t, s); len(got) != 25 || got[24].Identities[0].ExternalID != "25" {
			t.Errorf("Records() returned %d records, want 25", len(got))
		}
	})
}

func allRecords(t *testing.T, s *Store) (all []identity.Record) {
	t.Helper()
	for after := ""; ; {
		rs, err := s.Records(context.Background(), identity.DefaultTenant, after, 7)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, rs...)
		if len(rs) < 7 {
			return all
		}
		after = rs[len(rs)-1].ID
	}
}

// formatRecords formats records without the fields that the database assigns.
func formatRecords(rs []identity.Record) string {
	var b strings.Builder
	for _, r := range rs {
		r.CreatedAt, r.UpdatedAt = time.Time{}, time.Time{}
		for n := range r.Identities {
			i := &r.Identities[n]
			i.ID, i.InstanceID, i.CreatedAt, i.UpdatedAt = "", "", time.Time{}, time.Time{}
		}
		fmt.Fprintf(&b, "%+v\n", r)
	}
	return b.String()
}

func newNamedInstance(t *testing.T, s *Store, name string) string {
	t.Helper()
	i, err := s.CreateInstance(t.Context(), gateway.Instance{TenantID: identity.DefaultTenant, Name: name},
		gateway.InstanceSecrets{AgentSecretKey: newID()}, "command")
	if err != nil {
		t.Fatal(err)
	}
	return i.ID
}
