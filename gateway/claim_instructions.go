package gateway

import (
	"fmt"

	"hydragate/adapters"
	"hydragate/claim"
)

// InviteURL returns the link that redeems an invite at an endpoint, or "" if the channel has none.
func InviteURL(ep adapters.Endpoint, code string) string {
	return adapters.TraitsOf(ep.Channel).InviteLink(ep, code, "/claim "+claim.Group(code))
}

// InviteInstructions returns the text that staff send to the invited person: how to redeem an invite at
// an endpoint, and until when.
func InviteInstructions(ep adapters.Endpoint, code string, i claim.Invite) string {
	how := fmt.Sprintf("Write to %s and send /claim %s", describeBot(ep), claim.Group(code))
	if link := InviteURL(ep, code); link != "" {
		how = fmt.Sprintf("Open %s, or write to %s and send /claim %s", link, describeBot(ep), claim.Group(code))
	}
	what := "The first person to do so is verified as the customer."
	if i.Confirm {
		what = "We confirm the account of the first person to do so."
	}
	return fmt.Sprintf("%s before %s UTC. %s", how, i.ExpiresAt.UTC().Format("2006-01-02 15:04"), what)
}

// ClaimInstructions returns the sentence that staff read to the customer: what to send to which bot,
// with the code spelled out, and until when. ep is an endpoint at which the code can be redeemed; it is
// ignored if ok is false.
func ClaimInstructions(c claim.IssuedCode, ep adapters.Endpoint, ok bool) string {
	bot := fmt.Sprintf("the %s bot", adapters.TraitsOf(adapters.Channel(c.Channel)).DisplayName)
	if ok {
		bot = describeBot(ep)
	}
	return fmt.Sprintf("Write to %s and send /claim %s (%s) before %s UTC.",
		bot, claim.Group(c.Code), claim.Spell(c.Code), c.ExpiresAt.UTC().Format("15:04"))
}

// describeBot returns where people find the bot of an endpoint.
func describeBot(ep adapters.Endpoint) string { return adapters.TraitsOf(ep.Channel).BotAddress(ep) }
