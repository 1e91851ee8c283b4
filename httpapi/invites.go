package httpapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/gateway"
)

// An invite is shown with its code once, when it is made.
type issuedInvite struct {
	Channel          string    `json:"channel" enum:"telegram,sms,slack,whatsapp"`
	Code             string    `json:"code" doc:"Twelve letters. They are shown here and nowhere else."`
	CustomerID       string    `json:"customer_id" format:"uuid"`
	ExpiresAt        time.Time `json:"expires_at"`
	ExpiresInSeconds int       `json:"expires_in_seconds"`
	ID               string    `json:"id" format:"uuid"`
	InstanceID       string    `json:"instance_id" format:"uuid"`
	Instructions     string    `json:"instructions" doc:"What to send to the person, in one sentence."`
	RoleOverride     *string   `json:"role_override" enum:"owner"`
	URL              *string   `json:"url" doc:"A link that opens it; null where the channel has none."`
}

type inviteAnswer struct {
	Channel      string     `json:"channel" enum:"telegram,sms,slack,whatsapp"`
	CreatedAt    time.Time  `json:"created_at"`
	CustomerID   string     `json:"customer_id" format:"uuid"`
	ExpiresAt    time.Time  `json:"expires_at"`
	ID           string     `json:"id" format:"uuid"`
	IdentityID   *string    `json:"identity_id" format:"uuid" doc:"Of who opened it."`
	InstanceID   string     `json:"instance_id" format:"uuid"`
	RevokedAt    *time.Time `json:"revoked_at"`
	RoleOverride *string    `json:"role_override" enum:"owner"`
	State        string     `json:"state" enum:"live,used,expired,revoked"`
	UsedAt       *time.Time `json:"used_at"`
}

func toInvite(i claim.Invite) inviteAnswer {
	return inviteAnswer{
		Channel: i.Channel, CreatedAt: i.CreatedAt.UTC(), CustomerID: i.CustomerID, ExpiresAt: i.ExpiresAt.UTC(), ID: i.ID, IdentityID: orNull(i.IdentityID),
		InstanceID: i.InstanceID, RevokedAt: timeOrNull(i.RevokedAt), RoleOverride: orNull(i.RoleOverride), State: string(i.State()), UsedAt: timeOrNull(i.UsedAt),
	}
}

// InvitePath names an invite, and the customer who is invited.
type InvitePath struct {
	CustomerPath
	InviteID string `path:"invite_id" format:"uuid"`
}

type newInvite struct {
	Channel      string      `json:"channel" enum:"telegram,sms,slack,whatsapp" doc:"One that the instance is connected to. SMS and WhatsApp need its field sms_invites."`
	InstanceID   string      `json:"instance_id" format:"uuid" doc:"Whose bot the person is to write to. The identity holds for this instance."`
	RoleOverride Opt[string] `json:"role_override,omitempty" enum:"owner" doc:"What a claim gives; needs the scope identities:grant, for whoever opens it becomes an owner. Absent or null: a verified customer, without the rights of an owner."`
}

// issueInvite makes a new invite each time it is called: an answer kept for a repeated
// call would be a code kept.
func (a *API) issueInvite(ctx context.Context, in *struct {
	CustomerPath
	Body newInvite
}) (*struct{ Body issuedInvite }, error) {
	key, b := callerOf(ctx), in.Body
	if _, err := a.Store.Customer(ctx, key.TenantID, in.CustomerID); err != nil {
		return nil, about("Customer", err)
	}
	if !sees(key, b.InstanceID) {
		return nil, notFound("Instance")
	}
	if b.RoleOverride.Value != "" && !key.May("identities:grant") {
		return nil, missingScope("identities:grant")
	}
	seat, err := a.inviting(ctx, key.TenantID, b)
	if err != nil {
		return nil, err
	}
	i, code, err := a.Desk.Invite(ctx, claim.Invite{
		TenantID: key.TenantID, InstanceID: b.InstanceID, Channel: b.Channel, CustomerID: in.CustomerID, RoleOverride: b.RoleOverride.Value,
	}, key.Actor())
	if err != nil {
		return nil, about("Customer", err)
	}
	return &struct{ Body issuedInvite }{issuedInvite{
		Channel: i.Channel, Code: code, CustomerID: i.CustomerID, ExpiresAt: i.ExpiresAt.UTC(), ExpiresInSeconds: int(claim.InviteLife.Seconds()), ID: i.ID,
		InstanceID: i.InstanceID, Instructions: gateway.InviteInstructions(seat.Endpoint, code, i.ExpiresAt), RoleOverride: orNull(i.RoleOverride),
		URL: orNull(gateway.InviteURL(seat.Endpoint, code)),
	}}, nil
}

// inviting gives the endpoint that the person is to write to.
func (a *API) inviting(ctx context.Context, tenant string, b newInvite) (gateway.Seat, error) {
	if _, err := a.Store.Instance(ctx, tenant, b.InstanceID); err != nil {
		return gateway.Seat{}, about("Instance", err)
	}
	seat, err := a.Channels.Seat(ctx, tenant, b.InstanceID, adapters.Channel(b.Channel))
	switch {
	case errors.Is(err, gateway.ErrNoEndpoint), err == nil && !enabled(seat):
		return gateway.Seat{}, invalid(valueError("the instance is not connected to this channel", "body", "channel"))
	case err != nil:
		return gateway.Seat{}, about("Instance", err)
	}
	return seat, nil
}

func (a *API) listInvites(ctx context.Context, in *struct {
	CustomerPath
	PageOf
}) (*paged[inviteAnswer], error) {
	key := callerOf(ctx)
	out, err := pageFrom(in.PageOf, func(after string, limit int) ([]claim.Invite, error) {
		return a.Store.Invites(ctx, key.TenantID, in.CustomerID, key.InstanceID, after, limit)
	}, func(i claim.Invite) string { return i.ID }, toInvite)
	return out, about("Customer", err)
}

func (a *API) revokeInvite(ctx context.Context, in *InvitePath) (*none, error) {
	key := callerOf(ctx)
	return nil, about("Invite", a.Store.RevokeInvite(ctx, key.TenantID, in.CustomerID, key.InstanceID, in.InviteID, key.Actor()))
}

// aboutInvites finds the answer to an error of invites; nil for any other.
func aboutInvites(err error) *problem {
	switch {
	case errors.Is(err, claim.ErrNotInvited):
		return invalid(valueError("the instance does not invite by SMS or WhatsApp: its field sms_invites is false", "body", "channel"))
	case errors.Is(err, claim.ErrInvitesFull):
		return refuse(http.StatusConflict, "Customer has 5 live invites: revoke one first")
	case errors.Is(err, claim.ErrInviteUsed):
		return refuse(http.StatusConflict, "Invite was used already")
	}
	return nil
}
