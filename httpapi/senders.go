package httpapi

import (
	"context"

	"hydragate/identity"
)

type lookupAnswer struct {
	Channel       string  `json:"channel"`
	CustomerEmail *string `json:"customer_email"`
	CustomerID    string  `json:"customer_id" format:"uuid"`
	DisplayName   *string `json:"display_name"`
	ExternalID    string  `json:"external_id"`
	IdentityID    string  `json:"identity_id" format:"uuid"`
	RoleOverride  *string `json:"role_override" enum:"owner"`
	Verified      bool    `json:"verified"`
}

type lookupOut struct{ Body lookupAnswer }

func (a *API) lookupIdentity(ctx context.Context, in *struct {
	Channel    string `query:"channel" required:"true" pattern:"^[a-z][a-z0-9_]{0,31}$"`
	ExternalID string `query:"external_id" required:"true" minLength:"1" maxLength:"255"`
	InstanceID string `query:"instance_id" format:"uuid" doc:"An identity of this instance wins over one of all instances."`
}) (*lookupOut, error) {
	key := callerOf(ctx)
	instance, err := chosen(key, in.InstanceID)
	if err != nil {
		return nil, notFound("Identity")
	}
	i, email, err := a.Store.Lookup(ctx, identity.Address{TenantID: key.TenantID, InstanceID: instance, Channel: in.Channel, ExternalID: in.ExternalID})
	if err != nil {
		return nil, about("Identity", err)
	}
	return &lookupOut{lookupAnswer{
		Channel: i.Channel, CustomerEmail: orNull(email), CustomerID: i.CustomerID, DisplayName: orNull(i.DisplayName), ExternalID: i.ExternalID,
		IdentityID: i.ID, RoleOverride: orNull(i.RoleOverride), Verified: i.IsVerified(),
	}}, nil
}

func (a *API) listUnknownSenders(ctx context.Context, in *struct {
	PageOf
	Customer   string `query:"customer" required:"true" enum:"none" doc:"Only identities that belong to nobody are listed here."`
	InstanceID string `query:"instance_id" format:"uuid"`
}) (*paged[identityAnswer], error) {
	key := callerOf(ctx)
	instance, err := chosen(key, in.InstanceID)
	if err != nil {
		return nil, err
	}
	if instance != "" {
		if _, err := a.Store.Instance(ctx, key.TenantID, instance); err != nil {
			return nil, about("Instance", err)
		}
	}
	return pageFrom(in.PageOf, func(after string, limit int) ([]identity.Identity, error) {
		return a.Store.UnknownSenders(ctx, key.TenantID, instance, after, limit)
	}, func(i identity.Identity) string { return i.ID }, toIdentity)
}

func (a *API) adoptIdentity(ctx context.Context, in *IdentityPath) (*identityOut, error) {
	key := callerOf(ctx)
	if err := a.mayAdopt(ctx, key, in.IdentityID); err != nil {
		return nil, err
	}
	if _, err := a.Store.Customer(ctx, key.TenantID, in.CustomerID); err != nil {
		return nil, about("Customer", err)
	}
	i, err := a.Store.Adopt(ctx, key.TenantID, in.CustomerID, in.IdentityID, key.Actor())
	return &identityOut{toIdentity(i)}, about("Identity", err)
}

// mayAdopt looks an unknown sender up for keys that see those of one instance only.
func (a *API) mayAdopt(ctx context.Context, key identity.APIKey, id string) error {
	if key.InstanceID == "" {
		return nil
	}
	senders, err := a.Store.UnknownSenders(ctx, key.TenantID, key.InstanceID, justBefore(id), 1)
	if err != nil {
		return err
	}
	if len(senders) == 0 || senders[0].ID != id {
		return notFound("Identity")
	}
	return nil
}
