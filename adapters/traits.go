package adapters

import (
	"net/url"
	"strings"
	"time"
)

// Traits are the properties of a channel that other packages depend on. A package outside
// adapters reads a trait instead of comparing channel names, so that a new channel needs no
// change there.
type Traits struct {
	// DisplayName is the name of the channel for people, such as "WhatsApp".
	DisplayName string

	// IDFormat is the format of the channel's external IDs.
	IDFormat IDFormat

	// Paid reports whether each message sent on the channel costs money. Replies that the
	// gateway itself writes are limited on paid channels, and a throttled sender gets none.
	Paid bool

	// ProviderRetries reports whether the provider redelivers a message for long enough to
	// outlast an outage of the database. If it is false, messages are spooled on local disk
	// while the database is unavailable.
	ProviderRetries bool

	// CarrierOnly reports whether only the carrier vouches for the sender's ID. Invites on
	// such a channel need the consent of the instance.
	CarrierOnly bool

	// SecretSetByGateway reports whether the gateway generates the webhook secret and
	// registers it with the provider. If it is false, staff enter the secret.
	SecretSetByGateway bool

	// GracePeriod is how long a replaced credential remains valid by default.
	GracePeriod time.Duration

	// WebhookSuffix is the path, below the main webhook URL, at which the channel's messages
	// arrive.
	WebhookSuffix string

	inviteLink func(ep Endpoint, code, text string) string
	botAddress func(ep Endpoint) string
}

// An IDFormat names a format of external IDs. Package identity defines how each is normalized;
// an empty format is any printable text.
type IDFormat string

// The formats of external IDs.
const (
	PhoneID    IDFormat = "phone"     // E.164, such as +61400111222
	NumericID  IDFormat = "numeric"   // a positive integer, such as 12345
	TeamUserID IDFormat = "team_user" // a workspace and a user, such as T024BE7LD:U023BECGF
)

// Two default grace periods: where the gateway sets the secret itself, only the requests in flight
// use the previous one; elsewhere a person changes it at the provider, sooner or later.
const (
	inFlightGracePeriod = 10 * time.Minute
	manualGracePeriod   = 24 * time.Hour
)

// traits has one row for each channel.
var traits = map[Channel]Traits{
	Telegram: {
		DisplayName:        "Telegram",
		IDFormat:           NumericID,
		ProviderRetries:    true,
		SecretSetByGateway: true,
		GracePeriod:        inFlightGracePeriod,
		inviteLink:         telegramInviteLink,
		botAddress: func(ep Endpoint) string {
			return around("@", ep.Settings[BotUsername], " on Telegram")
		},
	},
	SMS: {
		DisplayName: "SMS",
		IDFormat:    PhoneID,
		Paid:        true,
		CarrierOnly: true,
		GracePeriod: manualGracePeriod,
		inviteLink: func(ep Endpoint, _, text string) string {
			return "sms:" + ep.Address + "?body=" + url.PathEscape(text)
		},
		botAddress: func(ep Endpoint) string { return ep.Address + " by SMS" },
	},
	WhatsApp: {
		DisplayName: "WhatsApp",
		IDFormat:    PhoneID,
		Paid:        true,
		CarrierOnly: true,
		GracePeriod: manualGracePeriod,
		inviteLink: func(ep Endpoint, _, text string) string {
			return "https://wa.me/" + strings.TrimPrefix(ep.Address, "+") + "?text=" + url.PathEscape(text)
		},
		botAddress: func(ep Endpoint) string { return ep.Address + " on WhatsApp" },
	},
	Slack: {
		DisplayName:     "Slack",
		IDFormat:        TeamUserID,
		ProviderRetries: true,
		GracePeriod:     manualGracePeriod,
		WebhookSuffix:   "/events",
		botAddress: func(ep Endpoint) string {
			return around("the bot in the Slack workspace ", ep.Settings[TeamName], "")
		},
	},
}

// TraitsOf returns the traits of a channel. A channel without a row, whose identities may still be
// stored, is free, retried by its provider and named as it is written.
func TraitsOf(c Channel) Traits {
	if t, ok := traits[c]; ok {
		return t
	}
	return Traits{DisplayName: string(c), ProviderRetries: true, GracePeriod: manualGracePeriod}
}

// Channels returns the channels that have an adapter, in a fixed order.
func Channels() []Channel { return []Channel{Telegram, SMS, Slack, WhatsApp} }

// ChannelsWith returns the channels whose traits match, in the order of Channels.
func ChannelsWith(match func(Traits) bool) []Channel {
	var matching []Channel
	for _, c := range Channels() {
		if match(TraitsOf(c)) {
			matching = append(matching, c)
		}
	}
	return matching
}

// InviteLink returns the link that redeems an invite at ep: it carries the code itself, or opens
// the channel with text written for the person to send. It is empty if the channel has no such link.
func (t Traits) InviteLink(ep Endpoint, code, text string) string {
	if t.inviteLink == nil {
		return ""
	}
	return t.inviteLink(ep, code, text)
}

// BotAddress describes where people find the bot of ep, such as "@acme_bot on Telegram" or
// "+61400111222 by SMS".
func (t Traits) BotAddress(ep Endpoint) string {
	if t.botAddress != nil {
		if address := t.botAddress(ep); address != "" {
			return address
		}
	}
	return "the " + t.DisplayName + " bot"
}

// telegramInviteLink returns the deep link that sends "/start claim_CODE" after one tap.
func telegramInviteLink(ep Endpoint, code, _ string) string {
	return around("https://t.me/", ep.Settings[BotUsername], "?start=claim_"+code)
}

// around returns s between before and after, or "" if s is empty.
func around(before, s, after string) string {
	if s == "" {
		return ""
	}
	return before + s + after
}
