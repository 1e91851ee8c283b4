package keys

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"hydragate/adapters/simulator"
	"hydragate/e2e/harness"
	"hydragate/store/keyring"
)

// TestProviderSecrets_GracePeriod checks the rotation of the secrets that sign webhooks. A webhook
// signed with the previous secret is accepted until the grace period ends by the clock of the
// database, or until the staff end it. A webhook signed with any other secret is rejected.
func TestProviderSecrets_GracePeriod(t *testing.T) {
	t.Parallel()
	r := newRotationFixture(t, keyring.GenerateKey("k1"), 1)
	h := r.DB
	newRequests := map[string]func(secret string) (string, http.Header, []byte){
		"telegram": func(secret string) (string, http.Header, []byte) {
			path, header, body := r.telegramRequest(770001, "hello")
			header.Set("X-Telegram-Bot-Api-Secret-Token", secret)
			return path, header, body
		},
		"sms":   func(secret string) (string, http.Header, []byte) { return r.smsRequest(secret, "hello") },
		"slack": func(secret string) (string, http.Header, []byte) { return r.slackRequest(secret, "hello") },
	}
	setUps := map[string]func() (secret string, body map[string]any){
		"telegram": func() (string, map[string]any) { return "", map[string]any{"bot_token": harness.TelegramToken} },
		"sms": func() (string, map[string]any) {
			r.twilioToken = simulator.RandomHex()
			r.Twilio.RotateToken(harness.TwilioAccount, r.twilioToken)
			return r.twilioToken, map[string]any{
				"account_sid":  harness.TwilioAccount,
				"auth_token":   r.twilioToken,
				"phone_number": harness.SMSBotNumber,
			}
		},
		"slack": func() (string, map[string]any) {
			r.slackSecret = simulator.RandomHex()
			return r.slackSecret, map[string]any{"bot_token": harness.SlackToken, "signing_secret": r.slackSecret}
		},
	}
	// Too many forged requests from one address are answered with 429.
	rejected := func(status int) bool {
		return status == http.StatusForbidden || status == http.StatusTooManyRequests
	}
	for channel, newRequest := range newRequests {
		t.Run(channel, func(t *testing.T) {
			status := func(secret string) int {
				path, header, body := newRequest(secret)
				got, _, _ := r.request("POST", path, header, body)
				return got
			}
			rotate := func(options map[string]any) string {
				t.Helper()
				secret, body := setUps[channel]()
				maps.Copy(body, options)
				r.mustCall(harness.AdminKey, "POST", r.channelPath(channel), body, nil)
				if channel == "telegram" {
					_, secret = r.Telegram.Webhook(harness.TelegramBot)
				}
				return secret
			}
			first := map[string]string{"sms": r.twilioToken, "slack": r.slackSecret}[channel]
			if channel == "telegram" {
				_, first = r.Telegram.Webhook(harness.TelegramBot)
			}
			second := rotate(nil)
			a, b, c := status(first), status(second), status(simulator.RandomHex())
			if a != 200 || b != 200 || !rejected(c) {
				t.Errorf(
					"during the grace period: status %d for the previous secret, %d for the new, %d for an unknown",
					a,
					b,
					c,
				)
			}
			h.Exec(`update endpoints set old_until = now() - interval '1 second' where channel = $1`, channel)
			harness.Eventually(t, "the previous secret is rejected after the grace period", func() bool {
				return rejected(status(first))
			})
			third := rotate(map[string]any{"overlap_seconds": 0})
			if a, b, c := status(first), status(second), status(third); !rejected(a) || !rejected(b) || c != 200 {
				t.Errorf("without a grace period: status %d for the first secret, %d for the second, %d for the new",
					a, b, c)
			}
		})
	}
	t.Run("credentials of another row", func(t *testing.T) { testForeignCredentials(t, r) })
}

// testForeignCredentials checks that a gateway neither accepts webhooks nor sends replies with
// credentials that were copied from another row.
func testForeignCredentials(t *testing.T, r *rotationFixture) {
	h := r.DB
	harness.Eventually(t, "a text message is sent", func() bool {
		var n int
		h.Scan(`select count(*) from outbox where channel = 'sms' and status in ('sent', 'delivered')`, nil, &n)
		return n > 0
	})
	h.Exec(
		`update endpoints set credentials = (select o.credentials from endpoints o where o.channel = 'slack')
		where channel = 'sms'`,
	)
	harness.Eventually(t, "webhooks are rejected", func() bool {
		status, _, _ := r.request("POST", "/hooks/sms/"+r.InstanceID, http.Header{}, nil)
		return status == 503
	})
	// Replies are queued from now on. One may still be in flight.
	harness.Eventually(t, "no reply is in flight", func() bool {
		var n int
		h.Scan(`select count(*) from outbox where channel = 'sms' and status = 'sending'`, nil, &n)
		return n == 0
	})
	countTexts := func() (n int) {
		for who := range 20 {
			n += len(r.Twilio.Replies(fmt.Sprintf("+614001%05d", who)))
		}
		return n
	}
	sent := countTexts()
	if sent == 0 {
		t.Error("texts sent = 0: the test would not notice another one")
	}
	path, header, body := r.smsRequest(r.twilioToken, "hello")
	if status, _, _ := r.request("POST", path, header, body); status != 503 {
		t.Errorf("webhook with a valid signature: status %d, want 503", status)
	}
	h.Exec(
		`update outbox set status = 'queued', due_at = now(), attempts = 0, provider_id = null
		where id = (select min(cast(id as text))::uuid from outbox
			where channel = 'sms' and status in ('sent', 'delivered'))`,
	)
	h.Exec(`update lanes set due_at = now() where kind = 'outbox'`)
	harness.Eventually(t, "the reply stays queued", func() bool {
		return strings.Contains(r.Log.String(), `"outcome":"queued","reason":"unreachable"`)
	})
	if n := countTexts(); n != sent {
		t.Errorf("texts sent with the credentials of another row = %d, want 0", n-sent)
	}
	if log := r.Log.String(); strings.Contains(log, r.slackSecret) || strings.Contains(log, r.twilioToken) {
		t.Error("a secret is in the log")
	}
}

// telegramRequest returns a webhook request of Telegram with a text message and the current secret.
func (r *rotationFixture) telegramRequest(person int64, text string) (path string, header http.Header, body []byte) {
	_, secret := r.Telegram.Webhook(harness.TelegramBot)
	header = http.Header{
		"X-Telegram-Bot-Api-Secret-Token": {secret},
		"Content-Type":                    {"application/json"},
	}
	return "/hooks/telegram/" + r.InstanceID, header, telegramUpdate(r.messageIDs.Add(1), person, text)
}

// telegramUpdate returns the JSON of update n, a text message from person.
func telegramUpdate(n, person int64, text string) []byte {
	body, _ := json.Marshal(map[string]any{"update_id": n, "message": map[string]any{
		"message_id": n, "date": time.Now().Unix(), "text": text,
		"chat": map[string]any{"id": person, "type": "private", "first_name": "Steve"},
		"from": map[string]any{"id": person, "is_bot": false, "first_name": "Steve"},
	}})
	return body
}

// smsRequest returns a webhook request of Twilio with a text message, signed with token.
func (r *rotationFixture) smsRequest(token, text string) (path string, header http.Header, body []byte) {
	form := url.Values{
		"AccountSid":  {harness.TwilioAccount},
		"MessageSid":  {"SM" + strings.ReplaceAll(uuid.NewString(), "-", "")},
		"From":        {fmt.Sprintf("+614001%05d", rand.N(20))},
		"To":          {harness.SMSBotNumber},
		"Body":        {text},
		"NumMedia":    {"0"},
		"NumSegments": {"1"},
		"ApiVersion":  {"2010-04-01"},
	}
	path = "/hooks/sms/" + r.InstanceID
	header = http.Header{
		"X-Twilio-Signature": {harness.TwilioSignature(token, "http://"+r.Front.Addr()+path, form)},
		"Content-Type":       {"application/x-www-form-urlencoded"},
	}
	return path, header, []byte(form.Encode())
}

// slackRequest returns a webhook request of Slack with a direct message, signed with secret.
func (r *rotationFixture) slackRequest(secret, text string) (path string, header http.Header, body []byte) {
	n := r.messageIDs.Add(1)
	now := fmt.Sprint(time.Now().Unix())
	body, _ = json.Marshal(map[string]any{
		"token": "deprecated", "api_app_id": harness.SlackAppID,
		"team_id": harness.SlackTeamID, "context_team_id": harness.SlackTeamID,
		"type": "event_callback", "event_id": fmt.Sprintf("Ev%09d", n), "event_time": time.Now().Unix(),
		"authorizations": []map[string]any{
			{"team_id": harness.SlackTeamID, "user_id": "U0BOT", "is_bot": true, "is_enterprise_install": false},
		},
		"event": map[string]any{
			"type":         "message",
			"channel_type": "im",
			"channel":      fmt.Sprintf("D%02d", n%20),
			"user":         fmt.Sprintf("U%02d", n%20),
			"team":         harness.SlackTeamID,
			"text":         text,
			"ts":           fmt.Sprintf("%s.%06d", now, n%1e6),
		},
	})
	return "/hooks/slack/" + r.InstanceID + "/events", http.Header{
		"X-Slack-Signature":         {harness.SlackSignature(secret, now, string(body))},
		"X-Slack-Request-Timestamp": {now},
		"Content-Type":              {"application/json"},
	}, body
}

// postWebhook posts a webhook request and records a failure unless the status is 200.
func (r *rotationFixture) postWebhook(path string, header http.Header, body []byte) (status int) {
	status, answer, _ := r.request("POST", path, header, body)
	if status != http.StatusOK {
		r.recordFailure(path, status, answer)
	}
	return status
}
