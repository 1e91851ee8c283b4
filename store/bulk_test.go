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

func recordOf(email string, identities ...string) identity.Record {
	r := identity.Record{Customer: identity.Customer{Email: email}}
	for _, i := range identities {
		channel, id, _ := strings.Cut(i, ":")
		r.Identities = append(r.Identities, identity.RecordIdentity{Identity: identity.Identity{Channel: channel, ExternalID: id}})
	}
	return r
}

func imports(t *testing.T, s *Store, change func(*identity.Importing), rs ...identity.Record) []string {
	t.Helper()
	how := identity.Importing{TenantID: identity.DefaultTenant, By: "command"}
	if change != nil {
		change(&how)
	}
	done, err := s.NewImport(how).Take(t.Context(), rs)
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	for _, d := range done {
		switch {
		case d.Err != nil:
			said = append(said, d.Err.Error())
		case d.Created:
			said = append(said, fmt.Sprint("created ", d.Linked))
		case d.Updated:
			said = append(said, fmt.Sprint("updated ", d.Linked))
		default:
			said = append(said, fmt.Sprint("kept ", d.Linked))
		}
	}
	return said
}

func wantSaid(t *testing.T, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Fatalf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestImportKnowsPeopleAgain(t *testing.T) {
	engines(t, func(t *testing.T, open func(*testing.T) *Store) {
		s := open(t)
		fk := recordOf("", "telegram:3")
		fk.FKID = "crm-3"
		fk2 := recordOf("", "sms:+61400000003")
		fk2.FKID = "crm-3"
		named := recordOf("steve@example.com")
		named.FirstName = "Steve"
		id := recordOf("id@example.com")
		id.ID = "0198a2f0-0000-7000-8000-000000000001"
		stolen := recordOf("id@example.com")
		stolen.ID = "0198a2f0-0000-7000-8000-000000000002"
		records := []identity.Record{
			recordOf("steve@example.com", "telegram:1"),
			recordOf("Steve@Example.com", "sms:+61400000001"),
			recordOf("", "telegram:2"),
			recordOf("matt@example.com", "telegram:2"),
			fk, fk2, named, id, stolen,
			recordOf("matt@example.com", "telegram:1"),
			recordOf("other@example.com", "telegram:9", "telegram:1"),
			recordOf(""),
			recordOf("other@example.com", "telegram:9", "telegram:9"),
		}
		other := "telegram: the identity belongs to another customer"
		want := []string{
			"created 1", "updated 1", "created 1", "updated 0", "created 1", "kept 1", "updated 0", "created 0", "email: another customer has it", other, other,
			"email, fk_id, an identity or an id is needed, to know the customer again", "created 1",
		}
		wantSaid(t, imports(t, s, func(h *identity.Importing) { h.DryRun = true }, records...), want...)
		if cs, _ := s.ListCustomers(t.Context(), identity.DefaultTenant, identity.CustomerQuery{}, "", 10); len(cs) != 0 {
			t.Fatalf("a dry run made %d customers", len(cs))
		}
		wantSaid(t, imports(t, s, nil, records...), want...)
		again := imports(t, s, nil, records...)
		for n := range again {
			// The two spellings of one address follow each other again.
			if strings.HasPrefix(again[n], "created") {
				t.Errorf("record %d again: %s", n, again[n])
			}
		}
		i, email, err := s.Lookup(t.Context(), identity.Address{TenantID: identity.DefaultTenant, Channel: "sms", ExternalID: "+61400000001"})
		if err != nil || !strings.EqualFold(email, "steve@example.com") || i.IsVerified() {
			t.Errorf("%+v, %s, %v", i, email, err)
		}
	})
}

func TestImportTakesOverUnknownSenders(t *testing.T) {
	engines(t, func(t *testing.T, open func(*testing.T) *Store) {
		s := open(t)
		bot := newBot(t, s, "Support")
		mustExec(t, s, `insert into identities (id, tenant_id, instance_id, channel, external_id, created_at, updated_at) values ($1, $2, $3, 'telegram', '7', $4, $4)`,
			newID(), identity.DefaultTenant, bot, s.now())
		wantSaid(t, imports(t, s, nil, recordOf("steve@example.com", "telegram:7", "sms:+61400000001")), "created 2")
		rs, err := s.db.Query(t.Context(), `select cast(count(*) as text) from identities where channel = 'telegram'`)
		if n, _ := one(rs, err, scanString); n != "1" {
			t.Errorf("%s people have one address", n)
		}
	})
}

func TestImportVerifiesOnlyWithAReason(t *testing.T) {
	engines(t, func(t *testing.T, open func(*testing.T) *Store) {
		s := open(t)
		at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		r := recordOf("steve@example.com", "telegram:1")
		r.Identities[0].VerifiedAt, r.Identities[0].RoleOverride = at, identity.RoleOwner
		wantSaid(t, imports(t, s, nil, r), "created 1")
		lookup := func(id string) identity.Identity {
			i, _, err := s.Lookup(t.Context(), identity.Address{TenantID: identity.DefaultTenant, Channel: "telegram", ExternalID: id})
			if err != nil {
				t.Fatal(err)
			}
			return i
		}
		if i := lookup("1"); i.IsVerified() || i.Role() != identity.Unverified {
			t.Errorf("%+v", i)
		}
		trust := func(h *identity.Importing) { h.Trust = "moved from the old gateway" }
		wantSaid(t, imports(t, s, trust, r), "kept 0") // who is there stays as they are
		if lookup("1").IsVerified() {
			t.Error("an identity that was there is verified")
		}
		r.Email, r.Identities[0].ExternalID = "matt@example.com", "2"
		wantSaid(t, imports(t, s, trust, r), "created 1")
		if i := lookup("2"); !i.VerifiedAt.Equal(at) || i.Role() != identity.Owner {
			t.Errorf("%+v", i)
		}
		rs, err := s.db.Query(t.Context(), `select detail from audit_events where kind = 'identity.granted' order by seq`)
		details, _ := all(rs, err, scanString)
		if got := strings.Join(details, ""); len(details) != 3 || strings.Count(got, "moved from the old gateway") != 1 {
			t.Errorf("%v", details)
		}
	})
}

// TestImportFindsWhoIsToBlame lets the database refuse one record of many.
func TestImportFindsWhoIsToBlame(t *testing.T) {
	engines(t, func(t *testing.T, open func(*testing.T) *Store) {
		s := open(t)
		var records []identity.Record
		for n := range 9 {
			records = append(records, recordOf(fmt.Sprintf("p%d@example.com", n)))
		}
		records[4].ID = "0198a2f0-0000-7000-8000-000000000009"
		mustExec(t, s, `insert into tenants (id, name) values ($1, 'other')`, "00000000-0000-7000-8000-000000000002")
		mustExec(t, s, `insert into customers (id, tenant_id, created_at, updated_at) values ($1, $2, $3, $3)`, records[4].ID, "00000000-0000-7000-8000-000000000002", s.now())
		said := imports(t, s, nil, records...)
		for n, line := range said {
			if (line == "created 0") == (n == 4) {
				t.Errorf("%d: %s", n, line)
			}
		}
		rs, err := s.Records(t.Context(), identity.DefaultTenant, "", 100)
		if len(rs) != 8 {
			t.Errorf("%d customers, %v", len(rs), err)
		}
	})
}

func TestRecordsRoundTrip(t *testing.T) {
	engines(t, func(t *testing.T, open func(*testing.T) *Store) {
		from, to := open(t), open(t)
		newBot(t, from, "Support")
		newBot(t, to, "Support")
		r := recordOf("steve@example.com", "telegram:1", "sms:+61400000001", "wechat:o'steve")
		r.FirstName, r.LastName, r.CompanyName, r.Locale, r.Timezone, r.PhoneNumber = "Steve", "=cmd()", "'Acme", "en-AU", "Australia/Sydney", "+61400000001"
		r.Metadata, r.FKID, r.FKUserID, r.Source, r.Context = json.RawMessage(`{"a":[1,2]}`), "crm-1", "u", "web", "a\nb"
		r.Identities[0].Instance, r.Identities[0].RoleOverride, r.Identities[0].DisplayName = "Support", identity.RoleOwner, "Steve"
		r.Identities[1].Metadata, r.Identities[2].AvatarURL, r.Identities[2].Username = json.RawMessage(`{"b":null}`), "https://example.com/a.png", "steve"
		wantSaid(t, imports(t, from, nil, r, recordOf("alone@example.com")), "created 3", "created 0")
		out := recordsOf(t, from)
		wantSaid(t, imports(t, to, nil, out...), "created 3", "created 0")
		if a, b := written(out), written(recordsOf(t, to)); a != b {
			t.Errorf("\n%s\nis not\n%s", a, b)
		}
		wantSaid(t, imports(t, to, nil, out...), "kept 0", "kept 0")
	})
}

func TestRecordsPage(t *testing.T) {
	engines(t, func(t *testing.T, open func(*testing.T) *Store) {
		s := open(t)
		var records []identity.Record
		for n := range 25 {
			records = append(records, recordOf(fmt.Sprintf("p%d@example.com", n), fmt.Sprintf("telegram:%d", n+1)))
		}
		imports(t, s, nil, records...)
		if got := recordsOf(t, s); len(got) != 25 || got[24].Identities[0].ExternalID != "25" {
			t.Errorf("%d records", len(got))
		}
	})
}

func recordsOf(t *testing.T, s *Store) (all []identity.Record) {
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

// written writes records down without what is the database's own.
func written(rs []identity.Record) string {
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

func newBot(t *testing.T, s *Store, name string) string {
	t.Helper()
	i, err := s.CreateInstance(t.Context(), gateway.Instance{TenantID: identity.DefaultTenant, Name: name}, gateway.InstanceSecrets{AgentSecretKey: newID()}, "command")
	if err != nil {
		t.Fatal(err)
	}
	return i.ID
}
