package store

import (
	"maps"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
)

// old ends the name of the credential that was replaced.
const old = "_old"

// How long a credential stays good for what the provider signed with it, unless
// staff say otherwise. Telegram is told the newer one by us, so that only what is on
// its way counts; Twilio and Slack learn it from people, before or after us.
const (
	telegramOverlap = 10 * time.Minute
	usualOverlap    = 24 * time.Hour
)

// overlapping are the credentials that providers sign requests with.
func overlapping() []string {
	return []string{adapters.AuthToken, adapters.SigningSecret, adapters.WebhookSecret}
}

// succeed gives the credentials of next, with those of was that stay good for a while,
// and for how many seconds: begun says that they do from now on, else from when they
// were replaced. Another account's never do: its requests are not this endpoint's.
func succeed(was, next gateway.Seat) (creds adapters.Credentials, seconds int, begun bool) {
	creds = maps.Clone(next.Credentials)
	if creds == nil {
		creds = adapters.Credentials{}
	}
	overlap := overlapOf(next)
	if overlap <= 0 || was.Address == "" || was.Address != next.Address || was.Credentials[adapters.AccountSID] != creds[adapters.AccountSID] {
		return creds, 0, false
	}
	for _, key := range overlapping() {
		switch {
		case was.Credentials[key] == "" || creds[key] == "":
		case was.Credentials[key] != creds[key]:
			creds[key+old] = was.Credentials[key]
			return creds, int(max(time.Second, overlap) / time.Second), true
		case was.Credentials[key+old] != "":
			creds[key+old] = was.Credentials[key+old]
			seconds = int(max(time.Second, overlap) / time.Second)
		}
	}
	return creds, seconds, false
}

func overlapOf(seat gateway.Seat) time.Duration {
	switch {
	case seat.Overlap != nil:
		return *seat.Overlap
	case seat.Channel == adapters.Telegram:
		return telegramOverlap
	}
	return usualOverlap
}
