package operation

import (
	"context"
	"errors"

	"hydragate/identity"
)

// Errors of Staff.
var (
	ErrInvalidStaffToken = errors.New("httpapi: no valid staff token")
	ErrIssuerUnavailable = errors.New("httpapi: the issuer of staff tokens does not answer")
)

// A StaffMember is one person of staff, known by a token that is good now.
type StaffMember struct {
	Subject string   // as the issuer names the person, for good
	Scopes  []string // none: recognised, and allowed nothing
}

// A RequestInfo is what the log line of a request says at its end.
type RequestInfo struct {
	ID    string
	Key   identity.APIKey // zero until authenticated
	Mount string          // name of the mount that handled the request, if any

	// PanicStatus is the status of the response, without a body, if the handler panics. If it is
	// zero, the response is an internal error in the format of the surface.
	PanicStatus int
}

type requestInfoKey struct{}

// WithRequestInfo returns a context that holds the information about a request.
func WithRequestInfo(ctx context.Context, info *RequestInfo) context.Context {
	return context.WithValue(ctx, requestInfoKey{}, info)
}

func RequestInfoOf(ctx context.Context) *RequestInfo {
	if rec, ok := ctx.Value(requestInfoKey{}).(*RequestInfo); ok {
		return rec
	}
	return &RequestInfo{}
}

// CallerOf gives the API key that was let in.
func CallerOf(ctx context.Context) identity.APIKey { return RequestInfoOf(ctx).Key }
