package identity

import (
	"errors"
)

// ErrUserExists says that another customer of the tenant has the e-mail address, the
// phone number or the fkId.
var ErrUserExists = errors.New("httpapi: user already exists")

// A User is a customer as the conversation-user surface shows it. The custom data is
// a part of the customer's metadata, under "customData".
type User struct {
	Customer
	FKID     string // the user's id in the agent's own system; unique in the tenant
	FKUserID string
	Source   string
	Context  string
}

// A UserQuery finds a user by the one field that is not "".
type UserQuery struct {
	Email, Phone, FKID string
}
