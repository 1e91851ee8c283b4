package operation

import (
	"context"
	"errors"

	"hydragate/identity"
)

// Errors of staff token verifiers.
var (
	// ErrInvalidStaffToken is returned for a token that is not valid, for whatever reason.
	ErrInvalidStaffToken = errors.New("operation: invalid staff token")
	// ErrIssuerUnavailable is returned if a token cannot be verified now.
	ErrIssuerUnavailable = errors.New("operation: token issuer unavailable")
)

// A StaffMember is the person that a valid staff token identifies.
type StaffMember struct {
	Subject string   // permanent identifier assigned by the issuer
	Name    string   // for the audit log; may be empty
	Scopes  []string // may be empty
}

// A RequestInfo collects what the log line of a request contains.
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

// RequestInfoOf returns the information about the request of a context. It is empty outside of a
// request.
func RequestInfoOf(ctx context.Context) *RequestInfo {
	if info, ok := ctx.Value(requestInfoKey{}).(*RequestInfo); ok {
		return info
	}
	return &RequestInfo{}
}

// CallerOf returns the authenticated API key.
func CallerOf(ctx context.Context) identity.APIKey { return RequestInfoOf(ctx).Key }
