package identitytest

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"testing"

	"hydragate/identity"
)

func linkTests() map[string]func(*testing.T, *fixture) {
	return map[string]func(*testing.T, *fixture){
		"link and look up":                                   testLinkAndLookup,
		"link twice":                                         testLinkTwice,
		"link to unknown customer":                           testLinkMissingCustomer,
		"instance scope before tenant scope":                 testInstanceBeforeTenant,
		"unknown sender is not linked":                       testUnknownSenderNotLinked,
		"link adopts unknown sender":                         testLinkAdoptsUnknownSender,
		"link keeps other instances":                         testLinkKeepsOtherInstances,
		"tenant-wide link merges unknown senders":            testLinkMergesUnknownSenders,
		"tenant-wide link beside instance scope":             testLinkBesideInstanceScoped,
		"concurrent links":                                   concurrentLinks(false, ""),
		"concurrent links of unknown sender":                 concurrentLinks(true, ""),
		"concurrent links in one instance":                   concurrentLinks(false, "one"),
		"concurrent links of unknown sender in one instance": concurrentLinks(true, "one"),
		"adopt":                            testAdopt,
		"concurrent adoptions":             testConcurrentAdopts,
		"paging of unknown senders":        testUnknownSendersPaging,
		"unlink":                           testUnlink,
		"unlink while conversations begin": testUnlinkConcurrentConversations,
	}
}

func testLinkAndLookup(t *testing.T, h *fixture) {
	in := h.telegramIdentity("", "12345")
	in.DisplayName, in.Metadata = "Steve", json.RawMessage(`{"plan": "gold"}`)
	in.VerifiedAt = h.mustLink(t, h.telegramIdentity("", "1")).CreatedAt // must be ignored
	got := h.mustLink(t, in)
	if got.ID == "" || got.TenantID != h.tenant || got.CustomerID != h.customerID || got.InstanceID != "" ||
		got.IsVerified() || got.DisplayName != "Steve" {
		t.Fatalf("linked: %+v", got)
	}
	if got.CreatedAt.IsZero() || !got.CreatedAt.Equal(got.UpdatedAt) || got.CreatedAt.Location().String() != "UTC" {
		t.Errorf("times: %v, %v", got.CreatedAt, got.UpdatedAt)
	}
	found, email, err := h.Store.Lookup(t.Context(), h.address(h.instance, "12345"))
	if err != nil || found.ID != got.ID || email != "steve@example.com" || !found.CreatedAt.Equal(got.CreatedAt) {
		t.Fatalf("looked up: %+v, %q, %v", found, email, err)
	}
	var meta map[string]string
	if err := json.Unmarshal(found.Metadata, &meta); err != nil || meta["plan"] != "gold" {
		t.Errorf("metadata: %s, %v", found.Metadata, err)
	}
	bare := h.mustLink(t, h.telegramIdentity("", "2"))
	if string(bare.Metadata) != "{}" || bare.DisplayName != "" || bare.RoleOverride != "" {
		t.Errorf("without optional fields: %+v", bare)
	}
	h.wantEvents(t, got.ID, "identity.linked")
	owner := h.telegramIdentity("", "3")
	owner.RoleOverride = identity.RoleOwner
	got = h.mustLink(t, owner)
	if got.RoleOverride != identity.RoleOwner || got.Role() != identity.Unverified {
		t.Errorf("linked as owner: %+v", got)
	}
	h.wantEvents(t, got.ID, "identity.linked", "identity.granted")
}

func testLinkTwice(t *testing.T, h *fixture) {
	h.mustLink(t, h.telegramIdentity("", "9"))
	h.mustLink(t, h.telegramIdentity(h.instance, "9"))
	other := h.createCustomer(t, "other@example.com")
	for _, i := range []identity.Identity{h.telegramIdentity("", "9"), h.telegramIdentity(h.instance, "9")} {
		for _, i.CustomerID = range []string{h.customerID, other} {
			if _, err := h.Store.Link(t.Context(), i, staffActor); !errors.Is(err, identity.ErrAlreadyLinked) {
				t.Errorf("again in %q: %v; want ErrAlreadyLinked", i.InstanceID, err)
			}
		}
		i.CustomerID = missingID
		if _, err := h.Store.Link(t.Context(), i, staffActor); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("again, unknown customer: %v; want ErrNotFound", err)
		}
	}
}

func testLinkMissingCustomer(t *testing.T, h *fixture) {
	i := h.telegramIdentity("", "9")
	i.CustomerID = missingID
	if _, err := h.Store.Link(t.Context(), i, staffActor); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("unknown customer: %v; want ErrNotFound", err)
	}
	_, err := h.Store.Link(t.Context(), h.telegramIdentity(missingID, "9"), staffActor)
	if !errors.Is(err, identity.ErrNoInstance) {
		t.Errorf("unknown instance: %v; want ErrNoInstance", err)
	}
	_, err = h.Store.CustomerIdentities(t.Context(), identity.Query{TenantID: h.tenant, CustomerID: missingID})
	if !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("list of unknown customer: %v; want ErrNotFound", err)
	}
}

func testInstanceBeforeTenant(t *testing.T, h *fixture) {
	all := h.mustLink(t, h.telegramIdentity("", "9"))
	own := h.mustLink(t, h.telegramIdentity(h.instance, "9"))
	other := h.NewInstance(t, h.tenant)
	h.addUnknownSender(t, other, "8")
	for instance, want := range map[string]string{h.instance: own.ID, other: all.ID, "": all.ID} {
		if got, _, err := h.Store.Lookup(t.Context(), h.address(instance, "9")); err != nil || got.ID != want {
			t.Errorf("in %q: %s, %v; want %s", instance, got.ID, err, want)
		}
	}
	is, err := h.Store.CustomerIdentities(t.Context(), identity.Query{TenantID: h.tenant, CustomerID: h.customerID})
	if err != nil || len(is) != 2 || is[0].ID != all.ID || is[1].ID != own.ID {
		t.Errorf("list: %+v, %v; want both, oldest first", is, err)
	}
	query := identity.Query{TenantID: h.tenant, CustomerID: h.customerID, Channel: "sms"}
	is, err = h.Store.CustomerIdentities(t.Context(), query)
	if err != nil || len(is) != 0 {
		t.Errorf("list of another channel: %+v, %v", is, err)
	}
}

func testUnknownSenderNotLinked(t *testing.T, h *fixture) {
	u := h.addUnknownSender(t, h.instance, "9")
	if _, _, err := h.Store.Lookup(t.Context(), h.address(h.instance, "9")); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("look up: %v; want ErrNotFound", err)
	}
	if _, err := h.Store.Identity(t.Context(), h.key(u.ID)); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("read as identity of the customer: %v; want ErrNotFound", err)
	}
}

func testLinkAdoptsUnknownSender(t *testing.T, h *fixture) {
	u := h.addUnknownSender(t, h.instance, "9")
	conversation := h.NewConversation(t, h.tenant, h.instance, u.ID)
	got := h.mustLink(t, h.telegramIdentity(h.instance, "9"))
	if got.ID != u.ID || got.CustomerID != h.customerID || got.InstanceID != h.instance || got.DisplayName != "S." ||
		got.Username != "steve" || got.IsVerified() {
		t.Errorf("adopted: %+v; want the row of %s", got, u.ID)
	}
	if p := h.ConversationIdentity(t, h.tenant, conversation); p != u.ID {
		t.Errorf("conversation belongs to %q", p)
	}
	us, err := h.Store.UnknownSenders(t.Context(), identity.SenderQuery{TenantID: h.tenant, Limit: 10})
	if err != nil || len(us) != 0 {
		t.Errorf("UnknownSenders = %+v, %v, want none", us, err)
	}
	h.wantEvents(t, u.ID, "identity.adopted")
}

func testLinkKeepsOtherInstances(t *testing.T, h *fixture) {
	other := h.addUnknownSender(t, h.NewInstance(t, h.tenant), "9")
	if got := h.mustLink(t, h.telegramIdentity(h.instance, "9")); got.ID == other.ID {
		t.Error("Link adopted a sender of another instance")
	}
	us, err := h.Store.UnknownSenders(t.Context(), identity.SenderQuery{TenantID: h.tenant, Limit: 10})
	if err != nil || len(us) != 1 || us[0].ID != other.ID {
		t.Errorf("unknown: %+v, %v", us, err)
	}
}

func testLinkMergesUnknownSenders(t *testing.T, h *fixture) {
	second := h.NewInstance(t, h.tenant)
	first, again := h.addUnknownSender(t, h.instance, "9"), h.addUnknownSender(t, second, "9")
	conversations := []string{
		h.NewConversation(t, h.tenant, h.instance, first.ID),
		h.NewConversation(t, h.tenant, second, again.ID),
	}
	unrelated := h.addUnknownSender(t, second, "8")
	got := h.mustLink(t, h.telegramIdentity("", "9"))
	if got.ID != first.ID || got.InstanceID != "" || got.CustomerID != h.customerID {
		t.Errorf("linked: %+v; want the row of %s for all instances", got, first.ID)
	}
	for _, conversation := range conversations {
		if p := h.ConversationIdentity(t, h.tenant, conversation); p != got.ID {
			t.Errorf("conversation belongs to %q, want %s", p, got.ID)
		}
	}
	us, err := h.Store.UnknownSenders(t.Context(), identity.SenderQuery{TenantID: h.tenant, Limit: 10})
	if err != nil || len(us) != 1 || us[0].ID != unrelated.ID {
		t.Errorf("unknown: %+v, %v; want %s alone", us, err, unrelated.ID)
	}
}

func testLinkBesideInstanceScoped(t *testing.T, h *fixture) {
	own := h.mustLink(t, h.telegramIdentity(h.instance, "9"))
	later := h.addUnknownSender(t, h.NewInstance(t, h.tenant), "9")
	all := h.mustLink(t, h.telegramIdentity("", "9"))
	if all.ID != later.ID {
		t.Errorf("linked %s; want %s", all.ID, later.ID)
	}
	if got, _, err := h.Store.Lookup(t.Context(), h.address(h.instance, "9")); err != nil || got.ID != own.ID {
		t.Errorf("the instance's own: %s, %v; want %s", got.ID, err, own.ID)
	}
	// A first message may be stored while the identity is linked; its sender is known.
	h.addUnknownSender(t, h.NewInstance(t, h.tenant), "9")
	us, err := h.Store.UnknownSenders(t.Context(), identity.SenderQuery{TenantID: h.tenant, Limit: 10})
	if err != nil || len(us) != 0 {
		t.Errorf("unknown: %+v, %v", us, err)
	}
}

func concurrentLinks(unknown bool, scope string) func(*testing.T, *fixture) {
	return func(t *testing.T, h *fixture) {
		if unknown {
			for _, i := range []string{h.instance, h.NewInstance(t, h.tenant), h.NewInstance(t, h.tenant)} {
				h.NewConversation(t, h.tenant, i, h.addUnknownSender(t, i, "9").ID)
			}
		}
		if scope != "" {
			scope = h.instance
		}
		customers := []string{h.customerID, h.createCustomer(t, "a@example.com"), h.createCustomer(t, "b@example.com")}
		wantOneSuccess(t, 32, func(ctx context.Context, n int) error {
			i := h.telegramIdentity(scope, "9")
			i.CustomerID = customers[n%len(customers)]
			_, err := h.Store.Link(ctx, i, staffActor)
			return err
		})
		owned := 0
		for _, c := range customers {
			is, err := h.Store.CustomerIdentities(t.Context(), identity.Query{TenantID: h.tenant, CustomerID: c})
			if err != nil {
				t.Fatal(err)
			}
			owned += len(is)
		}
		if owned != 1 {
			t.Errorf("%d identities; want 1", owned)
		}
	}
}

// wantOneSuccess runs do n times concurrently: one call must succeed, and all others must return
// ErrAlreadyLinked.
func wantOneSuccess(t *testing.T, n int, do func(ctx context.Context, n int) error) {
	t.Helper()
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = do(t.Context(), i) })
	}
	wg.Wait()
	succeeded := 0
	for _, err := range errs {
		switch {
		case err == nil:
			succeeded++
		case !errors.Is(err, identity.ErrAlreadyLinked):
			t.Errorf("%v; want ErrAlreadyLinked", err)
		}
	}
	if succeeded != 1 {
		t.Errorf("%d of %d concurrent calls succeeded, want 1", succeeded, n)
	}
}

func testAdopt(t *testing.T, h *fixture) {
	u := h.addUnknownSender(t, h.instance, "9")
	foreign := identity.Key{TenantID: h.tenant, CustomerID: missingID, IdentityID: u.ID}
	_, err := h.Store.Adopt(t.Context(), foreign, staffActor)
	if !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("unknown customer: %v; want ErrNotFound", err)
	}
	if _, err := h.Store.Adopt(t.Context(), h.key(missingID), staffActor); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("unknown sender: %v; want ErrNotFound", err)
	}
	got, err := h.Store.Adopt(t.Context(), h.key(u.ID), staffActor)
	if err != nil || got.ID != u.ID || got.CustomerID != h.customerID || got.InstanceID != h.instance || got.IsVerified() {
		t.Fatalf("adopted: %+v, %v", got, err)
	}
	if _, err := h.Store.Adopt(t.Context(), h.key(u.ID), staffActor); !errors.Is(err, identity.ErrAlreadyLinked) {
		t.Errorf("again: %v; want ErrAlreadyLinked", err)
	}
	h.wantEvents(t, u.ID, "identity.adopted")
}

func testConcurrentAdopts(t *testing.T, h *fixture) {
	u := h.addUnknownSender(t, h.instance, "9")
	customers := []string{h.customerID, h.createCustomer(t, "a@example.com")}
	wantOneSuccess(t, 16, func(ctx context.Context, n int) error {
		_, err := h.Store.Adopt(
			ctx,
			identity.Key{TenantID: h.tenant, CustomerID: customers[n%2], IdentityID: u.ID},
			staffActor,
		)
		return err
	})
}

func testUnknownSendersPaging(t *testing.T, h *fixture) {
	second := h.NewInstance(t, h.tenant)
	var want []string
	for _, x := range []struct{ instance, id string }{
		{h.instance, "1"}, {second, "1"}, {h.instance, "2"}, {h.instance, "3"},
	} {
		want = append(want, h.addUnknownSender(t, x.instance, x.id).ID)
	}
	var got []string
	for after := ""; ; {
		us, err := h.Store.UnknownSenders(t.Context(), identity.SenderQuery{TenantID: h.tenant, After: after, Limit: 3})
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range us {
			got, after = append(got, u.ID), u.ID
		}
		if len(us) < 3 {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("pages contain %v, want %v", got, want)
	}
	us, err := h.Store.UnknownSenders(t.Context(), identity.SenderQuery{TenantID: h.tenant, InstanceID: second, Limit: 10})
	if err != nil || len(us) != 1 || us[0].ID != want[1] {
		t.Errorf("of one instance: %+v, %v", us, err)
	}
}

func testUnlink(t *testing.T, h *fixture) {
	i := h.mustLink(t, h.telegramIdentity("", "9"))
	h.IssueCode(t, h.tenant, i.ID)
	conversation := h.NewConversation(t, h.tenant, h.instance, i.ID)
	other := h.createCustomer(t, "other@example.com")
	err := h.Store.Unlink(t.Context(), identity.Key{TenantID: h.tenant, CustomerID: other, IdentityID: i.ID}, staffActor)
	if !errors.Is(err, identity.ErrNotFound) {
		t.Fatalf("identity of another customer: %v; want ErrNotFound", err)
	}
	if p := h.ConversationIdentity(t, h.tenant, conversation); p != i.ID {
		t.Fatalf("after a failed Unlink the conversation belongs to %q", p)
	}
	if err := h.Store.Unlink(t.Context(), h.key(i.ID), staffActor); err != nil {
		t.Fatal(err)
	}
	if err := h.Store.Unlink(t.Context(), h.key(i.ID), staffActor); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("again: %v; want ErrNotFound", err)
	}
	if p := h.ConversationIdentity(t, h.tenant, conversation); p != "" {
		t.Errorf("conversation belongs to %q, want none", p)
	}
	if h.HasLiveCode(t, h.tenant, i.ID) {
		t.Error("the code is live after Unlink")
	}
	e := h.wantEvents(t, i.ID, "identity.linked", "claim.revoked", "identity.unlinked")[2]
	if e.CustomerID != h.customerID || e.Detail["external_id"] != "9" {
		t.Errorf("unlink event lacks the previous owner: %+v", e)
	}
	if again := h.mustLink(t, h.telegramIdentity("", "9")); again.ID == i.ID {
		t.Error("Link reused the old ID")
	}
}

func testUnlinkConcurrentConversations(t *testing.T, h *fixture) {
	i := h.mustLink(t, h.telegramIdentity("", "9"))
	conversations := make([]string, 8)
	var wg sync.WaitGroup
	for n := range conversations {
		wg.Go(func() { conversations[n] = h.NewConversation(t, h.tenant, h.instance, i.ID) })
	}
	for range 4 {
		wg.Go(func() {
			if err := h.Store.Unlink(t.Context(), h.key(i.ID), staffActor); err != nil && !errors.Is(err, identity.ErrNotFound) {
				t.Errorf("unlink: %v", err)
			}
		})
	}
	wg.Wait()
	for _, conversation := range conversations {
		if p := h.ConversationIdentity(t, h.tenant, conversation); p != "" {
			t.Errorf("conversation belongs to %q, want none", p)
		}
	}
}
