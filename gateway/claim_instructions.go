package gateway

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"hydragate/adapters"
	"hydragate/claim"
)

// InviteURL is the link by which an invite is opened at an endpoint, with the code in
// it; empty where the channel has none. Telegram sends "/start claim_…" after one tap;
// SMS and WhatsApp open with the words written, for the person to send.
func InviteURL(ep adapters.Endpoint, code string) string {
	typed := url.PathEscape("/claim " + claim.Group(code))
	switch ep.Channel {
	case adapters.Telegram:
		if bot := ep.Settings[adapters.BotUsername]; bot != "" {
			return "https://t.me/" + bot + "?start=claim_" + code
		}
	case adapters.SMS:
		return "sms:" + ep.Address + "?body=" + typed
	case adapters.WhatsApp:
		return "https://wa.me/" + strings.TrimPrefix(ep.Address, "+") + "?text=" + typed
	}
	return ""
}

// InviteInstructions is the sentence for staff to send: a link where there is one, and
// what to write to which bot.
func InviteInstructions(ep adapters.Endpoint, code string, expires time.Time) string {
	how := fmt.Sprintf("Write to %s and send /claim %s", describeBot(ep), claim.Group(code))
	if link := InviteURL(ep, code); link != "" {
		how = fmt.Sprintf("Open %s, or write to %s and send /claim %s", link, describeBot(ep), claim.Group(code))
	}
	return fmt.Sprintf("%s, valid until %s UTC. Whoever opens it first is taken for the customer.", how, expires.UTC().Format("2006-01-02 15:04"))
}

// ClaimInstructions is the sentence for staff to read aloud: which bot, how to reach it,
// and what to type, with the letters spelled. ep is where the code can be typed; known
// says whether there is such an endpoint.
func ClaimInstructions(c claim.IssuedCode, ep adapters.Endpoint, known bool) string {
	where := fmt.Sprintf("the %s bot", ChannelName(c.Channel))
	if known {
		where = describeBot(ep)
	}
	return fmt.Sprintf("Write to %s and send /claim %s (%s), valid until %s UTC.", where, claim.Group(c.Code), claim.Spell(c.Code), c.ExpiresAt.UTC().Format("15:04"))
}

// describeBot names the bot of an endpoint as people find it.
func describeBot(ep adapters.Endpoint) string {
	switch {
	case ep.Channel == adapters.Telegram && ep.Settings[adapters.BotUsername] != "":
		return "@" + ep.Settings[adapters.BotUsername] + " on Telegram"
	case ep.Channel == adapters.SMS:
		return ep.Address + " by SMS"
	case ep.Channel == adapters.WhatsApp:
		return ep.Address + " on WhatsApp"
	case ep.Channel == adapters.Slack && ep.Settings[adapters.TeamName] != "":
		return "the bot in the Slack workspace " + ep.Settings[adapters.TeamName]
	}
	return fmt.Sprintf("the %s bot", ChannelName(string(ep.Channel)))
}

func ChannelName(c string) string {
	switch adapters.Channel(c) {
	case adapters.Telegram:
		return "Telegram"
	case adapters.SMS:
		return "SMS"
	case adapters.Slack:
		return "Slack"
	case adapters.WhatsApp:
		return "WhatsApp"
	}
	return c
}
