package identitytest

import (
	"encoding/json"
	"errors"
	"sync"
	"testing"

	"hydragate/identity"
)

func editTests() map[string]func(*testing.T, *fixture) {
	return map[string]func(*testing.T, *fixture){
		"partial edit":               testPartialEdit,
		"verify and unverify":        testVerifyAndUnverify,
		"edit of a foreign identity": testEditForeignIdentity,
		"concurrent edits":           testConcurrentEdits,
		"empty edit":                 testEmptyEdit,
	}
}

func testPartialEdit(t *testing.T, h *fixture) {
	in := h.telegramIdentity("", "9")
	in.DisplayName, in.Metadata = "Steve", json.RawMessage(`{"a":1}`)
	i := h.mustLink(t, in)
	for _, step := range []struct {
		edit identity.Edit
		want func(*identity.Identity)
	}{
		{identity.Edit{RoleOverride: new("owner")}, func(i *identity.Identity) { i.RoleOverride = "owner" }},
		{identity.Edit{DisplayName: new("S")}, func(i *identity.Identity) { i.DisplayName = "S" }},
		{
			identity.Edit{Metadata: new(json.RawMessage(`{"b":2}`))},
			func(i *identity.Identity) { i.Metadata = json.RawMessage(`{"b":2}`) },
		},
		{
			identity.Edit{DisplayName: new(""), RoleOverride: new(""), Metadata: new(json.RawMessage(nil))},
			func(i *identity.Identity) { i.DisplayName, i.RoleOverride, i.Metadata = "", "", json.RawMessage(`{}`) },
		},
	} {
		got, err := h.Store.EditIdentity(t.Context(), h.key(i.ID), step.edit, staffActor)
		if err != nil {
			t.Fatal(err)
		}
		if got.UpdatedAt.Before(i.UpdatedAt) { // equal if both edits fall into one clock tick
			t.Errorf("updated at %v, before that %v", got.UpdatedAt, i.UpdatedAt)
		}
		step.want(&i)
		i.UpdatedAt = got.UpdatedAt
		wantIdentity(t, "EditIdentity =", got, i)
		stored, err := h.Store.Identity(t.Context(), h.key(i.ID))
		if err != nil {
			t.Fatal(err)
		}
		wantIdentity(t, "Identity =", stored, i)
	}
	es := h.wantEvents(
		t,
		i.ID,
		"identity.linked",
		"identity.granted",
		"identity.updated",
		"identity.updated",
		"identity.updated",
	)
	for n, want := range []string{"", "role_override", "display_name", "metadata", "display_name metadata role_override"} {
		if es[n].Detail["fields"] != want {
			t.Errorf("fields of event %d = %q, want %q", n, es[n].Detail["fields"], want)
		}
	}
}

func wantIdentity(t *testing.T, what string, got, want identity.Identity) {
	t.Helper()
	g, _ := json.Marshal(got)
	w, _ := json.Marshal(want)
	if string(g) != string(w) {
		t.Errorf("%s %s, want %s", what, g, w)
	}
}

func testVerifyAndUnverify(t *testing.T, h *fixture) {
	i := h.mustLink(t, h.telegramIdentity("", "9"))
	set := func(v bool) identity.Identity {
		t.Helper()
		got, err := h.Store.EditIdentity(t.Context(), h.key(i.ID), identity.Edit{Verified: &v}, staffActor)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	h.IssueCode(t, h.tenant, i.ID)
	if !h.HasLiveCode(t, h.tenant, i.ID) {
		t.Fatal("IssueCode issued no live code")
	}
	first := set(true)
	if !first.IsVerified() || h.HasLiveCode(t, h.tenant, i.ID) {
		t.Errorf("verified: %v, live code: %v, want true, false", first.IsVerified(), h.HasLiveCode(t, h.tenant, i.ID))
	}
	if again := set(true); !again.VerifiedAt.Equal(first.VerifiedAt) {
		t.Errorf("VerifiedAt changed from %v to %v", first.VerifiedAt, again.VerifiedAt)
	}
	if set(false).IsVerified() {
		t.Error("IsVerified = true after Verified was set to false")
	}
	h.IssueCode(t, h.tenant, i.ID)
	if set(false); h.HasLiveCode(t, h.tenant, i.ID) {
		t.Error("the code is live after Verified was set to false")
	}
	h.wantEvents(
		t,
		i.ID,
		"identity.linked",
		"claim.revoked",
		"identity.granted",
		"identity.updated",
		"identity.unverified",
		"claim.revoked",
		"identity.updated",
	)
}

func testEditForeignIdentity(t *testing.T, h *fixture) {
	u := h.addUnknownSender(t, h.instance, "9")
	other := h.createCustomer(t, "other@example.com")
	i := h.mustLink(t, h.telegramIdentity("", "8"))
	for _, c := range []struct{ customer, id string }{
		{h.customerID, u.ID}, {other, i.ID}, {h.customerID, missingID}, {missingID, i.ID},
	} {
		key := identity.Key{TenantID: h.tenant, CustomerID: c.customer, IdentityID: c.id}
		_, err := h.Store.EditIdentity(t.Context(), key, identity.Edit{Verified: new(true)}, staffActor)
		if !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("edit: %v; want ErrNotFound", err)
		}
	}
	if got, err := h.Store.Identity(t.Context(), h.key(i.ID)); err != nil || got.IsVerified() {
		t.Errorf("a rejected edit changed the identity: %+v, %v", got, err)
	}
}

func testConcurrentEdits(t *testing.T, h *fixture) {
	i := h.mustLink(t, h.telegramIdentity("", "9"))
	var wg sync.WaitGroup
	for _, e := range []identity.Edit{
		{DisplayName: new("S")},
		{RoleOverride: new("owner")},
		{Metadata: new(json.RawMessage(`{"a":1}`))},
		{Verified: new(true)},
	} {
		wg.Go(func() {
			if _, err := h.Store.EditIdentity(t.Context(), h.key(i.ID), e, staffActor); err != nil {
				t.Errorf("edit: %v", err)
			}
		})
	}
	wg.Wait()
	got, err := h.Store.Identity(t.Context(), h.key(i.ID))
	if err != nil || got.DisplayName != "S" || got.Role() != identity.Owner || string(got.Metadata) != `{"a":1}` {
		t.Errorf("an edit was lost: %+v, %v", got, err)
	}
}

func testEmptyEdit(t *testing.T, h *fixture) {
	i := h.mustLink(t, h.telegramIdentity("", "9"))
	got, err := h.Store.EditIdentity(t.Context(), h.key(i.ID), identity.Edit{}, staffActor)
	if err != nil || got.UpdatedAt.Before(i.UpdatedAt) {
		t.Errorf("%+v, %v", got, err)
	}
}
