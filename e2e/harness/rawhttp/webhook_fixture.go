//go:build unix

// Package rawhttp sends webhook requests to a running gateway byte for byte, for end-to-end tests:
// genuine requests as providers sign them, forged ones that the gateway must reject, unusual and
// malformed ones that it must accept, and slow clients. It does not judge the responses; the tests
// do.
package rawhttp

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/adapters/simulator"
	"hydragate/cmd/hydragate/app"
	"hydragate/e2e/harness"
	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store"
	"hydragate/store/keyring"
)

// webhookOrigin is the public URL of the gateway, which providers sign. Nothing listens there. The
// tests send requests to the gateway directly, as a reverse proxy would.
const webhookOrigin = "https://hooks.acme.example"

// InstanceAccounts are the accounts of one instance at the providers, with the keys that sign
// requests.
type InstanceAccounts struct {
	InstanceID string

	TelegramSecret string

	AccountSID, AuthToken, Phone string

	TeamID, AppID, SigningSecret string
}

// A WebhookFixture is a running gateway with four instances. Acme is the one under test. Neighbor
// has a Telegram bot and a Slack app of its own, and a number of the same Twilio account.
// OtherAccount has another Twilio account. The endpoints of Keyless have no keys.
type WebhookFixture struct {
	*harness.Harness
	Gateway *harness.Process

	Acme, Neighbor, OtherAccount, Keyless InstanceAccounts
	Secrets                               []string

	callerCount int
}

// NewWebhookFixture starts a gateway until the test ends and creates the instances.
func NewWebhookFixture(t *testing.T, engine harness.Engine) *WebhookFixture {
	t.Helper()
	h := &WebhookFixture{}
	h.Harness, h.Gateway = harness.Start(t, harness.Options{
		Engine: engine, NoChannels: true,
		Settings: func(s *app.Settings) { s.PublicURL, s.LogLevel, s.LogFormat = webhookOrigin, "debug", "json" },
	})
	h.Acme = InstanceAccounts{
		AccountSID: harness.TwilioAccount, AuthToken: harness.TwilioToken, Phone: harness.SMSBotNumber,
		TeamID: "T0ACME", AppID: "A0ACME", SigningSecret: "8f742231b10e8888abcd99aaabbb85a5",
	}
	h.Neighbor = InstanceAccounts{
		AccountSID: harness.TwilioAccount, AuthToken: harness.TwilioToken, Phone: "+14155550109",
		TeamID: "T0NEXT", AppID: "A0NEXT", SigningSecret: "17c2d8f00000aaaa1111bbbb2222cccc",
	}
	h.OtherAccount = InstanceAccounts{
		AccountSID: "ACfedcba98765432100123456789abcdef", AuthToken: "0f1e2d3c4b5a69788796a5b4c3d2e1f0",
		Phone: "+442079460000",
	}
	h.Twilio.AddAccount(h.OtherAccount.AccountSID, h.OtherAccount.AuthToken)
	for i, accounts := range []*InstanceAccounts{&h.Acme, &h.Neighbor, &h.OtherAccount} {
		h.createInstance(i, accounts)
	}
	h.createKeyless()
	h.Secrets = append(h.Secrets, harness.AdminKey)
	return h
}

// createInstance creates instance number i and connects its channels.
func (h *WebhookFixture) createInstance(i int, accounts *InstanceAccounts) {
	h.T.Helper()
	var created struct{ ID string }
	h.MustCall("POST", "/v1/instances", map[string]string{
		"name": fmt.Sprintf("instance %d", i), "unknown_senders": "forward",
	}, http.StatusCreated, &created)
	accounts.InstanceID = created.ID
	h.Twilio.AddNumber(accounts.AccountSID, accounts.Phone)
	for _, channel := range []string{"sms", "whatsapp"} {
		h.ConnectChannel(accounts.InstanceID, channel, map[string]string{
			"account_sid": accounts.AccountSID, "auth_token": accounts.AuthToken, "phone_number": accounts.Phone,
		})
	}
	h.Secrets = append(h.Secrets, accounts.AuthToken)
	if accounts.AppID == "" {
		return
	}
	bot := fmt.Sprintf("bot%d_bot", i)
	botToken := fmt.Sprintf("701000%d:AAE0123456789abcdefghijklmnopqrstuv", i)
	slackToken := fmt.Sprintf("xoxb-%010d-hooks", i)
	h.Telegram.AddBot(botToken, bot)
	h.ConnectChannel(accounts.InstanceID, "telegram", map[string]string{"bot_token": botToken})
	_, accounts.TelegramSecret = h.Telegram.Webhook(bot)
	h.Slack.AddApp(simulator.SlackApp{
		AppID: accounts.AppID, TeamID: accounts.TeamID, TeamName: "Acme", BotUserID: fmt.Sprintf("U0BOT%d", i),
		Token: slackToken, SigningSecret: accounts.SigningSecret,
	})
	h.ConnectChannel(accounts.InstanceID, "slack", map[string]string{
		"bot_token": slackToken, "signing_secret": accounts.SigningSecret,
	})
	h.Secrets = append(h.Secrets, accounts.TelegramSecret, botToken, slackToken, accounts.SigningSecret)
}

// createKeyless creates the instance without keys. Its endpoints are written to the store, with
// empty keys or none, because the API rejects them.
func (h *WebhookFixture) createKeyless() {
	h.T.Helper()
	keys, err := keyring.Parse(h.Settings.MasterKeys)
	if err != nil {
		h.T.Fatal(err)
	}
	s, err := store.Open(h.T.Context(), h.DSN, keys)
	if err != nil {
		h.T.Fatal(err)
	}
	defer s.Close()
	h.Keyless = InstanceAccounts{
		AccountSID: "AC00000000000000000000000000000000", Phone: "+14155550777", TeamID: "T0NONE", AppID: "A0NONE",
	}
	var created struct{ ID string }
	h.MustCall("POST", "/v1/instances", map[string]string{"name": "keyless"}, http.StatusCreated, &created)
	h.Keyless.InstanceID = created.ID
	for _, ep := range []adapters.Endpoint{
		{
			Channel: adapters.Telegram, Address: "7000009",
			Credentials: adapters.Credentials{adapters.BotToken: "7000009:x", adapters.WebhookSecret: ""},
		},
		{
			Channel: adapters.SMS, Address: h.Keyless.Phone,
			Credentials: adapters.Credentials{adapters.AccountSID: h.Keyless.AccountSID, adapters.AuthToken: ""},
		},
		{
			Channel: adapters.WhatsApp, Address: h.Keyless.Phone,
			Credentials: adapters.Credentials{adapters.AccountSID: h.Keyless.AccountSID},
		},
		{
			Channel: adapters.Slack, Address: h.Keyless.TeamID,
			Credentials: adapters.Credentials{adapters.BotToken: "xoxb-none", adapters.SigningSecret: ""},
		},
	} {
		ep.TenantID, ep.InstanceID, ep.Mode = harness.TestTenantID, h.Keyless.InstanceID, adapters.Webhook
		saved, err := s.SaveEndpoint(h.T.Context(), gateway.EndpointState{Endpoint: ep, Status: gateway.EndpointActive},
			time.Time{}, identity.System)
		if err != nil || saved.ID == "" {
			h.T.Fatalf("SaveEndpoint(%s) = %v, %v, want an endpoint", ep.Channel, saved, err)
		}
	}
}

// MessageCount returns the number of stored messages.
func (h *WebhookFixture) MessageCount() int { return h.QueryInt(`select count(*) from messages`) }

// NewCallerAddr returns a loopback address that has sent no request yet, so that the limit
// on failed authentications does not affect the caller.
func (h *WebhookFixture) NewCallerAddr() string {
	h.callerCount++
	return fmt.Sprintf("127.1.%d.%d", h.callerCount/250, 1+h.callerCount%250)
}

// webhookURL returns the URL to which a provider sends the webhooks of a channel.
func webhookURL(channel, subpath string, accounts InstanceAccounts) string {
	return webhookOrigin + webhookPath(channel, subpath, accounts)
}

// webhookPath returns the path of webhookURL.
func webhookPath(channel, subpath string, accounts InstanceAccounts) string {
	path := "/hooks/" + channel + "/" + accounts.InstanceID
	if subpath != "" {
		path += "/" + subpath
	}
	return path
}

// formValues returns a form with the given names and values, which alternate.
func formValues(pairs ...string) url.Values {
	f := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		f.Set(pairs[i], pairs[i+1])
	}
	return f
}
