package identitytest

import (
	"errors"
	"testing"
	"time"

	"hydragate/identity"
)

func walls() map[string]func(*testing.T, *house) {
	return map[string]func(*testing.T, *house){"NothingCrossesTenants": nothingCrosses}
}

// nothingCrosses asks for everything of one tenant in the name of another.
func nothingCrosses(t *testing.T, h *house) {
	s, ctx := h.Store, t.Context()
	mine := newHouse(t, h.Subject)
	i := h.link(t, h.on("", "9"))
	u := h.stranger(t, h.instance, "8")
	k, hash := h.key(t, identity.APIKey{Name: "desk"})
	talk := h.Talk(t, h.tenant, h.instance, i.ID)
	before := len(h.Events(t, h.tenant))

	errs := map[string]error{}
	_, errs["customer"] = s.Customer(ctx, mine.tenant, h.steve)
	_, errs["edit customer"] = s.EditCustomer(ctx, mine.tenant, h.steve, identity.CustomerEdit{FirstName: pointer("x")}, staff)
	_, errs["identities"] = s.CustomerIdentities(ctx, mine.tenant, h.steve, "")
	_, errs["identity"] = s.Identity(ctx, mine.tenant, h.steve, i.ID)
	_, errs["edit identity"] = s.EditIdentity(ctx, mine.tenant, h.steve, i.ID, identity.Edit{Verified: pointer(true)}, staff)
	_, errs["edit as own customer's"] = s.EditIdentity(ctx, mine.tenant, mine.steve, i.ID, identity.Edit{Verified: pointer(true)}, staff)
	errs["unlink"] = s.Unlink(ctx, mine.tenant, h.steve, i.ID, staff)
	_, errs["adopt theirs for mine"] = s.Adopt(ctx, mine.tenant, mine.steve, u.ID, staff)
	_, errs["adopt mine for theirs"] = s.Adopt(ctx, mine.tenant, h.steve, mine.stranger(t, mine.instance, "8").ID, staff)
	_, _, errs["look up"] = s.Lookup(ctx, mine.address(h.instance, "9"))
	_, errs["rotate key"] = s.RotateAPIKey(ctx, mine.tenant, k.ID, identity.APIKey{}, "new"+hash, time.Now(), staff)
	errs["revoke key"] = s.RevokeAPIKey(ctx, mine.tenant, k.ID, staff)
	theirs := mine.on("", "7")
	theirs.CustomerID = h.steve
	_, errs["link to their customer"] = s.Link(ctx, theirs, staff)
	for what, err := range errs {
		if !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("%s: %v; want ErrNotFound", what, err)
		}
	}
	if _, err := s.Link(ctx, mine.on(h.instance, "7"), staff); !errors.Is(err, identity.ErrNoInstance) {
		t.Errorf("link within their instance: %v; want ErrNoInstance", err)
	}
	if _, err := s.CreateAPIKey(ctx, identity.APIKey{TenantID: mine.tenant, InstanceID: h.instance}, "x"+hash, staff); !errors.Is(err, identity.ErrNoInstance) {
		t.Errorf("key for their instance: %v; want ErrNoInstance", err)
	}
	if got := mine.link(t, mine.on("", "9")); got.ID == i.ID || got.TenantID != mine.tenant {
		t.Errorf("the same address in another tenant: %+v", got)
	}
	if got := mine.link(t, mine.on("", "8")); got.ID == u.ID {
		t.Error("took over a sender of another tenant")
	}
	if err := s.TouchAPIKey(ctx, mine.tenant, k.ID, time.Now()); err != nil {
		t.Error(err)
	}
	if got, err := s.APIKey(ctx, hash); err != nil || !got.LastUsedAt.IsZero() || !got.Live(time.Now()) {
		t.Errorf("their key was touched: %+v, %v", got, err)
	}
	if cs, err := s.ListCustomers(ctx, mine.tenant, identity.CustomerQuery{ExternalID: "9"}, "", 10); err != nil || len(cs) != 1 || cs[0].ID != mine.steve {
		t.Errorf("found %+v, %v", cs, err)
	}
	if us, err := s.UnknownSenders(ctx, mine.tenant, h.instance, "", 10); err != nil || len(us) != 0 {
		t.Errorf("their unknown senders: %+v, %v", us, err)
	}
	if ks, err := s.ListAPIKeys(ctx, mine.tenant, "", 10); err != nil || len(ks) != 0 {
		t.Errorf("their keys: %+v, %v", ks, err)
	}
	if got, err := s.Identity(ctx, h.tenant, h.steve, i.ID); err != nil || got.IsVerified() || !got.UpdatedAt.Equal(i.UpdatedAt) {
		t.Errorf("their identity: %+v, %v", got, err)
	}
	if p := h.Person(t, h.tenant, talk); p != i.ID {
		t.Errorf("their conversation is with %q", p)
	}
	if n := len(h.Events(t, h.tenant)); n != before {
		t.Errorf("%d events in their log; want %d", n, before)
	}
}
