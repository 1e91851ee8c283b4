package identitytest

import (
	"encoding/json"
	"errors"
	"sync"
	"testing"

	"hydragate/identity"
)

func edits() map[string]func(*testing.T, *house) {
	return map[string]func(*testing.T, *house){
		"EditLeavesTheRest":  editLeavesTheRest,
		"VerifyAndUnverify":  verifyAndUnverify,
		"EditOfAStranger":    editOfAStranger,
		"EditsAtOnceAllHold": editsAtOnce,
		"EditOfNothing":      emptyEdit,
	}
}

func editLeavesTheRest(t *testing.T, h *house) {
	in := h.on("", "9")
	in.DisplayName, in.Metadata = "Steve", json.RawMessage(`{"a":1}`)
	i := h.link(t, in)
	for _, step := range []struct {
		edit identity.Edit
		want func(*identity.Identity)
	}{
		{identity.Edit{RoleOverride: pointer("owner")}, func(i *identity.Identity) { i.RoleOverride = "owner" }},
		{identity.Edit{DisplayName: pointer("S")}, func(i *identity.Identity) { i.DisplayName = "S" }},
		{identity.Edit{Metadata: pointer(json.RawMessage(`{"b":2}`))}, func(i *identity.Identity) { i.Metadata = json.RawMessage(`{"b":2}`) }},
		{identity.Edit{DisplayName: pointer(""), RoleOverride: pointer(""), Metadata: pointer(json.RawMessage(nil))}, func(i *identity.Identity) {
			i.DisplayName, i.RoleOverride, i.Metadata = "", "", json.RawMessage(`{}`)
		}},
	} {
		got, err := h.Store.EditIdentity(t.Context(), h.tenant, h.steve, i.ID, step.edit, staff)
		if err != nil {
			t.Fatal(err)
		}
		if got.UpdatedAt.Before(i.UpdatedAt) { // two edits may share a tick of the clock
			t.Errorf("updated at %v, before that %v", got.UpdatedAt, i.UpdatedAt)
		}
		step.want(&i)
		i.UpdatedAt = got.UpdatedAt
		wantSame(t, "answered", got, i)
		kept, err := h.Store.Identity(t.Context(), h.tenant, h.steve, i.ID)
		if err != nil {
			t.Fatal(err)
		}
		wantSame(t, "kept", kept, i)
	}
	es := h.wantEvents(t, i.ID, "identity.linked", "identity.granted", "identity.updated", "identity.updated", "identity.updated")
	for n, want := range []string{"", "role_override", "display_name", "metadata", "display_name metadata role_override"} {
		if es[n].Detail["fields"] != want {
			t.Errorf("event %d names %q; want %q", n, es[n].Detail["fields"], want)
		}
	}
}

func wantSame(t *testing.T, what string, got, want identity.Identity) {
	t.Helper()
	g, _ := json.Marshal(got)
	w, _ := json.Marshal(want)
	if string(g) != string(w) {
		t.Errorf("%s %s; want %s", what, g, w)
	}
}

func verifyAndUnverify(t *testing.T, h *house) {
	i := h.link(t, h.on("", "9"))
	set := func(v bool) identity.Identity {
		t.Helper()
		got, err := h.Store.EditIdentity(t.Context(), h.tenant, h.steve, i.ID, identity.Edit{Verified: &v}, staff)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	h.Issue(t, h.tenant, i.ID)
	if !h.Live(t, h.tenant, i.ID) {
		t.Fatal("no live code to begin with")
	}
	first := set(true)
	if !first.IsVerified() || h.Live(t, h.tenant, i.ID) {
		t.Errorf("verified by hand: %v; code lives %v", first.IsVerified(), h.Live(t, h.tenant, i.ID))
	}
	if again := set(true); !again.VerifiedAt.Equal(first.VerifiedAt) {
		t.Errorf("the first proof was at %v; now %v", first.VerifiedAt, again.VerifiedAt)
	}
	if set(false).IsVerified() {
		t.Error("still verified")
	}
	h.Issue(t, h.tenant, i.ID)
	if set(false); h.Live(t, h.tenant, i.ID) {
		t.Error("the code outlives verified=false")
	}
	h.wantEvents(t, i.ID, "identity.linked", "claim.revoked", "identity.granted", "identity.updated", "identity.unverified", "claim.revoked", "identity.updated")
}

func editOfAStranger(t *testing.T, h *house) {
	u := h.stranger(t, h.instance, "9")
	matt := h.customer(t, "other@example.com")
	i := h.link(t, h.on("", "8"))
	for _, c := range []struct{ customer, id string }{{h.steve, u.ID}, {matt, i.ID}, {h.steve, nobody}, {nobody, i.ID}} {
		if _, err := h.Store.EditIdentity(t.Context(), h.tenant, c.customer, c.id, identity.Edit{Verified: pointer(true)}, staff); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("edit: %v; want ErrNotFound", err)
		}
	}
	if got, err := h.Store.Identity(t.Context(), h.tenant, h.steve, i.ID); err != nil || got.IsVerified() {
		t.Errorf("somebody else verified it: %+v, %v", got, err)
	}
}

func editsAtOnce(t *testing.T, h *house) {
	i := h.link(t, h.on("", "9"))
	var wg sync.WaitGroup
	for _, e := range []identity.Edit{
		{DisplayName: pointer("S")}, {RoleOverride: pointer("owner")}, {Metadata: pointer(json.RawMessage(`{"a":1}`))}, {Verified: pointer(true)},
	} {
		wg.Go(func() {
			if _, err := h.Store.EditIdentity(t.Context(), h.tenant, h.steve, i.ID, e, staff); err != nil {
				t.Errorf("edit: %v", err)
			}
		})
	}
	wg.Wait()
	got, err := h.Store.Identity(t.Context(), h.tenant, h.steve, i.ID)
	if err != nil || got.DisplayName != "S" || got.Role() != identity.Owner || string(got.Metadata) != `{"a":1}` {
		t.Errorf("an edit was lost: %+v, %v", got, err)
	}
}

func emptyEdit(t *testing.T, h *house) {
	i := h.link(t, h.on("", "9"))
	got, err := h.Store.EditIdentity(t.Context(), h.tenant, h.steve, i.ID, identity.Edit{}, staff)
	if err != nil || got.UpdatedAt.Before(i.UpdatedAt) {
		t.Errorf("%+v, %v", got, err)
	}
}
