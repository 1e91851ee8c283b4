//go:build unix

package script

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"hydragate/e2e/harness"
)

const staffUsage = `usage: staff create-instance NAME | create-customer NAME | connect CHANNEL [MODE] |
	adopt CHANNEL USER | issue-code CHANNEL USER | invite CHANNEL role=ROLE [confirm] | expect CHANNEL USER FIELD=VALUE…`

// staffCommand implements the command staff, which calls the API.
func (w *scriptFixture) staffCommand(ts *testscript.TestScript, args []string) error {
	if len(args) < 2 {
		return errors.New(staffUsage)
	}
	at := map[string]string{"INSTANCE": ts.Getenv("INSTANCE"), "CUSTOMER": ts.Getenv("CUSTOMER")}
	switch verb := args[0]; {
	case verb == "create-instance" && len(args) == 2:
		return w.createInstance(ts, args[1])
	case verb == "create-customer" && len(args) == 2:
		return w.createCustomer(ts, args[1])
	case verb == "connect":
		return w.connectChannel(ts, at, args[1], append(args[2:], "webhook")[0])
	case verb == "adopt" && len(args) == 3:
		return w.adoptIdentity(ts, at, args[1], args[2])
	case verb == "issue-code" && len(args) == 3:
		return w.issueCode(ts, at, args[1], args[2])
	case verb == "invite" && len(args) == 3 || verb == "invite" && len(args) == 4 && args[3] == "confirm":
		return w.createInvite(ts, at, args[1], strings.TrimPrefix(args[2], "role="), len(args) == 4)
	case verb == "expect" && len(args) > 3:
		return w.checkIdentity(args[1]+" "+args[2], args[3:])
	}
	return errors.New(staffUsage)
}

// callAPI calls the API with the admin key.
func (w *scriptFixture) callAPI(method, path string, body any, wantStatus int) (map[string]any, error) {
	raw := []byte{}
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		raw = b
	}
	header := harness.BearerHeader(harness.AdminKey)
	header.Set("Content-Type", "application/json")
	a, err := w.request(w.front.Addr(), method, path, header, raw)
	if err != nil {
		return nil, err
	}
	if a.Status != wantStatus {
		return nil, fmt.Errorf("%s %s = %d %s", method, path, a.Status, a.Body)
	}
	doc := map[string]any{}
	if a.Body != "" {
		err = json.Unmarshal([]byte(a.Body), &doc)
	}
	return doc, err
}

func (w *scriptFixture) createInstance(ts *testscript.TestScript, name string) error {
	i, err := w.callAPI("POST", "/v1/instances", map[string]any{"name": name, "agent_url": w.app.URL + "/events"}, 201)
	if err != nil {
		return err
	}
	secret, key := fmt.Sprint(i["webhook_secret"]), fmt.Sprint(i["agent_secret_key"])
	w.app.Update(func() { w.app.Secret = secret })
	w.secrets = append(w.secrets, secret, key)
	ts.Setenv("INSTANCE", fmt.Sprint(i["id"]))
	return nil
}

func (w *scriptFixture) createCustomer(ts *testscript.TestScript, name string) error {
	c, err := w.callAPI("POST", "/v1/customers", map[string]any{"email": name + "@example.com", "first_name": name}, 201)
	if err != nil {
		return err
	}
	ts.Setenv("CUSTOMER", fmt.Sprint(c["id"]))
	return nil
}

// connectChannel sets up a channel, and enters the webhook URLs at the provider where its API cannot.
// It sets TELEGRAM_SECRET to Telegram's secret token.
func (w *scriptFixture) connectChannel(ts *testscript.TestScript, at map[string]string, channel, mode string) error {
	body := map[string]any{}
	switch channel {
	case "telegram":
		w.Telegram.AddBot(harness.TelegramToken, harness.TelegramBot)
		body["bot_token"], body["mode"] = harness.TelegramToken, mode
	case "sms", "whatsapp":
		w.Twilio.AddAccount(harness.TwilioAccount, harness.TwilioToken)
		w.Twilio.AddNumber(harness.TwilioAccount, harness.SMSBotNumber)
		body["account_sid"], body["auth_token"] = harness.TwilioAccount, harness.TwilioToken
		body["phone_number"] = harness.SMSBotNumber
	case "slack":
		app := harness.NewSlackApp("", "")
		body["bot_token"], body["signing_secret"] = harness.SlackToken, harness.SlackSecret
		if mode == "socket" {
			app.AppToken, body["app_token"] = harness.SlackAppToken, harness.SlackAppToken
		}
		w.Slack.AddApp(app)
		w.Slack.AddRoom(harness.SlackChannelID, false)
	}
	c, err := w.callAPI("POST", "/v1/instances/"+at["INSTANCE"]+"/channels/"+channel, body, 200)
	if err != nil {
		return err
	}
	if c["status"] != "active" {
		return fmt.Errorf("channel status: %v, want active", c)
	}
	if channel == "slack" && c["mode"] != mode {
		return fmt.Errorf("channel mode: %v, want %s", c["mode"], mode)
	}
	if mode == "socket" {
		return nil // Socket Mode needs no webhook URL
	}
	url := fmt.Sprint(c["webhook_url"])
	switch channel {
	case "telegram":
		_, secret := w.Telegram.Webhook(harness.TelegramBot)
		ts.Setenv("TELEGRAM_SECRET", secret)
	case "whatsapp":
		w.Twilio.SetWhatsAppURL(harness.TwilioAccount, harness.SMSBotNumber, url, url)
	case "slack":
		w.Slack.AddApp(harness.NewSlackApp(url, fmt.Sprint(c["commands_url"])))
		return w.Slack.Verify(w.ctx, harness.SlackAppID)
	}
	return nil
}

// adoptIdentity links an unknown sender to the customer.
func (w *scriptFixture) adoptIdentity(ts *testscript.TestScript, at map[string]string, channel, name string) error {
	page, err := w.callAPI("GET", "/v1/identities?customer=none&limit=100&instance_id="+at["INSTANCE"], nil, 200)
	if err != nil {
		return err
	}
	want := w.clients[channel].externalID(users[name])
	items, _ := page["items"].([]any)
	for _, item := range items {
		i, _ := item.(map[string]any)
		if i["channel"] != channel || i["external_id"] != want {
			continue
		}
		id := fmt.Sprint(i["id"])
		adopted, err := w.callAPI("POST", "/v1/customers/"+at["CUSTOMER"]+"/identities/"+id+"/adopt", nil, 200)
		if err != nil {
			return err
		}
		if adopted["customer_id"] != at["CUSTOMER"] || adopted["verified"] != false {
			return fmt.Errorf("adopted identity = %v", adopted)
		}
		w.identityPaths[channel+" "+name] = "/v1/customers/" + at["CUSTOMER"] + "/identities/" + id
		ts.Setenv("IDENTITY", id)
		return nil
	}
	return fmt.Errorf("%s is not an unknown sender: %v", want, items)
}

// issueCode issues a claim code. It sets CODE to the code, and ODD to the code as a user might type
// it.
func (w *scriptFixture) issueCode(ts *testscript.TestScript, at map[string]string, channel, name string) error {
	c, err := w.callAPI("POST", w.identityPaths[channel+" "+name]+"/claim-code", nil, 201)
	if err != nil {
		return err
	}
	code, instructions := fmt.Sprint(c["code"]), fmt.Sprint(c["instructions"])
	grouped := code[:3] + "-" + code[3:]
	if c["expires_in_seconds"] != 900.0 || !strings.Contains(instructions, "/claim "+grouped) {
		return errors.New("unexpected instructions or expiry of the code")
	}
	w.codes = append(w.codes, code)
	ts.Setenv("CODE", code)
	ts.Setenv("ODD", "“"+strings.ToLower(code[:3])+" – "+strings.ToLower(code[3:])+"”.")
	return nil
}

// createInvite creates an invite. It sets INVITE to its code, INVITE_ID to its ID, and ODD_INVITE to a
// command with the code as a user might type it.
func (w *scriptFixture) createInvite(
	ts *testscript.TestScript, at map[string]string, channel, role string, confirm bool,
) error {
	body := map[string]any{"channel": channel, "instance_id": at["INSTANCE"], "role_override": nil}
	if confirm {
		body["confirm"] = true
	}
	if role != "" {
		body["role_override"] = role
	}
	i, err := w.callAPI("POST", "/v1/customers/"+at["CUSTOMER"]+"/invites", body, 201)
	if err != nil {
		return err
	}
	code, instructions := fmt.Sprint(i["code"]), fmt.Sprint(i["instructions"])
	grouped := code[:4] + "-" + code[4:8] + "-" + code[8:]
	link := map[string]string{
		"telegram": "https://t.me/" + harness.TelegramBot + "?start=claim_" + code,
		"sms":      "sms:" + harness.SMSBotNumber + "?body=%2Fclaim%20" + grouped,
	}[channel]
	if len(code) != 12 || i["expires_in_seconds"] != 86400.0 || i["url"] != link ||
		!strings.Contains(instructions, "/claim "+grouped) {
		return errors.New("unexpected instructions, expiry or URL of the invite")
	}
	w.codes = append(w.codes, code)
	ts.Setenv("INVITE", code)
	ts.Setenv("INVITE_ID", fmt.Sprint(i["id"]))
	ts.Setenv("ODD_INVITE", "“Claim "+strings.ToLower(code[:4])+" – "+strings.ToLower(code[4:8])+" – "+code[8:]+"”.")
	return nil
}

// checkIdentity returns an error unless the fields of the identity have the values in wants.
func (w *scriptFixture) checkIdentity(user string, wants []string) error {
	i, err := w.callAPI("GET", w.identityPaths[user], nil, 200)
	if err != nil {
		return err
	}
	for _, want := range wants {
		field, value, _ := strings.Cut(want, "=")
		if got := fmt.Sprint(i[field]); got != value {
			return fmt.Errorf("%s = %s, want %s", field, got, value)
		}
	}
	return nil
}
