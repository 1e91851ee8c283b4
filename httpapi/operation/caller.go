package operation

import (
	"cmp"
	"context"
	"errors"

	"hydragate/adapters"
	"hydragate/gateway"
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

	Regions RegionStore // nil: phone numbers need their country code

	// PanicStatus is the status of the response, without a body, if the handler panics. If it is
	// zero, the response is an internal error in the format of the surface.
	PanicStatus int
}

// A RegionStore returns the country of phone numbers without a country code of an instance, or, if instance
// is empty, the one that all instances of the tenant have. It returns "" if there is none.
type RegionStore interface {
	DefaultRegion(ctx context.Context, tenant, instance string) (string, error)
}

// NormalizePhone returns a phone number in E.164. One without a country code is one of the default region
// of the instance; if instance is empty, of that of the caller. If the region cannot be read, such a
// number is rejected.
func NormalizePhone(ctx context.Context, number, instance string) (string, error) {
	return completeNumber(ctx, instance, func(region string) (string, error) {
		return identity.NormalizePhone(number, region)
	})
}

// NormalizeExternalID returns the canonical form of an external ID of a channel. A phone number without a
// country code is completed as by NormalizePhone.
func NormalizeExternalID(ctx context.Context, channel, id, instance string) (string, error) {
	return completeNumber(ctx, instance, func(region string) (string, error) {
		return gateway.NormalizeExternalID(adapters.Channel(channel), id, region)
	})
}

// completeNumber calls normalize without a region, and if that fails with the default region.
func completeNumber(
	ctx context.Context, instance string, normalize func(region string) (string, error),
) (string, error) {
	normalized, err := normalize("")
	info := RequestInfoOf(ctx)
	if err == nil || info.Regions == nil || info.Key.TenantID == "" {
		return normalized, err
	}
	region, regionErr := info.Regions.DefaultRegion(ctx, info.Key.TenantID, cmp.Or(instance, info.Key.InstanceID))
	if regionErr != nil || region == "" {
		return normalized, err
	}
	return normalize(region)
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
