package incidents

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"hydragate/adapters"
	"hydragate/cmd/hydragate/demo"
	"hydragate/e2e/harness"
	"hydragate/identity"
)

// TestIncidents_OpenClawCVE202628472 replays OpenClaw CVE-2026-28472. It checks that the value of
// a token is verified, not only its presence.
func TestIncidents_OpenClawCVE202628472(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		status, body := s.request("GET", "/openapi.json", nil, "")
		var doc struct {
			Paths map[string]map[string]any `json:"paths"`
		}
		if status != 200 || json.Unmarshal([]byte(body), &doc) != nil || len(doc.Paths) < 30 {
			s.t.Fatalf("GET /openapi.json = %d with %d paths, want 200 with at least 30", status, len(doc.Paths))
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
			isExternal := strings.HasPrefix(path, "/external/")
			if !isExternal && !strings.HasPrefix(path, "/v1/") && !strings.HasPrefix(path, "/global/") {
				continue
			}
			for strings.Contains(path, "{") {
				from, to := strings.Index(path, "{"), strings.Index(path, "}")
				path = path[:from] + uuid.NewString() + path[to+1:]
			}
			want := 401
			if isExternal {
				want = 403
			}
			for method := range operations {
				for _, h := range headers {
					n++
					if status, _ := s.request(strings.ToUpper(method), path, h, ""); status != want {
						s.t.Errorf("%s %s with headers %v = %d, want %d", method, path, h, status, want)
					}
				}
			}
		}
		if n < 200 {
			s.t.Errorf("number of requests = %d, want at least 200", n)
		}
		if status, _ := s.request("GET", "/v1/customers", harness.BearerHeader(s.API.Key), ""); status != 200 {
			s.t.Errorf("GET /v1/customers with a valid key = %d, want 200", status)
		}
	})
}

// TestIncidents_FlowiseGHSAC2c9Mfw7P8hw replays Flowise GHSA-c2c9-mfw7-p8hw. It checks that an
// identity without an instance is visible only in its tenant.
func TestIncidents_FlowiseGHSAC2c9Mfw7P8hw(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		external := s.newExternalID(adapters.Telegram)
		s.noError(s.API.Call(s.t.Context(), "POST", "/v1/customers/"+s.createCustomer()+"/identities",
			demo.JSONObject{"channel": "telegram", "external_id": external}, nil))
		lookup := "/v1/customers/lookup/identity?channel=telegram&external_id=" + external
		if status, body := s.request("GET", lookup, harness.BearerHeader(s.API.Key), ""); status != 200 {
			s.t.Fatalf("lookup in the same tenant = %d %s, want 200", status, body)
		}
		otherTenant := harness.BearerHeader(s.createOtherTenant())
		status, body := s.request("GET", lookup, otherTenant, "")
		_, unknown := s.request("GET", lookup+"9", otherTenant, "")
		if status != 404 || body != unknown {
			s.t.Errorf("lookup in another tenant = %d %s, want 404 %s", status, body, unknown)
		}
		lists := []string{"/v1/customers", "/v1/identities?customer=none", "/v1/instances", "/v1/keys", "/v1/audit"}
		for _, list := range lists {
			status, body := s.request("GET", list, otherTenant, "")
			if status != 200 || strings.Contains(body, external) || strings.Contains(body, s.InstanceID) {
				s.t.Errorf("GET %s in another tenant = %d %s, want 200 without data of this tenant", list, status, body)
			}
		}
	})
}

// TestIncidents_Convoy2747 replays convoy #2747. It checks that fifty equal concurrent requests
// with one idempotency key create one customer.
func TestIncidents_Convoy2747(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		key := uuid.NewString()
		email := "once-" + key + "@example.com"
		header := http.Header{"Authorization": {"Bearer " + s.API.Key}, "Idempotency-Key": {key}}
		responses := harness.Concurrently(50, func(int) string {
			for {
				status, body := s.request("POST", "/v1/customers", header,
					`{"first_name":"Steve","company_name":"`+email+`"}`)
				// 409: the first request is still in progress. 503: the gateway is overloaded.
				if status != http.StatusConflict && status != http.StatusServiceUnavailable {
					return fmt.Sprint(status, body)
				}
			}
		})
		distinct := map[string]bool{}
		for _, r := range responses {
			distinct[r] = true
		}
		var rows int
		s.noError(s.db.QueryRowContext(s.t.Context(),
			`select count(*) from customers where company_name = $1`, email).Scan(&rows))
		if rows != 1 || len(distinct) != 1 || !strings.HasPrefix(responses[0], "201") {
			s.t.Errorf("created %d customers, responses %v; want one customer and one response, 201", rows, distinct)
		}
	})
}

// createOtherTenant creates a tenant and returns an API key of it with all scopes.
func (s *incidentFixture) createOtherTenant() (token string) {
	s.t.Helper()
	tenant := uuid.NewString()
	_, err := s.db.ExecContext(s.t.Context(), `insert into tenants (id, name) values ($1, $2)`, tenant, "tenant "+tenant)
	s.noError(err)
	token = s.createKey(identity.Scopes...)
	_, err = s.db.ExecContext(s.t.Context(),
		`update api_keys set tenant_id = $1 where hash = $2`, tenant, identity.HashToken(token))
	s.noError(err)
	harness.Eventually(s.t, "the key belongs to the other tenant", func() bool {
		status, _ := s.request("GET", "/v1/instances/"+s.InstanceID, harness.BearerHeader(token), "")
		return status == 404
	})
	return token
}
