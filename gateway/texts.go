package gateway

import (
	"fmt"
	"time"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/identity"
)

// Every sentence that a person may read stands here.
const (
	textVerified     = "Thank you, you are verified. This chat now belongs to your account."
	textAlready      = "You are already verified. There is nothing more to do."
	textDeclined     = "That code did not work. Codes last 15 minutes and work once; please ask for a new one."
	textHint         = "Please send the six letters of your code after the word claim, like this: /claim WDJ-BMJ"
	textInviteHint   = "Please send the word claim before these letters, like this: /claim WDJB-MJKL-NPQR"
	textPrivately    = "Please send me that in a private chat, where nobody else can read it."
	textLost         = "I could not check the code this time. Please ask for a new one."
	textChecking     = "I am checking your code. This takes a moment longer than usual."
	textStranger     = "Hello! I do not know this account yet. If you have a code, please send it like this: /claim WDJ-BMJ"
	textReclaim      = "It is time to make sure that this account is still yours. Please ask us for a new code and send it like this: /claim WDJ-BMJ"
	textNotLinked    = "This account is not linked to anybody here."
	textUnlinkAsk    = "If I unlink this account, I will not know you any more. Send /unlink again within five minutes if you want that."
	textUnlinked     = "Done. This account is not linked any more."
	textWelcome      = "Hello! Just write to me. If you were given a code, please send it like this: /claim WDJ-BMJ"
	textHelp         = "Just write to me. You can also send:\n/claim and your code, to tell me who you are\n/whoami, to see whether I know you\n/unlink, to make me forget who you are\n/help, to read this again"
	textNewAccount   = "A new %s account was just linked to you. If that was not you, please tell us at once."
	textStillAccount = "Yesterday a new %s account was linked to you. If that was not you, please tell us at once."
)

func textWait(d time.Duration) string {
	minutes := int(d.Round(time.Minute) / time.Minute)
	switch {
	case minutes <= 1:
		return "Too many tries. Please wait a minute, then ask for a new code."
	case minutes < 90:
		return fmt.Sprintf("Too many tries. Please wait %d minutes, then ask for a new code.", minutes)
	}
	return fmt.Sprintf("Too many tries. Please wait %d hours, then ask for a new code.", (minutes+59)/60)
}

// textWhoami tells a person what the gateway knows of this account, and nothing of
// the customer behind it.
func textWhoami(s identity.Standing) string {
	if s.Reason != "" {
		return textReclaim
	}
	switch s.Role {
	case identity.Owner:
		return "I know you: this account is verified as its owner's."
	case identity.Verified:
		return "I know you: this account is verified."
	case identity.Unverified:
		return "This account is linked, but not verified yet. Please ask for a code and send it like this: /claim WDJ-BMJ"
	}
	return "I do not know this account yet."
}

// Instructions is the sentence for staff to read aloud: which bot, how to reach it,
// and what to type, with the letters spelled. ep is where the code can be typed; known
// says whether there is such an endpoint.
func Instructions(c claim.Issued, ep adapters.Endpoint, known bool) string {
	where := fmt.Sprintf("the %s bot", channelName(c.Channel))
	if known {
		where = botAt(ep)
	}
	return fmt.Sprintf("Write to %s and send /claim %s (%s), valid until %s UTC.", where, claim.Group(c.Code), claim.Spell(c.Code), c.ExpiresAt.UTC().Format("15:04"))
}

// botAt names the bot of an endpoint as people find it.
func botAt(ep adapters.Endpoint) string {
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
	return fmt.Sprintf("the %s bot", channelName(string(ep.Channel)))
}

func channelName(c string) string {
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
