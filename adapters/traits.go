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

	// SendLimits are the limits of the provider for messages of the bot.
	SendLimits SendLimits

	// GracePeriod is how long a replaced credential remains valid by default.
	GracePeriod time.Duration

	// WebhookSuffix is the path, below the main webhook URL, at which the channel's messages
	// arrive.
	WebhookSuffix string

	// AddressKind is the kind of address that one endpoint of the deployment owns, such as "bot".
	AddressKind string

	// Topics reports whether the thread of a chat is a topic, which is a conversation of its own.
	Topics bool

	// Usernames reports whether each message contains the username of its sender, unless they have none.
	Usernames bool

	// InternalThreads reports whether the thread of a chat is an address of the bot, which
	// applications do not receive.
	InternalThreads bool

	// Aliases reports whether an account has several IDs, any of which may be that of a sender.
	Aliases bool

	inviteLink func(ep Endpoint, code, text string) string
	botAddress func(ep Endpoint) string
	addressIDs func(ep Endpoint) []string
	poolID     func(ep Endpoint) string
	account    func(ep Endpoint) string
}

// An IDFormat names a format of external IDs. Package identity defines how each is normalized;
// an empty format is any printable text.
type IDFormat string

// The formats of external IDs.
const (
	PhoneID       IDFormat = "phone"         // E.164, such as +61400111222
	PhoneOrUserID IDFormat = "phone_or_user" // E.164, or a user without a number, such as US.1349120865
	NumericID     IDFormat = "numeric"       // a positive integer, such as 12345
	TeamUserID    IDFormat = "team_user"     // a workspace and a user, such as T024BE7LD:U023BECGF
)

// Two default grace periods: where the gateway sets the secret itself, only the requests in flight
// use the previous one; elsewhere a person changes it at the provider, sooner or later.
const (
	inFlightGracePeriod = 10 * time.Minute
	manualGracePeriod   = 24 * time.Hour
)

// SendLimits are the numbers of messages that a provider accepts from a bot. A zero rate is no limit.
type SendLimits struct {
	Bot   Rate // to all chats together
	Chat  Rate // to one chat
	Group Rate // to one group, or as for a chat if it is zero
}

// A Rate is a number of messages in a period: on average one in each interval, and Burst at once.
type Rate struct {
	Every time.Duration
	Burst int
}

// traits has one row for each channel.
var traits = map[Channel]Traits{
	Telegram: {
		DisplayName:        "Telegram",
		IDFormat:           NumericID,
		ProviderRetries:    true,
		SecretSetByGateway: true,
		// https://core.telegram.org/bots/faq#my-bot-is-hitting-limits-how-do-i-avoid-this
		SendLimits: SendLimits{
			Bot: Rate{time.Second / 30, 30}, Chat: Rate{time.Second, 5}, Group: Rate{3 * time.Second, 20},
		},
		GracePeriod: inFlightGracePeriod,
		AddressKind: "bot",
		Topics:      true,
		Usernames:   true,
		inviteLink:  telegramInviteLink,
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
		botAddress:      func(ep Endpoint) string { return ep.Address + " by SMS" },
		AddressKind:     "number",
		InternalThreads: true,
		poolID:          func(ep Endpoint) string { return ep.Settings[MessagingService] },
		account:         twilioAccount,
	},
	WhatsApp: {
		DisplayName: "WhatsApp",
		IDFormat:    PhoneOrUserID,
		Paid:        true,
		CarrierOnly: true,
		GracePeriod: manualGracePeriod,
		inviteLink: func(ep Endpoint, _, text string) string {
			return "https://wa.me/" + strings.TrimPrefix(ep.Address, "+") + "?text=" + url.PathEscape(text)
		},
		botAddress:      func(ep Endpoint) string { return ep.Address + " on WhatsApp" },
		AddressKind:     "number",
		InternalThreads: true,
		Aliases:         true,
		addressIDs:      whatsAppAddressIDs,
		account:         twilioAccount,
	},
	Slack: {
		DisplayName:     "Slack",
		IDFormat:        TeamUserID,
		ProviderRetries: true,
		GracePeriod:     manualGracePeriod,
		WebhookSuffix:   "/events",
		// https://docs.slack.dev/apis/web-api/rate-limits
		SendLimits: SendLimits{Chat: Rate{time.Second, 5}},
		botAddress: func(ep Endpoint) string {
			return around("the bot in the Slack workspace ", ep.Settings[TeamName], "")
		},
		AddressKind: "app in this workspace",
		addressIDs:  slackAddressIDs,
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

// Addresses returns the addresses that ep owns once the provider has confirmed its credentials. No
// other endpoint of the deployment may own any of them. There is none if the provider has not
// reported the address yet.
func (t Traits) Addresses(ep Endpoint) []ProviderAddress {
	if ep.Address == "" {
		return nil
	}
	ids := []string{ep.Address}
	if t.addressIDs != nil {
		ids = t.addressIDs(ep)
	}
	addresses := make([]ProviderAddress, len(ids))
	for i, id := range ids {
		addresses[i] = ProviderAddress{ep.Channel, id}
	}
	return addresses
}

// PoolAddress returns the address of the pool to which the address of ep belongs. ok is false if
// there is none. One of the endpoints in a pool owns it.
func (t Traits) PoolAddress(ep Endpoint) (pool ProviderAddress, ok bool) {
	if t.poolID == nil || t.poolID(ep) == "" {
		return ProviderAddress{}, false
	}
	return ProviderAddress{ep.Channel, t.poolID(ep)}, true
}

// Account returns the ID of the provider's account to which the address of ep belongs, or "" on
// channels without pools.
func (t Traits) Account(ep Endpoint) string {
	if t.account == nil {
		return ""
	}
	return t.account(ep)
}

func twilioAccount(ep Endpoint) string { return ep.Credentials[AccountSID] }

// whatsAppSandbox is the number with which every account of Twilio tries out WhatsApp. Twilio sends
// the messages of each person to the account whose sandbox they joined.
const whatsAppSandbox = "+14155238886"

// whatsAppAddressIDs returns the number, which in the sandbox is an address for each account.
func whatsAppAddressIDs(ep Endpoint) []string {
	if ep.Address == whatsAppSandbox {
		return []string{ep.Address + "@" + ep.Credentials[AccountSID]}
	}
	return []string{ep.Address}
}

// slackAddressIDs returns the app and the bot, which correspond to each other, in the workspace or
// organization. The app is unknown if the token does not permit the lookup; the bot is not.
func slackAddressIDs(ep Endpoint) (ids []string) {
	for _, key := range []string{AppID, BotID} {
		if id := ep.Settings[key]; id != "" {
			ids = append(ids, ep.Address+":"+id)
		}
	}
	return ids
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
