package httpapi

import (
	"encoding/base64"
	"net/url"
	"strings"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/gateway"
)

func TestPatchAbsentNullAndValue(t *testing.T) {
	w := newWorld(t)
	made := w.ask("POST", "/v1/customers", `{"email":"m@example.com","phone_number":"+61 400 111 222","first_name":"Matt","locale":"en-au","metadata":{"b":1,"a":[1.50]}}`)
	w.want(made, 201, "")
	id := made.fields(t)["id"].(string)
	if !strings.Contains(made.body, `"metadata":{"a":[1.50],"b":1}`) || made.fields(t)["phone_number"] != "+61400111222" || made.fields(t)["locale"] != "en-AU" {
		t.Error(made.body)
	}
	got := w.ask("PATCH", "/v1/customers/"+id, `{"email":null,"metadata":null,"last_name":"<M&M>"}`)
	f := got.fields(t)
	if f["email"] != nil || f["first_name"] != "Matt" || f["last_name"] != "<M&M>" || !strings.Contains(got.body, `"metadata":{}`) || !strings.Contains(got.body, "<M&M>") {
		t.Error(got.body)
	}
	w.want(w.ask("PATCH", "/v1/customers/"+id, `{}`), 200, got.body)
}

func TestPatchIdentity(t *testing.T) {
	w := newWorld(t)
	one := "/v1/customers/" + w.steve + "/identities/" + w.linked
	got := w.ask("PATCH", one, `{"verified":true,"role_override":"owner","display_name":"Steve"}`).fields(t)
	if got["verified"] != true || got["verified_at"] != "2026-11-22T02:00:00Z" || got["role_override"] != "owner" {
		t.Errorf("%v", got)
	}
	got = w.ask("PATCH", one, `{"verified":false,"role_override":null}`).fields(t)
	if got["verified"] != false || got["verified_at"] != nil || got["role_override"] != nil || got["display_name"] != "Steve" {
		t.Errorf("%v", got)
	}
	w.want(w.ask("PATCH", "/v1/instances/"+w.bot, `{"name":null}`), 422, "")
	if got := w.ask("PATCH", "/v1/instances/"+w.bot, `{"unknown_senders":null}`).fields(t); got["unknown_senders"] != "forward" {
		t.Errorf("%v", got)
	}
}

func TestPaging(t *testing.T) {
	w := newWorld(t)
	for range 4 {
		w.want(w.ask("POST", "/v1/customers", `{}`), 201, "")
	}
	seen, cursor := map[any]bool{}, ""
	for pages := 0; ; pages++ {
		page := w.ask("GET", "/v1/customers?limit=2"+cursor, "").fields(t)
		for _, c := range page["items"].([]any) {
			seen[c.(map[string]any)["id"]] = true
		}
		next, more := page["next_cursor"].(string)
		if !more {
			if len(seen) != 5 || pages != 2 {
				t.Errorf("%d customers on %d pages", len(seen), pages+1)
			}
			break
		}
		cursor = "&cursor=" + next
	}
	w.want(w.ask("GET", "/v1/customers?email=none@example.com", ""), 200, `{"items":[],"next_cursor":null}`)
	w.want(w.ask("GET", "/v1/customers?cursor=x", ""), 422, "")
}

func TestSearchAndLookup(t *testing.T) {
	w := newWorld(t)
	for _, q := range []string{"email=STEVE@example.com", "name=Ste", "external_id=12345", "channel=telegram&external_id=%2012345"} {
		if items := w.ask("GET", "/v1/customers?"+q, "").fields(t)["items"].([]any); len(items) != 1 {
			t.Errorf("%s: %d", q, len(items))
		}
	}
	w.want(w.ask("GET", "/v1/customers?email=", ""), 422, "")
	look := func(q string) reply { return w.ask("GET", "/v1/customers/lookup/identity?"+q, "") }
	w.want(look("channel=telegram&external_id=+12345+"), 200,
		`{"channel":"telegram","customer_email":"steve@example.com","customer_id":"`+w.steve+`","display_name":null,"external_id":"12345","identity_id":"`+w.linked+`","role_override":null,"verified":false}`)
	w.want(look("channel=telegram&external_id=777&instance_id="+w.bot), 404, `{"detail":"Identity not found"}`)
	w.want(look("channel=telegram&external_id="+url.QueryEscape("1' or '1'='1")), 422, "")
	w.want(w.ask("GET", "/v1/customers/"+w.steve+"/identities?channel=sms", ""), 200, `[]`)
}

func TestAdopt(t *testing.T) {
	w := newWorld(t)
	path := "/v1/customers/" + w.steve + "/identities/" + w.sender + "/adopt"
	if got := w.ask("POST", path, "").fields(t); got["customer_id"] != w.steve || got["instance_id"] != w.bot {
		t.Errorf("%v", got)
	}
	w.want(w.ask("POST", path, ""), 409, "")
}

func TestClaimCode(t *testing.T) {
	w := newWorld(t, func(a *API) {
		a.Instructions = func(i claim.Issued, s gateway.Seat, ok bool) string {
			return map[bool]string{true: "to @" + s.Settings[adapters.BotUsername], false: "somewhere"}[ok]
		}
	})
	of := "/v1/customers/" + w.steve + "/identities/"
	w.want(w.ask("POST", of+w.scoped+"/claim-code", ""), 201, `{"code":"WDJBMJ","expires_in_seconds":900,"identity_id":"`+w.scoped+`","instructions":"somewhere"}`)
	w.setUpAll()
	w.want(w.ask("POST", of+w.scoped+"/claim-code", ""), 201, `{"code":"WDJBMJ","expires_in_seconds":900,"identity_id":"`+w.scoped+`","instructions":"to @acme_bot"}`)
	w.desk.err = &claim.TooMany{RetryAfter: 1500 * time.Millisecond}
	if got := w.ask("POST", of+w.scoped+"/claim-code", ""); got.status != 429 || got.header.Get("Retry-After") != "2" {
		t.Errorf("%d %v", got.status, got.header)
	}
	w.desk.err = claim.ErrNoProofs
	w.want(w.ask("POST", of+w.scoped+"/claim-code", ""), 503, `{"detail":"Service Unavailable"}`)
	w.desk.err = nil
	w.ask("PATCH", of+w.scoped, `{"verified":true}`)
	w.want(w.ask("POST", of+w.scoped+"/claim-code", ""), 409, `{"detail":"Identity is already verified"}`)
}

func TestInstanceSecretsAreShownOnce(t *testing.T) {
	w := newWorld(t, func(a *API) { a.AllowPrivateAgents = true })
	made := w.ask("POST", "/v1/instances", `{"name":"Support","agent_url":"http://127.0.0.1:9000/events"}`).fields(t)
	secret, _ := strings.CutPrefix(made["webhook_secret"].(string), "whsec_")
	if raw, err := base64.StdEncoding.DecodeString(secret); err != nil || len(raw) != 32 || !strings.HasPrefix(made["agent_secret_key"].(string), "ask_") {
		t.Errorf("%v", made)
	}
	if again := w.ask("GET", "/v1/instances/"+made["id"].(string), "").body; strings.Contains(again, "secret") {
		t.Error(again)
	}
}

func TestChannels(t *testing.T) {
	w := newWorld(t)
	of := "/v1/instances/" + w.bot + "/channels"
	hook := "https://gate.example.com/hooks/"
	const unset = `{"enabled":false,"phone_number":null,"status":"not_configured","webhook_url":null}`
	const twilio = `{"account_sid":"AC1","auth_token":"secret-4711","phone_number":"+61 400 111 222"}`
	w.want(w.ask("GET", of, ""), 200, `{"channels":[],"count":0}`)
	w.want(w.ask("GET", of+"/sms", ""), 200, unset)
	w.want(w.ask("GET", of+"/telegram", ""), 200, `{"bot_username":null,"has_bot_token":false,"instance_id":"`+w.bot+`","message":null,"mode":null,"status":"not_configured","telegram_enabled":false,"webhook_registered":false,"webhook_url":null}`)
	w.want(w.ask("GET", of+"/slack", ""), 200, `{"bot_user_id":null,"commands_url":null,"enabled":false,"mode":null,"status":"not_configured","team_id":null,"team_name":null,"webhook_url":null}`)
	w.want(w.ask("DELETE", of+"/sms", ""), 404, `{"detail":"Channel not configured"}`)
	w.want(w.ask("GET", of+"/fax", ""), 404, `{"detail":"Not Found"}`)

	set := `{"enabled":true,"phone_number":"+61400111222","status":"active","webhook_url":"` + hook + `sms/` + w.bot + `"}`
	w.want(w.ask("POST", of+"/sms", twilio), 200, set)
	if w.channels.given[adapters.AuthToken] != "secret-4711" || w.channels.given[adapters.AccountSID] != "AC1" {
		t.Error("the credentials did not arrive")
	}
	w.want(w.ask("GET", of+"/sms", ""), 200, set)
	w.want(w.ask("GET", of, ""), 200, `{"channels":[{"address":"+61400111222","channel":"sms","enabled":true,"error_message":null,"last_event_at":null,"status":"active","webhook_url":"`+hook+`sms/`+w.bot+`"}],"count":1}`)
	w.want(w.ask("DELETE", of+"/sms", ""), 204, "")
	w.want(w.ask("GET", of+"/sms", ""), 200, unset)

	token := `"123456789:` + strings.Repeat("x", 35) + `"`
	w.want(w.ask("POST", of+"/telegram", `{"bot_token":`+token+`,"mode":"polling"}`), 200, `{"bot_username":"acme_bot","has_bot_token":true,"instance_id":"`+w.bot+`","message":"The bot @acme_bot is connected.","mode":"polling","status":"active","telegram_enabled":true,"webhook_registered":false,"webhook_url":null}`)
	w.want(w.ask("POST", of+"/telegram", `{"bot_token":`+token+`,"mode":"socket"}`), 422, "")
	socket := `{"bot_user_id":"U023BECGF","commands_url":null,"enabled":true,"mode":"socket","status":"active","team_id":null,"team_name":"Acme","webhook_url":null}`
	w.want(w.ask("POST", of+"/slack", `{"bot_token":"xoxb-1","signing_secret":"s","app_token":"xapp-canary"}`), 200, socket)
	if w.channels.given[adapters.AppToken] != "xapp-canary" {
		t.Error("the app-level token did not arrive")
	}
	w.want(w.ask("GET", of+"/slack", ""), 200, socket)
	w.want(w.ask("POST", of+"/slack", `{"bot_token":"xoxb-1","signing_secret":"s","app_token":null}`), 200, `{"bot_user_id":"U023BECGF","commands_url":"`+hook+`slack/`+w.bot+`/commands","enabled":true,"mode":"webhook","status":"active","team_id":null,"team_name":"Acme","webhook_url":"`+hook+`slack/`+w.bot+`/events"}`)
	if all := w.ask("GET", of, "").body; !strings.Contains(all, `"webhook_url":"`+hook+`slack/`+w.bot+`/events"`) {
		t.Errorf("the list names another URL for Slack's events: %s", all)
	}
}

func TestProviderRefuses(t *testing.T) {
	w := newWorld(t)
	of := "/v1/instances/" + w.bot + "/channels/sms"
	body := `{"account_sid":"AC1","auth_token":"secret-4711","phone_number":"+61400111222"}`
	w.channels.err = &adapters.SetupError{Reason: adapters.BadSecret, Field: "auth_token", Message: "Authenticate"}
	w.want(w.ask("POST", of, body), 422, `{"detail":[{"type":"value_error","loc":["body","auth_token"],"msg":"Authenticate"}]}`)
	w.channels.err = &adapters.SetupError{Reason: adapters.Refused, Message: "No."}
	w.want(w.ask("POST", of, body), 422, `{"detail":[{"type":"value_error","loc":["body"],"msg":"No."}]}`)
	w.channels.err = &adapters.SetupError{Reason: adapters.Unreachable, Message: "no answer"}
	w.want(w.ask("POST", of, body), 503, `{"detail":"Service Unavailable"}`)
}
