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
// with the letters spelled out. It says how long the code lasts and not until when, because the
// customer may live in another time zone. ep is the endpoint of the bot; it is zero if the channel is
// not set up.
func ClaimInstructions(code claim.IssuedCode, bot claim.Bot, ep adapters.Endpoint) string {
	return fmt.Sprintf("Write to %s and send /claim %s (%s) within %d minutes.",
		describeClaimBot(adapters.Channel(code.Channel), bot, ep), claim.Group(code.Code), claim.Spell(code.Code),
		int(claim.CodeTTL/time.Minute))
}

// describeClaimBot returns where people find a bot, with the name of its instance if the provider does
// not name it.
func describeClaimBot(channel adapters.Channel, bot claim.Bot, ep adapters.Endpoint) string {
	unnamed := "the " + adapters.TraitsOf(channel).DisplayName + " bot"
	address := unnamed
	if ep.Channel != "" {
		address = describeBot(ep)
	}
	if address == unnamed && bot.InstanceName != "" {
		address += " of " + bot.InstanceName
	}
	if !bot.Connected {
		address += ", which is not connected yet,"
	}
	return address
}

// describeBot returns where people find the bot of an endpoint.
func describeBot(ep adapters.Endpoint) string { return adapters.TraitsOf(ep.Channel).BotAddress(ep) }
