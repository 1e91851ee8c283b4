package httpapi

import (
	"context"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/gateway"
	"hydragate/httpapi/operation"
)

type claimCodeResponse struct {
	Code             string `json:"code" doc:"Six letters. They are shown here and nowhere else."`
	ExpiresInSeconds int    `json:"expires_in_seconds"`
	IdentityID       string `json:"identity_id" format:"uuid"`
	Instructions     string `json:"instructions" doc:"What to tell the customer, in one sentence."`
}

type claimCodeOut struct{ Body claimCodeResponse }

// issueClaimCode makes a new code each time it is called, and ends the one before:
// an answer kept for a repeated call would be a code kept.
func (a *API) issueClaimCode(ctx context.Context, in *IdentityPath) (*claimCodeOut, error) {
	key := operation.CallerOf(ctx)
	if err := a.checkIdentityWrite(ctx, key, *in); err != nil {
		return nil, err
	}
	issued, err := a.Claims.IssueCode(ctx, in.key(key.TenantID), key.Actor())
	if err != nil {
		return nil, operation.NameNotFound("Identity", err)
	}
	seat, ok := a.claimEndpoint(ctx, issued)
	return &claimCodeOut{claimCodeResponse{
		Code: issued.Code, ExpiresInSeconds: int(claim.CodeTTL.Seconds()), IdentityID: in.IdentityID,
		Instructions: a.Instructions(issued, seat, ok),
	}}, nil
}

// claimEndpoint gives the working endpoint that a code is to be typed to, when it is a
// certain one. The code is issued by now: what cannot be found out only makes the
// sentence plainer.
func (a *API) claimEndpoint(ctx context.Context, issued claim.IssuedCode) (gateway.EndpointState, bool) {
	if issued.InstanceID == "" || a.Endpoints == nil {
		return gateway.EndpointState{}, false
	}
	seat, err := a.Endpoints.EndpointState(ctx, issued.TenantID, issued.InstanceID, adapters.Channel(issued.Channel))
	if err != nil || seat.Status != gateway.EndpointActive {
		return gateway.EndpointState{}, false
	}
	return seat, true
}
