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

// TestIncidents_OpenClawCVE202628472 replays OpenClaw CVE-2026-28472: it is the token that
// counts, not that there is one.
func TestIncidents_OpenClawCVE202628472(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		status, body := s.request("GET", "/openapi.json", nil, "")
		var doc struct {
			Paths map[string]map[string]any `json:"paths"`
		}
		if status != 200 || json.Unmarshal([]byte(body), &doc) != nil || len(doc.Paths) < 30 {
			s.t.Fatalf("the document: %d, %d paths", status, len(doc.Paths))
		}
		n := 0
		for path, operations := range doc.Paths {
			if !strings.HasPrefix(path, "/v1/") && !strings.HasPrefix(path, "/global/") && !strings.HasPrefix(path, "/external/") {
				continue
			}
			for strings.Contains(path, "{") {
				from, to := strings.Index(path, "{"), strings.Index(path, "}")
				path = path[:from] + uuid.NewString() + path[to+1:]
			}
			want := 401
			if strings.HasPrefix(path, "/external/") {
				want = 403
			}
			for method := range operations {
				for _, h := range []http.Header{nil, harness.BearerHeader("garbage"), harness.BearerHeader(""), harness.BearerHeader("hg_live_" + strings.Repeat("A", 43)), {"X-Api-Key": {"x"}}, {"Authorization": {"Basic " + s.API.Key}}, {"Agent-Secret-Key": {"x"}}} {
					n++
					if status, _ := s.request(strings.ToUpper(method), path, h, ""); status != want {
						s.t.Errorf("%s %s with %v: %d", method, path, h, status)
					}
				}
			}
		}
		if n < 200 {
			s.t.Errorf("only %d calls were tried", n)
		}
		if status, _ := s.request("GET", "/v1/customers", harness.BearerHeader(s.API.Key), ""); status != 200 {
			s.t.Errorf("with a good key: %d", status)
		}
	})
}

// TestIncidents_FlowiseGHSAC2c9Mfw7P8hw replays Flowise GHSA-c2c9-mfw7-p8hw: what belongs to no
// instance still belongs to one tenant.
func TestIncidents_FlowiseGHSAC2c9Mfw7P8hw(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		external := s.newExternalID(adapters.Telegram)
		s.noError(s.API.Call(s.t.Context(), "POST", "/v1/customers/"+s.createCustomer()+"/identities", demo.JSONObject{"channel": "telegram", "external_id": external}, nil))
		lookup := "/v1/customers/lookup/identity?channel=telegram&external_id=" + external
		if status, body := s.request("GET", lookup, harness.BearerHeader(s.API.Key), ""); status != 200 {
			s.t.Fatalf("its own tenant: %d %s", status, body)
		}
		stranger, unknown := s.createOtherTenant(), ""
		status, body := s.request("GET", lookup, harness.BearerHeader(stranger), "")
		_, unknown = s.request("GET", lookup+"9", harness.BearerHeader(stranger), "")
		if status != 404 || body != unknown {
			s.t.Errorf("another tenant: %d %s", status, body)
		}
		for _, list := range []string{"/v1/customers", "/v1/identities?customer=none", "/v1/instances", "/v1/keys", "/v1/audit"} {
			if status, body := s.request("GET", list, harness.BearerHeader(stranger), ""); status != 200 || strings.Contains(body, external) || strings.Contains(body, s.InstanceID) {
				s.t.Errorf("%s in another tenant: %d %s", list, status, body)
			}
		}
	})
}

// TestIncidents_Convoy2747 replays convoy #2747: fifty equal calls at once make one.
func TestIncidents_Convoy2747(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		key := uuid.NewString()
		email := "once-" + key + "@example.com"
		header := http.Header{"Authorization": {"Bearer " + s.API.Key}, "Idempotency-Key": {key}}
		answers := harness.Concurrently(50, func(int) string {
			for {
				status, body := s.request("POST", "/v1/customers", header, `{"first_name":"Steve","company_name":"`+email+`"}`)
				if status != http.StatusConflict && status != http.StatusServiceUnavailable { // the first is still in work, or the house is full
					return fmt.Sprint(status, body)
				}
			}
		})
		different := map[string]bool{}
		for _, a := range answers {
			different[a] = true
		}
		var rows int
		s.noError(s.db.QueryRowContext(s.t.Context(), `select count(*) from customers where company_name = $1`, email).Scan(&rows))
		if rows != 1 || len(different) != 1 || !strings.HasPrefix(answers[0], "201") {
			s.t.Errorf("%d rows, answers %v", rows, different)
		}
	})
}

// createOtherTenant makes a tenant and gives a key with every right in it.
func (s *incidentFixture) createOtherTenant() (token string) {
	s.t.Helper()
	tenant := uuid.NewString()
	_, err := s.db.ExecContext(s.t.Context(), `insert into tenants (id, name) values ($1, $2)`, tenant, "tenant "+tenant)
	s.noError(err)
	token = s.createKey(identity.Scopes...)
	_, err = s.db.ExecContext(s.t.Context(), `update api_keys set tenant_id = $1 where hash = $2`, tenant, identity.HashToken(token))
	s.noError(err)
	harness.Eventually(s.t, "the key is the other tenant's", func() bool {
		status, _ := s.request("GET", "/v1/instances/"+s.InstanceID, harness.BearerHeader(token), "")
		return status == 404
	})
	return token
}
