package httpapi

import (
	"context"

	"hydragate/identity"
)

// Contacts is what the contact surface keeps its resources in: the identities of
// everybody else, unknown senders included.
//
// An identity may have no contact. One that is created so is of the instance given or,
// when none is, of the whole tenant: an address that is noted before anybody owns it
// or wrote from it. Lookup never answers it; who links the address takes it over, and
// when somebody writes from it, it is theirs.
type Contacts interface {
	// ContactIdentities gives identities in order of id, which is order of creation,
	// after the first skip, and how many there are. With an instance, those of other
	// instances are left out.
	ContactIdentities(ctx context.Context, tenant, instance string, skip, limit int) (is []identity.ContactIdentity, total int, err error)
	// ContactIdentity gives any identity of the tenant; identity.ErrNotFound.
	ContactIdentity(ctx context.Context, tenant, id string) (identity.ContactIdentity, error)
	// CreateContactIdentity keeps an identity with a new id, unverified. An unknown
	// sender's row of the address is adopted when there is a contact, as Store.Link
	// does. identity.ErrTaken, ErrNoContact.
	CreateContactIdentity(ctx context.Context, i identity.ContactIdentity, by identity.Actor) (identity.ContactIdentity, error)
	// ReplaceContactIdentity changes the identity of i's id; where it lives stays. A new
	// owner or a new address takes verification, role override and a live claim code
	// with it. name nil leaves the display name. identity.ErrNotFound, also for one that
	// lives elsewhere than i says; identity.ErrTaken, ErrNoContact.
	ReplaceContactIdentity(ctx context.Context, i identity.ContactIdentity, name *string, by identity.Actor) (identity.ContactIdentity, error)
	// DeleteContactIdentity removes any identity of the tenant that lives in the instance,
	// or in all of them (""); identity.ErrNotFound.
	DeleteContactIdentity(ctx context.Context, tenant, instance, id string, by identity.Actor) error
}
