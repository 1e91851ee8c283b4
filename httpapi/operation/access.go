// Package operation contains what the native API and the other surfaces share: the route table and
// its registration in the OpenAPI document, reading and checking of requests, the caller and its
// access rights, rate limits, paging, and the mapping of domain errors to responses. It contains no
// routes.
package operation

import (
	"net/http"

	"hydragate/httpapi/fastapi"
	"hydragate/identity"
)

// Access of an API key that is limited to one instance, on every route:
//
//   - Other instances, their channels, identities, unknown senders and keys are not found. The
//     response is that of a resource that does not exist. The key cannot create instances.
//   - An optional instance in a request (lookup, unknown senders, a new identity, a new key)
//     defaults to that of the key.
//   - Customers and identities of all instances belong to the tenant. The key may read them, and
//     write customers, as its scopes allow. It may not change, unlink or adopt an identity of all
//     instances or issue a code for it, because the verification would apply to other instances.
//   - The key cannot have the scope channels:write, because the holder of a provider's secret can
//     forge the senders of that provider.

// CheckInstance returns a problem if the path names an instance that the key cannot access.
func CheckInstance(key identity.APIKey, in *RequestContext) error {
	if id := in.Values["path/instance_id"]; id != "" && !CanSeeInstance(key, id) {
		return fastapi.NotFound("Instance")
	}
	return nil
}

// CanSeeInstance reports whether an instance exists from the point of view of the key.
func CanSeeInstance(key identity.APIKey, instance string) bool {
	return key.InstanceID == "" || key.InstanceID == instance
}

// ResolveInstance returns the requested instance, or that of the key if none is requested. It
// returns a problem if the key cannot access the requested one.
func ResolveInstance(key identity.APIKey, instance string) (string, error) {
	if instance == "" {
		return key.InstanceID, nil
	}
	if !CanSeeInstance(key, instance) {
		return "", fastapi.NotFound("Instance")
	}
	return instance, nil
}

// CanReadIdentity reports whether an identity exists from the point of view of the key.
func CanReadIdentity(key identity.APIKey, i identity.Identity) bool {
	return i.InstanceID == "" || CanSeeInstance(key, i.InstanceID)
}

// CheckIdentityWrite returns a problem if the key may not change an identity.
func CheckIdentityWrite(key identity.APIKey, i identity.Identity) error {
	switch {
	case !CanReadIdentity(key, i):
		return fastapi.NotFound("Identity")
	case key.InstanceID != "" && i.InstanceID == "":
		return KeyLimitedProblem()
	}
	return nil
}

// KeyLimitedProblem returns the response to a key that is limited to one instance and requests
// something of the tenant.
func KeyLimitedProblem() *fastapi.Problem {
	return fastapi.NewProblem(http.StatusForbidden, "This API key is limited to one instance")
}
