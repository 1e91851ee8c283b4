package keys

import (
	"maps"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"hydragate/adapters/simulator"
	"hydragate/e2e/harness"
	"hydragate/e2e/harness/rawhttp"
)

// TestProviderSecrets_GracePeriod checks the rotation of the secrets that sign webhooks. A webhook
// signed with the previous secret is accepted until the grace period ends by the clock of the
// database, or until the staff end it. A webhook signed with any other secret is rejected.
func TestProviderSecrets_GracePeriod(t *testing.T) {
	t.Parallel()
	h, _ := harness.Start(t, harness.Options{InProcess: true})
	for _, c := range []struct {
		channel, kind, secret string            // the first secret, except of Telegram
		body                  map[string]string // of the set-up
		field                 string            // of the body that contains the secret, except of Telegram
	}{
		{"telegram", "telegram", "", map[string]string{"bot_token": harness.TelegramToken}, ""},
		{"sms", "sms", harness.TwilioToken, map[string]string{
			"account_sid": harness.TwilioAccount, "phone_number": harness.SMSBotNumber,
		}, "auth_token"},
		{"slack", "slack/events", harness.SlackSecret, map[string]string{"bot_token": harness.SlackToken}, "signing_secret"},
	} {
		t.Run(c.channel, func(t *testing.T) {
			rotate := func(options map[string]any) string {
				t.Helper()
				secret := simulator.RandomHex()
				body := maps.Clone(options)
				for name, value := range c.body {
					body[name] = value
				}
				if c.field != "" {
					body[c.field] = secret
				}
				if c.channel == "sms" {
					h.Twilio.RotateToken(harness.TwilioAccount, secret)
				}
				h.MustCall("POST", "/v1/instances/"+h.InstanceID+"/channels/"+c.channel, body, http.StatusOK, nil)
				if c.channel == "telegram" {
					_, secret = h.Telegram.Webhook(harness.TelegramBot)
				}
				return secret
			}
			post := func(secret string) int { return postWebhook(h, c.kind, secret) }
			first := c.secret
			if c.channel == "telegram" {
				_, first = h.Telegram.Webhook(harness.TelegramBot)
			}
			second := rotate(map[string]any{})
			if a, b, c := post(first), post(second), post(simulator.RandomHex()); a != 200 || b != 200 || !rejected(c) {
				t.Errorf("during the grace period: status %d for the previous secret, %d for the new, %d for an unknown", a, b, c)
			}
			h.Exec(`update endpoints set old_until = now() - interval '1 second' where channel = $1`, c.channel)
			harness.Eventually(t, "the previous secret is rejected after the grace period", func() bool {
				return rejected(post(first))
			})
			third := rotate(map[string]any{"overlap_seconds": 0})
			if a, b, c := post(first), post(second), post(third); !rejected(a) || !rejected(b) || c != 200 {
				t.Errorf("without a grace period: status %d for the first secret, %d for the second, %d for the new", a, b, c)
			}
		})
	}
}

// TestProviderSecrets_AnotherRow checks that a gateway neither accepts webhooks nor sends replies with
// credentials that were copied from another row.
func TestProviderSecrets_AnotherRow(t *testing.T) {
	t.Parallel()
	h, _ := harness.Start(t, harness.Options{InProcess: true})
	if status := postWebhook(h, "sms", harness.TwilioToken); status != http.StatusOK {
		t.Fatalf("webhook with its credentials: status %d, want 200", status)
	}
	harness.Eventually(t, "a text message is sent", func() bool {
		return h.QueryInt(`select count(*) from outbox where channel = 'sms' and status in ('sent', 'delivered')`) > 0
	})
	h.Exec(`update endpoints set credentials = (select o.credentials from endpoints o where o.channel = 'slack')
		where channel = 'sms'`)
	harness.Eventually(t, "webhooks are rejected", func() bool { return postWebhook(h, "sms", "") == 503 })
	// Replies are queued from now on. One may still be in flight.
	harness.Eventually(t, "no reply is in flight", func() bool {
		return h.QueryInt(`select count(*) from outbox where channel = 'sms' and status = 'sending'`) == 0
	})
	sent := len(h.Twilio.Replies(""))
	if sent == 0 {
		t.Error("texts sent = 0: the test would not notice another one")
	}
	if status := postWebhook(h, "sms", harness.TwilioToken); status != 503 {
		t.Errorf("webhook with a valid signature: status %d, want 503", status)
	}
	h.Exec(`update outbox set status = 'queued', due_at = now(), attempts = 0, provider_id = null
		where id = (select min(cast(id as text))::uuid from outbox
			where channel = 'sms' and status in ('sent', 'delivered'))`)
	h.Exec(`update lanes set due_at = now() where kind = 'outbox'`)
	harness.Eventually(t, "the reply stays queued", func() bool {
		return strings.Contains(h.Log.String(), `"outcome":"queued","reason":"unreachable"`)
	})
	if n := len(h.Twilio.Replies("")); n != sent {
		t.Errorf("texts sent with the credentials of another row = %d, want 0", n-sent)
	}
	for _, secret := range []string{harness.SlackSecret, harness.TwilioToken} {
		if strings.Contains(h.Log.String(), secret) {
			t.Error("a secret is in the log")
		}
	}
}

// rejected reports whether a webhook was rejected. Too many forged requests from one address are
// answered with 429.
func rejected(status int) bool {
	return status == http.StatusForbidden || status == http.StatusTooManyRequests
}

var webhookNumber atomic.Int64

// postWebhook posts a message as a provider does, signed with a secret. It returns the status.
func postWebhook(h *harness.Harness, kind, secret string) (status int) {
	h.T.Helper()
	d := rawhttp.NewUnsignedRequest(kind, int(webhookNumber.Add(1)), rawhttp.InstanceAccounts{
		InstanceID: h.InstanceID, TelegramSecret: secret, AccountSID: harness.TwilioAccount, AuthToken: secret,
		Phone: harness.SMSBotNumber, TeamID: harness.SlackTeamID, AppID: harness.SlackAppID, SigningSecret: secret,
	})
	d.URL = h.Settings.PublicURL + "/hooks/" + kind + "/" + h.InstanceID
	p, header := d.Sign(), http.Header{}
	for _, line := range p.HeaderLines {
		name, value, _ := strings.Cut(line, ": ")
		header.Set(name, value)
	}
	res, err := h.API.Do(h.T.Context(), p.Method, p.Target, header, p.Body)
	if err != nil {
		h.T.Fatal(err)
	}
	return res.Status
}
