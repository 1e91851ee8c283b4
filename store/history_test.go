package store

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"hydragate/httpapi"
	"hydragate/identity"
)

// told gives the history of an address in words: who, and whether they still own it.
func (f *family) told(a identity.Address, names map[string]string) string {
	f.t.Helper()
	a.TenantID = f.tenant
	os, err := f.History(f.t.Context(), a)
	if err != nil {
		f.t.Fatal(err)
	}
	var words []string
	for _, o := range os {
		word := names[o.CustomerID]
		if !o.ErasedAt.IsZero() {
			word += " (" + o.ExternalID[:7] + ")"
		}
		if o.Until.IsZero() {
			word += "…"
		} else if o.Until.Before(o.Since) {
			word += " backwards"
		}
		words = append(words, word)
	}
	return strings.Join(words, ", ")
}

// TestHistory walks an address through everything that can happen to its owner.
func TestHistory(t *testing.T) {
	families(t, map[string]func(*testing.T, *family){"": func(t *testing.T, f *family) {
		steve, _ := f.customer("", 0)
		matt, _ := f.customer("", 0)
		names := map[string]string{steve: "Steve", matt: "Matt"}
		a := identity.Address{Channel: "telegram", ExternalID: "12345"}
		want := func(words string) {
			t.Helper()
			if got := f.told(a, names); got != words {
				t.Errorf("history: %s; want %s", got, words)
			}
		}
		u := newUnknown(t, f.Store, identity.Identity{TenantID: f.tenant, InstanceID: f.instance, Channel: a.Channel, ExternalID: a.ExternalID})
		want("")
		if at, err := f.AddressOf(t.Context(), f.tenant, u.ID); err != nil || at.ExternalID != "12345" || at.InstanceID != f.instance {
			t.Errorf("address %+v, %v", at, err)
		}
		if _, err := f.Adopt(t.Context(), f.tenant, steve, u.ID, identity.System); err != nil {
			t.Fatal(err)
		}
		want("Steve…")
		if err := f.Unlink(t.Context(), f.tenant, steve, u.ID, identity.System); err != nil {
			t.Fatal(err)
		}
		want("Steve")
		if at, err := f.AddressOf(t.Context(), f.tenant, u.ID); err != nil || at.ExternalID != "12345" {
			t.Errorf("address of who is gone: %+v, %v", at, err)
		}
		i, err := f.Link(t.Context(), identity.Identity{TenantID: f.tenant, CustomerID: matt, Channel: a.Channel, ExternalID: a.ExternalID}, identity.System)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.EditIdentity(t.Context(), f.tenant, matt, i.ID, identity.Edit{DisplayName: new(string)}, identity.System); err != nil {
			t.Fatal(err)
		}
		want("Steve, Matt…")
		f.merge(matt, steve)
		want("Steve, Matt, Steve…")
		f.undo(matt)
		want("Steve, Matt, Steve, Matt…")
		if os, err := f.CustomerHistory(t.Context(), f.tenant, steve); err != nil || len(os) != 2 || os[0].IdentityID != u.ID {
			t.Errorf("of Steve: %+v, %v", os, err)
		}
		if _, err := f.EraseCustomer(t.Context(), f.tenant, steve, identity.System); err != nil {
			t.Fatal(err)
		}
		want("Steve (erased:), Matt, Steve (erased:), Matt…")
		if at, err := f.AddressOf(t.Context(), f.tenant, u.ID); err != nil || !strings.HasPrefix(at.ExternalID, "erased:") {
			t.Errorf("address of who was erased: %+v, %v", at, err)
		}
		if _, err := f.EraseCustomer(t.Context(), f.tenant, matt, identity.System); err != nil {
			t.Fatal(err)
		}
		want("Steve (erased:), Matt (erased:), Steve (erased:), Matt (erased:)")
		for _, c := range [][2]string{{newTenant(t, f.Store), u.ID}, {f.tenant, newID()}, {f.tenant, "x"}} {
			if _, err := f.AddressOf(t.Context(), c[0], c[1]); !errors.Is(err, identity.ErrNotFound) {
				t.Errorf("address of %v: %v; want ErrNotFound", c, err)
			}
		}
	}})
}

// TestHistoryOfWhatAnInstanceTakesWithIt: rows that go by themselves are told too.
func TestHistoryOfWhatAnInstanceTakesWithIt(t *testing.T) {
	families(t, map[string]func(*testing.T, *family){"": func(t *testing.T, f *family) {
		steve, _ := f.customer("", 0)
		_, err := f.Link(t.Context(), identity.Identity{TenantID: f.tenant, CustomerID: steve, InstanceID: f.instance, Channel: "telegram", ExternalID: "777"}, identity.System)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.DeleteInstance(t.Context(), f.tenant, f.instance, identity.System); err != nil {
			t.Fatal(err)
		}
		if got := f.told(identity.Address{Channel: "telegram", ExternalID: "777"}, map[string]string{steve: "Steve"}); got != "Steve" {
			t.Errorf("history: %s", got)
		}
	}})
}

func TestRefuse(t *testing.T) {
	families(t, map[string]func(*testing.T, *family){"": func(t *testing.T, f *family) {
		steve, owned := f.customer("", 1)
		u := newUnknown(t, f.Store, identity.Identity{TenantID: f.tenant, InstanceID: f.instance, Channel: "telegram", ExternalID: "777"})
		a := identity.Address{TenantID: f.tenant, InstanceID: f.instance, Channel: "telegram", ExternalID: "777"}
		refused := func(want bool) {
			t.Helper()
			if got, err := f.Refused(t.Context(), a); err != nil || got != want {
				t.Errorf("refused: %v, %v; want %v", got, err, want)
			}
		}
		refused(false)
		since, err := f.Refuse(t.Context(), f.tenant, "", u.ID, "key:1")
		if err != nil || since.IsZero() {
			t.Fatalf("%v, %v", since, err)
		}
		if again, err := f.Refuse(t.Context(), f.tenant, f.instance, u.ID, "key:1"); err != nil || !again.Equal(since) {
			t.Errorf("again: %v, %v; want %v", again, err, since)
		}
		refused(true)
		for range 2 {
			if err := f.Admit(t.Context(), f.tenant, f.instance, u.ID, "key:1"); err != nil {
				t.Fatal(err)
			}
		}
		refused(false)
		if _, err := f.Refuse(t.Context(), f.tenant, "", u.ID, "key:1"); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct{ tenant, instance, id string }{{f.tenant, newID(), u.ID}, {newTenant(t, f.Store), "", u.ID}, {f.tenant, "", newID()}, {f.tenant, "", "x"}} {
			if _, err := f.Refuse(t.Context(), c.tenant, c.instance, c.id, "key:1"); !errors.Is(err, identity.ErrNotFound) {
				t.Errorf("%+v: %v; want ErrNotFound", c, err)
			}
		}
		if _, err := f.Refuse(t.Context(), f.tenant, "", owned[0], "key:1"); !errors.Is(err, identity.ErrTaken) {
			t.Errorf("a customer's: %v; want ErrTaken", err)
		}
		// Who becomes a customer is heard.
		if _, err := f.Adopt(t.Context(), f.tenant, steve, u.ID, "key:1"); err != nil {
			t.Fatal(err)
		}
		refused(false)
		if n := queryText(t, f.Store, `select cast(count(*) as text) from identities where tenant_id = $1 and refused_at is not null`, f.tenant); n != "0" {
			t.Error("the refusal stays on an adopted sender")
		}
		kinds := map[string]int{}
		for _, e := range auditLog(t, f.Store, f.tenant) {
			kinds[e.Kind]++
		}
		if kinds["identity.blocked"] != 2 || kinds["identity.unblocked"] != 1 {
			t.Errorf("events %v", kinds)
		}
	}})
}

// TestExportReads gives a customer what is theirs: not what others wrote in a group,
// nor what came from an account where another speaks.
func TestExportReads(t *testing.T) {
	families(t, map[string]func(*testing.T, *family){"": func(t *testing.T, f *family) {
		p := newPerson(f)
		talks, err := f.CustomerTalks(t.Context(), f.tenant, p.customer, "")
		if err != nil {
			t.Fatal(err)
		}
		var said, sent []string
		for _, talk := range talks {
			for after := int64(0); ; {
				ms, err := f.Received(t.Context(), talk, after, 1)
				if err != nil {
					t.Fatal(err)
				}
				if len(ms) == 0 {
					break
				}
				after = ms[0].Seq
				said = append(said, ms[0].Text)
				if len(ms[0].Attachments) != 1 || ms[0].Attachments[0] != (httpapi.SentFile{Kind: "image", Name: "canary.jpg"}) {
					t.Errorf("attachments %+v", ms[0].Attachments)
				}
			}
			replies, err := f.Replies(t.Context(), talk, 0, 10)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range replies {
				sent = append(sent, m.Text)
			}
		}
		// The sms account is the customer's in one instance only, and slack's no more.
		if len(talks) != 3 || len(said) != 4 || len(sent) != 2 {
			t.Errorf("%d conversations; said %q, sent %q", len(talks), said, sent)
		}
		if all := fmt.Sprint(said); strings.Contains(all, "somebody else") || strings.Contains(all, "canarycode") || strings.Contains(all, "elsewhere") || strings.Contains(all, "unlinking") {
			t.Errorf("said %q", said)
		}
		if elsewhere, err := f.CustomerTalks(t.Context(), f.tenant, p.customer, newID()); err != nil || len(elsewhere) != 0 {
			t.Errorf("in another instance %v, %v", elsewhere, err)
		}
		if _, err := f.CustomerTalks(t.Context(), newTenant(t, f.Store), p.customer, ""); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("for another tenant: %v", err)
		}
	}})
}
