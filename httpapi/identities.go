package httpapi

import (
	"context"
	"time"

	"hydragate/httpapi/fastapi"
	"hydragate/httpapi/operation"
	"hydragate/identity"
)

// IdentityStore stores the identities of customers. Its methods return identity.ErrNotFound for an
// unknown customer or identity.
type IdentityStore interface {
	// CustomerIdentities returns identities of a customer, oldest first.
	CustomerIdentities(ctx context.Context, q identity.Query) ([]identity.Identity, error)
	// Link stores a new, unverified identity. If an unknown sender has the same address within the
	// scope of the identity, that row is linked instead and keeps its conversations; further rows
	// of the address within the scope are merged into it. Link returns identity.ErrAlreadyLinked if
	// the address belongs to a customer, and identity.ErrNoInstance if the instance does not exist.
	Link(ctx context.Context, i identity.Identity, by identity.Actor) (identity.Identity, error)
	Identity(ctx context.Context, k identity.Key) (identity.Identity, error)
	// EditIdentity changes an identity. Setting verified to false invalidates a live claim code.
	EditIdentity(ctx context.Context, k identity.Key, e identity.Edit, by identity.Actor) (identity.Identity, error)
	// Unlink removes an identity. The audit log keeps the ID of its customer.
	Unlink(ctx context.Context, k identity.Key, by identity.Actor) error
	// IdentityAddress returns the address of an identity, even if the identity was removed.
	IdentityAddress(ctx context.Context, tenant, id string) (identity.Address, error)
	// AddressHistory returns the customers that have owned an address, oldest first.
	AddressHistory(ctx context.Context, a identity.Address) ([]identity.Ownership, error)
}

type identityResponse struct {
	Aliases      []string       `json:"aliases,omitempty"`
	Channel      string         `json:"channel"`
	CreatedAt    time.Time      `json:"created_at"`
	CustomerID   *string        `json:"customer_id" format:"uuid"`
	DisplayName  *string        `json:"display_name"`
	ExternalID   string         `json:"external_id"`
	ID           string         `json:"id" format:"uuid"`
	InstanceID   *string        `json:"instance_id" format:"uuid"`
	Metadata     fastapi.Object `json:"metadata"`
	RoleOverride *string        `json:"role_override" enum:"owner"`
	UpdatedAt    time.Time      `json:"updated_at"`
	Verified     bool           `json:"verified"`
	VerifiedAt   *time.Time     `json:"verified_at"`
}

func toIdentity(i identity.Identity) identityResponse {
	return identityResponse{
		Aliases:      i.Aliases,
		Channel:      i.Channel,
		CreatedAt:    i.CreatedAt.UTC(),
		CustomerID:   operation.NullableString(i.CustomerID),
		DisplayName:  operation.NullableString(i.DisplayName),
		ExternalID:   i.ExternalID,
		ID:           i.ID,
		InstanceID:   operation.NullableString(i.InstanceID),
		Metadata:     fastapi.Object(i.Metadata),
		RoleOverride: operation.NullableString(i.RoleOverride),
		UpdatedAt:    i.UpdatedAt.UTC(),
		Verified:     i.IsVerified(),
		VerifiedAt:   operation.NullableTime(i.VerifiedAt),
	}
}

// IdentityPath contains the path parameters of an identity of a customer.
type IdentityPath struct {
	CustomerID string `path:"customer_id" format:"uuid" doc:"ID of the customer."`
	IdentityID string `path:"identity_id" format:"uuid" doc:"ID of the identity."`
}

func (p IdentityPath) key(tenant string) identity.Key {
	return identity.Key{TenantID: tenant, CustomerID: p.CustomerID, IdentityID: p.IdentityID}
}

type identityOut struct{ Body identityResponse }

type identitiesOut struct {
	Body []identityResponse `nullable:"false"`
}

func (a *API) listIdentities(ctx context.Context, in *struct {
	CustomerPath
	Channel string `query:"channel" pattern:"^[a-z][a-z0-9_]{0,31}$" doc:"Only identities of this channel."`
},
) (*identitiesOut, error) {
	key := operation.CallerOf(ctx)
	all, err := a.Stores.Identities.CustomerIdentities(ctx, identity.Query{
		TenantID: key.TenantID, CustomerID: in.CustomerID, Channel: in.Channel,
	})
	if err != nil {
		return nil, operation.NameNotFound("Customer", err)
	}
	out := &identitiesOut{Body: []identityResponse{}}
	for _, i := range all {
		if operation.CanReadIdentity(key, i) {
			out.Body = append(out.Body, toIdentity(i))
		}
	}
	return out, nil
}

type newIdentity struct {
	Channel      string                           `json:"channel" pattern:"^[a-z][a-z0-9_]{0,31}$"`
	ExternalID   string                           `json:"external_id" minLength:"1" maxLength:"255"`
	DisplayName  fastapi.Optional[string]         `json:"display_name,omitempty" maxLength:"255"`
	InstanceID   fastapi.Optional[string]         `json:"instance_id,omitempty" format:"uuid"`
	Metadata     fastapi.Optional[fastapi.Object] `json:"metadata,omitempty"`
	RoleOverride fastapi.Optional[string]         `json:"role_override,omitempty" enum:"owner"`
}

func (a *API) linkIdentity(ctx context.Context, in *struct {
	CustomerPath
	Body newIdentity
},
) (*identityOut, error) {
	key, b := operation.CallerOf(ctx), in.Body
	if b.RoleOverride.Value != "" && !key.HasScope("identities:grant") {
		return nil, operation.MissingScope("identities:grant")
	}
	instance, err := operation.ResolveInstance(key, b.InstanceID.Value)
	if err != nil {
		return nil, err
	}
	i, err := a.Stores.Identities.Link(ctx, identity.Identity{
		TenantID:     key.TenantID,
		CustomerID:   in.CustomerID,
		InstanceID:   instance,
		Channel:      b.Channel,
		ExternalID:   b.ExternalID,
		DisplayName:  b.DisplayName.Value,
		RoleOverride: b.RoleOverride.Value,
		Metadata:     b.Metadata.Value.Raw(),
	}, key.Actor())
	return &identityOut{toIdentity(i)}, operation.NameNotFound("Customer", err)
}

func (a *API) getIdentity(ctx context.Context, in *IdentityPath) (*identityOut, error) {
	key := operation.CallerOf(ctx)
	i, err := a.Stores.Identities.Identity(ctx, in.key(key.TenantID))
	if err == nil && !operation.CanReadIdentity(key, i) {
		err = identity.ErrNotFound
	}
	return &identityOut{toIdentity(i)}, operation.NameNotFound("Identity", err)
}

type identityEdit struct {
	DisplayName  fastapi.Optional[string]         `json:"display_name,omitempty" maxLength:"255"`
	Metadata     fastapi.Optional[fastapi.Object] `json:"metadata,omitempty"`
	RoleOverride fastapi.Optional[string]         `json:"role_override,omitempty" enum:"owner"`
	Verified     fastapi.Optional[bool]           `json:"verified,omitempty"`
}

func (a *API) editIdentity(ctx context.Context, in *struct {
	IdentityPath
	Body identityEdit
},
) (*identityOut, error) {
	key, b := operation.CallerOf(ctx), in.Body
	if (b.Verified.IsSet || b.RoleOverride.IsSet) && !key.HasScope("identities:grant") {
		return nil, operation.MissingScope("identities:grant")
	}
	if err := a.checkIdentityWrite(ctx, key, in.IdentityPath); err != nil {
		return nil, err
	}
	i, err := a.Stores.Identities.EditIdentity(ctx, in.key(key.TenantID), identity.Edit{
		DisplayName:  b.DisplayName.Edit(),
		RoleOverride: b.RoleOverride.Edit(),
		Metadata:     fastapi.MetadataEdit(b.Metadata),
		Verified:     b.Verified.Edit(),
	}, key.Actor())
	return &identityOut{toIdentity(i)}, operation.NameNotFound("Identity", err)
}

func (a *API) unlinkIdentity(ctx context.Context, in *IdentityPath) (*operation.NoBody, error) {
	key := operation.CallerOf(ctx)
	if err := a.checkIdentityWrite(ctx, key, *in); err != nil {
		return nil, err
	}
	err := a.Stores.Identities.Unlink(ctx, in.key(key.TenantID), key.Actor())
	return nil, operation.NameNotFound("Identity", err)
}

// checkIdentityWrite returns a problem if the key may not change an identity. The instance of an
// identity never changes, so that the result is still valid when the change is made.
func (a *API) checkIdentityWrite(ctx context.Context, key identity.APIKey, path IdentityPath) error {
	if key.InstanceID == "" {
		return nil
	}
	i, err := a.Stores.Identities.Identity(ctx, path.key(key.TenantID))
	if err != nil {
		return operation.NameNotFound("Identity", err)
	}
	return operation.CheckIdentityWrite(key, i)
}

type ownerResponse struct {
	CustomerID string     `json:"customer_id" format:"uuid"`
	Erased     bool       `json:"erased"`
	IdentityID string     `json:"identity_id" format:"uuid"`
	InstanceID *string    `json:"instance_id" format:"uuid"`
	Since      time.Time  `json:"since"`
	Until      *time.Time `json:"until"`
}

func toOwner(o identity.Ownership) ownerResponse {
	return ownerResponse{
		CustomerID: o.CustomerID,
		Erased:     !o.ErasedAt.IsZero(),
		IdentityID: o.IdentityID,
		InstanceID: operation.NullableString(o.InstanceID),
		Since:      o.Since.UTC(),
		Until:      operation.NullableTime(o.Until),
	}
}

type historyResponse struct {
	Channel    string          `json:"channel"`
	ExternalID string          `json:"external_id"`
	IdentityID string          `json:"identity_id" format:"uuid"`
	Owners     []ownerResponse `json:"owners" nullable:"false"`
}

type historyOut struct{ Body historyResponse }

// SenderPath is the path parameter of an identity, with or without a customer.
type SenderPath struct {
	IdentityID string `path:"identity_id" format:"uuid" doc:"ID of the identity."`
}

func (a *API) identityHistory(ctx context.Context, in *SenderPath) (*historyOut, error) {
	key := operation.CallerOf(ctx)
	address, err := a.Stores.Identities.IdentityAddress(ctx, key.TenantID, in.IdentityID)
	if err != nil || !operation.CanReadIdentity(key, identity.Identity{InstanceID: address.InstanceID}) {
		return nil, operation.NameNotFound("Identity", errorOrNotFound(err))
	}
	owners, err := a.Stores.Identities.AddressHistory(ctx, address)
	if err != nil {
		return nil, err
	}
	out := historyResponse{
		Channel: address.Channel, ExternalID: address.ExternalID, IdentityID: in.IdentityID, Owners: []ownerResponse{},
	}
	for _, o := range owners {
		if operation.CanReadIdentity(key, identity.Identity{InstanceID: o.InstanceID}) {
			out.Owners = append(out.Owners, toOwner(o))
		}
	}
	return &historyOut{out}, nil
}

// errorOrNotFound returns err, or identity.ErrNotFound if err is nil.
func errorOrNotFound(err error) error {
	if err == nil {
		return identity.ErrNotFound
	}
	return err
}
