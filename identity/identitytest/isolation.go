package identitytest

import (
	"errors"
	"testing"
	"time"

	"hydragate/identity"
)

func isolationTests() map[string]func(*testing.T, *fixture) {
	return map[string]func(*testing.T, *fixture){"NothingCrossesTenants": testTenantIsolation}
}

// testTenantIsolation asks for everything of one tenant in the name of another.
func testTenantIsolation(t *testing.T, h *fixture) {
	s, ctx := h.Store, t.Context()
	mine := newFixture(t, h.Harness)
	i := h.mustLink(t, h.telegramIdentity("", "9"))
	u := h.addUnknownSender(t, h.instance, "8")
	k, hash := h.createKey(t, identity.APIKey{Name: "desk"})
	talk := h.NewConversation(t, h.tenant, h.instance, i.ID)
	before := len(h.Events(t, h.tenant))

	errs := map[string]error{}
	_, errs["customer"] = s.Customer(ctx, mine.tenant, h.customerID)
	_, errs["edit customer"] = s.EditCustomer(ctx, mine.tenant, h.customerID, identity.CustomerEdit{FirstName: pointer("x")}, staffActor)
	_, errs["identities"] = s.CustomerIdentities(ctx, mine.tenant, h.customerID, "")
	_, errs["identity"] = s.Identity(ctx, mine.tenant, h.customerID, i.ID)
	_, errs["edit identity"] = s.EditIdentity(ctx, mine.tenant, h.customerID, i.ID, identity.Edit{Verified: pointer(true)}, staffActor)
	_, errs["edit as own customer's"] = s.EditIdentity(ctx, mine.tenant, mine.customerID, i.ID, identity.Edit{Verified: pointer(true)}, staffActor)
	errs["unlink"] = s.Unlink(ctx, mine.tenant, h.customerID, i.ID, staffActor)
	_, errs["adopt theirs for mine"] = s.Adopt(ctx, mine.tenant, mine.customerID, u.ID, staffActor)
	_, errs["adopt mine for theirs"] = s.Adopt(ctx, mine.tenant, h.customerID, mine.addUnknownSender(t, mine.instance, "8").ID, staffActor)
	_, _, errs["look up"] = s.Lookup(ctx, mine.address(h.instance, "9"))
	_, errs["rotate key"] = s.RotateAPIKey(ctx, mine.tenant, k.ID, identity.APIKey{}, "new"+hash, time.Now(), staffActor)
	errs["revoke key"] = s.RevokeAPIKey(ctx, mine.tenant, k.ID, staffActor)
	theirs := mine.telegramIdentity("", "7")
	theirs.CustomerID = h.customerID
	_, errs["link to their customer"] = s.Link(ctx, theirs, staffActor)
	for what, err := range errs {
		if !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("%s: %v; want ErrNotFound", what, err)
		}
	}
	if _, err := s.Link(ctx, mine.telegramIdentity(h.instance, "7"), staffActor); !errors.Is(err, identity.ErrNoInstance) {
		t.Errorf("link within their instance: %v; want ErrNoInstance", err)
	}
	if _, err := s.CreateAPIKey(ctx, identity.APIKey{TenantID: mine.tenant, InstanceID: h.instance}, "x"+hash, staffActor); !errors.Is(err, identity.ErrNoInstance) {
		t.Errorf("key for their instance: %v; want ErrNoInstance", err)
	}
	if got := mine.mustLink(t, mine.telegramIdentity("", "9")); got.ID == i.ID || got.TenantID != mine.tenant {
		t.Errorf("the same address in another tenant: %+v", got)
	}
	if got := mine.mustLink(t, mine.telegramIdentity("", "8")); got.ID == u.ID {
		t.Error("took over a sender of another tenant")
	}
	if err := s.TouchAPIKey(ctx, mine.tenant, k.ID, time.Now()); err != nil {
		t.Error(err)
	}
	if got, err := s.APIKey(ctx, hash); err != nil || !got.LastUsedAt.IsZero() || !got.IsLive(time.Now()) {
		t.Errorf("their key was touched: %+v, %v", got, err)
	}
	if cs, err := s.ListCustomers(ctx, mine.tenant, identity.CustomerQuery{ExternalID: "9"}, "", 10); err != nil || len(cs) != 1 || cs[0].ID != mine.customerID {
		t.Errorf("found %+v, %v", cs, err)
	}
	if us, err := s.UnknownSenders(ctx, mine.tenant, h.instance, "", 10); err != nil || len(us) != 0 {
		t.Errorf("their unknown senders: %+v, %v", us, err)
	}
	if ks, err := s.ListAPIKeys(ctx, mine.tenant, "", 10); err != nil || len(ks) != 0 {
		t.Errorf("their keys: %+v, %v", ks, err)
	}
	if got, err := s.Identity(ctx, h.tenant, h.customerID, i.ID); err != nil || got.IsVerified() || !got.UpdatedAt.Equal(i.UpdatedAt) {
		t.Errorf("their identity: %+v, %v", got, err)
	}
	if p := h.ConversationIdentity(t, h.tenant, talk); p != i.ID {
		t.Errorf("their conversation is with %q", p)
	}
	if n := len(h.Events(t, h.tenant)); n != before {
		t.Errorf("%d events in their log; want %d", n, before)
	}
}
