package httpapi

import (
	"strings"
	"testing"
)

// A violationTest is an invalid request, and the JSON of the violations in the response.
type violationTest struct{ method, path, body, want string }

// testViolations checks that the responses list exactly the wanted violations.
func testViolations(t *testing.T, h *harness, tests map[string]violationTest) {
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h.t = t
			got := h.request(tt.method, tt.path, tt.body)
			h.expect(got, 422, `{"detail":[`+tt.want+`]}`)
			if got.header.Get("Content-Type") != "application/json" || got.header.Get("X-Request-Id") == "" {
				t.Errorf("header = %v", got.header)
			}
		})
	}
}

// violation returns the JSON of a violation. loc is a JSON list without brackets, and details is an
// object or empty.
func violation(kind, loc, message, details string) string {
	if details != "" {
		details = `,"ctx":` + details
	}
	return `{"type":"` + kind + `","loc":[` + loc + `],"msg":"` + message + `"` + details + `}`
}

func missing(loc string) string { return violation("missing", loc, "Field required", "") }

func extraField(loc string) string {
	return violation("extra_forbidden", loc, "Extra inputs are not permitted", "")
}

func valueError(loc, reason string) string {
	return violation("value_error", loc, "Value error, "+reason, "")
}

func invalidUUID(loc, reason string) string {
	return violation("uuid_parsing", loc, "Input should be a valid UUID, "+reason, `{"error":"`+reason+`"}`)
}

func invalidJSON(offset, reason string) string {
	return violation("json_invalid", `"body",`+offset, "JSON decode error", `{"error":"`+reason+`"}`)
}

// identityBody returns the body of a request that links an identity. id and rest are JSON.
func identityBody(id, rest string) string {
	return `{"channel":"telegram","external_id":` + id + rest + `}`
}

// TestViolations_Fields checks fields that are missing, too short, too long or of another type.
func TestViolations_Fields(t *testing.T) {
	h := newHarness(t)
	identities := "/v1/customers/" + h.customer + "/identities"
	const lookup = "/v1/customers/lookup/identity"
	quoted := func(n int, s string) string { return `"` + strings.Repeat(s, n) + `"` }
	testViolations(t, h, map[string]violationTest{
		"field missing": {"POST", identities, `{"channel":"telegram"}`, missing(`"body","external_id"`)},
		"all fields missing": {
			"POST", identities, `{}`,
			missing(`"body","channel"`) + "," + missing(`"body","external_id"`),
		},
		"no body":       {"POST", identities, ``, missing(`"body"`)},
		"null body":     {"POST", identities, `null`, missing(`"body"`)},
		"query missing": {"GET", lookup + "?channel=telegram", ``, missing(`"query","external_id"`)},
		"both query parameters missing": {
			"GET", lookup, ``,
			missing(`"query","channel"`) + "," + missing(`"query","external_id"`),
		},
		"too short": {
			"POST", identities, identityBody(`""`, ``),
			violation(
				"string_too_short", `"body","external_id"`, "String should have at least 1 character", `{"min_length":1}`,
			),
		},
		"too short in query": {
			"GET", lookup + "?channel=telegram&external_id=", ``,
			violation(
				"string_too_short", `"query","external_id"`, "String should have at least 1 character", `{"min_length":1}`,
			),
		},
		"too short, plural": {
			"POST", "/v1/instances/" + h.instance + "/channels/telegram", `{"bot_token":"x"}`,
			violation(
				"string_too_short", `"body","bot_token"`, "String should have at least 30 characters", `{"min_length":30}`,
			),
		},
		"too long": {
			"POST", identities, identityBody(quoted(256, "é"), ``),
			violation(
				"string_too_long", `"body","external_id"`, "String should have at most 255 characters", `{"max_length":255}`,
			),
		},
		"not a string": {
			"POST", identities, identityBody(`12345`, ``),
			violation("string_type", `"body","external_id"`, "Input should be a valid string", ``),
		},
		"null as string": {
			"POST", identities, identityBody(`null`, ``),
			violation("string_type", `"body","external_id"`, "Input should be a valid string", ``),
		},
		"metadata is a list": {
			"POST", identities, identityBody(`"1"`, `,"metadata":[]`),
			violation("dict_type", `"body","metadata"`, "Input should be a valid dictionary", ``),
		},
		"metadata too large": {
			"POST", identities, identityBody(`"1"`, `,"metadata":{"a":`+quoted(17000, "x")+`}`),
			valueError(`"body","metadata"`, "the object exceeds 16384 bytes"),
		},
		"metadata too deep": {
			"POST", identities, identityBody(`"1"`, `,"metadata":`+strings.Repeat(`{"a":`, 9)+`1`+strings.Repeat(`}`, 9)),
			valueError(`"body","metadata"`, "the object is nested deeper than 8 levels"),
		},
		"metadata with NUL": {
			"POST", identities, identityBody(`"1"`, `,"metadata":{"a":["\u0000"]}`),
			valueError(`"body","metadata"`, "text must not contain NUL or invalid UTF-8"),
		},
		"number out of range": {
			"POST", identities, identityBody(`"1"`, `,"metadata":{"a":1e500000}`),
			valueError(`"body","metadata","a"`, "number out of range"),
		},
		"boolean is a string": {
			"PATCH", identities + "/" + h.tenantIdentity, `{"verified":"maybe"}`,
			violation("bool_parsing", `"body","verified"`, "Input should be a valid boolean, unable to interpret input", ``),
		},
		"boolean is a list": {
			"PATCH", identities + "/" + h.tenantIdentity, `{"verified":[]}`,
			violation("bool_type", `"body","verified"`, "Input should be a valid boolean", ``),
		},
	})
}

// TestViolations_Values checks numbers, patterns, enums, lists and unknown fields.
func TestViolations_Values(t *testing.T) {
	h := newHarness(t)
	identities := "/v1/customers/" + h.customer + "/identities"
	const pattern = "^[a-z][a-z0-9_]{0,31}$"
	wrongChannel := func(loc string) string {
		return violation(
			"string_pattern_mismatch", loc, "String should match pattern '"+pattern+"'", `{"pattern":"`+pattern+`"}`,
		)
	}
	testViolations(t, h, map[string]violationTest{
		"integer is a string": {
			"GET", "/v1/customers?limit=ten", ``,
			violation(
				"int_parsing", `"query","limit"`, "Input should be a valid integer, unable to parse string as an integer", ``,
			),
		},
		"integer too small": {
			"GET", "/v1/customers?limit=0", ``,
			violation("greater_than_equal", `"query","limit"`, "Input should be greater than or equal to 1", `{"ge":1}`),
		},
		"integer too large": {
			"GET", "/v1/customers?limit=101", ``,
			violation("less_than_equal", `"query","limit"`, "Input should be less than or equal to 100", `{"le":100}`),
		},
		"repeated query parameter": {
			"GET", "/v1/customers?limit=5&limit=0", ``,
			violation("greater_than_equal", `"query","limit"`, "Input should be greater than or equal to 1", `{"ge":1}`),
		},
		"integer with fraction": {
			"POST", "/v1/keys/" + h.instance + "/rotate", `{"overlap_seconds":1.5}`,
			violation(
				"int_from_float", `"body","overlap_seconds"`,
				"Input should be a valid integer, got a number with a fractional part", ``,
			),
		},
		"pattern":          {"POST", identities, `{"channel":"SMS!","external_id":"1"}`, wrongChannel(`"body","channel"`)},
		"pattern in query": {"GET", identities + "?channel=", ``, wrongChannel(`"query","channel"`)},
		"enum": {
			"POST", "/v1/instances", `{"name":"x","unknown_senders":"eat"}`,
			violation(
				"enum", `"body","unknown_senders"`, "Input should be 'forward', 'reply' or 'drop'",
				`{"expected":"'forward', 'reply' or 'drop'"}`,
			),
		},
		"literal": {
			"POST", identities, identityBody(`"1"`, `,"role_override":"admin"`),
			violation("literal_error", `"body","role_override"`, "Input should be 'owner'", `{"expected":"'owner'"}`),
		},
		"literal in query": {
			"GET", "/v1/identities?customer=all", ``,
			violation("literal_error", `"query","customer"`, "Input should be 'none'", `{"expected":"'none'"}`),
		},
		"not a list": {
			"POST", "/v1/keys", `{"name":"x","scopes":"keys:read"}`,
			violation("list_type", `"body","scopes"`, "Input should be a valid list", ``),
		},
		"list too short": {
			"POST", "/v1/keys", `{"name":"x","scopes":[]}`,
			violation(
				"too_short", `"body","scopes"`, "List should have at least 1 item after validation, not 0",
				`{"actual_length":0,"field_type":"List","min_length":1}`,
			),
		},
		"extra field": {"POST", identities, identityBody(`"1"`, `,"zzz":1`), extraField(`"body","zzz"`)},
		"field in capitals": {
			"POST", identities, identityBody(`"1"`, `,"Role_override":"owner"`),
			extraField(`"body","Role_override"`),
		},
		"field with a long s": {
			"POST", "/v1/instances", `{"name":"x","welcome_text":"a","unknown_ſenders":"drop"}`,
			extraField(`"body","unknown_ſenders"`),
		},
		"duplicate field": {
			"POST", identities, identityBody(`"1"`, `,"external_id":"2"`),
			valueError(`"body","external_id"`, "duplicate field"),
		},
	})
}

// TestViolations_UUID checks UUIDs.
func TestViolations_UUID(t *testing.T) {
	h := newHarness(t)
	identities := "/v1/customers/" + h.customer + "/identities"
	const lookup = "/v1/customers/lookup/identity"
	testViolations(t, h, map[string]violationTest{
		"uuid too short": {
			"GET", "/v1/customers/abc", ``,
			invalidUUID(`"path","customer_id"`, "invalid length: expected length 32 for simple format, found 3"),
		},
		"uuid with a wrong letter": {
			"GET", "/v1/customers/lookup", ``,
			invalidUUID(`"path","customer_id"`, "invalid character: found `l` at 1"),
		},
		"uuid with wrong groups": {
			"GET", "/v1/customers/00000000-0000-0000-000000000000", ``,
			invalidUUID(`"path","customer_id"`, "invalid group count: expected 5, found 4"),
		},
		"uuid with a short group": {
			"GET", "/v1/customers/00000000-0000-0000-0000-00000000000", ``,
			invalidUUID(`"path","customer_id"`, "invalid group length in group 4: expected 12, found 11"),
		},
		"empty uuid in query": {
			"GET", lookup + "?channel=sms&external_id=%2B61400111222&instance_id=", ``,
			invalidUUID(`"query","instance_id"`, "invalid length: expected length 32 for simple format, found 0"),
		},
		"uuid not a string": {
			"POST", identities, identityBody(`"1"`, `,"instance_id":7`),
			violation("uuid_type", `"body","instance_id"`, "UUID input should be a string, bytes or UUID object", ``),
		},
		"path, query and body": {
			"POST", "/v1/customers/x/identities", identityBody(`""`, `,"zzz":1`),
			invalidUUID(`"path","customer_id"`, "invalid character: found `x` at 1") + "," +
				violation(
					"string_too_short", `"body","external_id"`,
					"String should have at least 1 character", `{"min_length":1}`,
				) + "," +
				extraField(`"body","zzz"`),
		},
	})
}

// TestViolations_JSON checks bodies that are not valid JSON objects.
func TestViolations_JSON(t *testing.T) {
	h := newHarness(t)
	identities := "/v1/customers/" + h.customer + "/identities"
	notObject := violation(
		"model_attributes_type", `"body"`,
		"Input should be a valid dictionary or object to extract fields from", "",
	)
	testViolations(t, h, map[string]violationTest{
		"invalid JSON": {
			"POST", identities, `{"channel":"é",}`,
			invalidJSON("15", "Expecting property name enclosed in double quotes"),
		},
		"bytes after JSON": {"POST", identities, identityBody(`"1"`, ``) + `{}`, invalidJSON("40", "Extra data")},
		"NaN":              {"POST", identities, `NaN`, invalidJSON("0", "Expecting value")},
		"body is a list":   {"POST", identities, `[]`, notObject},
		"body is a string": {"POST", identities, `"x"`, notObject},
		"33 levels": {
			"POST", identities, strings.Repeat("[", 33) + strings.Repeat("]", 33),
			valueError(`"body"`, "nested deeper than 32 levels"),
		},
		"200000 levels": {
			"POST", identities, strings.Repeat("[", 200_000),
			valueError(`"body"`, "nested deeper than 32 levels"),
		},
		"too many fields": {
			"POST", identities, `{"a":1` + strings.Repeat(`,"b":1`, 1000) + `}`,
			valueError(`"body"`, "more than 1000 fields"),
		},
		"high surrogate only": {
			"POST", "/v1/customers", `{"first_name":"é\ud83d","last_name":"x"}`,
			invalidJSON("16", "lone surrogate in hex escape"),
		},
		"surrogates in wrong order": {
			"POST", "/v1/customers", `{"first_name":"\udc4b\ud83d"}`,
			invalidJSON("15", "lone surrogate in hex escape"),
		},
		"surrogate in a field name": {
			"POST", "/v1/customers", `{"\\\ud800":1}`,
			invalidJSON("4", "lone surrogate in hex escape"),
		},
	})
}

// TestViolations_Formats checks formats of values.
func TestViolations_Formats(t *testing.T) {
	h := newHarness(t)
	identities := "/v1/customers/" + h.customer + "/identities"
	customer := "/v1/customers/" + h.customer
	const lookup = "/v1/customers/lookup/identity"
	testViolations(t, h, map[string]violationTest{
		"long unknown field": {
			"POST", "/v1/customers", `{"` + strings.Repeat("é", 5000) + `":1}`,
			extraField(`"body","` + strings.Repeat("é", 100) + `…"`),
		},
		"blank filters": {
			"GET", "/v1/customers?name=+&external_id=%C2%A0", ``,
			valueError(`"query","name"`, "must not be blank") + "," +
				valueError(`"query","external_id"`, "must not be blank"),
		},
		"NUL": {
			"POST", "/v1/customers", `{"first_name":"a\u0000b"}`,
			valueError(`"body","first_name"`, "text must not contain NUL or invalid UTF-8"),
		},
		"NUL in query": {
			"GET", "/v1/customers?name=%00", ``,
			valueError(`"query","name"`, "text must not contain NUL or invalid UTF-8"),
		},
		"invalid Telegram id": {
			"POST", identities, identityBody(`"@steve"`, ``),
			valueError(`"body","external_id"`, "on this channel, an external_id is a number, such as 12345"),
		},
		"invalid Telegram id in query": {
			"GET", lookup + "?channel=telegram&external_id=@steve", ``,
			valueError(`"query","external_id"`, "on this channel, an external_id is a number, such as 12345"),
		},
		"invalid e-mail": {
			"PATCH", customer, `{"email":"Steve <steve@example.com>"}`,
			violation("value_error", `"body","email"`, "value is not a valid email address", ``),
		},
		"invalid phone number": {
			"PATCH", customer, `{"phone_number":"0400"}`,
			valueError(
				`"body","phone_number"`,
				"the country code is missing: a phone number is written with + and its country code, such as +61400111222",
			),
		},
		"invalid locale and timezone": {
			"PATCH", customer, `{"timezone":"Local","locale":"!!"}`,
			valueError(`"body","locale"`, "a locale must be a BCP 47 tag, such as en-AU") + "," +
				valueError(`"body","timezone"`, "a timezone must be a name of the IANA database, such as Australia/Sydney"),
		},
		"agent URL over http": {
			"POST", "/v1/instances", `{"name":"x","agent_url":"http://agent.example.com"}`,
			valueError(`"body","agent_url"`, "an agent URL must be an https URL"),
		},
		"agent URL with password": {
			"POST", "/v1/instances", `{"name":"x","agent_url":"https://a:b@agent.example.com"}`,
			valueError(`"body","agent_url"`, "an agent URL must not contain a user name or password"),
		},
		"private agent URL": {
			"POST", "/v1/instances", `{"name":"x","agent_url":"https://[::ffff:127.0.0.1]/"}`,
			valueError(`"body","agent_url"`, "an agent URL must be on a public address"),
		},
		"invalid time": {
			"POST", "/v1/keys", `{"name":"x","scopes":["keys:read"],"expires_at":"tomorrow"}`,
			violation(
				"datetime_from_date_parsing", `"body","expires_at"`,
				"Input should be a valid datetime or date, such as 2030-01-31T12:00:00Z", ``,
			),
		},
	})
}
