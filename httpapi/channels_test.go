package httpapi

import (
	"strings"
	"testing"

	"hydragate/adapters"
)

func TestChannels(t *testing.T) {
	w := newHarness(t)
	of := "/v1/instances/" + w.instance + "/channels"
	hook := "https://gate.example.com/hooks/"
	const unset = `{"enabled":false,"phone_number":null,"status":"not_configured","webhook_url":null}`
	const twilio = `{"account_sid":"AC1","auth_token":"secret-4711","phone_number":"+61 400 111 222"}`
	w.expect(w.request("GET", of, ""), 200, `{"channels":[],"count":0}`)
	w.expect(w.request("GET", of+"/sms", ""), 200, unset)
	w.expect(w.request("GET", of+"/telegram", ""), 200, `{"bot_username":null,"has_bot_token":false,"instance_id":"`+w.instance+`","message":null,"mode":null,"status":"not_configured","telegram_enabled":false,"webhook_registered":false,"webhook_url":null}`)
	w.expect(w.request("GET", of+"/slack", ""), 200, `{"bot_user_id":null,"commands_url":null,"enabled":false,"mode":null,"status":"not_configured","team_id":null,"team_name":null,"webhook_url":null}`)
	w.expect(w.request("DELETE", of+"/sms", ""), 404, `{"detail":"Channel not configured"}`)
	w.expect(w.request("GET", of+"/fax", ""), 404, `{"detail":"Not Found"}`)

	set := `{"enabled":true,"phone_number":"+61400111222","status":"active","webhook_url":"` + hook + `sms/` + w.instance + `"}`
	w.expect(w.request("POST", of+"/sms", twilio), 200, set)
	if w.endpoints.credentials[adapters.AuthToken] != "secret-4711" || w.endpoints.credentials[adapters.AccountSID] != "AC1" {
		t.Error("the credentials did not arrive")
	}
	w.expect(w.request("GET", of+"/sms", ""), 200, set)
	w.expect(w.request("GET", of, ""), 200, `{"channels":[{"address":"+61400111222","channel":"sms","enabled":true,"error_message":null,"last_event_at":null,"status":"active","webhook_url":"`+hook+`sms/`+w.instance+`"}],"count":1}`)
	w.expect(w.request("DELETE", of+"/sms", ""), 204, "")
	w.expect(w.request("GET", of+"/sms", ""), 200, unset)

	token := `"123456789:` + strings.Repeat("x", 35) + `"`
	w.expect(w.request("POST", of+"/telegram", `{"bot_token":`+token+`,"mode":"polling"}`), 200, `{"bot_username":"acme_bot","has_bot_token":true,"instance_id":"`+w.instance+`","message":"The bot @acme_bot is connected.","mode":"polling","status":"active","telegram_enabled":true,"webhook_registered":false,"webhook_url":null}`)
	w.expect(w.request("POST", of+"/telegram", `{"bot_token":`+token+`,"mode":"socket"}`), 422, "")
	socket := `{"bot_user_id":"U023BECGF","commands_url":null,"enabled":true,"mode":"socket","status":"active","team_id":null,"team_name":"Acme","webhook_url":null}`
	w.expect(w.request("POST", of+"/slack", `{"bot_token":"xoxb-1","signing_secret":"s","app_token":"xapp-canary"}`), 200, socket)
	if w.endpoints.credentials[adapters.AppToken] != "xapp-canary" {
		t.Error("the app-level token did not arrive")
	}
	w.expect(w.request("GET", of+"/slack", ""), 200, socket)
	w.expect(w.request("POST", of+"/slack", `{"bot_token":"xoxb-1","signing_secret":"s","app_token":null}`), 200, `{"bot_user_id":"U023BECGF","commands_url":"`+hook+`slack/`+w.instance+`/commands","enabled":true,"mode":"webhook","status":"active","team_id":null,"team_name":"Acme","webhook_url":"`+hook+`slack/`+w.instance+`/events"}`)
	if all := w.request("GET", of, "").body; !strings.Contains(all, `"webhook_url":"`+hook+`slack/`+w.instance+`/events"`) {
		t.Errorf("the list names another URL for Slack's events: %s", all)
	}
}

func TestSetUpChannel_ProviderRejects(t *testing.T) {
	w := newHarness(t)
	of := "/v1/instances/" + w.instance + "/channels/sms"
	body := `{"account_sid":"AC1","auth_token":"secret-4711","phone_number":"+61400111222"}`
	w.endpoints.err = &adapters.SetupError{Reason: adapters.BadSecret, Field: "auth_token", Message: "Authenticate"}
	w.expect(w.request("POST", of, body), 422, `{"detail":[{"type":"value_error","loc":["body","auth_token"],"msg":"Authenticate"}]}`)
	w.endpoints.err = &adapters.SetupError{Reason: adapters.Refused, Message: "No."}
	w.expect(w.request("POST", of, body), 422, `{"detail":[{"type":"value_error","loc":["body"],"msg":"No."}]}`)
	w.endpoints.err = &adapters.SetupError{Reason: adapters.Unreachable, Message: "no answer"}
	w.expect(w.request("POST", of, body), 503, `{"detail":"Service Unavailable"}`)
}
