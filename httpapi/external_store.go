package httpapi

import (
	"context"

	"hydragate/gateway"
	"hydragate/identity"
)

// Users is what the conversation-user surface keeps its resources in: the customers
// of everybody else. Instance is the agent that asks.
type Users interface {
	// Agent gives the instance whose secret key hashes to hash; gateway.ErrNoInstance.
	InstanceByAgentKey(ctx context.Context, hash string) (gateway.Instance, error)
	// CreateUser keeps a customer with a new id and, for a phone number, an unverified
	// sms identity of the instance. Of two at once with the same e-mail address, phone
	// number or fkId one gets ErrUserExists.
	CreateUser(ctx context.Context, instance string, u identity.User, by identity.Actor) (identity.User, error)
	// User gives a user of the tenant; identity.ErrNotFound.
	User(ctx context.Context, tenant, id string) (identity.User, error)
	// FindUser gives the oldest user that fits, and the conversations of the instance
	// with them, oldest first; identity.ErrNotFound.
	FindUser(ctx context.Context, tenant, instance string, q identity.UserQuery) (u identity.User, conversations []string, err error)
	// DeleteUser removes the customer with all identities; identity.ErrNotFound.
	DeleteUser(ctx context.Context, tenant, id string, by identity.Actor) error
}
