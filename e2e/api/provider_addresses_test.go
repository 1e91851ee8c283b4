package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"hydragate/e2e/harness"
	"hydragate/identity"
)

// forEachProcessingEngine runs test on a gateway that processes messages, on each engine.
func forEachProcessingEngine(t *testing.T, test func(t *testing.T, h *harness.APIFixture)) {
	for _, engine := range []harness.Engine{harness.SQLite, harness.Postgres} {
		t.Run(string(engine), func(t *testing.T) {
			t.Parallel()
			test(t, harness.NewAPIFixture(t, harness.Options{Engine: engine, InProcess: true}))
		})
	}
}

// createInstance creates an instance of the test application with a key, and returns its ID.
func createInstance(h *harness.APIFixture, token, name string) string {
	h.T.Helper()
	res := h.CallAs(token, "POST", "/v1/instances", h.EncodeJSON(map[string]string{"name": name, "agent_url": h.App.URL}))
	if res.Status != http.StatusCreated {
		h.T.Fatalf("create instance: %d %s", res.Status, res.Body)
	}
	return h.DecodeObject(res.Body)["id"].(string)
}

// channelBodies are the bodies that set up each channel with the accounts of the tests.
var channelBodies = map[string]map[string]string{
	"telegram": {"bot_token": harness.TelegramToken, "mode": "webhook"},
	"sms": {
		"account_sid": harness.TwilioAccount, "auth_token": harness.TwilioToken, "phone_number": harness.SMSBotNumber,
	},
	"whatsapp": {
		"account_sid": harness.TwilioAccount, "auth_token": harness.TwilioToken, "phone_number": harness.SMSBotNumber,
	},
	"slack": {"bot_token": harness.SlackToken, "signing_secret": harness.SlackSecret},
}

// TestProviderAddress_OtherTenant checks that the set-up of an address of another tenant is refused without
// naming that tenant or its instance, that one of the same tenant is named, and that the first owner goes on.
func TestProviderAddress_OtherTenant(t *testing.T) {
	t.Parallel()
	forEachProcessingEngine(t, func(t *testing.T, h *harness.APIFixture) {
		owner := createInstance(h, h.AdminKey, "the secret project")
		sibling := createInstance(h, h.AdminKey, "sibling")
		stranger := h.CreateKey(identity.APIKey{TenantID: harness.OtherTenantID, Scopes: identity.Scopes}).Token
		foreign := createInstance(h, stranger, "foreign")
		for channel, body := range channelBodies {
			setUp := func(token, instance string) harness.Response {
				return h.CallAs(token, "POST", "/v1/instances/"+instance+"/channels/"+channel, h.EncodeJSON(body))
			}
			if res := setUp(h.AdminKey, owner); res.Status != http.StatusOK {
				t.Fatalf("set up %s: %d %s", channel, res.Status, res.Body)
			}
			res := setUp(stranger, foreign)
			detail, _ := h.DecodeObject(res.Body)["detail"].(string)
			if res.Status != http.StatusConflict ||
				!strings.HasSuffix(detail, " is already connected elsewhere in this deployment") {
				t.Errorf("%s of another tenant: %d %s, want 409, elsewhere in this deployment", channel, res.Status, res.Body)
			}
			for _, secret := range []string{owner, sibling, "secret project", harness.TestTenantID} {
				if strings.Contains(res.Body+fmt.Sprint(res.Header), secret) {
					t.Errorf("%s of another tenant: %s names %s", channel, res.Body, secret)
				}
			}
			res = h.CallAs(stranger, "GET", "/v1/instances/"+foreign+"/channels", "")
			if h.DecodeObject(res.Body)["count"] != 0.0 {
				t.Errorf("channels after a refused %s = %s, want none", channel, res.Body)
			}
			if res := setUp(h.AdminKey, sibling); res.Status != http.StatusConflict || !strings.Contains(res.Body, owner) {
				t.Errorf("%s of the same tenant: %d %s, want 409 with the instance", channel, res.Status, res.Body)
			}
		}
		h.TelegramUser(harness.TelegramBot, 900_001).Send(t.Context(), "to the owner")
		harness.Eventually(t, "the owner still receives messages", func() bool {
			return h.QueryInt(`select count(*) from messages where text = 'to the owner' and instance_id = $1`, owner) == 1
		})
	})
}

// TestMessagingService_OtherEndpointsNumbers checks that an endpoint whose number is in a Messaging Service
// gets the messages to the numbers of the pool that are no other endpoint's, by webhook and from Twilio's
// log, and answers them from the number that was written to.
func TestMessagingService_OtherEndpointsNumbers(t *testing.T) {
	t.Parallel()
	forEachProcessingEngine(t, func(t *testing.T, h *harness.APIFixture) {
		const first, second, free, steve = harness.SMSBotNumber, "+14155550102", "+14155550103", "+14155559999"
		for _, number := range []string{second, free} {
			h.Twilio.AddNumber(harness.TwilioAccount, number)
		}
		h.Twilio.AddService(harness.TwilioAccount, "", first, second, free)
		stranger := h.CreateKey(identity.APIKey{TenantID: harness.OtherTenantID, Scopes: identity.Scopes}).Token
		instances := map[string]string{}
		for _, e := range []struct{ number, token string }{{first, h.AdminKey}, {second, stranger}} {
			instances[e.number] = createInstance(h, e.token, "acme")
			body := map[string]string{
				"account_sid": harness.TwilioAccount, "auth_token": harness.TwilioToken, "phone_number": e.number,
			}
			path := "/v1/instances/" + instances[e.number] + "/channels/sms"
			if res := h.CallAs(e.token, "POST", path, h.EncodeJSON(body)); res.Status != http.StatusOK {
				t.Fatalf("set up %s: %d %s", e.number, res.Status, res.Body)
			}
		}
		// The endpoint that was set up first has the pool.
		instances[free] = instances[first]
		webhook, _ := h.Twilio.Webhook(first)
		webhook, _, _ = strings.Cut(webhook, "#") // no retries
		h.Twilio.SetWebhook(free, webhook, "")
		received := func(text string) (by []string) {
			return h.QueryTexts(`select cast(instance_id as text) from messages where text = $1`, text)
		}
		for number, instance := range instances {
			text := "to " + number
			h.Twilio.SendText(steve, number, text)
			harness.Eventually(t, text+" is answered", func() bool { return h.ReplyCounts()["re "+text] == 1 })
			if by := received(text); !slices.Equal(by, []string{instance}) {
				t.Errorf("%q received by %v, want %s", text, by, instance)
			}
			if from := senderOf(h, "re "+text); from != number {
				t.Errorf("the answer to %q comes from %q", text, from)
			}
		}
		// If the service posts all messages to the first webhook, that must not take those to the second number.
		h.Twilio.SetWebhook(second, webhook, "")
		sid := h.Twilio.SendText(steve, second, "misdirected")
		if by := received("misdirected"); len(by) > 0 || h.Twilio.Delivered(sid) {
			t.Errorf("a message to the number of another endpoint is received by %v", by)
		}
	})
}

// senderOf returns the number from which a text was sent, according to Twilio.
func senderOf(h *harness.APIFixture, text string) string {
	h.T.Helper()
	url := h.Settings.TwilioAPIURL + "/2010-04-01/Accounts/" + harness.TwilioAccount + "/Messages.json"
	req, err := http.NewRequestWithContext(h.T.Context(), http.MethodGet, url, http.NoBody)
	h.Must(err)
	req.SetBasicAuth(harness.TwilioAccount, harness.TwilioToken)
	res, err := (&http.Client{Timeout: time.Minute}).Do(req)
	h.Must(err)
	defer func() { _ = res.Body.Close() }()
	var log struct {
		Messages []struct{ From, Body string }
	}
	h.Must(json.NewDecoder(res.Body).Decode(&log))
	for _, m := range log.Messages {
		if m.Body == text {
			return m.From
		}
	}
	return ""
}
