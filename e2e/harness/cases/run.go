//go:build unix

package cases

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"hydragate/adapters/simulator"
	"hydragate/cmd/hydragate/app"
	"hydragate/e2e/harness"
	"hydragate/gateway"
)

// A Result is what a gateway did about a case.
type Result struct {
	Case    *Case
	Failure string // what differs from what is expected, or ""
}

// A runner runs cases on one gateway.
type runner struct {
	*harness.Harness
	providers map[string]*recorder // by channel
	answers   map[string]json.RawMessage
	runs      []*run
}

// A run is a case that is being run.
type run struct {
	*Case
	persona
	identityPath string // of a linked sender
	failure      string
}

// Run runs the cases on an engine and returns a result for each.
func Run(t *testing.T, engine harness.Engine, all []*Case) (results []Result) {
	t.Helper()
	r := &runner{providers: map[string]*recorder{}, answers: map[string]json.RawMessage{}}
	r.Harness, _ = harness.Start(t, harness.Options{Engine: engine, InProcess: true, Settings: func(s *app.Settings) {
		for channel, u := range map[string]*string{
			"telegram": &s.TelegramAPIURL, "sms": &s.TwilioAPIURL, "slack": &s.SlackAPIURL,
		} {
			r.providers[channel] = newRecorder(t, *u)
			*u = r.providers[channel].URL
		}
		r.providers["whatsapp"] = r.providers["sms"]
	}})
	r.Slack.SetURL(strings.TrimSuffix(r.providers["slack"].URL, "/api/"))
	r.Twilio.SetWhatsAppURL(harness.TwilioAccount, harness.SMSBotNumber, r.API.URL+"/hooks/whatsapp/"+r.InstanceID, "")
	r.ConnectChannel(r.InstanceID, "whatsapp", map[string]string{
		"account_sid": harness.TwilioAccount, "auth_token": harness.TwilioToken, "phone_number": harness.SMSBotNumber,
	})
	events := map[string]any{"events": gateway.AllEventTypes()}
	r.MustCall("PATCH", "/v1/instances/"+r.InstanceID, events, http.StatusOK, nil)
	r.App.Update(func() { r.App.Answer = r.answer })
	rounds := 0
	for i, c := range all {
		r.runs = append(r.runs, r.prepare(c, i+1))
		rounds = max(rounds, len(c.Rounds))
	}
	for i := range rounds {
		harness.Concurrently(8, func(worker int) any {
			for n := worker; n < len(r.runs); n += 8 {
				if x := r.runs[n]; i < len(x.Rounds) {
					r.sendRound(x, x.Rounds[i])
				}
			}
			return nil
		})
		if !r.WaitIdle(harness.EventTimeout) {
			t.Errorf("work is left after round %d\n%s", i+1, r.LogTail())
		}
	}
	for _, x := range r.runs {
		results = append(results, Result{x.Case, cmp.Or(x.failure, r.check(x))})
	}
	r.CheckLog()
	return results
}

// prepare creates the sender of a case and arms its faults.
func (r *runner) prepare(c *Case, n int) *run {
	x := &run{Case: c, persona: newPersona(c.Channel, n)}
	if c.Channel == "slack" {
		user := simulator.SlackUser{Team: harness.SlackTeamID, ID: x.names[slackUser], Name: "Steve"}
		r.Slack.AddUser(user)
		x.names[slackDirect] = r.Slack.DM(harness.SlackAppID, user)
	}
	if len(c.Answer) > 0 {
		r.App.Update(func() { r.answers[x.externalID], r.answers[x.names[whatsAppUser]] = c.Answer, c.Answer })
	}
	r.providers[c.Channel].arm(x.persona, c.Faults)
	if slices.Contains([]string{"linked", "verified", "owner"}, c.Sender) {
		r.link(x)
	} else if c.Sender != "" && c.Sender != "unknown" {
		r.T.Fatalf("%s/%s: unknown sender %q", c.Channel, c.Name, c.Sender)
	}
	return x
}

// link links the sender to a new customer, and verifies it or issues a code.
func (r *runner) link(x *run) {
	var customer, linked struct{ ID string }
	r.MustCall("POST", "/v1/customers", map[string]string{"first_name": "Steve"}, http.StatusCreated, &customer)
	path := "/v1/customers/" + customer.ID + "/identities"
	r.MustCall("POST", path, map[string]string{
		"channel": x.Channel, "external_id": cmp.Or(x.Account, x.externalID), "instance_id": r.InstanceID,
	}, http.StatusCreated, &linked)
	x.identityPath = path + "/" + linked.ID
	switch x.Sender {
	case "linked":
		var issued struct{ Code string }
		r.MustCall("POST", x.identityPath+"/claim-code", struct{}{}, http.StatusCreated, &issued)
		x.names[claimCode] = issued.Code
	case "verified":
		r.MustCall("PATCH", x.identityPath, map[string]any{"verified": true}, http.StatusOK, nil)
	case "owner":
		r.MustCall("PATCH", x.identityPath, map[string]any{"verified": true, "role_override": "owner"}, http.StatusOK, nil)
	}
}

// answer returns the answer of the application to an event.
func (r *runner) answer(e *harness.ReceivedEvent) string {
	if answer := r.answers[e.Field("external_id")]; answer != nil {
		return string(answer)
	}
	return "{}"
}

// sendRound sends the payloads of a round.
func (r *runner) sendRound(x *run, payloads []Payload) {
	for i, p := range payloads {
		status, err := r.send(x, p, i)
		if want := cmp.Or(p.HTTPStatus, http.StatusOK); err == nil && status != want {
			err = fmt.Errorf("status = %d, want %d", status, want)
		}
		if err != nil {
			x.failure = cmp.Or(x.failure, fmt.Sprintf("payload %d: %v", i, err))
		}
	}
}

// send sends a payload. status is 200 for updates of Telegram, which are repeated until then.
func (r *runner) send(x *run, p Payload, i int) (status int, err error) {
	now := time.Now()
	text := func(raw json.RawMessage) string { return string(x.replace(raw)) }
	switch {
	case p.Update != nil:
		id := r.Telegram.PushUpdate(harness.TelegramBot, json.RawMessage(text(p.Update)))
		_, err := r.Telegram.WaitDelivered(r.T.Context(), id)
		return http.StatusOK, err
	case p.Form != nil:
		sid := fmt.Sprintf("SM%016x%08x%08x", now.UnixNano(), x.number, i)
		return r.postTwilio(x, "", p.Form, map[string]string{
			"MessageSid": sid, "SmsSid": sid, "SmsMessageSid": sid, "NumMedia": "0", "NumSegments": "1", "SmsStatus": "received",
			"Body": "", "From": x.address(), "To": x.prefix() + harness.SMSBotNumber,
		})
	case p.Status != nil:
		return r.postTwilio(x, "/status", p.Status, map[string]string{
			"From": x.prefix() + harness.SMSBotNumber, "To": x.address(), "MessageStatus": "undelivered",
		})
	case p.Event != nil:
		body := fmt.Sprintf(`{"type":"event_callback","team_id":%q,"api_app_id":%q,"event_id":"Ev%d%d%d","event_time":%d,
			"event":%s,"authorizations":[{"team_id":%[1]q,"user_id":"U0BOT","is_bot":true}]}`,
			harness.SlackTeamID, harness.SlackAppID, x.number, now.UnixNano(), i, now.Unix(), text(p.Event))
		return r.postSlack("/events", "application/json", body)
	case p.Envelope != nil:
		return r.postSlack("/events", "application/json", text(p.Envelope))
	case p.Command != nil:
		form := formValues(x, p.Command, map[string]string{
			"team_id": harness.SlackTeamID, "api_app_id": harness.SlackAppID, "channel_id": x.names[slackDirect],
			"channel_name": "directmessage", "user_id": x.names[slackUser], "user_name": "steve", "text": "",
			"response_url": r.responseURL(x), "trigger_id": fmt.Sprintf("1.%d.%d", now.UnixNano(), i),
		})
		return r.postSlack("/commands", "application/x-www-form-urlencoded", form.Encode())
	case p.Interaction != nil:
		payload := strings.ReplaceAll(text(p.Interaction), "{response_url}", r.responseURL(x))
		form := url.Values{"payload": {payload}}
		return r.postSlack("/interactivity", "application/x-www-form-urlencoded", form.Encode())
	}
	return 0, errors.New("the payload has no content")
}

func (r *runner) responseURL(x *run) string {
	u := simulator.SlackUser{Team: harness.SlackTeamID, ID: x.names[slackUser]}
	return r.Slack.NewResponseURL(u, x.names[slackDirect])
}

// prefix returns the prefix of addresses on the channel.
func (x *run) prefix() string {
	if x.Channel == "whatsapp" {
		return "whatsapp:"
	}
	return ""
}

func (x *run) address() string { return x.prefix() + x.names[phoneNumber] }

// formValues returns the parameters of form, and defaults for those that it does not have.
func formValues(x *run, form map[string]*string, defaults map[string]string) url.Values {
	values := url.Values{}
	for name, v := range defaults {
		values.Set(name, v)
	}
	for name, v := range form {
		values.Del(name)
		if v != nil {
			values.Set(name, string(x.replace([]byte(*v))))
		}
	}
	return values
}

func (r *runner) postTwilio(x *run, path string, form map[string]*string, defaults map[string]string) (int, error) {
	target := r.API.URL + "/hooks/" + x.Channel + "/" + r.InstanceID + path
	values := formValues(x, form, defaults)
	values.Set("AccountSid", harness.TwilioAccount)
	values.Set("ApiVersion", "2010-04-01")
	return r.post(target, values.Encode(), http.Header{
		"Content-Type":       {"application/x-www-form-urlencoded; charset=UTF-8"},
		"X-Twilio-Signature": {harness.TwilioSignature(harness.TwilioToken, target, values)},
	})
}

func (r *runner) postSlack(path, contentType, body string) (int, error) {
	now := strconv.FormatInt(time.Now().Unix(), 10)
	return r.post(r.API.URL+"/hooks/slack/"+r.InstanceID+path, body, http.Header{
		"Content-Type":              {contentType},
		"X-Slack-Request-Timestamp": {now},
		"X-Slack-Signature":         {harness.SlackSignature(harness.SlackSecret, now, body)},
	})
}

func (r *runner) post(target, body string, header http.Header) (status int, err error) {
	client := harness.Client{HTTP: r.API.HTTP}
	res, err := client.Do(r.T.Context(), http.MethodPost, target, header, body)
	return res.Status, err
}
