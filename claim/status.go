package claim

import (
	"time"

	"hydragate/identity"
)

// A CodeStatus is the state of the last claim code of an identity, and what staff should know before
// they issue another. It does not contain the code.
type CodeStatus struct {
	State      CodeStatusState
	IssuedAt   time.Time // zero if none was issued
	IssuedBy   identity.Actor
	ExpiresAt  time.Time
	ExpiresIn  time.Duration // by the clock of the database; zero if the code is not live
	WrongTries int           // wrong codes since it was issued
	LastEvent  identity.Event

	Customer            identity.Customer
	Identity            identity.Identity
	LinkedAgo           time.Duration // since the identity was linked to the customer; zero if unknown
	FirstSeenAt         time.Time     // zero if the account never wrote
	LastSeenAt          time.Time
	OtherVerified       bool // the customer has other verified identities
	VerificationExpired bool
	Bot                 Bot
}

// A CodeStatusState is the state of the last claim code of an identity.
type CodeStatusState string

// The states of the last code. A code that another account tried is revoked; one that was tried too
// often is locked.
const (
	StateNone     CodeStatusState = "none"
	StateLive     CodeStatusState = "live"
	StateRedeemed CodeStatusState = "redeemed"
	StateExpired  CodeStatusState = "expired"
	StateRevoked  CodeStatusState = "revoked"
	StateLocked   CodeStatusState = "locked"
)

// A Bot is an instance at which a code can be redeemed.
type Bot struct {
	InstanceID   string
	InstanceName string
	Configured   bool // the channel was set up
	Connected    bool // it works
}

// A Warning is a reason for staff to look twice before they issue a code.
type Warning string

// The warnings.
const (
	NeverSeen             Warning = "never_seen"              // the account never wrote to the bot
	LinkedMinutesAgo      Warning = "linked_minutes_ago"      // it was linked within RecentLink
	OtherVerifiedAccounts Warning = "other_verified_accounts" // the customer has other verified accounts
	VerificationExpired   Warning = "verification_expired"    // it was verified once
	ChannelNotConnected   Warning = "channel_not_connected"   // no bot can redeem the code
	CarrierProofOnly      Warning = "carrier_proof_only"      // only the carrier vouches for the sender
)

// RecentLink is the time for which a link is recent.
const RecentLink = time.Hour

// Warnings returns the warnings that apply. carrierOnly is the trait of the channel.
func (s CodeStatus) Warnings(carrierOnly bool) []Warning {
	warnings := []Warning{}
	for _, w := range []struct {
		applies bool
		warning Warning
	}{
		{s.FirstSeenAt.IsZero(), NeverSeen},
		{s.LinkedAgo > 0 && s.LinkedAgo < RecentLink, LinkedMinutesAgo},
		{s.OtherVerified, OtherVerifiedAccounts},
		{s.VerificationExpired, VerificationExpired},
		{!s.Bot.Connected, ChannelNotConnected},
		{carrierOnly, CarrierProofOnly},
	} {
		if w.applies {
			warnings = append(warnings, w.warning)
		}
	}
	return warnings
}
