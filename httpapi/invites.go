package httpapi

import (
	"context"
	"errors"
	"time"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/gateway"
	"hydragate/httpapi/fastapi"
	"hydragate/httpapi/operation"
	"hydragate/identity"
)

// InviteStore stores invites.
type InviteStore interface {
	// Invites returns invites of a customer. It returns identity.ErrNotFound if the customer does
	// not exist.
	Invites(ctx context.Context, q claim.InviteQuery) ([]claim.Invite, error)
	// RevokeInvite ends an invite. It returns identity.ErrNotFound if there is none, and
	// claim.ErrInviteUsed if it was redeemed.
	RevokeInvite(ctx context.Context, k claim.InviteKey, by identity.Actor) error
}

// An InviteConfirmer confirms or refuses the accounts that open invites. Its methods return
// identity.ErrNotFound if there is no such invite, claim.ErrInviteUsed if it was redeemed, and
// claim.ErrNotPending if no account waits. They notify the person and the application.
type InviteConfirmer interface {
	// ConfirmInvite also returns claim.ErrOpenerGone and claim.ErrOwnerConfirmation.
	ConfirmInvite(ctx context.Context, k claim.InviteKey, by identity.Actor) (claim.Invite, error)
	RefuseInvite(ctx context.Context, k claim.InviteKey, by identity.Actor) (claim.Invite, error)
}

// An issuedInvite is the response with the code of a new invite, which is not shown again.
type issuedInvite struct {
	Channel          string    `json:"channel" enum:"telegram,sms,slack,whatsapp"`
	Code             string    `json:"code"`
	Confirm          bool      `json:"confirm"`
	CustomerID       string    `json:"customer_id" format:"uuid"`
	ExpiresAt        time.Time `json:"expires_at"`
	ExpiresInSeconds int       `json:"expires_in_seconds"`
	ID               string    `json:"id" format:"uuid"`
	InstanceID       string    `json:"instance_id" format:"uuid"`
	Instructions     string    `json:"instructions"`
	RoleOverride     *string   `json:"role_override" enum:"owner"`
	URL              *string   `json:"url"`
}

type inviteResponse struct {
	Channel      string     `json:"channel" enum:"telegram,sms,slack,whatsapp"`
	Confirm      bool       `json:"confirm"`
	CreatedAt    time.Time  `json:"created_at"`
	CustomerID   string     `json:"customer_id" format:"uuid"`
	ExpiresAt    time.Time  `json:"expires_at"`
	ID           string     `json:"id" format:"uuid"`
	IdentityID   *string    `json:"identity_id" format:"uuid"`
	InstanceID   string     `json:"instance_id" format:"uuid"`
	Opener       *opener    `json:"opener"`
	RefusedAt    *time.Time `json:"refused_at"`
	RevokedAt    *time.Time `json:"revoked_at"`
	RoleOverride *string    `json:"role_override" enum:"owner"`
	State        string     `json:"state" enum:"live,pending,used,expired,revoked,refused"`
	UsedAt       *time.Time `json:"used_at"`
}

// An opener is the account that opened an invite that staff must confirm.
type opener struct {
	DisplayName *string    `json:"display_name"`
	ExternalID  *string    `json:"external_id"`
	FirstSeenAt *time.Time `json:"first_seen_at"`
	IdentityID  string     `json:"identity_id" format:"uuid"`
	OpenedAt    time.Time  `json:"opened_at"`
	Username    *string    `json:"username"`
}

func toOpener(o claim.Opener) *opener {
	if o.OpenedAt.IsZero() {
		return nil
	}
	return &opener{
		DisplayName: operation.NullableString(o.DisplayName),
		ExternalID:  operation.NullableString(o.ExternalID),
		FirstSeenAt: operation.NullableTime(o.FirstSeenAt),
		IdentityID:  o.IdentityID,
		OpenedAt:    o.OpenedAt.UTC(),
		Username:    operation.NullableString(o.Username),
	}
}

func toInvite(i claim.Invite) inviteResponse {
	return inviteResponse{
		Channel:      i.Channel,
		Confirm:      i.Confirm,
		CreatedAt:    i.CreatedAt.UTC(),
		CustomerID:   i.CustomerID,
		ExpiresAt:    i.ExpiresAt.UTC(),
		ID:           i.ID,
		IdentityID:   operation.NullableString(i.IdentityID),
		InstanceID:   i.InstanceID,
		Opener:       toOpener(i.Opener),
		RefusedAt:    operation.NullableTime(i.RefusedAt),
		RevokedAt:    operation.NullableTime(i.RevokedAt),
		RoleOverride: operation.NullableString(i.RoleOverride),
		State:        string(i.Status()),
		UsedAt:       operation.NullableTime(i.UsedAt),
	}
}

// InvitePath contains the path parameters of an invite of a customer.
type InvitePath struct {
	CustomerPath
	InviteID string `path:"invite_id" format:"uuid" doc:"ID of the invite."`
}

// key returns the key of the invite, limited to the instance of the caller's key.
func (p InvitePath) key(caller identity.APIKey) claim.InviteKey {
	return claim.InviteKey{
		TenantID: caller.TenantID, CustomerID: p.CustomerID, InstanceID: caller.InstanceID, InviteID: p.InviteID,
	}
}

type newInvite struct {
	Channel      string                   `json:"channel" enum:"telegram,sms,slack,whatsapp"`
	InstanceID   string                   `json:"instance_id" format:"uuid"`
	RoleOverride fastapi.Optional[string] `json:"role_override,omitempty" enum:"owner"`
	ExpiresIn    fastapi.Optional[int]    `json:"expires_in_seconds,omitempty" minimum:"600" maximum:"604800"`
	Confirm      fastapi.Optional[bool]   `json:"confirm,omitempty"`
}

// issueInvite issues a new invite. It is not idempotent, because replaying the response would
// require storing the code.
func (a *API) issueInvite(ctx context.Context, in *struct {
	CustomerPath
	Body newInvite
},
) (*struct{ Body issuedInvite }, error) {
	key, b := operation.CallerOf(ctx), in.Body
	if _, err := a.Stores.Customers.Customer(ctx, key.TenantID, in.CustomerID); err != nil {
		return nil, operation.NameNotFound("Customer", err)
	}
	if !operation.CanSeeInstance(key, b.InstanceID) {
		return nil, fastapi.NotFound("Instance")
	}
	if b.RoleOverride.Value != "" && !key.HasScope("identities:grant") {
		return nil, operation.MissingScope("identities:grant")
	}
	endpoint, err := a.inviteEndpoint(ctx, key.TenantID, b)
	if err != nil {
		return nil, err
	}
	i, code, err := a.Claims.IssueInvite(ctx, claim.Invite{
		TenantID:     key.TenantID,
		InstanceID:   b.InstanceID,
		Channel:      b.Channel,
		CustomerID:   in.CustomerID,
		RoleOverride: b.RoleOverride.Value,
		Life:         inviteLife(b.ExpiresIn.Value),
		Confirm:      b.Confirm.Value,
	}, key.Actor())
	if err != nil {
		return nil, operation.NameNotFound("Customer", err)
	}
	return &struct{ Body issuedInvite }{issuedInvite{
		Channel:          i.Channel,
		Code:             code,
		Confirm:          i.Confirm,
		CustomerID:       i.CustomerID,
		ExpiresAt:        i.ExpiresAt.UTC(),
		ExpiresInSeconds: int(inviteLife(b.ExpiresIn.Value).Seconds()),
		ID:               i.ID,
		InstanceID:       i.InstanceID,
		Instructions:     gateway.InviteInstructions(endpoint.Endpoint, code, i),
		RoleOverride:     operation.NullableString(i.RoleOverride),
		URL:              operation.NullableString(gateway.InviteURL(endpoint.Endpoint, code)),
	}}, nil
}

// inviteLife returns the time for which an invite can be redeemed.
func inviteLife(seconds int) time.Duration {
	if seconds == 0 {
		return claim.InviteLife
	}
	return time.Duration(seconds) * time.Second
}

// inviteEndpoint returns the endpoint that redeems the invite, or a problem if the channel is not
// connected.
func (a *API) inviteEndpoint(ctx context.Context, tenant string, b newInvite) (gateway.EndpointState, error) {
	if _, err := a.Stores.Instances.Instance(ctx, tenant, b.InstanceID); err != nil {
		return gateway.EndpointState{}, operation.NameNotFound("Instance", err)
	}
	endpoint, err := a.Endpoints.EndpointState(ctx, tenant, b.InstanceID, adapters.Channel(b.Channel))
	switch {
	case errors.Is(err, gateway.ErrNoEndpoint), err == nil && !isEnabled(endpoint):
		return gateway.EndpointState{}, fastapi.ValidationProblem(fastapi.ValueError(
			"the instance is not connected to this channel", "body", "channel",
		))
	case err != nil:
		return gateway.EndpointState{}, operation.NameNotFound("Instance", err)
	}
	return endpoint, nil
}

func (a *API) listInvites(ctx context.Context, in *struct {
	CustomerPath
	operation.PageQuery
},
) (*operation.PageOut[inviteResponse], error) {
	key := operation.CallerOf(ctx)
	out, err := operation.FetchPage(in.PageQuery, func(after string, limit int) ([]claim.Invite, error) {
		return a.Stores.Invites.Invites(ctx, claim.InviteQuery{
			TenantID: key.TenantID, CustomerID: in.CustomerID, InstanceID: key.InstanceID, After: after, Limit: limit,
		})
	}, func(i claim.Invite) string { return i.ID }, toInvite)
	return out, operation.NameNotFound("Customer", err)
}

func (a *API) revokeInvite(ctx context.Context, in *InvitePath) (*operation.NoBody, error) {
	key := operation.CallerOf(ctx)
	err := a.Stores.Invites.RevokeInvite(ctx, in.key(key), key.Actor())
	return nil, operation.NameNotFound("Invite", err)
}

type inviteOut struct{ Body inviteResponse }

func (a *API) confirmInvite(ctx context.Context, in *InvitePath) (*inviteOut, error) {
	key := operation.CallerOf(ctx)
	i, err := a.Confirmer.ConfirmInvite(ctx, in.key(key), key.Actor())
	return &inviteOut{toInvite(i)}, operation.NameNotFound("Invite", err)
}

func (a *API) refuseInvite(ctx context.Context, in *InvitePath) (*inviteOut, error) {
	key := operation.CallerOf(ctx)
	i, err := a.Confirmer.RefuseInvite(ctx, in.key(key), key.Actor())
	return &inviteOut{toInvite(i)}, operation.NameNotFound("Invite", err)
}

type claimCodeResponse struct {
	Code             string `json:"code" doc:"Code of six letters. It is shown once."`
	ExpiresInSeconds int    `json:"expires_in_seconds" doc:"Seconds until the code expires."`
	IdentityID       string `json:"identity_id" format:"uuid" doc:"Identity that the code verifies."`
	Instructions     string `json:"instructions" doc:"What to tell the customer, in one sentence."`
}

type claimCodeOut struct{ Body claimCodeResponse }

// CodeStore reads and ends the claim codes of identities. Its methods return identity.ErrNotFound if the
// customer has no such identity.
type CodeStore interface {
	// CodeStatus returns the state of the last code. If instance is not empty, other instances, and
	// what belongs to them, are not considered.
	CodeStatus(ctx context.Context, k identity.Key, instance string) (claim.CodeStatus, error)
	// ClaimBot returns the bot to which a code should be sent.
	ClaimBot(ctx context.Context, k identity.Key) (claim.Bot, error)
	// RevokeCode ends a live code. It returns the target of the code, which may be dropped.
	RevokeCode(ctx context.Context, k identity.Key, by identity.Actor) (claim.Target, error)
}

// issueClaimCode issues a new code and revokes the previous one. It is not idempotent, because
// replaying the response would require storing the code.
func (a *API) issueClaimCode(ctx context.Context, in *IdentityPath) (*claimCodeOut, error) {
	key := operation.CallerOf(ctx)
	if err := a.checkIdentityWrite(ctx, key, *in); err != nil {
		return nil, err
	}
	bot, err := a.Stores.Codes.ClaimBot(ctx, in.key(key.TenantID))
	if err != nil {
		return nil, operation.NameNotFound("Identity", err)
	}
	issued, err := a.Claims.IssueCode(ctx, in.key(key.TenantID), key.Actor())
	if err != nil {
		return nil, operation.NameNotFound("Identity", err)
	}
	return &claimCodeOut{claimCodeResponse{
		Code: issued.Code, ExpiresInSeconds: int(claim.CodeTTL.Seconds()), IdentityID: in.IdentityID,
		Instructions: gateway.ClaimInstructions(issued, bot, a.botEndpoint(ctx, issued, bot)),
	}}, nil
}

// botEndpoint returns the endpoint of a bot. It is zero if there is none or the lookup fails; the
// instructions then name the instance.
func (a *API) botEndpoint(ctx context.Context, issued claim.IssuedCode, bot claim.Bot) adapters.Endpoint {
	if !bot.Configured || a.Endpoints == nil {
		return adapters.Endpoint{}
	}
	endpoint, err := a.Endpoints.EndpointState(ctx, issued.TenantID, bot.InstanceID, adapters.Channel(issued.Channel))
	if err != nil {
		return adapters.Endpoint{}
	}
	return endpoint.Endpoint
}

type claimCodeStatus struct {
	Account          claimAccount  `json:"account"`
	Customer         claimCustomer `json:"customer"`
	ExpiresAt        *time.Time    `json:"expires_at"`
	ExpiresInSeconds int           `json:"expires_in_seconds"`
	IssuedAt         *time.Time    `json:"issued_at"`
	IssuedBy         *string       `json:"issued_by"`
	LastEvent        *claimEvent   `json:"last_event"`
	State            string        `json:"state" enum:"none,live,redeemed,expired,revoked,locked"`
	Warnings         []string      `json:"warnings" nullable:"false" enum:"never_seen,linked_minutes_ago,other_verified_accounts,verification_expired,channel_not_connected,carrier_proof_only"`
	WrongTries       int           `json:"wrong_tries"`
}

type claimAccount struct {
	Address     string     `json:"address"`
	Channel     string     `json:"channel"`
	FirstSeenAt *time.Time `json:"first_seen_at"`
	LastSeenAt  *time.Time `json:"last_seen_at"`
}

type claimCustomer struct {
	MaskedEmail *string `json:"masked_email"`
	Name        *string `json:"name"`
}

type claimEvent struct {
	At     time.Time `json:"at"`
	Kind   string    `json:"kind"`
	Reason *string   `json:"reason"`
}

func toClaimCodeStatus(s claim.CodeStatus) claimCodeStatus {
	address := s.Identity.ExternalID
	if s.Identity.Username != "" {
		address = "@" + s.Identity.Username + " (" + address + ")"
	}
	out := claimCodeStatus{
		Account: claimAccount{
			Address: address, Channel: s.Identity.Channel,
			FirstSeenAt: operation.NullableTime(s.FirstSeenAt), LastSeenAt: operation.NullableTime(s.LastSeenAt),
		},
		Customer: claimCustomer{
			MaskedEmail: operation.NullableString(identity.MaskEmail(s.Customer.Email)),
			Name:        operation.NullableString(s.Customer.FullName()),
		},
		ExpiresAt:        operation.NullableTime(s.ExpiresAt),
		ExpiresInSeconds: int(s.ExpiresIn.Seconds()),
		IssuedAt:         operation.NullableTime(s.IssuedAt),
		IssuedBy:         operation.NullableString(string(s.IssuedBy)),
		State:            string(s.State),
		Warnings:         []string{},
		WrongTries:       s.WrongTries,
	}
	for _, w := range s.Warnings(adapters.TraitsOf(adapters.Channel(s.Identity.Channel)).CarrierOnly) {
		out.Warnings = append(out.Warnings, string(w))
	}
	if e := s.LastEvent; e.Kind != "" {
		out.LastEvent = &claimEvent{At: e.At.UTC(), Kind: e.Kind, Reason: operation.NullableString(e.Detail["reason"])}
	}
	return out
}

// getClaimCode returns the state of the last code, without the code, and what staff should know before
// they issue another.
func (a *API) getClaimCode(ctx context.Context, in *IdentityPath) (*struct{ Body claimCodeStatus }, error) {
	key := operation.CallerOf(ctx)
	s, err := a.Stores.Codes.CodeStatus(ctx, in.key(key.TenantID), key.InstanceID)
	if err == nil && !operation.CanReadIdentity(key, s.Identity) {
		err = identity.ErrNotFound
	}
	if err != nil {
		return nil, operation.NameNotFound("Identity", err)
	}
	return &struct{ Body claimCodeStatus }{toClaimCodeStatus(s)}, nil
}

// revokeClaimCode ends a live code. Without one it succeeds too, so that it can be repeated.
func (a *API) revokeClaimCode(ctx context.Context, in *IdentityPath) (*operation.NoBody, error) {
	key := operation.CallerOf(ctx)
	if err := a.checkIdentityWrite(ctx, key, *in); err != nil {
		return nil, err
	}
	target, err := a.Stores.Codes.RevokeCode(ctx, in.key(key.TenantID), key.Actor())
	if err != nil {
		return nil, operation.NameNotFound("Identity", err)
	}
	a.dropCodes(ctx, []claim.Target{target})
	return &operation.NoBody{}, nil
}
