package simulator

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"hydragate/adapters"
)

// A FaultRequest makes the bot of a channel deaf, or its provider unreliable, in one of the ways that
// happen with the original provider. If End is set, it ends the fault. The faults are
//
//   - of all channels: token_revoked, bad_gateway and slow,
//   - of Telegram, SMS and WhatsApp: webhook_replaced and webhook_deleted, by another program,
//   - of Telegram: webhook_secret_replaced, rival_poller, commands_limited and commands_refused,
//   - of SMS and WhatsApp: token_secondary, account_suspended and service_override,
//   - of WhatsApp: sender_offline,
//   - of Slack: invalid_auth, missing_scope, app_uninstalled, tokens_revoked, app_rate_limited,
//     link_disabled, too_many_websockets and refresh_requested.
type FaultRequest struct {
	Channel adapters.Channel `json:"channel"`
	Fault   string           `json:"fault"`
	End     bool             `json:"end,omitempty"`
}

// ErrUnknownFault means that a channel does not have a fault.
var ErrUnknownFault = errors.New("unknown fault")

const (
	foreignWebhook = "https://other.example/hook"
	foreignSecret  = "secret-of-another-program"
	foreignToken   = "00000000000000000000000000000000"
	slowResponse   = 100 * time.Millisecond
)

// SetFault causes a fault or ends it.
func (c *Control) SetFault(ctx context.Context, f FaultRequest) error {
	switch f.Fault {
	case "bad_gateway":
		c.breakAccount(f, AllMethods, Fault{Status: http.StatusBadGateway, Body: "<html>502 Bad Gateway</html>"})
		return nil
	case "slow":
		c.breakAccount(f, AllMethods, Fault{Delay: slowResponse})
		return nil
	}
	known := false
	switch f.Channel {
	case adapters.Telegram:
		known = c.setTelegramFault(f)
	case adapters.SMS, adapters.WhatsApp:
		known = c.setTwilioFault(f)
	case adapters.Slack:
		var err error
		if known, err = c.setSlackFault(ctx, f); err != nil {
			return err
		}
	}
	if !known {
		return fmt.Errorf("%w %q of %s", ErrUnknownFault, f.Fault, f.Channel)
	}
	return nil
}

// breakAccount adds a fault for calls with the credentials of the bot, or ends all of them.
func (c *Control) breakAccount(f FaultRequest, method string, fault Fault) {
	switch f.Channel {
	case adapters.Telegram:
		if f.End {
			c.Telegram.Mend(c.Bot)
			return
		}
		c.Telegram.Break(c.Bot, method, fault)
	case adapters.Slack:
		if f.End {
			c.Slack.Mend(c.AppID)
			return
		}
		c.Slack.Break(c.AppID, method, fault)
	default:
		account, _ := c.Twilio.credentials(c.twilioAddress(f.Channel))
		if f.End {
			c.Twilio.Mend(account)
			return
		}
		c.Twilio.Break(account, method, fault)
	}
}

// setTelegramFault reports whether it knows the fault.
func (c *Control) setTelegramFault(f FaultRequest) bool {
	refuse := func(method string, code int, description, parameters string) {
		c.breakAccount(f, method, Fault{Status: code, Body: fmt.Sprintf(
			`{"ok":false,"error_code":%d,"description":%q%s}`, code, description, parameters,
		)})
	}
	address, secret := c.Telegram.Webhook(c.Bot)
	switch f.Fault {
	case "webhook_replaced":
		address, secret = foreignWebhook, foreignSecret
	case "webhook_deleted":
		address = ""
	case "webhook_secret_replaced":
		secret = foreignSecret
	case "token_revoked":
		refuse(AllMethods, http.StatusUnauthorized, "Unauthorized", "")
		return true
	case "rival_poller":
		refuse("getUpdates", http.StatusConflict, conflictPoll, "")
		return true
	case "commands_limited":
		refuse("setMyCommands", http.StatusTooManyRequests, "Too Many Requests: retry after 600",
			`,"parameters":{"retry_after":600}`)
		return true
	case "commands_refused":
		refuse("setMyCommands", http.StatusBadRequest, "Bad Request: BOT_COMMANDS_TOO_MUCH", "")
		return true
	default:
		return false
	}
	if !f.End { // otherwise the gateway corrects it
		c.Telegram.SetWebhook(c.Bot, address, secret)
	}
	return true
}

// twilioAddress returns the address of the bot on SMS or WhatsApp, as Twilio writes it.
func (c *Control) twilioAddress(channel adapters.Channel) string {
	if channel == adapters.WhatsApp {
		return whatsAppPrefix + c.WhatsAppNumber
	}
	return c.SMSNumber
}

// setTwilioFault reports whether it knows the fault.
func (c *Control) setTwilioFault(f FaultRequest) bool {
	address := c.twilioAddress(f.Channel)
	account, token := c.Twilio.credentials(address)
	switch f.Fault {
	case "webhook_replaced", "webhook_deleted":
		to := map[string]string{"webhook_replaced": foreignWebhook}[f.Fault]
		if !f.End { // otherwise the gateway corrects it
			c.Twilio.SetWebhook(address, to, "")
		}
	case "token_revoked":
		c.breakAccount(f, AllMethods, Fault{
			Status: http.StatusUnauthorized, Body: `{"code":20003,"message":"Authenticate","status":401}`,
		})
	case "token_secondary": // another token is the primary one
		if f.End {
			c.Twilio.RotateToken(account, c.Twilio.secondaryToken(account))
			return true
		}
		c.Twilio.AddSecondaryToken(account, token)
		c.Twilio.RotateToken(account, foreignToken)
	case "account_suspended":
		c.Twilio.SetAccountStatus(account, map[bool]string{false: "suspended", true: "active"}[f.End])
	case "service_override":
		if f.End {
			c.Twilio.RemoveServices(account)
			return true
		}
		c.Twilio.AddService(account, foreignWebhook, address)
	case "sender_offline":
		c.Twilio.SetOffline(c.WhatsAppNumber, map[bool]string{false: "Business account is locked"}[f.End])
		return f.Channel == adapters.WhatsApp
	default:
		return false
	}
	return true
}

// setSlackFault reports whether it knows the fault.
func (c *Control) setSlackFault(ctx context.Context, f FaultRequest) (known bool, err error) {
	app := c.AppID
	fail := func(code string) {
		c.Slack.ChangeApp(app, func(a *SlackApp) { a.TokenError = map[bool]string{false: code}[f.End] })
	}
	var event string
	switch f.Fault {
	case "token_revoked", "invalid_auth":
		fail(f.Fault)
	case "app_uninstalled":
		fail("account_inactive")
		event = `{"type":"app_uninstalled"}`
	case "tokens_revoked":
		fail("token_revoked")
		event = `{"type":"tokens_revoked","tokens":{"bot":["U0BOT"]}}`
	case "missing_scope":
		c.Slack.ChangeApp(app, func(a *SlackApp) {
			a.Scopes = map[bool][]string{false: {"im:history"}, true: {"im:history", "chat:write"}}[f.End]
		})
	case "app_rate_limited":
		if !f.End {
			_, err = c.Slack.LimitEvents(ctx, app)
		}
	case "link_disabled":
		if f.End {
			c.Slack.ChangeApp(app, func(a *SlackApp) { a.SocketModeOff = false })
			return true, nil
		}
		c.Slack.DisconnectSockets(app, f.Fault)
	case "too_many_websockets":
		c.Slack.ChangeApp(app, func(a *SlackApp) { a.OtherSockets = map[bool]int{false: slackMaxSockets}[f.End] })
		c.Slack.CutSockets(app)
	case "refresh_requested":
		if !f.End {
			c.Slack.DisconnectSockets(app, f.Fault)
		}
	default:
		return false, nil
	}
	if event != "" && !f.End {
		_, err = c.Slack.SendEvent(ctx, app, []byte(event))
	}
	return true, err
}
