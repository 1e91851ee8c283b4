package store

import (
	"maps"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
)

// signingCredentials returns the names of the credentials with which providers sign requests.
func signingCredentials() []string {
	return []string{adapters.AuthToken, adapters.SigningSecret, adapters.WebhookSecret}
}

// withPreviousCredentials returns the credentials of next together with those of before that
// remain valid during the grace period, and the length of that period in seconds. begun reports
// whether the period starts now, because a credential was replaced; otherwise it goes on. If the
// account or the address changed, the old credentials are dropped, because requests for them are
// not for this endpoint.
func withPreviousCredentials(
	before, next gateway.EndpointState,
) (creds adapters.Credentials, seconds int, begun bool) {
	creds = maps.Clone(next.Credentials)
	if creds == nil {
		creds = adapters.Credentials{}
	}
	period := gracePeriod(next)
	if period <= 0 || before.Address == "" || before.Address != next.Address ||
		before.Credentials[adapters.AccountSID] != creds[adapters.AccountSID] {
		return creds, 0, false
	}
	for _, key := range signingCredentials() {
		switch {
		case before.Credentials[key] == "" || creds[key] == "":
		case before.Credentials[key] != creds[key]:
			creds[key+adapters.PreviousSuffix] = before.Credentials[key]
			return creds, int(max(time.Second, period) / time.Second), true
		case before.Credentials[key+adapters.PreviousSuffix] != "":
			creds[key+adapters.PreviousSuffix] = before.Credentials[key+adapters.PreviousSuffix]
			seconds = int(max(time.Second, period) / time.Second)
		}
	}
	return creds, seconds, false
}

// gracePeriod returns how long replaced credentials remain valid: the period that staff set, or
// that of the channel.
func gracePeriod(ep gateway.EndpointState) time.Duration {
	if ep.GracePeriod != nil {
		return *ep.GracePeriod
	}
	return adapters.TraitsOf(ep.Channel).GracePeriod
}
