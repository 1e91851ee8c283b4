package operation

import (
	"net/http"

	"hydragate/httpapi/fastapi"
	"hydragate/identity"
)

// What a key that is limited to one instance sees and does, on every route:
//
//   - Of instances there is one: others, their channels, identities, unknown senders
//     and keys are not found, in the same words as if they did not exist. It cannot
//     create instances.
//   - Where an instance can be named and is not (lookup, unknown senders, a new
//     identity, a new key), it is the key's own.
//   - Customers are the tenant's, and so are identities of all instances: it may read
//     them as its scopes allow, and write customers. It may not change, unlink, adopt
//     or issue a code for an identity of all instances: what is proven there would
//     hold for instances that are not its own.
//   - It never holds channels:write: who holds a provider's secret can forge that
//     provider's senders.

// CheckInstance refuses a path of an instance that the key is not for.
func CheckInstance(key identity.APIKey, in *RequestContext) error {
	if id := in.Values["path/instance_id"]; id != "" && !CanSeeInstance(key, id) {
		return fastapi.NotFound("Instance")
	}
	return nil
}

// CanSeeInstance reports whether there is such an instance for the key.
func CanSeeInstance(key identity.APIKey, instance string) bool {
	return key.InstanceID == "" || key.InstanceID == instance
}

// ResolveInstance gives the instance a call is about: the one named, or the key's own.
func ResolveInstance(key identity.APIKey, instance string) (string, error) {
	if instance == "" {
		return key.InstanceID, nil
	}
	if !CanSeeInstance(key, instance) {
		return "", fastapi.NotFound("Instance")
	}
	return instance, nil
}

// CanReadIdentity reports whether there is such an identity for the key.
func CanReadIdentity(key identity.APIKey, i identity.Identity) bool {
	return i.InstanceID == "" || CanSeeInstance(key, i.InstanceID)
}

// CheckIdentityWrite refuses an identity that the key must not touch.
func CheckIdentityWrite(key identity.APIKey, i identity.Identity) error {
	switch {
	case !CanReadIdentity(key, i):
		return fastapi.NotFound("Identity")
	case key.InstanceID != "" && i.InstanceID == "":
		return KeyLimitedProblem()
	}
	return nil
}

func KeyLimitedProblem() *fastapi.Problem {
	return fastapi.NewProblem(http.StatusForbidden, "This API key is limited to one instance")
}
