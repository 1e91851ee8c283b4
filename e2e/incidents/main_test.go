// Package incidents replays published incidents of other products: those that let strangers in, and
// those that rejected or repeated genuine messages.
package incidents

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/adapters/simulator"
	"hydragate/e2e/harness"
)

func TestMain(m *testing.M) { harness.RunMain(m, nil) }

// An incident is an incident of another product. run replays it.
type incident struct {
	name string // begins with the name by which the incident is known
	run  func(s *fixture)
}

// replay replays incidents with one gateway on each engine.
func replay(t *testing.T, incidents []incident) {
	harness.ParallelUnlessFull(t)
	harness.ForEachEngine(t, func(t *testing.T, engine harness.Engine) {
		h, _ := harness.Start(t, harness.Options{Engine: engine, InProcess: true})
		h.App.Update(func() { h.App.Secret = h.WebhookSecret })
		s := &fixture{Harness: h, nextID: 600_000, people: &simulator.Control{
			Telegram: h.Telegram, Bot: harness.TelegramBot,
			Twilio: h.Twilio, SMSNumber: harness.SMSBotNumber, WhatsAppNumber: harness.SMSBotNumber,
			Slack: h.Slack, AppID: harness.SlackAppID, Team: harness.SlackTeamID,
		}}
		for _, i := range incidents {
			t.Run(i.name, func(t *testing.T) {
				s.T, s.DB.T = t, t
				i.run(s)
			})
		}
		s.T, s.DB.T = t, t
		h.App.Update(func() {
			if err := errors.Join(h.App.Errs...); err != nil {
				t.Error(err)
			}
		})
	})
}

// A fixture is a gateway with every channel, and people who send messages to it.
type fixture struct {
	*harness.Harness
	people *simulator.Control
	nextID int64
}

// newID returns a number that no test has used.
func (s *fixture) newID() int64 {
	s.nextID++
	return s.nextID
}

// newExternalID returns the external ID of an account on c that no test has used.
func (s *fixture) newExternalID(c adapters.Channel) string {
	switch n := s.newID(); c {
	case adapters.SMS, adapters.WhatsApp:
		return fmt.Sprintf("+1202555%04d", n%10_000)
	case adapters.Slack:
		return fmt.Sprintf("%s:U%d", harness.SlackTeamID, n)
	default:
		return strconv.FormatInt(n, 10)
	}
}

// A linkedAccount is the account of a customer on a channel.
type linkedAccount struct {
	channel                            adapters.Channel
	customerID, identityID, externalID string
}

// path returns the path of the identity in the API.
func (p linkedAccount) path() string {
	return "/v1/customers/" + p.customerID + "/identities/" + p.identityID
}

// createLinked creates a customer and links a new, unverified account on c.
func (s *fixture) createLinked(c adapters.Channel) linkedAccount {
	s.T.Helper()
	var customer struct{ ID string }
	s.MustCall("POST", "/v1/customers", map[string]string{"first_name": "Steve"}, http.StatusCreated, &customer)
	return s.link(customer.ID, c, s.newExternalID(c))
}

// link links an account on c to an existing customer.
func (s *fixture) link(customer string, c adapters.Channel, external string) linkedAccount {
	s.T.Helper()
	var linked struct{ ID string }
	s.MustCall("POST", "/v1/customers/"+customer+"/identities", map[string]string{
		"channel": string(c), "external_id": external, "instance_id": s.InstanceID,
	}, http.StatusCreated, &linked)
	return linkedAccount{c, customer, linked.ID, external}
}

// createVerified creates a customer with an account on c and verifies the account with a code.
func (s *fixture) createVerified(c adapters.Channel) linkedAccount {
	s.T.Helper()
	p := s.createLinked(c)
	s.redeem(p)
	return p
}

// redeem issues a code for the account and redeems it.
func (s *fixture) redeem(p linkedAccount) {
	s.T.Helper()
	s.sendAndExpect(p.channel, p.externalID, "/claim "+s.issueCode(p), "You are now verified as S…e.")
}

// issueCode issues a claim code for the account.
func (s *fixture) issueCode(p linkedAccount) string {
	s.T.Helper()
	var issued struct{ Code string }
	s.MustCall("POST", p.path()+"/claim-code", struct{}{}, http.StatusCreated, &issued)
	return issued.Code
}

// isVerified reports whether the API shows the identity as verified.
func (s *fixture) isVerified(p linkedAccount) bool {
	s.T.Helper()
	var i struct{ Verified bool }
	s.MustCall("GET", p.path(), nil, http.StatusOK, &i)
	return i.Verified
}

// send sends a text message and returns after the gateway has acknowledged it.
func (s *fixture) send(c adapters.Channel, external, text string) {
	s.T.Helper()
	_, err := s.people.Send(s.T.Context(), simulator.SendRequest{Channel: c, Sender: external, Text: text})
	if err != nil {
		s.T.Fatal(err)
	}
}

// sendAndExpect sends a text message, waits for the next reply and fails the test unless the reply
// contains want.
func (s *fixture) sendAndExpect(c adapters.Channel, external, text, want string) (reply string) {
	s.T.Helper()
	s.waitIdle() // replies to earlier messages must not be counted
	n := len(s.replies(c, external))
	s.send(c, external, text)
	harness.Eventually(s.T, "reply to "+text, func() bool { return len(s.replies(c, external)) > n })
	reply = s.replies(c, external)[n].Text
	if !strings.Contains(reply, want) {
		s.T.Fatalf("reply to %q = %q, want it to contain %q", text, reply, want)
	}
	return reply
}

// replies returns the replies that the bot sent to an account.
func (s *fixture) replies(c adapters.Channel, external string) []simulator.Line {
	s.T.Helper()
	transcript, chat, err := s.people.Conversation(c, external)
	if err != nil {
		s.T.Fatal(err)
	}
	return transcript.Replies(chat)
}

// expectRole waits until the application has received n messages of an account and fails the test
// unless the sender of the last one has a role.
func (s *fixture) expectRole(external string, n int, want string) {
	s.T.Helper()
	var messages []*harness.ReceivedEvent
	harness.Eventually(s.T, "the application receives a message from "+external, func() bool {
		messages = s.App.MessagesFrom(external)
		return len(messages) >= n
	})
	if got := messages[len(messages)-1].Field("role"); got != want {
		s.T.Fatalf("role of the sender of message %d from %s = %q, want %q", n, external, got, want)
	}
}

// waitIdle waits until no message, delivery or reply is pending.
func (s *fixture) waitIdle() {
	s.T.Helper()
	harness.Eventually(s.T, "all messages, deliveries and replies are processed", func() bool {
		return s.QueryInt(`select (select count(*) from messages where state = 'new')
			+ (select count(*) from deliveries where status = 'pending')
			+ (select count(*) from outbox where status in ('queued', 'sending') and cause <> 'reminder')`) == 0
	})
}

// stateDump returns the row counts of the tables that a message can change, and the state of every
// identity.
func (s *fixture) stateDump() string {
	s.T.Helper()
	s.waitIdle()
	return s.RowCounts("customers", "identities", "messages", "deliveries", "outbox", "audit_events", "claim_failures",
		"conversations") + strings.Join(s.QueryTexts(`
			select id, customer_id, verified_at, role_override, claim_gen from identities order by id`), "\n")
}

// request sends a request to the API, or to another URL.
func (s *fixture) request(method, path string, header http.Header, body string) harness.Response {
	s.T.Helper()
	c := *s.API
	if strings.HasPrefix(path, "http") {
		c.URL = ""
	}
	res, err := c.Do(context.WithoutCancel(s.T.Context()), method, path, header, body)
	if err != nil {
		s.T.Fatal(err)
	}
	return res
}

// createKey creates an API key with the given scopes and returns its token.
func (s *fixture) createKey(scopes ...string) string {
	s.T.Helper()
	var created struct{ Key string }
	s.MustCall("POST", "/v1/keys", map[string]any{"name": "incident", "scopes": scopes}, http.StatusCreated, &created)
	return created.Key
}

// A signedRequest is a webhook request as a provider would send it.
type signedRequest struct {
	url    string
	header http.Header
	body   string
}

// post sends r and returns the status of the response.
func (s *fixture) post(r signedRequest) int {
	s.T.Helper()
	return s.request(http.MethodPost, r.url, r.header, r.body).Status
}

// telegramMessage returns the webhook request for a message in a private chat. fields are fields of
// the message, as JSON.
func (s *fixture) telegramMessage(from, username, fields string) signedRequest {
	at, secret := s.Telegram.Webhook(harness.TelegramBot)
	n := s.newID()
	return signedRequest{
		at,
		http.Header{"Content-Type": {"application/json"}, "X-Telegram-Bot-Api-Secret-Token": {secret}},
		fmt.Sprintf(`{"update_id":%d,"message":{"message_id":%d,"date":%d,"chat":{"id":%s,"type":"private"},
			"from":{"id":%[4]s,"is_bot":false,"first_name":"Steve","username":%[5]q},%[6]s}}`,
			900_000_000+n, n, time.Now().Unix(), from, username, fields),
	}
}

// smsURL returns the URL of the SMS webhook.
func (s *fixture) smsURL() string {
	at, _ := s.Twilio.Webhook(harness.SMSBotNumber)
	at, _, _ = strings.Cut(at, "#")
	return at
}

// smsForm returns the webhook form of an SMS message, with a new message SID.
func (s *fixture) smsForm(from, body string) url.Values {
	return url.Values{
		"MessageSid": {fmt.Sprintf("SM%032x", s.newID())}, "AccountSid": {harness.TwilioAccount},
		"From": {from}, "To": {harness.SMSBotNumber}, "Body": {body}, "NumMedia": {"0"},
	}
}

// smsRequest returns the webhook request with which Twilio sends form, signed for a URL.
func (s *fixture) smsRequest(signedFor string, form url.Values) signedRequest {
	return signedRequest{s.smsURL(), http.Header{
		"Content-Type":       {"application/x-www-form-urlencoded"},
		"X-Twilio-Signature": {harness.TwilioSignature(harness.TwilioToken, signedFor, form)},
	}, form.Encode()}
}

// slackRequest returns a signed request to one of the Slack webhooks (events, commands or
// interactivity).
func (s *fixture) slackRequest(webhook, contentType, body string) signedRequest {
	stamp := strconv.FormatInt(time.Now().Unix(), 10)
	return signedRequest{s.API.URL + "/hooks/slack/" + s.InstanceID + "/" + webhook, http.Header{
		"Content-Type":              {contentType},
		"X-Slack-Request-Timestamp": {stamp},
		"X-Slack-Signature":         {harness.SlackSignature(harness.SlackSecret, stamp, body)},
	}, body}
}

// slackMessage returns the request for a direct message in Slack, with a new event ID.
func (s *fixture) slackMessage(user, text string) signedRequest {
	n := s.newID()
	_, id, _ := strings.Cut(user, ":")
	return s.slackRequest("events", "application/json", fmt.Sprintf(`{"token":"deprecated","team_id":%q,
		"api_app_id":%q,"type":"event_callback","event_id":"Ev%d","event_time":%d,
		"authorizations":[{"team_id":%[1]q,"user_id":"U0BOT","is_bot":true}],
		"event":{"type":"message","channel_type":"im","channel":"D%[5]s","user":%[5]q,"team":%[1]q,"text":%[6]q,
			"ts":"%[4]d.%06[3]d"}}`, harness.SlackTeamID, harness.SlackAppID, n, time.Now().Unix(), id, text))
}
