package identity

import "errors"

// ErrUserExists is returned if another customer of the tenant has the e-mail address, the phone
// number or the FKID.
var ErrUserExists = errors.New("identity: user already exists")

// ErrVerifiedElsewhere is returned if an application may not delete a user because an identity of
// the user is verified in another instance.
var ErrVerifiedElsewhere = errors.New("identity: user is verified in another instance")

// A User is a customer as the conversation-users API represents it. Its custom data is stored in
// the customer's metadata under "customData".
type User struct {
	Customer
	FKID     string // the user's ID in the application's own system; unique in the tenant
	FKUserID string
	Source   string
	Context  string
}

// A UserQuery selects a user by the one field that is not empty.
type UserQuery struct {
	Email, Phone, FKID string
}
