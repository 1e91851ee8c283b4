package userapi

import (
	"context"

	"hydragate/gateway"
	"hydragate/identity"
)

// Store stores conversation users, which are the customers of the tenant. An instance sees the users
// that it created, and those with an identity or a conversation in it. Its methods return
// identity.ErrNotFound for all others.
type Store interface {
	// InstancesByAgentKeys returns the instances whose agent secret keys have the given hashes, by
	// hash.
	InstancesByAgentKeys(ctx context.Context, hashes []string) (map[string]gateway.Instance, error)
	// CreateUser stores a customer with a new ID and, if it has a phone number, an unverified SMS
	// identity of the instance. It returns identity.ErrUserExists if the email address, phone
	// number or fkId is taken.
	CreateUser(ctx context.Context, instance string, u identity.User, by identity.Actor) (identity.User, error)
	// User returns a user.
	User(ctx context.Context, tenant, instance, id string) (identity.User, error)
	// FindUser returns the oldest user that matches, and the IDs of the instance's conversations
	// with them, oldest first.
	FindUser(
		ctx context.Context, tenant, instance string, q identity.UserQuery,
	) (u identity.User, conversations []string, err error)
	// DeleteUser removes the customer with all identities. It returns identity.ErrVerifiedElsewhere
	// if one of them is verified in another instance.
	DeleteUser(ctx context.Context, tenant, instance, id string, by identity.Actor) error
}
