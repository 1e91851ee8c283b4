package httpapi

import (
	"context"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/gateway"
)

type claimCodeAnswer struct {
	Code             string `json:"code" doc:"Six letters. They are shown here and nowhere else."`
	ExpiresInSeconds int    `json:"expires_in_seconds"`
	IdentityID       string `json:"identity_id" format:"uuid"`
	Instructions     string `json:"instructions" doc:"What to tell the customer, in one sentence."`
}

type claimCodeOut struct{ Body claimCodeAnswer }

// issueClaimCode makes a new code each time it is called, and ends the one before:
// an answer kept for a repeated call would be a code kept.
func (a *API) issueClaimCode(ctx context.Context, in *IdentityPath) (*claimCodeOut, error) {
	key := callerOf(ctx)
	if err := a.mayChange(ctx, key, *in); err != nil {
		return nil, err
	}
	issued, err := a.Desk.Issue(ctx, key.TenantID, in.CustomerID, in.IdentityID, key.Actor())
	if err != nil {
		return nil, about("Identity", err)
	}
	seat, ok := a.seatOf(ctx, issued)
	return &claimCodeOut{claimCodeAnswer{
		Code: issued.Code, ExpiresInSeconds: int(claim.Life.Seconds()), IdentityID: in.IdentityID,
		Instructions: a.Instructions(issued, seat, ok),
	}}, nil
}

// seatOf gives the working endpoint that a code is to be typed to, when it is a
// certain one. The code is issued by now: what cannot be found out only makes the
// sentence plainer.
func (a *API) seatOf(ctx context.Context, issued claim.Issued) (gateway.Seat, bool) {
	if issued.InstanceID == "" || a.Channels == nil {
		return gateway.Seat{}, false
	}
	seat, err := a.Channels.Seat(ctx, issued.TenantID, issued.InstanceID, adapters.Channel(issued.Channel))
	if err != nil || seat.Status != gateway.Active {
		return gateway.Seat{}, false
	}
	return seat, true
}
