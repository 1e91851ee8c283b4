package httpapi

import (
	"net/http"

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

// within refuses a path of an instance that the key is not for.
func within(key identity.APIKey, in *admitted) error {
	if id := in.values["path/instance_id"]; id != "" && !sees(key, id) {
		return notFound("Instance")
	}
	return nil
}

// sees reports whether there is such an instance for the key.
func sees(key identity.APIKey, instance string) bool {
	return key.InstanceID == "" || key.InstanceID == instance
}

// chosen gives the instance a call is about: the one named, or the key's own.
func chosen(key identity.APIKey, instance string) (string, error) {
	if instance == "" {
		return key.InstanceID, nil
	}
	if !sees(key, instance) {
		return "", notFound("Instance")
	}
	return instance, nil
}

// reads reports whether there is such an identity for the key.
func reads(key identity.APIKey, i identity.Identity) bool {
	return i.InstanceID == "" || sees(key, i.InstanceID)
}

// mayChange refuses an identity that the key must not touch.
func mayChange(key identity.APIKey, i identity.Identity) error {
	switch {
	case !reads(key, i):
		return notFound("Identity")
	case key.InstanceID != "" && i.InstanceID == "":
		return onlyItsInstance()
	}
	return nil
}

func onlyItsInstance() *problem {
	return refuse(http.StatusForbidden, "This API key is limited to one instance")
}
