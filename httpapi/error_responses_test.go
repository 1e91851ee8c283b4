package httpapi

import (
	"net/http"
	"strings"
	"testing"
)

// TestErrorResponses checks the exact responses to requests that are rejected for other reasons than
// their fields, and to some that are accepted.
func TestErrorResponses(t *testing.T) {
	h := newHarness(t)
	notObject := violation(
		"model_attributes_type", `"body"`,
		"Input should be a valid dictionary or object to extract fields from", "",
	)
	customer := "/v1/customers/" + h.customer
	identities := customer + "/identities"
	for name, c := range map[string]struct {
		method, path, body string
		headers            []string
		status             int
		want               string
	}{
		"no content type": {
			"POST", identities, identityBody(`"1"`, ``),
			[]string{"Content-Type"},
			422, `{"detail":[` + notObject + `]}`,
		},
		"another content type": {
			"POST", identities, identityBody(`"1"`, ``),
			[]string{"Content-Type: text/plain"},
			422, `{"detail":[` + notObject + `]}`,
		},
		"body is a form": {
			"POST", identities, `channel=sms`,
			[]string{"Content-Type: application/x-www-form-urlencoded"},
			422, `{"detail":[` + notObject + `]}`,
		},
		"surrogate pair": {"POST", "/v1/customers", `{"first_name":"\ud83d\udc4b\\ud800\u00e9"}`, nil, 201, ``},
		"path with dots": {"GET", "/v1/../nothing", ``, nil, 404, `{"detail":"Not Found"}`},
		"invalid UTF-8": {
			"POST", identities, "{\"channel\":\"\xff\"}", nil,
			400, `{"detail":"There was an error parsing the body"}`,
		},
		"too large": {
			"POST", identities, `{"a":"` + strings.Repeat("x", 256<<10) + `"}`, nil,
			413, `{"detail":"Request Entity Too Large"}`,
		},
		"compressed": {
			"POST", identities, identityBody(`"1"`, ``),
			[]string{"Content-Encoding: gzip"},
			415, `{"detail":"Unsupported Media Type"}`,
		},
		"long idempotency key": {
			"POST", "/v1/customers", `{}`,
			[]string{"Idempotency-Key: " + strings.Repeat("k", 256)},
			422,
			`{"detail":[` + violation(
				"string_too_long", `"header","idempotency-key"`,
				"String should have at most 255 characters", `{"max_length":255}`,
			) + `]}`,
		},
		"no API key": {"GET", customer, ``, []string{"Authorization"}, 401, `{"detail":"Not authenticated"}`},
		"no key and invalid body": {
			"POST", identities, `{}`,
			[]string{"Authorization"},
			401, `{"detail":"Not authenticated"}`,
		},
		"unknown path":           {"GET", "/v1/nothing", ``, nil, 404, `{"detail":"Not Found"}`},
		"path with double slash": {"GET", "/v1//customers", ``, nil, 404, `{"detail":"Not Found"}`},
		"wrong method":           {"PUT", customer, `{}`, nil, 405, `{"detail":"Method Not Allowed"}`},
		"unknown customer": {
			"GET", "/v1/customers/00000000-0000-0000-0000-000000000000", ``, nil,
			404, `{"detail":"Customer not found"}`,
		},
		"e-mail in use": {
			"POST", "/v1/customers", `{"email":"STEVE@example.com"}`, nil,
			409, `{"detail":"Another customer has this email"}`,
		},
		"address in use": {
			"POST", identities, identityBody(`" 12345 "`, ``), nil,
			409, `{"detail":"Identity is already linked to a customer"}`,
		},
		"unknown instance": {
			"POST", identities, identityBody(`"1"`, `,"instance_id":"`+h.foreignInstance+`"`), nil,
			404, `{"detail":"Instance not found"}`,
		},
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
	customer := "/v1/customers/" + h.customer
	for _, media := range []string{"application/json; charset=utf-8", "application/merge-patch+json"} {
		got := h.request("PATCH", customer, "\ufeff"+`{"first_name":"`+media+`"}`, "Content-Type: "+media)
		if got.fields(t)["first_name"] != media {
			t.Errorf("%s: %d %s", media, got.status, got.body)
		}
	}
	got := h.request("PATCH", customer+"/identities/"+h.tenantIdentity, `{"verified":"yes"}`)
	if got.fields(t)["verified"] != true {
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
