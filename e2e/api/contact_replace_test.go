package api

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"hydragate/e2e/harness"
	"hydragate/identity"
)

// TestContactIdentities_ReplaceEndsVerification replaces each part of a verified identity with a
// live code. The verification ends with the customer and with the address, and with nothing else.
func TestContactIdentities_ReplaceEndsVerification(t *testing.T) {
	harness.ForEachSurfaceEngine(t, func(t *testing.T, f *harness.SurfaceFixture) {
		steve, matt := f.NewCustomer(), f.NewCustomer()
		for n, c := range []struct {
			name, typ, value, contact string
			wantVerified              bool // the verification is kept
			wantConversation          bool // the conversation and the display name are kept
		}{
			{"nothing changed", "telegram", "%", steve, true, true},
			{"customer changed", "telegram", "%", matt, false, true},
			{"customer removed", "telegram", "%", "", false, true},
			{"address changed", "telegram", "9%", steve, false, false},
			{"type changed", "visitor", "%", steve, false, false},
			{"everything changed", "visitor", "9%", matt, false, false},
		} {
			t.Run(c.name, func(t *testing.T) {
				f := f.In(t)
				external := fmt.Sprint(700 + n)
				i, err := f.Link(t.Context(), identity.Identity{
					TenantID: f.TenantID, CustomerID: steve, InstanceID: f.InstanceID,
					Channel: "telegram", ExternalID: external, DisplayName: "Steve", RoleOverride: "owner",
				}, identity.System)
				if err != nil {
					t.Fatal(err)
				}
				before, _, err := f.IssueCode(t.Context(), identity.Key{TenantID: f.TenantID, CustomerID: steve, IdentityID: i.ID},
					identity.System)
				if err != nil {
					t.Fatal(err)
				}
				f.DB.Exec(`update identities set verified_at = created_at where id = $1`, i.ID)
				conversation := f.AddConversation(f.InstanceID, i.ID)
				contact := "null"
				if c.contact != "" {
					contact = `"` + c.contact + `"`
				}
				value := strings.ReplaceAll(c.value, "%", external)
				f.Expect(f.Token, "PUT", contactsPath+"/"+i.ID,
					`{"contactIdentityType":"`+c.typ+`","value":"`+value+`","contactId":`+contact+`,"screenName":"@s"}`, 200,
					map[string]any{"value": value, "screenName": "@s"})
				got, err := f.ContactIdentity(t.Context(), f.TenantID, i.ID)
				if err != nil {
					t.Fatal(err)
				}
				if got.IsVerified() != c.wantVerified || (got.RoleOverride == "owner") != c.wantVerified ||
					got.InstanceID != f.InstanceID {
					t.Errorf("identity = %+v, want verification kept: %v", got.Identity, c.wantVerified)
				}
				gen := f.DB.QueryTexts(`select cast(claim_gen as text) from identities where id = $1`, i.ID)[0]
				if (gen == fmt.Sprint(before.Gen)) != c.wantVerified {
					t.Errorf("claim generation = %s, before %d, want kept: %v", gen, before.Gen, c.wantVerified)
				}
				expires := f.DB.QueryTexts(`select cast(claim_expires_at as text) from identities where id = $1`, i.ID)[0]
				if live := expires != ""; live != c.wantVerified {
					t.Errorf("has a live code = %v, want %v", live, c.wantVerified)
				}
				if with := f.ConversationIdentity(conversation) == i.ID; with != c.wantConversation {
					t.Errorf("conversation kept = %v, want %v", with, c.wantConversation)
				}
				if (got.DisplayName == "Steve") != c.wantConversation {
					t.Errorf("display name = %q, want kept: %v", got.DisplayName, c.wantConversation)
				}
			})
		}
		kinds := f.EventKinds()
		for _, kind := range []string{"identity.updated", "identity.unlinked", "identity.linked", "identity.noted"} {
			if !slices.Contains(kinds, kind) {
				t.Errorf("event %s missing in %v", kind, kinds)
			}
		}
	})
}

// TestContactIdentities_InstanceKey tests that a key of an instance reads the identities of its
// instance and of all instances, and changes only those of its instance.
func TestContactIdentities_InstanceKey(t *testing.T) {
	harness.ForEachSurfaceEngine(t, func(t *testing.T, f *harness.SurfaceFixture) {
		steve := f.NewCustomer()
		link := func(instance, external string) string {
			i, err := f.Link(t.Context(), identity.Identity{
				TenantID: f.TenantID, CustomerID: steve, InstanceID: instance,
				Channel: "telegram", ExternalID: external,
			}, identity.System)
			if err != nil {
				t.Fatal(err)
			}
			return i.ID
		}
		own, wide, other := link(f.InstanceID, "1"), link("", "2"), link(f.OtherInstanceID, "3")
		key := f.NewKey(f.TenantID, f.InstanceID, "identities:read", "identities:write")
		f.Expect(key, "GET", contactsPath, "", 200, map[string]any{"total": 2})
		for id, want := range map[string][2]int{own: {200, 200}, wide: {200, 403}, other: {404, 404}} {
			f.Expect(key, "GET", contactsPath+"/"+id, "", want[0], nil)
			value := map[string]string{own: "1", wide: "2", other: "3"}[id]
			f.Expect(key, "PUT", contactsPath+"/"+id,
				`{"contactIdentityType":"telegram","value":"`+value+`","contactId":"`+steve+`"}`, want[1], nil)
		}
		f.Expect(key, "DELETE", contactsPath+"/"+wide, "", 403, nil)
		f.Expect(key, "DELETE", contactsPath+"/"+other, "", 404, nil)
		made := f.Expect(key, "POST", contactsPath, `{"contactIdentityType":"telegram","value":"3"}`, 201, nil)
		got, err := f.ContactIdentity(t.Context(), f.TenantID, made.ID())
		if err != nil || got.InstanceID != f.InstanceID {
			t.Errorf("ContactIdentity() = %+v, %v, want one of the key's instance", got, err)
		}
		f.Expect(key, "DELETE", contactsPath+"/"+made.ID(), "", 204, nil)
	})
}

// TestContactIdentities_LinkedDuringReplace links an unknown sender for all instances after a key
// of one instance was authorized to change it. The key must not change the linked identity.
func TestContactIdentities_LinkedDuringReplace(t *testing.T) {
	harness.ForEachSurfaceEngine(t, func(t *testing.T, f *harness.SurfaceFixture) {
		key := f.NewKey(f.TenantID, f.InstanceID, "identities:read", "identities:write")
		seen, err := f.ContactIdentity(t.Context(), f.TenantID,
			f.Expect(key, "POST", contactsPath, `{"contactIdentityType":"telegram","value":"7"}`, 201, nil).ID())
		if err != nil || seen.InstanceID != f.InstanceID {
			t.Fatalf("%+v, %v", seen, err)
		}
		steve := f.NewCustomer()
		linked, err := f.Link(t.Context(), identity.Identity{
			TenantID: f.TenantID, CustomerID: steve, Channel: "telegram",
			ExternalID: "7",
		}, identity.System)
		if err != nil || linked.ID != seen.ID || linked.InstanceID != "" {
			t.Fatalf("Link() = %+v, %v, want the same row for all instances", linked, err)
		}
		mine := seen
		mine.CustomerID = f.NewCustomer()
		if got, err := f.ReplaceContactIdentity(t.Context(), mine, nil, "key:test"); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("ReplaceContactIdentity() = %+v, %v, want ErrNotFound", got, err)
		}
		if err := f.DeleteContactIdentity(t.Context(), identity.SenderKey{
			TenantID: f.TenantID, InstanceID: seen.InstanceID,
			IdentityID: seen.ID,
		}, "key:test"); !errors.Is(err,
			identity.ErrNotFound) {
			t.Errorf("DeleteContactIdentity() = %v, want ErrNotFound", err)
		}
		if i, _, err := f.Lookup(t.Context(), identity.Address{
			TenantID: f.TenantID, InstanceID: f.OtherInstanceID,
			Channel: "telegram", ExternalID: "7",
		}); err != nil || i.CustomerID != steve {
			t.Errorf("Lookup() = %+v, %v, want the identity of steve", i, err)
		}
	})
}
