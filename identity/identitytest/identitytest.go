// Package identitytest is what every store of customers, identities and API keys must
// keep, whatever its engine: who an address belongs to, that nobody is two people,
// that of many at once one wins, and that nothing crosses from tenant to tenant.
package identitytest

import (
	"context"
	"testing"
	"time"

	"hydragate/identity"
)

// Store is what the suite exercises.
type Store interface {
	APIKey(ctx context.Context, hash string) (identity.APIKey, error)
	TouchAPIKey(ctx context.Context, tenant, id string, at time.Time) error
	CreateAPIKey(ctx context.Context, k identity.APIKey, hash string, by identity.Actor) (identity.APIKey, error)
	ListAPIKeys(ctx context.Context, tenant, after string, limit int) ([]identity.APIKey, error)
	RotateAPIKey(ctx context.Context, tenant, id string, next identity.APIKey, hash string, oldUntil time.Time, by identity.Actor) (identity.APIKey, error)
	RevokeAPIKey(ctx context.Context, tenant, id string, by identity.Actor) error

	CreateCustomer(ctx context.Context, c identity.Customer, by identity.Actor) (identity.Customer, error)
	Customer(ctx context.Context, tenant, id string) (identity.Customer, error)
	EditCustomer(ctx context.Context, tenant, id string, e identity.CustomerEdit, by identity.Actor) (identity.Customer, error)
	ListCustomers(ctx context.Context, tenant string, q identity.CustomerQuery, after string, limit int) ([]identity.Customer, error)

	Lookup(ctx context.Context, a identity.Address) (i identity.Identity, customerEmail string, err error)
	CustomerIdentities(ctx context.Context, tenant, customer, channel string) ([]identity.Identity, error)
	Link(ctx context.Context, i identity.Identity, by identity.Actor) (identity.Identity, error)
	Adopt(ctx context.Context, tenant, customer, id string, by identity.Actor) (identity.Identity, error)
	Identity(ctx context.Context, tenant, customer, id string) (identity.Identity, error)
	EditIdentity(ctx context.Context, tenant, customer, id string, e identity.Edit, by identity.Actor) (identity.Identity, error)
	Unlink(ctx context.Context, tenant, customer, id string, by identity.Actor) error
	UnknownSenders(ctx context.Context, tenant, instance, after string, limit int) ([]identity.Identity, error)
}

// A Harness is a store, with the means to make what others make in it and to see what
// only they see. Every test works in a tenant of its own.
type Harness struct {
	Store Store

	// Tenant makes a tenant, Instance an instance of it; they give the id.
	NewTenant   func(t *testing.T) string
	NewInstance func(t *testing.T, tenant string) string

	// Unknown keeps an unknown sender, as a first message does.
	AddUnknownSender func(t *testing.T, i identity.Identity) identity.Identity
	// Talk makes a conversation of an instance with an identity, or with nobody when
	// that is gone by then; it may be called by many at once. Person gives with whom it
	// is now: empty for nobody.
	NewConversation      func(t *testing.T, tenant, instance, with string) (conversation string)
	ConversationIdentity func(t *testing.T, tenant, conversation string) string

	// Issue makes a live claim code for an identity, and Live reports whether there is
	// one.
	IssueCode   func(t *testing.T, tenant, id string)
	HasLiveCode func(t *testing.T, tenant, id string) bool

	// Events gives a tenant's audit log, oldest first.
	Events func(t *testing.T, tenant string) []identity.Event
}

// staffActor is who does everything here.
const staffActor identity.Actor = "key:00000000-0000-7000-8000-0000000000aa"

const missingID = "00000000-0000-7000-8000-0000000000ff"

// Run runs the suite.
func Run(t *testing.T, s Harness) {
	for _, group := range []map[string]func(*testing.T, *fixture){linkTests(), editTests(), customerTests(), keyTests(), isolationTests()} {
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

// telegramIdentity is an address of Steve's on Telegram, for one instance or ("") for all.
func (h *fixture) telegramIdentity(instance, externalID string) identity.Identity {
	return identity.Identity{TenantID: h.tenant, CustomerID: h.customerID, InstanceID: instance, Channel: "telegram", ExternalID: externalID}
}

func (h *fixture) addUnknownSender(t *testing.T, instance, externalID string) identity.Identity {
	t.Helper()
	return h.AddUnknownSender(t, identity.Identity{TenantID: h.tenant, InstanceID: instance, Channel: "telegram", ExternalID: externalID, DisplayName: "S.", Username: "steve"})
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

// wantEvents checks which kinds of event the log holds about an identity, in order,
// and that each says who did it.
func (h *fixture) wantEvents(t *testing.T, id string, kinds ...string) []identity.Event {
	t.Helper()
	var got []identity.Event
	for _, e := range h.Events(t, h.tenant) {
		if e.IdentityID == id {
			got = append(got, e)
		}
	}
	if len(got) != len(kinds) {
		t.Fatalf("events %+v; want %v", got, kinds)
	}
	for n, e := range got {
		if e.Kind != kinds[n] || e.Actor != staffActor || e.At.IsZero() || e.CustomerID == "" || e.Detail["channel"] == "" {
			t.Errorf("event %d: %+v; want %s by %s, with customer and channel", n, e, kinds[n], staffActor)
		}
	}
	return got
}

func pointer[T any](v T) *T { return &v }
