package httpapitest

import (
	"context"
	"slices"

	"hydragate/gateway"
	"hydragate/identity"
)

// SurfaceID is the ID of the user, the contact identity and the instance of Surfaces.
const SurfaceID = "01930f6e-ffff-7000-8000-ffffffffffff"

// AgentSecretKey is the key of the instance of Surfaces.
const AgentSecretKey = "ask_1"

// Surfaces is a userapi.Store and a contactapi.Store with one user and one contact identity.
type Surfaces struct {
	Err   error // returned by all methods but InstancesByAgentKeys
	Panic bool  // these methods panic
}

func (f *Surfaces) user() (identity.User, error) {
	if f.Panic {
		panic("store failed with hg_live_canary")
	}
	return identity.User{
		Customer: identity.Customer{
			ID:          SurfaceID,
			FirstName:   "Steve",
			LastName:    "Example",
			Email:       "steve@example.com",
			PhoneNumber: "+61400111222",
			Metadata:    []byte(`{"customData":{"tier":"gold"},"own":1}`),
		},
		FKID: "1", FKUserID: "2", Source: "webchat", Context: "Support",
	}, f.Err
}

func (f *Surfaces) contact() (identity.ContactIdentity, error) {
	if f.Panic {
		panic("store failed with hg_live_canary")
	}
	return identity.ContactIdentity{
		Identity: identity.Identity{
			ID: SurfaceID, CustomerID: SurfaceID, Channel: "twitter", ExternalID: "1", DisplayName: "Steve",
			Username: "@steve",
		},
		AvatarURL: "https://a.example.com", InfoURL: "https://b.example.com", PageURL: "https://c.example.com",
	}, f.Err
}

// InstancesByAgentKeys implements userapi.Store.
func (*Surfaces) InstancesByAgentKeys(_ context.Context, hashes []string) (map[string]gateway.Instance, error) {
	found := map[string]gateway.Instance{}
	if hash := identity.HashToken(AgentSecretKey); slices.Contains(hashes, hash) {
		found[hash] = gateway.Instance{ID: SurfaceID, TenantID: identity.DefaultTenant}
	}
	return found, nil
}

// CreateUser implements userapi.Store.
func (f *Surfaces) CreateUser(context.Context, string, identity.User, identity.Actor) (identity.User, error) {
	return f.user()
}

// User implements userapi.Store.
func (f *Surfaces) User(context.Context, string, string, string) (identity.User, error) {
	return f.user()
}

// FindUser implements userapi.Store.
func (f *Surfaces) FindUser(context.Context, string, string, identity.UserQuery) (identity.User, []string, error) {
	u, err := f.user()
	return u, []string{SurfaceID}, err
}

// DeleteUser implements userapi.Store.
func (f *Surfaces) DeleteUser(context.Context, string, string, string, identity.Actor) error {
	_, err := f.user()
	return err
}

// ContactIdentities implements contactapi.Store.
func (f *Surfaces) ContactIdentities(
	context.Context, identity.ContactQuery,
) ([]identity.ContactIdentity, int, error) {
	i, err := f.contact()
	return []identity.ContactIdentity{i}, 1, err
}

// ContactIdentity implements contactapi.Store.
func (f *Surfaces) ContactIdentity(context.Context, string, string) (identity.ContactIdentity, error) {
	return f.contact()
}

// CreateContactIdentity implements contactapi.Store.
func (f *Surfaces) CreateContactIdentity(
	context.Context, identity.ContactIdentity, identity.Actor,
) (identity.ContactIdentity, error) {
	return f.contact()
}

// ReplaceContactIdentity implements contactapi.Store.
func (f *Surfaces) ReplaceContactIdentity(
	context.Context, identity.ContactIdentity, *string, identity.Actor,
) (identity.ContactIdentity, error) {
	return f.contact()
}

// DeleteContactIdentity implements contactapi.Store.
func (f *Surfaces) DeleteContactIdentity(context.Context, identity.SenderKey, identity.Actor) error {
	_, err := f.contact()
	return err
}
