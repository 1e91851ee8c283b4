package httpapi

import (
	"context"
	"time"

	"hydragate/claim"
	"hydragate/httpapi/fastapi"
	"hydragate/httpapi/operation"
	"hydragate/identity"
)

// SenderStore resolves addresses and stores unknown senders, which are identities without a
// customer. Its methods return identity.ErrNotFound for an unknown identity and
// identity.ErrAlreadyLinked for one that belongs to a customer.
type SenderStore interface {
	// Lookup returns the identity with an address, and the email address of its customer. An
	// identity of the instance takes precedence over one of all instances. Unknown senders are not
	// found.
	Lookup(ctx context.Context, a identity.Address) (i identity.Identity, customerEmail string, err error)
	UnknownSenders(ctx context.Context, q identity.SenderQuery) ([]identity.Identity, error)
	// Adopt links an unknown sender to a customer. Of concurrent calls, one succeeds.
	Adopt(ctx context.Context, k identity.Key, by identity.Actor) (identity.Identity, error)
	// BlockSender makes the gateway drop the messages of an unknown sender. It returns the time of
	// the block, which is that of the first call.
	BlockSender(ctx context.Context, k identity.SenderKey, by identity.Actor) (since time.Time, err error)
	// UnblockSender undoes BlockSender.
	UnblockSender(ctx context.Context, k identity.SenderKey, by identity.Actor) error
	// EraseSender erases everything about an unknown sender, in all instances. void are claim codes
	// that the caller must drop.
	EraseSender(ctx context.Context, tenant, id string, by identity.Actor) (void []claim.Target, err error)
	// EraseAddress is EraseSender for the address a, whose instance is ignored. It also finds what
	// is left of senders whose identity was deleted.
	EraseAddress(ctx context.Context, a identity.Address, by identity.Actor) (void []claim.Target, err error)
}

type lookupResponse struct {
	Channel       string  `json:"channel"`
	CustomerEmail *string `json:"customer_email"`
	CustomerID    string  `json:"customer_id" format:"uuid"`
	DisplayName   *string `json:"display_name"`
	ExternalID    string  `json:"external_id"`
	IdentityID    string  `json:"identity_id" format:"uuid"`
	RoleOverride  *string `json:"role_override" enum:"owner"`
	Verified      bool    `json:"verified"`
}

type lookupOut struct{ Body lookupResponse }

func (a *API) lookupIdentity(ctx context.Context, in *struct {
	Channel    string `query:"channel" required:"true" pattern:"^[a-z][a-z0-9_]{0,31}$" doc:"Channel of the account."`
	ExternalID string `query:"external_id" required:"true" minLength:"1" maxLength:"255" doc:"ID of the account on its channel."`
	InstanceID string `query:"instance_id" format:"uuid" doc:"Instance whose identities are also considered; they take precedence over identities of all instances."`
},
) (*lookupOut, error) {
	key := operation.CallerOf(ctx)
	instance, err := operation.ResolveInstance(key, in.InstanceID)
	if err != nil {
		return nil, fastapi.NotFound("Identity")
	}
	i, email, err := a.Stores.Senders.Lookup(ctx, identity.Address{
		TenantID: key.TenantID, InstanceID: instance, Channel: in.Channel, ExternalID: in.ExternalID,
	})
	if err != nil {
		return nil, operation.NameNotFound("Identity", err)
	}
	return &lookupOut{lookupResponse{
		Channel:       i.Channel,
		CustomerEmail: operation.NullableString(email),
		CustomerID:    i.CustomerID,
		DisplayName:   operation.NullableString(i.DisplayName),
		ExternalID:    i.ExternalID,
		IdentityID:    i.ID,
		RoleOverride:  operation.NullableString(i.RoleOverride),
		Verified:      i.IsVerified(),
	}}, nil
}

func (a *API) listUnknownSenders(ctx context.Context, in *struct {
	operation.PageQuery
	Customer   string `query:"customer" required:"true" enum:"none" doc:"Must be none: only senders that belong to no customer are listed."`
	InstanceID string `query:"instance_id" format:"uuid" doc:"Only senders that wrote to this instance."`
},
) (*operation.PageOut[identityResponse], error) {
	key := operation.CallerOf(ctx)
	instance, err := operation.ResolveInstance(key, in.InstanceID)
	if err != nil {
		return nil, err
	}
	if instance != "" {
		if _, err := a.Stores.Instances.Instance(ctx, key.TenantID, instance); err != nil {
			return nil, operation.NameNotFound("Instance", err)
		}
	}
	return operation.FetchPage(in.PageQuery, func(after string, limit int) ([]identity.Identity, error) {
		return a.Stores.Senders.UnknownSenders(ctx, identity.SenderQuery{
			TenantID: key.TenantID, InstanceID: instance, After: after, Limit: limit,
		})
	}, func(i identity.Identity) string { return i.ID }, toIdentity)
}

func (a *API) adoptIdentity(ctx context.Context, in *IdentityPath) (*identityOut, error) {
	key := operation.CallerOf(ctx)
	if err := a.checkAdopt(ctx, key, in.IdentityID); err != nil {
		return nil, err
	}
	if _, err := a.Stores.Customers.Customer(ctx, key.TenantID, in.CustomerID); err != nil {
		return nil, operation.NameNotFound("Customer", err)
	}
	i, err := a.Stores.Senders.Adopt(ctx, in.key(key.TenantID), key.Actor())
	return &identityOut{toIdentity(i)}, operation.NameNotFound("Identity", err)
}

// checkAdopt returns a problem if the key is limited to an instance and the unknown sender is not
// one of that instance.
func (a *API) checkAdopt(ctx context.Context, key identity.APIKey, id string) error {
	if key.InstanceID == "" {
		return nil
	}
	senders, err := a.Stores.Senders.UnknownSenders(ctx, identity.SenderQuery{
		TenantID: key.TenantID, InstanceID: key.InstanceID, After: operation.PreviousID(id), Limit: 1,
	})
	if err != nil {
		return err
	}
	if len(senders) == 0 || senders[0].ID != id {
		return fastapi.NotFound("Identity")
	}
	return nil
}

// key identifies the sender. A key limited to one instance finds only the senders of that instance.
func (p SenderPath) key(caller identity.APIKey) identity.SenderKey {
	return identity.SenderKey{TenantID: caller.TenantID, InstanceID: caller.InstanceID, IdentityID: p.IdentityID}
}

type blockResponse struct {
	Blocked    bool       `json:"blocked" doc:"Whether messages of the sender are dropped."`
	BlockedAt  *time.Time `json:"blocked_at" doc:"When the sender was blocked. Null: it is not."`
	IdentityID string     `json:"identity_id" format:"uuid" doc:"ID of the unknown sender."`
}

type blockOut struct{ Body blockResponse }

// blockSender blocks an unknown sender. Linking the sender to a customer ends the block.
func (a *API) blockSender(ctx context.Context, in *SenderPath) (*blockOut, error) {
	key := operation.CallerOf(ctx)
	since, err := a.Stores.Senders.BlockSender(ctx, in.key(key), key.Actor())
	if err != nil {
		return nil, operation.NameNotFound("Identity", err)
	}
	return &blockOut{
		blockResponse{Blocked: true, BlockedAt: operation.NullableTime(since), IdentityID: in.IdentityID},
	}, nil
}

func (a *API) unblockSender(ctx context.Context, in *SenderPath) (*blockOut, error) {
	key := operation.CallerOf(ctx)
	if err := a.Stores.Senders.UnblockSender(ctx, in.key(key), key.Actor()); err != nil {
		return nil, operation.NameNotFound("Identity", err)
	}
	return &blockOut{blockResponse{IdentityID: in.IdentityID}}, nil
}

// EraseConfirmation is the parameter that distinguishes the erasure of an unknown sender from a mistyped
// request to unlink an identity of a customer.
type EraseConfirmation struct {
	Erase string `query:"erase" required:"true" enum:"true" doc:"Must be true: everything that is stored about the sender is removed."`
}

// eraseSender erases an unknown sender in all instances, so that a key must not be limited to one.
func (a *API) eraseSender(ctx context.Context, in *struct {
	SenderPath
	EraseConfirmation
},
) (*operation.NoBody, error) {
	key := operation.CallerOf(ctx)
	if key.InstanceID != "" {
		return nil, operation.KeyLimitedProblem()
	}
	void, err := a.Stores.Senders.EraseSender(ctx, key.TenantID, in.IdentityID, key.Actor())
	if err != nil {
		return nil, operation.NameNotFound("Identity", err)
	}
	a.dropCodes(ctx, void)
	return &operation.NoBody{}, nil
}

// eraseAddress erases everything about an address that belongs to no customer.
func (a *API) eraseAddress(ctx context.Context, in *struct {
	EraseConfirmation
	Channel    string `query:"channel" required:"true" pattern:"^[a-z][a-z0-9_]{0,31}$" doc:"Channel of the account."`
	ExternalID string `query:"external_id" required:"true" minLength:"1" maxLength:"255" doc:"ID of the account on its channel."`
},
) (*operation.NoBody, error) {
	key := operation.CallerOf(ctx)
	if key.InstanceID != "" {
		return nil, operation.KeyLimitedProblem()
	}
	void, err := a.Stores.Senders.EraseAddress(ctx, identity.Address{
		TenantID: key.TenantID, Channel: in.Channel, ExternalID: in.ExternalID,
	}, key.Actor())
	if err != nil {
		return nil, operation.NameNotFound("Identity", err)
	}
	a.dropCodes(ctx, void)
	return &operation.NoBody{}, nil
}
