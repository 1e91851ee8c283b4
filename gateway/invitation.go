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
	how := fmt.Sprintf("Write to %s and send /claim %s", botAt(ep), claim.Group(code))
	if link := InviteURL(ep, code); link != "" {
		how = fmt.Sprintf("Open %s, or write to %s and send /claim %s", link, botAt(ep), claim.Group(code))
	}
	return fmt.Sprintf("%s, valid until %s UTC. Whoever opens it first is taken for the customer.", how, expires.UTC().Format("2006-01-02 15:04"))
}
