package process

import (
	"fmt"
	"time"

	"hydragate/adapters"
	"hydragate/identity"
)

// Texts of the replies that the gateway itself sends to people.
const (
	textVerified        = "You are now verified%s. This chat is linked to your account."
	textAlreadyVerified = "You are already verified. There is nothing more to do."
	textDeclined        = "That code did not work. Codes last 15 minutes and work once; please ask for a new one."
	textHint            = "Please send /claim followed by the six letters of your code, for example: /claim WDJ-BMJ"
	textInviteHint      = "Please put /claim in front of these letters, for example: /claim WDJB-MJKL-NPQR"
	textPrivateOnly     = "Please send that to me in a private chat, where no one else can read it."
	textRetype          = "Please type the code again as a new message."
	textNotProven       = "I cannot tell whether you wrote that yourself. " +
		"Please type it again, as a new message to me."
	textCodeLost      = "I could not check your code. Please ask for a new one."
	textChecking      = "I am checking your code. This is taking a little longer than usual."
	textUnknownSender = "Hello! I do not recognize this account yet. " +
		"If you have a code, please send it like this: /claim WDJ-BMJ"
	textReclaim = "It is time to confirm that this account is still yours. " +
		"Please ask us for a new code and send it like this: /claim WDJ-BMJ"
	textNotLinked = "This account is not linked to anyone."
	textUnlinkAsk = "If you unlink this account, I will no longer recognize you. " +
		"To confirm, send /unlink again within five minutes."
	textUnlinkAskWord = "If you unlink this account, I will no longer recognize you. " +
		"To confirm, send /unlink %s within five minutes."
	textUnlinkWrongWord = "That was not the word that I sent you. To start again, send /unlink"
	textUnlinkNotProven = "Please type /unlink again as a new message."
	textUnlinkRefused   = "I cannot unlink this account by message today. Please ask us to do it."
	textUnlinkedNotice  = "Your %s account was just unlinked. " +
		"If this was not you, please tell us right away."
	textUnlinked = "Done. This account is no longer linked."
	textWelcome  = "Hello! You can write to me here. " +
		"If you were given a code, please send it like this: /claim WDJ-BMJ"
	textHelp = "You can write to me here. You can also send:\n" +
		"/claim and your code, to verify who you are\n" +
		"/whoami, to see whether this account is verified\n" +
		"/unlink, to unlink this account\n" +
		"/help, to see this message again"
	textNewAccount = "A new %s account was just linked to you. " +
		"If this was not you, please tell us right away."
	textNewAccountReminder = "A new %s account was linked to you yesterday. " +
		"If this was not you, please tell us right away."
	textRecognizedOwner    = "I recognize you: this account is verified, and you are its owner."
	textRecognizedVerified = "I recognize you: this account is verified."
	textUnverified         = "This account is linked, but not verified yet. " +
		"Please ask for a code and send it like this: /claim WDJ-BMJ"
	textUnknownAccount = "I do not recognize this account yet. If we ask you for its ID, it is %s."
)

// verifiedText returns the reply to a redeemed code or invite. It names the customer by the masked
// name, if there is one, so that a person who got the code of someone else notices it.
func verifiedText(maskedName string) string {
	if maskedName == "" {
		return fmt.Sprintf(textVerified, "")
	}
	return fmt.Sprintf(textVerified, " as "+maskedName)
}

// throttledText returns the reply to a claim that is rejected for d because of too many failures.
func throttledText(d time.Duration) string {
	minutes := int(d.Round(time.Minute) / time.Minute)
	switch {
	case minutes <= 1:
		return "Too many attempts. Please wait a minute, then ask for a new code."
	case minutes < 90:
		return fmt.Sprintf("Too many attempts. Please wait %d minutes, then ask for a new code.", minutes)
	}
	return fmt.Sprintf("Too many attempts. Please wait %d hours, then ask for a new code.", (minutes+59)/60)
}

// notProvenText returns the reply to a code that its sender did not type in a new message. Where the channel
// cannot tell, typing it again does not help.
func notProvenText(m adapters.Message) string {
	switch m.UnprovenReason {
	case "", adapters.UnprovenForwarded, adapters.UnprovenViaBot, adapters.UnprovenViaApp, adapters.UnprovenScheduled,
		adapters.UnprovenLog, adapters.UnprovenEdited, adapters.UnprovenCaption:
		return textRetype
	default:
		return textNotProven
	}
}

// whoamiText returns the reply to /whoami. It says how far the sender is verified, and nothing
// about the customer. Unknown senders see the ID of their account, by which staff find it.
func whoamiText(r identity.EffectiveRole, senderID string) string {
	if r.Reason != "" {
		return textReclaim
	}
	switch r.Role {
	case identity.Owner:
		return textRecognizedOwner
	case identity.Verified:
		return textRecognizedVerified
	case identity.Unverified:
		return textUnverified
	default: // identity.Unknown
		return fmt.Sprintf(textUnknownAccount, senderID)
	}
}
