package store

import (
	"maps"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
)

// signingCredentials are the credentials that providers sign requests with.
func signingCredentials() []string {
	return []string{adapters.AuthToken, adapters.SigningSecret, adapters.WebhookSecret}
}

// withPreviousCredentials gives the credentials of next, with those of was that stay good for a while,
// and for how many seconds: begun says that they do from now on, else from when they
// were replaced. Another account's never do: its requests are not this endpoint's.
func withPreviousCredentials(was, next gateway.EndpointState) (creds adapters.Credentials, seconds int, begun bool) {
	creds = maps.Clone(next.Credentials)
	if creds == nil {
		creds = adapters.Credentials{}
	}
	overlap := gracePeriod(next)
	if overlap <= 0 || was.Address == "" || was.Address != next.Address || was.Credentials[adapters.AccountSID] != creds[adapters.AccountSID] {
		return creds, 0, false
	}
	for _, key := range signingCredentials() {
		switch {
		case was.Credentials[key] == "" || creds[key] == "":
		case was.Credentials[key] != creds[key]:
			creds[key+adapters.PreviousSuffix] = was.Credentials[key]
			return creds, int(max(time.Second, overlap) / time.Second), true
		case was.Credentials[key+adapters.PreviousSuffix] != "":
			creds[key+adapters.PreviousSuffix] = was.Credentials[key+adapters.PreviousSuffix]
			seconds = int(max(time.Second, overlap) / time.Second)
		}
	}
	return creds, seconds, false
}

func gracePeriod(seat gateway.EndpointState) time.Duration {
	if seat.GracePeriod != nil {
		return *seat.GracePeriod
	}
	return adapters.TraitsOf(seat.Channel).GracePeriod
}
