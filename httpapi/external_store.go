package httpapi

import (
	"context"
	"errors"

	"hydragate/gateway"
	"hydragate/identity"
)

// ErrUserExists says that another customer of the tenant has the e-mail address, the
// phone number or the fkId.
var ErrUserExists = errors.New("httpapi: user already exists")

// A User is a customer as the conversation-user surface shows it. The custom data is
// a part of the customer's metadata, under "customData".
type User struct {
	identity.Customer
	FKID     string // the user's id in the agent's own system; unique in the tenant
	FKUserID string
	Source   string
	Context  string
}

// A UserQuery finds a user by the one field that is not "".
type UserQuery struct {
	Email, Phone, FKID string
}

// Users is what the conversation-user surface keeps its resources in: the customers
// of everybody else. Instance is the agent that asks.
type Users interface {
	// Agent gives the instance whose secret key hashes to hash; gateway.ErrNoInstance.
	Agent(ctx context.Context, hash string) (gateway.Instance, error)
	// CreateUser keeps a customer with a new id and, for a phone number, an unverified
	// sms identity of the instance. Of two at once with the same e-mail address, phone
	// number or fkId one gets ErrUserExists.
	CreateUser(ctx context.Context, instance string, u User, by identity.Actor) (User, error)
	// User gives a user of the tenant; identity.ErrNotFound.
	User(ctx context.Context, tenant, id string) (User, error)
	// FindUser gives the oldest user that fits, and the conversations of the instance
	// with them, oldest first; identity.ErrNotFound.
	FindUser(ctx context.Context, tenant, instance string, q UserQuery) (u User, conversations []string, err error)
	// DeleteUser removes the customer with all identities; identity.ErrNotFound.
	DeleteUser(ctx context.Context, tenant, id string, by identity.Actor) error
}
