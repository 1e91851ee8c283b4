package store

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"hydragate/identity"
	"hydragate/store/sqldb"
)

func newRecord(email string, identities ...string) identity.Record {
	r := identity.Record{Customer: identity.Customer{Email: email}}
	for _, i := range identities {
		channel, id, _ := strings.Cut(i, ":")
		r.Identities = append(r.Identities,
			identity.RecordIdentity{Identity: identity.Identity{Channel: channel, ExternalID: id}})
	}
	return r
}

func importRecords(t *testing.T, s *Store, change func(*identity.ImportOptions), rs ...identity.Record) []string {
	t.Helper()
	options := identity.ImportOptions{TenantID: identity.DefaultTenant, Actor: "command"}
	if change != nil {
		change(&options)
	}
	done, err := s.NewImport(options).ImportRecords(t.Context(), rs)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, d := range done {
		switch {
		case d.Err != nil:
			lines = append(lines, d.Err.Error())
		case d.Created:
			lines = append(lines, fmt.Sprint("created ", d.Linked))
		case d.Updated:
			lines = append(lines, fmt.Sprint("updated ", d.Linked))
		default:
			lines = append(lines, fmt.Sprint("kept ", d.Linked))
		}
	}
	return lines
}

func wantResults(t *testing.T, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Fatalf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestImport_MatchesCustomers(t *testing.T) {
	forEachEngine(t, func(t *testing.T, s *Store) {
		fk := newRecord("", "telegram:3")
		fk.FKID = "crm-3"
		fk2 := newRecord("", "sms:+61400000003")
		fk2.FKID = "crm-3"
		named := newRecord("steve@example.com")
		named.FirstName = "Steve"
		id := newRecord("id@example.com")
		id.ID = "0198a2f0-0000-7000-8000-000000000001"
		stolen := newRecord("id@example.com")
		stolen.ID = "0198a2f0-0000-7000-8000-000000000002"
		records := []identity.Record{
			newRecord("steve@example.com", "telegram:1"),
			newRecord("Steve@Example.com", "sms:+61400000001"),
			newRecord("", "telegram:2"),
			newRecord("matt@example.com", "telegram:2"),
			fk, fk2, named, id, stolen,
			newRecord("matt@example.com", "telegram:1"),
			newRecord("other@example.com", "telegram:9", "telegram:1"),
			newRecord(""),
			newRecord("other@example.com", "telegram:9", "telegram:9"),
		}
		other := "telegram: the identity belongs to another customer"
		want := []string{
			"created 1", "updated 1", "created 1", "updated 0", "created 1", "kept 1", "updated 0", "created 0",
			"email: already used by another customer", other, other,
			"id, email, fk_id or an identity is required to identify the customer", "created 1",
		}
		wantResults(t, importRecords(t, s, func(h *identity.ImportOptions) { h.DryRun = true }, records...), want...)
		if cs, _ := s.ListCustomers(t.Context(), identity.DefaultTenant, identity.CustomerQuery{}, "", 10); len(cs) != 0 {
			t.Fatalf("dry run created %d customers", len(cs))
		}
		wantResults(t, importRecords(t, s, nil, records...), want...)
		again := importRecords(t, s, nil, records...)
		for n := range again {
			// Records with different spellings of an address update the customer again.
			if strings.HasPrefix(again[n], "created") {
				t.Errorf("result of record %d imported again = %q", n, again[n])
			}
		}
		i, email, err := s.Lookup(t.Context(), identity.Address{
			TenantID: identity.DefaultTenant, Channel: "sms",
			ExternalID: "+61400000001",
		})
		if err != nil || !strings.EqualFold(email, "steve@example.com") || i.IsVerified() {
			t.Errorf("Lookup() = %+v, %s, %v", i, email, err)
		}
	})
}

func TestImport_LinksUnknownSenders(t *testing.T) {
	forEachEngine(t, func(t *testing.T, s *Store) {
		bot := newNamedInstance(t, s, "Support")
		mustExec(t, s, `insert into identities (id, tenant_id, instance_id, channel, external_id, created_at, updated_at)
			values ($1, $2, $3, 'telegram', '7', $4, $4)`,
			newID(), identity.DefaultTenant, bot, s.now())
		wantResults(t, importRecords(t, s, nil, newRecord("steve@example.com", "telegram:7", "sms:+61400000001")),
			"created 2")
		rs, err := s.db.Query(t.Context(), `select cast(count(*) as text) from identities where channel = 'telegram'`)
		if n, _ := sqldb.ScanOne(rs, err, sqldb.ScanString); n != "1" {
			t.Errorf("%s identities have the address, want 1", n)
		}
	})
}

func TestImport_VerifiesOnlyWithTrust(t *testing.T) {
	forEachEngine(t, func(t *testing.T, s *Store) {
		at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		r := newRecord("steve@example.com", "telegram:1")
		r.Identities[0].VerifiedAt, r.Identities[0].RoleOverride = at, identity.RoleOwner
		wantResults(t, importRecords(t, s, nil, r), "created 1")
		lookup := func(id string) identity.Identity {
			i, _, err := s.Lookup(t.Context(), identity.Address{
				TenantID: identity.DefaultTenant, Channel: "telegram",
				ExternalID: id,
			})
			if err != nil {
				t.Fatal(err)
			}
			return i
		}
		if i := lookup("1"); i.IsVerified() || i.Role() != identity.Unverified {
			t.Errorf("%+v", i)
		}
		trust := func(h *identity.ImportOptions) { h.TrustReason = "moved from the old gateway" }
		wantResults(t, importRecords(t, s, trust, r), "kept 0") // existing identities are not changed
		if lookup("1").IsVerified() {
			t.Error("an existing identity was verified")
		}
		r.Email, r.Identities[0].ExternalID = "matt@example.com", "2"
		wantResults(t, importRecords(t, s, trust, r), "created 1")
		if i := lookup("2"); !i.VerifiedAt.Equal(at) || i.Role() != identity.Owner {
			t.Errorf("%+v", i)
		}
		rs, err := s.db.Query(t.Context(), `select detail from audit_events where kind = 'identity.granted' order by seq`)
		details, _ := sqldb.ScanAll(rs, err, sqldb.ScanString)
		if got := strings.Join(details, ""); len(details) != 3 || strings.Count(got, "moved from the old gateway") != 1 {
			t.Errorf("details of identity.granted = %v", details)
		}
	})
}

// TestImport_ReportsInvalidRecord imports a batch in which the database rejects one record.
func TestImport_ReportsInvalidRecord(t *testing.T) {
	forEachEngine(t, func(t *testing.T, s *Store) {
		var records []identity.Record
		for n := range 9 {
			records = append(records, newRecord(fmt.Sprintf("p%d@example.com", n)))
		}
		records[4].ID = "0198a2f0-0000-7000-8000-000000000009"
		mustExec(t, s, `insert into tenants (id, name) values ($1, 'other')`, "00000000-0000-7000-8000-000000000002")
		mustExec(t, s, `insert into customers (id, tenant_id, created_at, updated_at) values ($1, $2, $3, $3)`,
			records[4].ID, "00000000-0000-7000-8000-000000000002", s.now())
		results := importRecords(t, s, nil, records...)
		for n, result := range results {
			if (result == "created 0") == (n == 4) {
				t.Errorf("result of record %d = %q", n, result)
			}
		}
		rs, err := s.Records(t.Context(), identity.DefaultTenant, "", 100)
		if len(rs) != 8 {
			t.Errorf("%d customers stored, %v, want 8", len(rs), err)
		}
	})
}
