package gateway

import (
	"fmt"
	"time"

	"hydragate/adapters"
	"hydragate/claim"
)

// InviteURL returns the link that redeems an invite at an endpoint, or "" if the channel has none.
func InviteURL(ep adapters.Endpoint, code string) string {
	return adapters.TraitsOf(ep.Channel).InviteLink(ep, code, "/claim "+claim.Group(code))
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
	where := fmt.Sprintf("the %s bot", adapters.TraitsOf(adapters.Channel(c.Channel)).DisplayName)
	if known {
		where = describeBot(ep)
	}
	return fmt.Sprintf("Write to %s and send /claim %s (%s), valid until %s UTC.", where, claim.Group(c.Code), claim.Spell(c.Code), c.ExpiresAt.UTC().Format("15:04"))
}

// describeBot returns where people find the bot of an endpoint.
func describeBot(ep adapters.Endpoint) string { return adapters.TraitsOf(ep.Channel).BotAddress(ep) }
