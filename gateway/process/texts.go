package process

import (
	"fmt"
	"time"

	"hydragate/identity"
)

// Every sentence that a person may read stands here.
const (
	textVerified           = "Thank you, you are verified. This chat now belongs to your account."
	textAlreadyVerified    = "You are already verified. There is nothing more to do."
	textDeclined           = "That code did not work. Codes last 15 minutes and work once; please ask for a new one."
	textHint               = "Please send the six letters of your code after the word claim, like this: /claim WDJ-BMJ"
	textInviteHint         = "Please send the word claim before these letters, like this: /claim WDJB-MJKL-NPQR"
	textPrivateOnly        = "Please send me that in a private chat, where nobody else can read it."
	textCodeLost           = "I could not check the code this time. Please ask for a new one."
	textChecking           = "I am checking your code. This takes a moment longer than usual."
	textUnknownSender      = "Hello! I do not know this account yet. If you have a code, please send it like this: /claim WDJ-BMJ"
	textReclaim            = "It is time to make sure that this account is still yours. Please ask us for a new code and send it like this: /claim WDJ-BMJ"
	textNotLinked          = "This account is not linked to anybody here."
	textUnlinkAsk          = "If I unlink this account, I will not know you any more. Send /unlink again within five minutes if you want that."
	textUnlinked           = "Done. This account is not linked any more."
	textWelcome            = "Hello! Just write to me. If you were given a code, please send it like this: /claim WDJ-BMJ"
	textHelp               = "Just write to me. You can also send:\n/claim and your code, to tell me who you are\n/whoami, to see whether I know you\n/unlink, to make me forget who you are\n/help, to read this again"
	textNewAccount         = "A new %s account was just linked to you. If that was not you, please tell us at once."
	textNewAccountReminder = "Yesterday a new %s account was linked to you. If that was not you, please tell us at once."
)

func throttledText(d time.Duration) string {
	minutes := int(d.Round(time.Minute) / time.Minute)
	switch {
	case minutes <= 1:
		return "Too many tries. Please wait a minute, then ask for a new code."
	case minutes < 90:
		return fmt.Sprintf("Too many tries. Please wait %d minutes, then ask for a new code.", minutes)
	}
	return fmt.Sprintf("Too many tries. Please wait %d hours, then ask for a new code.", (minutes+59)/60)
}

// whoamiText tells a person what the gateway knows of this account, and nothing of
// the customer behind it.
func whoamiText(s identity.EffectiveRole) string {
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
