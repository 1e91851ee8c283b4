package incidents

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"hydragate/adapters"
	"hydragate/e2e/harness"
	"hydragate/identity"
)

// TestIncidents_APIKeys replays incidents of credentials that authorized too much.
func TestIncidents_APIKeys(t *testing.T) {
	replay(t, []incident{
		{"OpenClaw CVE-2026-28472: the value of a token is verified, not only its presence", func(s *fixture) {
			res := s.request("GET", "/openapi.json", nil, "")
			var doc struct {
				Paths map[string]map[string]any `json:"paths"`
			}
			if err := json.Unmarshal([]byte(res.Body), &doc); err != nil || len(doc.Paths) < 30 {
				s.T.Fatalf("GET /openapi.json = %d with %d paths, want 200 with at least 30", res.Status, len(doc.Paths))
			}
			headers := []http.Header{
				nil,
				harness.BearerHeader("garbage"),
				harness.BearerHeader(""),
				harness.BearerHeader("hg_live_" + strings.Repeat("A", 43)),
				{"X-Api-Key": {"x"}},
				{"Authorization": {"Basic " + s.API.Key}},
				{"Agent-Secret-Key": {"x"}},
			}
			n := 0
			for path, operations := range doc.Paths {
				want := 401
				switch {
				case strings.HasPrefix(path, "/external/"):
					want = 403
				case !strings.HasPrefix(path, "/v1/") && !strings.HasPrefix(path, "/global/"):
					continue
				}
				for strings.Contains(path, "{") {
					from, to := strings.Index(path, "{"), strings.Index(path, "}")
					path = path[:from] + uuid.NewString() + path[to+1:]
				}
				for method := range operations {
					for _, h := range headers {
						n++
						// Past the limit of failed authentications the status is 429.
						res := s.request(strings.ToUpper(method), path, h, "")
						if res.Status != want && res.Status != http.StatusTooManyRequests {
							s.T.Errorf("%s %s with headers %v = %d, want %d or 429", method, path, h, res.Status, want)
						}
					}
				}
			}
			if n < 200 {
				s.T.Errorf("number of requests = %d, want at least 200", n)
			}
			s.MustCall("GET", "/v1/customers", nil, 200, nil)
		}},
		{"Kratos #4317: a code is neither redeemed by staff nor an API key", func(s *fixture) {
			p := s.createLinked(adapters.Telegram)
			code := s.issueCode(p)
			issuer := harness.BearerHeader(s.createKey("claims:issue"))
			before := s.stateDump()
			for _, attempt := range []struct{ method, path, body string }{
				{"PATCH", p.path(), `{"verified":true}`},
				{"PATCH", p.path(), `{"role_override":"owner"}`},
				{"POST", p.path() + "/claim", `{"code":"` + code + `"}`},
				{"POST", p.path() + "/redeem", `{"code":"` + code + `"}`},
				{"PUT", p.path() + "/claim-code", `{"code":"` + code + `"}`},
			} {
				if res := s.request(attempt.method, attempt.path, issuer, attempt.body); res.Status/100 == 2 {
					s.T.Errorf("%s %s = %d %s, want an error", attempt.method, attempt.path, res.Status, res.Body)
				}
			}
			if s.stateDump() != before {
				s.T.Error("rejected requests changed the database")
			}
			s.sendAndExpect(p.channel, p.externalID, "/claim "+code, "You are now verified as S…e.")
			for _, h := range []http.Header{harness.BearerHeader(code), {"X-Api-Key": {code}}, {"Agent-Secret-Key": {code}}} {
				// Past the limit of failed authentications the status is 429.
				res := s.request("GET", p.path(), h, "")
				if res.Status != 401 && res.Status != http.StatusTooManyRequests {
					s.T.Errorf("GET identity with a claim code as the key = %d, want 401 or 429", res.Status)
				}
			}
		}},
	})
}

// TestIncidents_Tenants replays incidents of requests that reached too far.
func TestIncidents_Tenants(t *testing.T) {
	replay(t, []incident{
		{"OpenClaw GHSA-rqpp-rjj8-7wv8, GHSA-4jpw-hj22-2xmc, GHSA-vqvg-86cc-cg83, CVE-2026-33579 and CVE-2026-41909: " +
			"permissions come from the API key and never from the request", func(s *fixture) {
			p := s.createLinked(adapters.Telegram)
			issuer := s.createKey("claims:issue", "keys:write", "identities:write")
			before := s.stateDump()
			external := s.newExternalID(adapters.Telegram)
			spoofed := harness.BearerHeader(issuer)
			for name, value := range map[string]string{
				"X-Scopes": "identities:grant", "X-Role": "owner", "X-Forwarded-User": "admin",
			} {
				spoofed.Set(name, value)
			}
			for _, attempt := range []struct{ path, body string }{
				{"/v1/keys", `{"name":"more","scopes":["identities:grant"]}`},
				{"/v1/keys", `{"name":"more","scopes":["claims:issue","channels:write"]}`},
				{"/v1/keys", `{"name":"more","scopes":["customers:*"]}`},
				{
					"/v1/customers/" + p.customerID + "/identities",
					`{"channel":"telegram","external_id":"` + external + `","role_override":"owner"}`,
				},
			} {
				for _, header := range []http.Header{harness.BearerHeader(issuer), spoofed} {
					if res := s.request("POST", attempt.path, header, attempt.body); res.Status/100 == 2 {
						s.T.Errorf("POST %s %s = %d %s, want an error", attempt.path, attempt.body, res.Status, res.Body)
					}
				}
			}
			if s.stateDump() != before {
				s.T.Error("rejected requests changed the database")
			}
			res := s.request("POST", "/v1/keys", harness.BearerHeader(issuer), `{"name":"less","scopes":["claims:issue"]}`)
			if res.Status != 201 {
				s.T.Errorf("POST /v1/keys with a subset of the scopes = %d %s, want 201", res.Status, res.Body)
			}
		}},
		{"Flowise GHSA-c2c9-mfw7-p8hw: an identity without an instance is visible only in its tenant", func(s *fixture) {
			external := s.newExternalID(adapters.Telegram)
			s.MustCall("POST", "/v1/customers/"+s.createLinked(adapters.SMS).customerID+"/identities",
				map[string]string{"channel": "telegram", "external_id": external}, 201, nil)
			lookup := "/v1/customers/lookup/identity?channel=telegram&external_id=" + external
			s.MustCall("GET", lookup, nil, 200, nil)
			token, tenant := s.createKey(identity.Scopes...), uuid.NewString()
			s.Exec(`insert into tenants (id, name) values ($1, $2)`, tenant, "tenant "+tenant)
			s.Exec(`update api_keys set tenant_id = $1 where hash = $2`, tenant, identity.HashToken(token))
			other := harness.BearerHeader(token)
			harness.Eventually(s.T, "the key belongs to the other tenant", func() bool {
				return s.request("GET", "/v1/instances/"+s.InstanceID, other, "").Status == 404
			})
			res, unknown := s.request("GET", lookup, other, ""), s.request("GET", lookup+"9", other, "")
			if res.Status != 404 || res.Body != unknown.Body {
				s.T.Errorf("lookup in another tenant = %d %s, want 404 %s", res.Status, res.Body, unknown.Body)
			}
			for _, list := range []string{"customers", "identities?customer=none", "instances", "keys", "audit"} {
				res := s.request("GET", "/v1/"+list, other, "")
				if res.Status != 200 || strings.Contains(res.Body, external) || strings.Contains(res.Body, s.InstanceID) {
					s.T.Errorf("GET %s in another tenant = %d %s, want 200 without data of this tenant",
						list, res.Status, res.Body)
				}
			}
		}},
		{"convoy #2747: concurrent requests with one idempotency key create one customer", func(s *fixture) {
			key := uuid.NewString()
			header := harness.BearerHeader(s.API.Key)
			header.Set("Idempotency-Key", key)
			responses := harness.Concurrently(50, func(int) string {
				for {
					res := s.request("POST", "/v1/customers", header, `{"first_name":"Steve","company_name":"`+key+`"}`)
					// 409: the first request is still in progress. 503: the gateway is overloaded.
					if res.Status != http.StatusConflict && res.Status != http.StatusServiceUnavailable {
						return fmt.Sprint(res.Status, res.Body)
					}
				}
			})
			distinct := map[string]bool{}
			for _, r := range responses {
				distinct[r] = true
			}
			rows := s.QueryInt(`select count(*) from customers where company_name = $1`, key)
			if rows != 1 || len(distinct) != 1 || !strings.HasPrefix(responses[0], "201") {
				s.T.Errorf("created %d customers, responses %v; want one customer and one response, 201", rows, distinct)
			}
		}},
	})
}
