package httpapi

import (
	"context"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/gateway"
	"hydragate/httpapi/operation"
)

type claimCodeResponse struct {
	Code             string `json:"code" doc:"Code of six letters. It is shown once."`
	ExpiresInSeconds int    `json:"expires_in_seconds" doc:"Seconds until the code expires."`
	IdentityID       string `json:"identity_id" format:"uuid" doc:"Identity that the code verifies."`
	Instructions     string `json:"instructions" doc:"What to tell the customer, in one sentence."`
}

type claimCodeOut struct{ Body claimCodeResponse }

// issueClaimCode issues a new code and revokes the previous one. It is not idempotent, because
// replaying the response would require storing the code.
func (a *API) issueClaimCode(ctx context.Context, in *IdentityPath) (*claimCodeOut, error) {
	key := operation.CallerOf(ctx)
	if err := a.checkIdentityWrite(ctx, key, *in); err != nil {
		return nil, err
	}
	issued, err := a.Claims.IssueCode(ctx, in.key(key.TenantID), key.Actor())
	if err != nil {
		return nil, operation.NameNotFound("Identity", err)
	}
	endpoint, ok := a.claimEndpoint(ctx, issued)
	return &claimCodeOut{claimCodeResponse{
		Code: issued.Code, ExpiresInSeconds: int(claim.CodeTTL.Seconds()), IdentityID: in.IdentityID,
		Instructions: a.Instructions(issued, endpoint, ok),
	}}, nil
}

// claimEndpoint returns the active endpoint of the instance that a code is for. ok is false if
// there is none, if the code is for all instances, or if the lookup fails; the instructions are
// then less specific.
func (a *API) claimEndpoint(ctx context.Context, issued claim.IssuedCode) (endpoint gateway.EndpointState, ok bool) {
	if issued.InstanceID == "" || a.Endpoints == nil {
		return gateway.EndpointState{}, false
	}
	channel := adapters.Channel(issued.Channel)
	endpoint, err := a.Endpoints.EndpointState(ctx, issued.TenantID, issued.InstanceID, channel)
	if err != nil || endpoint.Status != gateway.EndpointActive {
		return gateway.EndpointState{}, false
	}
	return endpoint, true
}
