package httpapi

import (
	"strings"
	"testing"

	"hydragate/adapters"
)

func TestChannels(t *testing.T) {
	h := newHarness(t)
	path := "/v1/instances/" + h.instance + "/channels"
	webhooks := "https://gate.example.com/hooks/"
	const notConfigured = `{"enabled":false,"phone_number":null,"status":"not_configured","webhook_url":null}`
	const twilio = `{"account_sid":"AC1","auth_token":"secret-4711","phone_number":"+61 400 111 222"}`
	h.expect(h.request("GET", path, ""), 200, `{"channels":[],"count":0}`)
	h.expect(h.request("GET", path+"/sms", ""), 200, notConfigured)
	h.expect(
		h.request("GET", path+"/telegram", ""),
		200,
		`{"bot_username":null,"has_bot_token":false,"instance_id":"`+h.instance+`","message":null,"mode":null,
			"status":"not_configured","telegram_enabled":false,"webhook_registered":false,"webhook_url":null}`,
	)
	h.expect(
		h.request("GET", path+"/slack", ""),
		200,
		`{"bot_user_id":null,"commands_url":null,"enabled":false,"mode":null,"status":"not_configured","team_id":null,
			"team_name":null,"webhook_url":null}`,
	)
	h.expect(h.request("DELETE", path+"/sms", ""), 404, `{"detail":"Channel not configured"}`)
	h.expect(h.request("GET", path+"/fax", ""), 404, `{"detail":"Not Found"}`)

	set := `{"enabled":true,"phone_number":"+61400111222","status":"active",
		"webhook_url":"` + webhooks + `sms/` + h.instance + `"}`
	h.expect(h.request("POST", path+"/sms", twilio), 200, set)
	if h.endpoints.Credentials[adapters.AuthToken] != "secret-4711" ||
		h.endpoints.Credentials[adapters.AccountSID] != "AC1" {
		t.Errorf("credentials = %v", h.endpoints.Credentials)
	}
	h.expect(h.request("GET", path+"/sms", ""), 200, set)
	h.expect(
		h.request("GET", path, ""),
		200,
		`{"channels":[{"address":"+61400111222","channel":"sms","enabled":true,"error_message":null,
			"last_event_at":null,"status":"active","warnings":[],"webhook_url":"`+webhooks+`sms/`+h.instance+`"}],"count":1}`,
	)
	h.expect(h.request("DELETE", path+"/sms", ""), 204, "")
	h.expect(h.request("GET", path+"/sms", ""), 200, notConfigured)

	token := `"123456789:` + strings.Repeat("x", 35) + `"`
	h.expect(
		h.request("POST", path+"/telegram", `{"bot_token":`+token+`,"mode":"polling"}`),
		200,
		`{"bot_username":"acme_bot","has_bot_token":true,"instance_id":"`+h.instance+`",
			"message":"The bot @acme_bot is connected.","mode":"polling","status":"active",
			"telegram_enabled":true,"webhook_registered":false,"webhook_url":null}`,
	)
	h.expect(h.request("POST", path+"/telegram", `{"bot_token":`+token+`,"mode":"socket"}`), 422, "")
	socket := `{"bot_user_id":"U023BECGF","commands_url":null,"enabled":true,"mode":"socket","status":"active",
		"team_id":null,"team_name":"Acme","webhook_url":null}`
	h.expect(
		h.request("POST", path+"/slack", `{"bot_token":"xoxb-1","signing_secret":"s","app_token":"xapp-canary"}`),
		200,
		socket,
	)
	if h.endpoints.Credentials[adapters.AppToken] != "xapp-canary" {
		t.Errorf("credentials = %v", h.endpoints.Credentials)
	}
	h.expect(h.request("GET", path+"/slack", ""), 200, socket)
	h.expect(
		h.request("POST", path+"/slack", `{"bot_token":"xoxb-1","signing_secret":"s","app_token":null}`),
		200,
		`{"bot_user_id":"U023BECGF","commands_url":"`+webhooks+`slack/`+h.instance+`/commands","enabled":true,
			"mode":"webhook","status":"active","team_id":null,"team_name":"Acme",
			"webhook_url":"`+webhooks+`slack/`+h.instance+`/events"}`,
	)
	all := h.request("GET", path, "").body
	if !strings.Contains(all, `"webhook_url":"`+webhooks+`slack/`+h.instance+`/events"`) {
		t.Errorf("webhook URL of Slack in the list of channels: %s", all)
	}
}

func TestSetUpChannel_ProviderRejects(t *testing.T) {
	h := newHarness(t)
	path := "/v1/instances/" + h.instance + "/channels/sms"
	body := `{"account_sid":"AC1","auth_token":"secret-4711","phone_number":"+61400111222"}`
	h.endpoints.Err = &adapters.SetupError{Reason: adapters.BadSecret, Field: "auth_token", Message: "Authenticate"}
	h.expect(
		h.request("POST", path, body),
		422,
		`{"detail":[{"type":"value_error","loc":["body","auth_token"],"msg":"Authenticate"}]}`,
	)
	h.endpoints.Err = &adapters.SetupError{Reason: adapters.Refused, Message: "No."}
	h.expect(h.request("POST", path, body), 422, `{"detail":[{"type":"value_error","loc":["body"],"msg":"No."}]}`)
	h.endpoints.Err = &adapters.SetupError{Reason: adapters.Unreachable, Message: "no answer"}
	h.expect(h.request("POST", path, body), 503, `{"detail":"Service Unavailable"}`)
}
