package store

import (
	"maps"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
)

// previousSuffix ends the name of the credential that was replaced.
const previousSuffix = "_old"

// How long a credential stays good for what the provider signed with it, unless
// staff say otherwise. Telegram is told the newer one by us, so that only what is on
// its way counts; Twilio and Slack learn it from people, before or after us.
const (
	telegramGracePeriod = 10 * time.Minute
	defaultGracePeriod  = 24 * time.Hour
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
			creds[key+previousSuffix] = was.Credentials[key]
			return creds, int(max(time.Second, overlap) / time.Second), true
		case was.Credentials[key+previousSuffix] != "":
			creds[key+previousSuffix] = was.Credentials[key+previousSuffix]
			seconds = int(max(time.Second, overlap) / time.Second)
		}
	}
	return creds, seconds, false
}

func gracePeriod(seat gateway.EndpointState) time.Duration {
	switch {
	case seat.GracePeriod != nil:
		return *seat.GracePeriod
	case seat.Channel == adapters.Telegram:
		return telegramGracePeriod
	}
	return defaultGracePeriod
}
