package identity

import (
	"errors"
)

// ErrNoContact says that there is no such customer to give an identity to.
var ErrNoContact = errors.New("httpapi: no such contact")

// A ContactIdentity is an identity as the contact surface shows it: its customer is
// the contact, its display name the name, its username the screen name. The URLs are
// kept and shown, never fetched.
type ContactIdentity struct {
	Identity
	AvatarURL string
	InfoURL   string
	PageURL   string
}
