// Package identitytest is the conformance suite of stores of customers, identities and API keys:
// which customer an address belongs to, that an account is never linked twice, that exactly one of
// several concurrent calls succeeds, and that tenants are isolated.
package identitytest

import (
	"context"
	"testing"
	"time"

	"hydragate/identity"
)

// Store is the interface under test.
type Store interface {
	APIKeys(ctx context.Context, hashes []string) (map[string]identity.APIKey, error)
	TouchAPIKey(ctx context.Context, tenant, id string, at time.Time) error
	CreateAPIKey(ctx context.Context, k identity.APIKey, hash string, by identity.Actor) (identity.APIKey, error)
	ListAPIKeys(ctx context.Context, tenant, after string, limit int) ([]identity.APIKey, error)
	RotateAPIKey(ctx context.Context, r identity.KeyRotation, by identity.Actor) (identity.APIKey, error)
	RevokeAPIKey(ctx context.Context, tenant, id string, by identity.Actor) error

	CreateCustomer(ctx context.Context, c identity.Customer, by identity.Actor) (identity.Customer, error)
	Customer(ctx context.Context, tenant, id string) (identity.Customer, error)
	EditCustomer(
		ctx context.Context,
		tenant, id string,
		e identity.CustomerEdit,
		by identity.Actor,
	) (identity.Customer, error)
	ListCustomers(
		ctx context.Context,
		tenant string,
		q identity.CustomerQuery,
		after string,
		limit int,
	) ([]identity.Customer, error)

	Lookup(ctx context.Context, a identity.Address) (i identity.Identity, customerEmail string, err error)
	CustomerIdentities(ctx context.Context, q identity.Query) ([]identity.Identity, error)
	Link(ctx context.Context, i identity.Identity, by identity.Actor) (identity.Identity, error)
	Adopt(ctx context.Context, k identity.Key, by identity.Actor) (identity.Identity, error)
	Identity(ctx context.Context, k identity.Key) (identity.Identity, error)
	EditIdentity(ctx context.Context, k identity.Key, e identity.Edit, by identity.Actor) (identity.Identity, error)
	Unlink(ctx context.Context, k identity.Key, by identity.Actor) error
	UnknownSenders(ctx context.Context, q identity.SenderQuery) ([]identity.Identity, error)
}

// A Harness is a store, with functions that create and read what other parts of the program do.
// Every test uses a tenant of its own.
type Harness struct {
	Store Store

	// NewTenant and NewInstance create a tenant, and an instance of a tenant, and return the ID.
	NewTenant   func(t *testing.T) string
	NewInstance func(t *testing.T, tenant string) string

	// AddUnknownSender stores an unknown sender, as the first message does.
	AddUnknownSender func(t *testing.T, i identity.Identity) identity.Identity
	// NewConversation creates a conversation of an instance with an identity, or with none if the
	// identity no longer exists. It may be called concurrently. ConversationIdentity returns the
	// identity of a conversation; empty if there is none.
	NewConversation      func(t *testing.T, tenant, instance, with string) (conversation string)
	ConversationIdentity func(t *testing.T, tenant, conversation string) string

	// IssueCode issues a live claim code for an identity, and HasLiveCode reports whether there is
	// one.
	IssueCode   func(t *testing.T, tenant, id string)
	HasLiveCode func(t *testing.T, tenant, id string) bool

	// Events returns the audit log of a tenant, oldest event first.
	Events func(t *testing.T, tenant string) []identity.Event
}

// staffActor is the actor of all calls.
const staffActor identity.Actor = "key:00000000-0000-7000-8000-0000000000aa"

const missingID = "00000000-0000-7000-8000-0000000000ff"

// Run runs the suite.
func Run(t *testing.T, s Harness) {
	for _, group := range []map[string]func(*testing.T, *fixture){
		linkTests(), editTests(), customerTests(), keyTests(), isolationTests(),
	} {
		for name, test := range group {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t, newFixture(t, s))
			})
		}
	}
}

// A fixture is one tenant, with an instance and a customer.
type fixture struct {
	Harness
	tenant, instance, customerID string
}

func newFixture(t *testing.T, s Harness) *fixture {
	t.Helper()
	h := &fixture{Harness: s, tenant: s.NewTenant(t)}
	h.instance = s.NewInstance(t, h.tenant)
	h.customerID = h.createCustomer(t, "steve@example.com")
	return h
}

func (h *fixture) createCustomer(t *testing.T, email string) string {
	t.Helper()
	c, err := h.Store.CreateCustomer(t.Context(), identity.Customer{TenantID: h.tenant, Email: email}, staffActor)
	if err != nil {
		t.Fatal(err)
	}
	return c.ID
}

// key returns the key of an identity of the fixture's customer.
func (h *fixture) key(id string) identity.Key {
	return identity.Key{TenantID: h.tenant, CustomerID: h.customerID, IdentityID: id}
}

// telegramIdentity returns an identity of the fixture's customer on Telegram, scoped to instance,
// or to all instances if it is empty.
func (h *fixture) telegramIdentity(instance, externalID string) identity.Identity {
	return identity.Identity{
		TenantID:   h.tenant,
		CustomerID: h.customerID,
		InstanceID: instance,
		Channel:    "telegram",
		ExternalID: externalID,
	}
}

func (h *fixture) addUnknownSender(t *testing.T, instance, externalID string) identity.Identity {
	t.Helper()
	return h.AddUnknownSender(
		t,
		identity.Identity{
			TenantID:    h.tenant,
			InstanceID:  instance,
			Channel:     "telegram",
			ExternalID:  externalID,
			DisplayName: "S.",
			Username:    "steve",
		},
	)
}

func (h *fixture) mustLink(t *testing.T, i identity.Identity) identity.Identity {
	t.Helper()
	got, err := h.Store.Link(t.Context(), i, staffActor)
	if err != nil {
		t.Fatalf("link: %v", err)
	}
	return got
}

func (h *fixture) address(instance, externalID string) identity.Address {
	return identity.Address{TenantID: h.tenant, InstanceID: instance, Channel: "telegram", ExternalID: externalID}
}

// wantEvents checks the kinds of the events about an identity, in order, and that each names its
// actor. It returns the events.
func (h *fixture) wantEvents(t *testing.T, id string, kinds ...string) []identity.Event {
	t.Helper()
	var got []identity.Event
	for _, e := range h.Events(t, h.tenant) {
		if e.IdentityID == id {
			got = append(got, e)
		}
	}
	if len(got) != len(kinds) {
		t.Fatalf("events = %+v, want %v", got, kinds)
	}
	for n, e := range got {
		if e.Kind != kinds[n] || e.Actor != staffActor || e.At.IsZero() || e.CustomerID == "" || e.Detail["channel"] == "" {
			t.Errorf("event %d = %+v, want %s by %s, with customer and channel", n, e, kinds[n], staffActor)
		}
	}
	return got
}
