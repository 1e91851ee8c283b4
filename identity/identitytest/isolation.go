package identitytest

import (
	"errors"
	"testing"
	"time"

	"hydragate/identity"
)

func isolationTests() map[string]func(*testing.T, *fixture) {
	return map[string]func(*testing.T, *fixture){"tenants are isolated": testTenantIsolation}
}

// testTenantIsolation accesses everything of one tenant in the name of another.
func testTenantIsolation(t *testing.T, h *fixture) {
	s, ctx := h.Store, t.Context()
	other := newFixture(t, h.Harness)
	i := h.mustLink(t, h.telegramIdentity("", "9"))
	u := h.addUnknownSender(t, h.instance, "8")
	k, hash := h.createKey(t, identity.APIKey{Name: "support"})
	conversation := h.NewConversation(t, h.tenant, h.instance, i.ID)
	before := len(h.Events(t, h.tenant))

	key := func(customerID, identityID string) identity.Key {
		return identity.Key{TenantID: other.tenant, CustomerID: customerID, IdentityID: identityID}
	}
	ownSender := other.addUnknownSender(t, other.instance, "8")
	verify := identity.Edit{Verified: new(true)}
	rename := identity.CustomerEdit{FirstName: new("x")}
	query := identity.Query{TenantID: other.tenant, CustomerID: h.customerID}

	errs := map[string]error{}
	_, errs["customer"] = s.Customer(ctx, other.tenant, h.customerID)
	_, errs["edit customer"] = s.EditCustomer(ctx, other.tenant, h.customerID, rename, staffActor)
	_, errs["identities"] = s.CustomerIdentities(ctx, query)
	_, errs["identity"] = s.Identity(ctx, key(h.customerID, i.ID))
	_, errs["edit identity"] = s.EditIdentity(ctx, key(h.customerID, i.ID), verify, staffActor)
	_, errs["edit as identity of own customer"] = s.EditIdentity(ctx, key(other.customerID, i.ID), verify, staffActor)
	errs["unlink"] = s.Unlink(ctx, key(h.customerID, i.ID), staffActor)
	_, errs["adopt foreign sender"] = s.Adopt(ctx, key(other.customerID, u.ID), staffActor)
	_, errs["adopt for foreign customer"] = s.Adopt(ctx, key(h.customerID, ownSender.ID), staffActor)
	_, _, errs["look up"] = s.Lookup(ctx, other.address(h.instance, "9"))
	_, errs["rotate key"] = s.RotateAPIKey(ctx, identity.KeyRotation{
		TenantID: other.tenant, KeyID: k.ID, Hash: "new" + hash, OldUntil: time.Now(),
	}, staffActor)
	errs["revoke key"] = s.RevokeAPIKey(ctx, other.tenant, k.ID, staffActor)
	foreign := other.telegramIdentity("", "7")
	foreign.CustomerID = h.customerID
	_, errs["link to foreign customer"] = s.Link(ctx, foreign, staffActor)
	for what, err := range errs {
		if !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("%s: %v; want ErrNotFound", what, err)
		}
	}
	_, err := s.Link(ctx, other.telegramIdentity(h.instance, "7"), staffActor)
	if !errors.Is(err, identity.ErrNoInstance) {
		t.Errorf("link within foreign instance: %v; want ErrNoInstance", err)
	}
	_, err = s.CreateAPIKey(ctx, identity.APIKey{TenantID: other.tenant, InstanceID: h.instance}, "x"+hash, staffActor)
	if !errors.Is(err, identity.ErrNoInstance) {
		t.Errorf("key for foreign instance: %v; want ErrNoInstance", err)
	}
	if got := other.mustLink(t, other.telegramIdentity("", "9")); got.ID == i.ID || got.TenantID != other.tenant {
		t.Errorf("the same address in another tenant: %+v", got)
	}
	if got := other.mustLink(t, other.telegramIdentity("", "8")); got.ID == u.ID {
		t.Error("Link adopted a sender of another tenant")
	}
	if err := s.TouchAPIKey(ctx, other.tenant, k.ID, time.Now()); err != nil {
		t.Error(err)
	}
	if got, err := h.keyByHash(ctx, hash); err != nil || !got.LastUsedAt.IsZero() || !got.IsLive(time.Now()) {
		t.Errorf("foreign key changed: %+v, %v", got, err)
	}
	cs, err := s.ListCustomers(ctx, other.tenant, identity.CustomerQuery{ExternalID: "9"}, "", 10)
	if err != nil || len(cs) != 1 || cs[0].ID != other.customerID {
		t.Errorf("ListCustomers = %+v, %v", cs, err)
	}
	us, err := s.UnknownSenders(ctx, identity.SenderQuery{TenantID: other.tenant, InstanceID: h.instance, Limit: 10})
	if err != nil || len(us) != 0 {
		t.Errorf("foreign unknown senders: %+v, %v", us, err)
	}
	if ks, err := s.ListAPIKeys(ctx, other.tenant, "", 10); err != nil || len(ks) != 0 {
		t.Errorf("foreign keys: %+v, %v", ks, err)
	}
	if got, err := s.Identity(ctx, h.key(i.ID)); err != nil || got.IsVerified() || !got.UpdatedAt.Equal(i.UpdatedAt) {
		t.Errorf("foreign identity: %+v, %v", got, err)
	}
	if p := h.ConversationIdentity(t, h.tenant, conversation); p != i.ID {
		t.Errorf("foreign conversation belongs to %q", p)
	}
	if n := len(h.Events(t, h.tenant)); n != before {
		t.Errorf("%d foreign events, want %d", n, before)
	}
}
