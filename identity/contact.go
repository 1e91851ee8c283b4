package identity

import "errors"

// ErrNoContact is returned if the contact that an identity is to be linked to does not exist.
var ErrNoContact = errors.New("identity: no such contact")

// A ContactIdentity is an identity as the contact-identities API represents it: the customer is
// the contact, DisplayName the name and Username the screen name. The URLs are stored and
// returned, never fetched.
type ContactIdentity struct {
	Identity
	AvatarURL string
	InfoURL   string
	PageURL   string
}

// A ContactQuery selects a page of contact identities.
type ContactQuery struct {
	TenantID   string
	InstanceID string // if not empty, identities of other instances are excluded
	Skip       int
	Limit      int
}
