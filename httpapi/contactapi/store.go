package contactapi

import (
	"context"

	"hydragate/identity"
)

// Store stores contact identities, which are the identities of customers and unknown senders.
//
// An identity may have no contact. If it is created without one, it belongs to the given instance
// or, if that is empty, to the tenant, and reserves an address that has no owner yet. A lookup by
// address does not return it. Linking the address to a customer takes it over, and so does the
// first message from the address.
type Store interface {
	// ContactIdentities returns identities by ID, which is the order of creation, and their total
	// number. It skips the first Skip identities.
	ContactIdentities(
		ctx context.Context, q identity.ContactQuery,
	) (is []identity.ContactIdentity, total int, err error)
	// ContactIdentity returns an identity of the tenant, or identity.ErrNotFound.
	ContactIdentity(ctx context.Context, tenant, id string) (identity.ContactIdentity, error)
	// CreateContactIdentity stores a new, unverified identity. If it has a contact and an unknown
	// sender has the address, that row is linked instead. It returns identity.ErrAlreadyLinked or
	// identity.ErrNoContact.
	CreateContactIdentity(
		ctx context.Context, i identity.ContactIdentity, by identity.Actor,
	) (identity.ContactIdentity, error)
	// ReplaceContactIdentity changes the identity with the ID and the instance of i. A new contact
	// or address removes the verification, the role override and a live claim code. A nil name
	// leaves the display name unchanged. It returns identity.ErrNotFound, identity.ErrAlreadyLinked
	// or identity.ErrNoContact.
	ReplaceContactIdentity(
		ctx context.Context, i identity.ContactIdentity, name *string, by identity.Actor,
	) (identity.ContactIdentity, error)
	// DeleteContactIdentity removes an identity of the instance or, if that is empty, of the
	// tenant. It returns identity.ErrNotFound if there is none.
	DeleteContactIdentity(ctx context.Context, k identity.SenderKey, by identity.Actor) error
}
