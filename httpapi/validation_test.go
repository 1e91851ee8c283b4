package httpapi

import (
	"net/http"
	"strings"
	"testing"
)

// TestErrorResponses checks the exact responses to invalid requests.
func TestErrorResponses(t *testing.T) {
	h := newHarness(t)
	identities, lookup, customer := "/v1/customers/"+h.customer+"/identities", "/v1/customers/lookup/identity", "/v1/customers/"+h.customer
	body := func(id, rest string) string { return `{"channel":"telegram","external_id":` + id + rest + `}` }
	long := func(n int, s string) string { return `"` + strings.Repeat(s, n) + `"` }
	list := func(items ...string) string { return `{"detail":[` + strings.Join(items, ",") + `]}` }
	pattern := `{"type":"string_pattern_mismatch","loc":["%","channel"],"msg":"String should match pattern '^[a-z][a-z0-9_]{0,31}$'","ctx":{"pattern":"^[a-z][a-z0-9_]{0,31}$"}}`
	missingBody := func(f string) string { return `{"type":"missing","loc":["body","` + f + `"],"msg":"Field required"}` }
	tooDeep := `{"detail":[{"type":"value_error","loc":["body"],"msg":"Value error, nested deeper than 32 levels"}]}`
	notObject := list(
		`{"type":"model_attributes_type","loc":["body"],"msg":"Input should be a valid dictionary or object to extract fields from"}`,
	)
	uuid := func(where, name, reason string) string {
		return list(
			`{"type":"uuid_parsing","loc":["` + where + `","` + name + `"],"msg":"Input should be a valid UUID, ` + reason + `","ctx":{"error":"` + reason + `"}}`,
		)
	}
	for name, c := range map[string]struct {
		method, path, body string
		headers            []string
		status             int
		want               string
	}{
		"field missing":                 {"POST", identities, `{"channel":"telegram"}`, nil, 422, list(missingBody("external_id"))},
		"all fields missing":            {"POST", identities, `{}`, nil, 422, list(missingBody("channel"), missingBody("external_id"))},
		"no body":                       {"POST", identities, ``, nil, 422, list(`{"type":"missing","loc":["body"],"msg":"Field required"}`)},
		"null body":                     {"POST", identities, `null`, nil, 422, list(`{"type":"missing","loc":["body"],"msg":"Field required"}`)},
		"query missing":                 {"GET", lookup + "?channel=telegram", ``, nil, 422, list(`{"type":"missing","loc":["query","external_id"],"msg":"Field required"}`)},
		"both query parameters missing": {"GET", lookup, ``, nil, 422, list(`{"type":"missing","loc":["query","channel"],"msg":"Field required"}`, `{"type":"missing","loc":["query","external_id"],"msg":"Field required"}`)},
		"too short":                     {"POST", identities, body(`""`, ``), nil, 422, list(`{"type":"string_too_short","loc":["body","external_id"],"msg":"String should have at least 1 character","ctx":{"min_length":1}}`)},
		"too short in query":            {"GET", lookup + "?channel=telegram&external_id=", ``, nil, 422, list(`{"type":"string_too_short","loc":["query","external_id"],"msg":"String should have at least 1 character","ctx":{"min_length":1}}`)},
		"too short, plural":             {"POST", "/v1/instances/" + h.instance + "/channels/telegram", `{"bot_token":"x"}`, nil, 422, list(`{"type":"string_too_short","loc":["body","bot_token"],"msg":"String should have at least 30 characters","ctx":{"min_length":30}}`)},
		"too long":                      {"POST", identities, body(long(256, "é"), ``), nil, 422, list(`{"type":"string_too_long","loc":["body","external_id"],"msg":"String should have at most 255 characters","ctx":{"max_length":255}}`)},
		"not a string":                  {"POST", identities, body(`12345`, ``), nil, 422, list(`{"type":"string_type","loc":["body","external_id"],"msg":"Input should be a valid string"}`)},
		"null as string":                {"POST", identities, body(`null`, ``), nil, 422, list(`{"type":"string_type","loc":["body","external_id"],"msg":"Input should be a valid string"}`)},
		"metadata is a list":            {"POST", identities, body(`"1"`, `,"metadata":[]`), nil, 422, list(`{"type":"dict_type","loc":["body","metadata"],"msg":"Input should be a valid dictionary"}`)},
		"metadata too large":            {"POST", identities, body(`"1"`, `,"metadata":{"a":`+long(17000, "x")+`}`), nil, 422, list(`{"type":"value_error","loc":["body","metadata"],"msg":"Value error, the object exceeds 16384 bytes"}`)},
		"metadata too deep":             {"POST", identities, body(`"1"`, `,"metadata":`+strings.Repeat(`{"a":`, 9)+`1`+strings.Repeat(`}`, 9)), nil, 422, list(`{"type":"value_error","loc":["body","metadata"],"msg":"Value error, the object is nested deeper than 8 levels"}`)},
		"metadata with NUL":             {"POST", identities, body(`"1"`, `,"metadata":{"a":["\u0000"]}`), nil, 422, list(`{"type":"value_error","loc":["body","metadata"],"msg":"Value error, text must not contain NUL or invalid UTF-8"}`)},
		"number out of range":           {"POST", identities, body(`"1"`, `,"metadata":{"a":1e500000}`), nil, 422, list(`{"type":"value_error","loc":["body","metadata","a"],"msg":"Value error, number out of range"}`)},
		"boolean is a string":           {"PATCH", identities + "/" + h.tenantIdentity, `{"verified":"maybe"}`, nil, 422, list(`{"type":"bool_parsing","loc":["body","verified"],"msg":"Input should be a valid boolean, unable to interpret input"}`)},
		"boolean is a list":             {"PATCH", identities + "/" + h.tenantIdentity, `{"verified":[]}`, nil, 422, list(`{"type":"bool_type","loc":["body","verified"],"msg":"Input should be a valid boolean"}`)},
		"integer is a string":           {"GET", "/v1/customers?limit=ten", ``, nil, 422, list(`{"type":"int_parsing","loc":["query","limit"],"msg":"Input should be a valid integer, unable to parse string as an integer"}`)},
		"integer too small":             {"GET", "/v1/customers?limit=0", ``, nil, 422, list(`{"type":"greater_than_equal","loc":["query","limit"],"msg":"Input should be greater than or equal to 1","ctx":{"ge":1}}`)},
		"integer too large":             {"GET", "/v1/customers?limit=101", ``, nil, 422, list(`{"type":"less_than_equal","loc":["query","limit"],"msg":"Input should be less than or equal to 100","ctx":{"le":100}}`)},
		"repeated query parameter":      {"GET", "/v1/customers?limit=5&limit=0", ``, nil, 422, list(`{"type":"greater_than_equal","loc":["query","limit"],"msg":"Input should be greater than or equal to 1","ctx":{"ge":1}}`)},
		"integer with fraction":         {"POST", "/v1/keys/" + h.instance + "/rotate", `{"overlap_seconds":1.5}`, nil, 422, list(`{"type":"int_from_float","loc":["body","overlap_seconds"],"msg":"Input should be a valid integer, got a number with a fractional part"}`)},
		"pattern":                       {"POST", identities, `{"channel":"SMS!","external_id":"1"}`, nil, 422, list(strings.ReplaceAll(pattern, "%", "body"))},
		"pattern in query":              {"GET", identities + "?channel=", ``, nil, 422, list(strings.ReplaceAll(pattern, "%", "query"))},
		"enum":                          {"POST", "/v1/instances", `{"name":"x","unknown_senders":"eat"}`, nil, 422, list(`{"type":"enum","loc":["body","unknown_senders"],"msg":"Input should be 'forward', 'reply' or 'drop'","ctx":{"expected":"'forward', 'reply' or 'drop'"}}`)},
		"literal":                       {"POST", identities, body(`"1"`, `,"role_override":"admin"`), nil, 422, list(`{"type":"literal_error","loc":["body","role_override"],"msg":"Input should be 'owner'","ctx":{"expected":"'owner'"}}`)},
		"literal in query":              {"GET", "/v1/identities?customer=all", ``, nil, 422, list(`{"type":"literal_error","loc":["query","customer"],"msg":"Input should be 'none'","ctx":{"expected":"'none'"}}`)},
		"not a list":                    {"POST", "/v1/keys", `{"name":"x","scopes":"keys:read"}`, nil, 422, list(`{"type":"list_type","loc":["body","scopes"],"msg":"Input should be a valid list"}`)},
		"list too short":                {"POST", "/v1/keys", `{"name":"x","scopes":[]}`, nil, 422, list(`{"type":"too_short","loc":["body","scopes"],"msg":"List should have at least 1 item after validation, not 0","ctx":{"actual_length":0,"field_type":"List","min_length":1}}`)},
		"extra field":                   {"POST", identities, body(`"1"`, `,"zzz":1`), nil, 422, list(`{"type":"extra_forbidden","loc":["body","zzz"],"msg":"Extra inputs are not permitted"}`)},
		"field in capitals":             {"POST", identities, body(`"1"`, `,"Role_override":"owner"`), nil, 422, list(`{"type":"extra_forbidden","loc":["body","Role_override"],"msg":"Extra inputs are not permitted"}`)},
		"field with a long s":           {"POST", "/v1/instances", `{"name":"x","welcome_text":"a","unknown_ſenders":"drop"}`, nil, 422, list(`{"type":"extra_forbidden","loc":["body","unknown_ſenders"],"msg":"Extra inputs are not permitted"}`)},
		"duplicate field":               {"POST", identities, body(`"1"`, `,"external_id":"2"`), nil, 422, list(`{"type":"value_error","loc":["body","external_id"],"msg":"Value error, duplicate field"}`)},
		"uuid too short":                {"GET", "/v1/customers/abc", ``, nil, 422, uuid("path", "customer_id", "invalid length: expected length 32 for simple format, found 3")},
		"uuid with a wrong letter":      {"GET", "/v1/customers/lookup", ``, nil, 422, uuid("path", "customer_id", "invalid character: found `l` at 1")},
		"uuid with wrong groups":        {"GET", "/v1/customers/00000000-0000-0000-000000000000", ``, nil, 422, uuid("path", "customer_id", "invalid group count: expected 5, found 4")},
		"uuid with a short group":       {"GET", "/v1/customers/00000000-0000-0000-0000-00000000000", ``, nil, 422, uuid("path", "customer_id", "invalid group length in group 4: expected 12, found 11")},
		"empty uuid in query":           {"GET", lookup + "?channel=sms&external_id=%2B61400111222&instance_id=", ``, nil, 422, uuid("query", "instance_id", "invalid length: expected length 32 for simple format, found 0")},
		"uuid not a string":             {"POST", identities, body(`"1"`, `,"instance_id":7`), nil, 422, list(`{"type":"uuid_type","loc":["body","instance_id"],"msg":"UUID input should be a string, bytes or UUID object"}`)},
		"path, query and body":          {"POST", "/v1/customers/x/identities", body(`""`, `,"zzz":1`), nil, 422, list(`{"type":"uuid_parsing","loc":["path","customer_id"],"msg":"Input should be a valid UUID, invalid character: found `+"`x`"+` at 1","ctx":{"error":"invalid character: found `+"`x`"+` at 1"}}`, `{"type":"string_too_short","loc":["body","external_id"],"msg":"String should have at least 1 character","ctx":{"min_length":1}}`, `{"type":"extra_forbidden","loc":["body","zzz"],"msg":"Extra inputs are not permitted"}`)},
		"invalid JSON":                  {"POST", identities, `{"channel":"é",}`, nil, 422, list(`{"type":"json_invalid","loc":["body",15],"msg":"JSON decode error","ctx":{"error":"Expecting property name enclosed in double quotes"}}`)},
		"bytes after JSON":              {"POST", identities, body(`"1"`, ``) + `{}`, nil, 422, list(`{"type":"json_invalid","loc":["body",40],"msg":"JSON decode error","ctx":{"error":"Extra data"}}`)},
		"NaN":                           {"POST", identities, `NaN`, nil, 422, list(`{"type":"json_invalid","loc":["body",0],"msg":"JSON decode error","ctx":{"error":"Expecting value"}}`)},
		"body is a list":                {"POST", identities, `[]`, nil, 422, notObject},
		"body is a string":              {"POST", identities, `"x"`, nil, 422, notObject},
		"no content type":               {"POST", identities, body(`"1"`, ``), []string{"Content-Type"}, 422, notObject},
		"another content type":          {"POST", identities, body(`"1"`, ``), []string{"Content-Type: text/plain"}, 422, notObject},
		"body is a form":                {"POST", identities, `channel=sms`, []string{"Content-Type: application/x-www-form-urlencoded"}, 422, notObject},
		"33 levels":                     {"POST", identities, strings.Repeat("[", 33) + strings.Repeat("]", 33), nil, 422, tooDeep},
		"200000 levels":                 {"POST", identities, strings.Repeat("[", 200_000), nil, 422, tooDeep},
		"too many fields":               {"POST", identities, `{"a":1` + strings.Repeat(`,"b":1`, 1000) + `}`, nil, 422, list(`{"type":"value_error","loc":["body"],"msg":"Value error, more than 1000 fields"}`)},
		"high surrogate only":           {"POST", "/v1/customers", `{"first_name":"é\ud83d","last_name":"x"}`, nil, 422, list(`{"type":"json_invalid","loc":["body",16],"msg":"JSON decode error","ctx":{"error":"lone surrogate in hex escape"}}`)},
		"surrogates in wrong order":     {"POST", "/v1/customers", `{"first_name":"\udc4b\ud83d"}`, nil, 422, list(`{"type":"json_invalid","loc":["body",15],"msg":"JSON decode error","ctx":{"error":"lone surrogate in hex escape"}}`)},
		"surrogate in a field name":     {"POST", "/v1/customers", `{"\\\ud800":1}`, nil, 422, list(`{"type":"json_invalid","loc":["body",4],"msg":"JSON decode error","ctx":{"error":"lone surrogate in hex escape"}}`)},
		"surrogate pair":                {"POST", "/v1/customers", `{"first_name":"\ud83d\udc4b\\ud800\u00e9"}`, nil, 201, ``},
		"long unknown field":            {"POST", "/v1/customers", `{"` + strings.Repeat("é", 5000) + `":1}`, nil, 422, list(`{"type":"extra_forbidden","loc":["body","` + strings.Repeat("é", 100) + `…"],"msg":"Extra inputs are not permitted"}`)},
		"blank filters":                 {"GET", "/v1/customers?name=+&external_id=%C2%A0", ``, nil, 422, list(`{"type":"value_error","loc":["query","name"],"msg":"Value error, must not be blank"}`, `{"type":"value_error","loc":["query","external_id"],"msg":"Value error, must not be blank"}`)},
		"path with dots":                {"GET", "/v1/../nothing", ``, nil, 404, `{"detail":"Not Found"}`},
		"NUL":                           {"POST", "/v1/customers", `{"first_name":"a\u0000b"}`, nil, 422, list(`{"type":"value_error","loc":["body","first_name"],"msg":"Value error, text must not contain NUL or invalid UTF-8"}`)},
		"NUL in query":                  {"GET", "/v1/customers?name=%00", ``, nil, 422, list(`{"type":"value_error","loc":["query","name"],"msg":"Value error, text must not contain NUL or invalid UTF-8"}`)},
		"invalid UTF-8":                 {"POST", identities, "{\"channel\":\"\xff\"}", nil, 400, `{"detail":"There was an error parsing the body"}`},
		"invalid Telegram id":           {"POST", identities, body(`"@steve"`, ``), nil, 422, list(`{"type":"value_error","loc":["body","external_id"],"msg":"Value error, a numeric external_id is a positive integer, such as 12345"}`)},
		"invalid Telegram id in query":  {"GET", lookup + "?channel=telegram&external_id=@steve", ``, nil, 422, list(`{"type":"value_error","loc":["query","external_id"],"msg":"Value error, a numeric external_id is a positive integer, such as 12345"}`)},
		"invalid e-mail":                {"PATCH", customer, `{"email":"Steve <steve@example.com>"}`, nil, 422, list(`{"type":"value_error","loc":["body","email"],"msg":"value is not a valid email address"}`)},
		"invalid phone number":          {"PATCH", customer, `{"phone_number":"0400"}`, nil, 422, list(`{"type":"value_error","loc":["body","phone_number"],"msg":"Value error, a phone number is written with its country code, such as +61400111222"}`)},
		"invalid locale and timezone":   {"PATCH", customer, `{"timezone":"Local","locale":"!!"}`, nil, 422, list(`{"type":"value_error","loc":["body","locale"],"msg":"Value error, a locale must be a BCP 47 tag, such as en-AU"}`, `{"type":"value_error","loc":["body","timezone"],"msg":"Value error, a timezone must be a name of the IANA database, such as Australia/Sydney"}`)},
		"agent URL over http":           {"POST", "/v1/instances", `{"name":"x","agent_url":"http://agent.example.com"}`, nil, 422, list(`{"type":"value_error","loc":["body","agent_url"],"msg":"Value error, an agent URL must be an https URL"}`)},
		"agent URL with password":       {"POST", "/v1/instances", `{"name":"x","agent_url":"https://a:b@agent.example.com"}`, nil, 422, list(`{"type":"value_error","loc":["body","agent_url"],"msg":"Value error, an agent URL must not contain a user name or password"}`)},
		"private agent URL":             {"POST", "/v1/instances", `{"name":"x","agent_url":"https://[::ffff:127.0.0.1]/"}`, nil, 422, list(`{"type":"value_error","loc":["body","agent_url"],"msg":"Value error, an agent URL must be on a public address"}`)},
		"invalid time":                  {"POST", "/v1/keys", `{"name":"x","scopes":["keys:read"],"expires_at":"tomorrow"}`, nil, 422, list(`{"type":"datetime_from_date_parsing","loc":["body","expires_at"],"msg":"Input should be a valid datetime or date, such as 2030-01-31T12:00:00Z"}`)},
		"too large":                     {"POST", identities, `{"a":"` + strings.Repeat("x", 256<<10) + `"}`, nil, 413, `{"detail":"Request Entity Too Large"}`},
		"compressed":                    {"POST", identities, body(`"1"`, ``), []string{"Content-Encoding: gzip"}, 415, `{"detail":"Unsupported Media Type"}`},
		"long idempotency key":          {"POST", "/v1/customers", `{}`, []string{"Idempotency-Key: " + strings.Repeat("k", 256)}, 422, list(`{"type":"string_too_long","loc":["header","idempotency-key"],"msg":"String should have at most 255 characters","ctx":{"max_length":255}}`)},
		"no API key":                    {"GET", customer, ``, []string{"Authorization"}, 401, `{"detail":"Not authenticated"}`},
		"no key and invalid body":       {"POST", identities, `{}`, []string{"Authorization"}, 401, `{"detail":"Not authenticated"}`},
		"unknown path":                  {"GET", "/v1/nothing", ``, nil, 404, `{"detail":"Not Found"}`},
		"path with double slash":        {"GET", "/v1//customers", ``, nil, 404, `{"detail":"Not Found"}`},
		"wrong method":                  {"PUT", customer, `{}`, nil, 405, `{"detail":"Method Not Allowed"}`},
		"unknown customer":              {"GET", "/v1/customers/00000000-0000-0000-0000-000000000000", ``, nil, 404, `{"detail":"Customer not found"}`},
		"e-mail in use":                 {"POST", "/v1/customers", `{"email":"STEVE@example.com"}`, nil, 409, `{"detail":"Another customer has this email"}`},
		"address in use":                {"POST", identities, body(`" 12345 "`, ``), nil, 409, `{"detail":"Identity is already linked to a customer"}`},
		"unknown instance":              {"POST", identities, body(`"1"`, `,"instance_id":"`+h.foreignInstance+`"`), nil, 404, `{"detail":"Instance not found"}`},
	} {
		t.Run(name, func(t *testing.T) {
			h.t = t
			got := h.request(c.method, c.path, c.body, c.headers...)
			h.expect(got, c.status, c.want)
			if got.header.Get("Content-Type") != "application/json" || got.header.Get("X-Request-Id") == "" {
				t.Errorf("header = %v", got.header)
			}
		})
	}
}

func TestAcceptedFormats(t *testing.T) {
	h := newHarness(t)
	plain := strings.ReplaceAll(h.customer, "-", "")
	for _, id := range []string{plain, "{" + h.customer + "}", "urn:uuid:" + h.customer, strings.ToUpper(h.customer)} {
		if got := h.request("GET", "/v1/customers/"+id, ""); got.status != 200 || got.fields(t)["id"] != h.customer {
			t.Errorf("%s: %d %s", id, got.status, got.body)
		}
	}
	for name, headers := range map[string]string{"charset": "Content-Type: application/json; charset=utf-8", "suffix": "Content-Type: application/merge-patch+json"} {
		if got := h.request("PATCH", "/v1/customers/"+h.customer, "\ufeff"+`{"first_name":"`+name+`"}`, headers); got.fields(t)["first_name"] != name {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
	if got := h.request("PATCH", "/v1/customers/"+h.customer+"/identities/"+h.tenantIdentity, `{"verified":"yes"}`); got.fields(t)["verified"] != true {
		t.Errorf("verified: %s", got.body)
	}
	long := `{"channel":"email","external_id":"` + strings.Repeat("é", 255) + `"}`
	h.expect(h.request("POST", "/v1/customers/"+h.customer+"/identities", long), 201, "")
}

func TestMiddleware_MethodNotAllowed(t *testing.T) {
	h := newHarness(t)
	for _, c := range []struct{ method, path, allow string }{
		{"PUT", "/v1/customers", "GET, POST"},
		{"HEAD", "/v1/customers", "GET, POST"},
		{"OPTIONS", "/v1/customers/" + h.customer, "GET, PATCH, DELETE"},
		{"POST", "/openapi.json", "GET"},
	} {
		got := h.request(c.method, c.path, "")
		if got.status != http.StatusMethodNotAllowed || got.header.Get("Allow") != c.allow {
			t.Errorf("%s %s: %d, Allow %q", c.method, c.path, got.status, got.header.Get("Allow"))
		}
	}
}
