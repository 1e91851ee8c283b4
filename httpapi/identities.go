package httpapi

import (
	"context"
	"time"

	"hydragate/identity"
)

type identityAnswer struct {
	Channel      string     `json:"channel"`
	CreatedAt    time.Time  `json:"created_at"`
	CustomerID   *string    `json:"customer_id" format:"uuid"`
	DisplayName  *string    `json:"display_name"`
	ExternalID   string     `json:"external_id"`
	ID           string     `json:"id" format:"uuid"`
	InstanceID   *string    `json:"instance_id" format:"uuid"`
	Metadata     Object     `json:"metadata"`
	RoleOverride *string    `json:"role_override" enum:"owner"`
	UpdatedAt    time.Time  `json:"updated_at"`
	Verified     bool       `json:"verified"`
	VerifiedAt   *time.Time `json:"verified_at"`
}

func toIdentity(i identity.Identity) identityAnswer {
	return identityAnswer{
		Channel: i.Channel, CreatedAt: i.CreatedAt.UTC(), CustomerID: orNull(i.CustomerID), DisplayName: orNull(i.DisplayName), ExternalID: i.ExternalID,
		ID: i.ID, InstanceID: orNull(i.InstanceID), Metadata: Object(i.Metadata), RoleOverride: orNull(i.RoleOverride), UpdatedAt: i.UpdatedAt.UTC(),
		Verified: i.IsVerified(), VerifiedAt: timeOrNull(i.VerifiedAt),
	}
}

// IdentityPath names an identity, and the customer it belongs to.
type IdentityPath struct {
	CustomerID string `path:"customer_id" format:"uuid"`
	IdentityID string `path:"identity_id" format:"uuid"`
}

type identityOut struct{ Body identityAnswer }

type identitiesOut struct {
	Body []identityAnswer `nullable:"false"`
}

func (a *API) listIdentities(ctx context.Context, in *struct {
	CustomerPath
	Channel string `query:"channel" pattern:"^[a-z][a-z0-9_]{0,31}$"`
}) (*identitiesOut, error) {
	key := callerOf(ctx)
	all, err := a.Store.CustomerIdentities(ctx, key.TenantID, in.CustomerID, in.Channel)
	if err != nil {
		return nil, about("Customer", err)
	}
	out := &identitiesOut{Body: []identityAnswer{}}
	for _, i := range all {
		if reads(key, i) {
			out.Body = append(out.Body, toIdentity(i))
		}
	}
	return out, nil
}

type newIdentity struct {
	Channel      string      `json:"channel" pattern:"^[a-z][a-z0-9_]{0,31}$" doc:"telegram, sms, slack, whatsapp, or a channel of your own."`
	ExternalID   string      `json:"external_id" minLength:"1" maxLength:"255" doc:"SMS and WhatsApp: the number. Telegram: the numeric user id. Slack: team and user id, T…:U…."`
	DisplayName  Opt[string] `json:"display_name,omitempty" maxLength:"255" doc:"For staff to read; never matched."`
	InstanceID   Opt[string] `json:"instance_id,omitempty" format:"uuid" doc:"Absent or null: every instance of the tenant."`
	Metadata     Opt[Object] `json:"metadata,omitempty"`
	RoleOverride Opt[string] `json:"role_override,omitempty" enum:"owner" doc:"Needs the scope identities:grant."`
}

func (a *API) linkIdentity(ctx context.Context, in *struct {
	CustomerPath
	Body newIdentity
}) (*identityOut, error) {
	key, b := callerOf(ctx), in.Body
	if b.RoleOverride.Value != "" && !key.May("identities:grant") {
		return nil, missingScope("identities:grant")
	}
	instance, err := chosen(key, b.InstanceID.Value)
	if err != nil {
		return nil, err
	}
	i, err := a.Store.Link(ctx, identity.Identity{
		TenantID: key.TenantID, CustomerID: in.CustomerID, InstanceID: instance, Channel: b.Channel, ExternalID: b.ExternalID,
		DisplayName: b.DisplayName.Value, RoleOverride: b.RoleOverride.Value, Metadata: b.Metadata.Value.raw(),
	}, key.Actor())
	return &identityOut{toIdentity(i)}, about("Customer", err)
}

func (a *API) getIdentity(ctx context.Context, in *IdentityPath) (*identityOut, error) {
	key := callerOf(ctx)
	i, err := a.Store.Identity(ctx, key.TenantID, in.CustomerID, in.IdentityID)
	if err == nil && !reads(key, i) {
		err = identity.ErrNotFound
	}
	return &identityOut{toIdentity(i)}, about("Identity", err)
}

type identityEdit struct {
	DisplayName  Opt[string] `json:"display_name,omitempty" maxLength:"255"`
	Metadata     Opt[Object] `json:"metadata,omitempty"`
	RoleOverride Opt[string] `json:"role_override,omitempty" enum:"owner" doc:"Needs the scope identities:grant."`
	Verified     Opt[bool]   `json:"verified,omitempty" doc:"Needs the scope identities:grant. true does without a claim what a claim does; false or null ends a live claim code."`
}

func (a *API) editIdentity(ctx context.Context, in *struct {
	IdentityPath
	Body identityEdit
}) (*identityOut, error) {
	key, b := callerOf(ctx), in.Body
	if (b.Verified.Given || b.RoleOverride.Given) && !key.May("identities:grant") {
		return nil, missingScope("identities:grant")
	}
	if err := a.mayChange(ctx, key, in.IdentityPath); err != nil {
		return nil, err
	}
	i, err := a.Store.EditIdentity(ctx, key.TenantID, in.CustomerID, in.IdentityID, identity.Edit{
		DisplayName: b.DisplayName.Edit(), RoleOverride: b.RoleOverride.Edit(), Metadata: editOf(b.Metadata), Verified: b.Verified.Edit(),
	}, key.Actor())
	return &identityOut{toIdentity(i)}, about("Identity", err)
}

func (a *API) unlinkIdentity(ctx context.Context, in *IdentityPath) (*none, error) {
	key := callerOf(ctx)
	if err := a.mayChange(ctx, key, *in); err != nil {
		return nil, err
	}
	return nil, about("Identity", a.Store.Unlink(ctx, key.TenantID, in.CustomerID, in.IdentityID, key.Actor()))
}

// mayChange looks an identity up for keys that may not touch all of them. Where an
// identity lives never changes, so that it still holds when the change is made.
func (a *API) mayChange(ctx context.Context, key identity.APIKey, at IdentityPath) error {
	if key.InstanceID == "" {
		return nil
	}
	i, err := a.Store.Identity(ctx, key.TenantID, at.CustomerID, at.IdentityID)
	if err != nil {
		return about("Identity", err)
	}
	return mayChange(key, i)
}
