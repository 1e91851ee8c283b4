package store

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"hydragate/gateway"
	"hydragate/httpapi"
	"hydragate/httpapi/contactapi"
	"hydragate/httpapi/operation"
	"hydragate/httpapi/userapi"
	"hydragate/identity"
)

const publicURL = "https://gate.example.com"

// apiFixture is the HTTP API on a store with two tenants, the first of which has two instances.
type apiFixture struct {
	*Store
	t                                                 *testing.T
	url                                               string
	tenant, other                                     string
	instance, otherInstance, foreignInstance          string // instances
	instanceKey, otherInstanceKey, foreignInstanceKey string // their keys
	apiKey, foreignAPIKey                             string // API keys of the tenants, with every scope
}

func newAPIFixture(t *testing.T, s *Store) *apiFixture {
	t.Helper()
	f := &apiFixture{Store: s, t: t, tenant: newTenant(t, s), other: newTenant(t, s)}
	limiter := &operation.RateLimiter{Rate: 1e6, Burst: 1e6}
	users, contacts := &userapi.API{Store: s, Limiter: limiter}, &contactapi.API{Store: s, PublicURL: publicURL}
	api := &httpapi.API{
		Stores: httpapi.Stores{
			Health: s, Auth: s, Keys: s, Customers: s, Merges: s, Exports: s, Identities: s, Senders: s, Invites: s,
			Instances: s, Secrets: s, Audit: s, Idempotency: s,
		},
		Surfaces: []*operation.Surface{users.Surface(), contacts.Surface()}, PublicURL: publicURL, Limiter: limiter,
	}
	server := httptest.NewServer(api.Handler())
	t.Cleanup(server.Close)
	f.url = server.URL
	instance := func(tenant string) (id, key string) {
		key = identity.NewToken("ask_")
		i, err := s.CreateInstance(t.Context(), gateway.Instance{TenantID: tenant, Name: "bot"},
			gateway.InstanceSecrets{AgentSecretKey: key}, identity.System)
		if err != nil {
			t.Fatal(err)
		}
		return i.ID, key
	}
	f.instance, f.instanceKey = instance(f.tenant)
	f.otherInstance, f.otherInstanceKey = instance(f.tenant)
	f.foreignInstance, f.foreignInstanceKey = instance(f.other)
	f.apiKey, f.foreignAPIKey = f.newKey(f.tenant, ""), f.newKey(f.other, "")
	return f
}

func (f *apiFixture) newKey(tenant, instance string, scopes ...string) string {
	f.t.Helper()
	if scopes == nil {
		scopes = identity.Scopes
	}
	token := identity.NewToken("hg_live_")
	_, err := f.CreateAPIKey(f.t.Context(), identity.APIKey{
		TenantID: tenant, InstanceID: instance, Name: "k",
		Scopes: scopes,
	}, identity.HashToken(token), identity.System)
	if err != nil {
		f.t.Fatal(err)
	}
	return token
}

// apiResponse is a response of the API.
type apiResponse struct {
	status int
	text   string
	body   map[string]any
	header http.Header
}

// do sends a request with a secret, which is an agent key for the user API and otherwise an API key,
// and with an optional header given as name and value.
func (f *apiFixture) do(secret, method, path, body string, header ...string) apiResponse {
	f.t.Helper()
	r, err := http.NewRequest(method, f.url+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	switch {
	case secret == "":
	case strings.HasPrefix(path, "/external/"):
		r.Header.Set("Agent-Secret-Key", secret)
	default:
		r.Header.Set("Authorization", "Bearer "+secret)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if len(header) > 0 {
		r.Header.Set(header[0], header[1])
	}
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		f.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	got := apiResponse{status: response.StatusCode, text: string(raw), header: response.Header}
	if len(raw) > 0 {
		_ = json.Unmarshal(raw, &got.body)
	}
	return got
}

// want is do, and checks the status and the given fields of the response.
func (f *apiFixture) want(secret, method, path, body string, status int, fields map[string]any) apiResponse {
	f.t.Helper()
	got := f.do(secret, method, path, body)
	if got.status != status {
		f.t.Errorf("%s %s %s: status %d %s, want %d", method, path, body, got.status, got.text, status)
	}
	for name, v := range fields {
		if fmt.Sprint(got.body[name]) != fmt.Sprint(v) {
			f.t.Errorf("%s %s %s: %s = %v, want %v in %s", method, path, body, name, got.body[name], v, got.text)
		}
	}
	return got
}

func (s apiResponse) id() string { id, _ := s.body["id"].(string); return id }

func (f *apiFixture) eventKinds(tenant string) (kinds []string) {
	for _, e := range auditLog(f.t, f.Store, tenant) {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

func runAPITest(t *testing.T, test func(t *testing.T, f *apiFixture)) {
	forEachEngine(t, func(t *testing.T, open func(*testing.T) *Store) { test(t, newAPIFixture(t, open(t))) })
}

// TestSurfaces_Consistent creates a customer through each API and reads it through all of them.
func TestSurfaces_Consistent(t *testing.T) {
	runAPITest(t, func(t *testing.T, f *apiFixture) {
		customer := func(phone string) string {
			return f.want(f.apiKey, "POST", "/v1/customers",
				`{"first_name":"Steve","last_name":"Example","phone_number":"`+phone+`"}`, 201, nil).id()
		}
		for name, c := range map[string]struct {
			phone string
			make  func(phone string) (customer, identity string)
		}{
			"native API": {"+61400111001", func(phone string) (string, string) {
				id := customer(phone)
				return id, f.want(f.apiKey, "POST", "/v1/customers/"+id+"/identities",
					`{"channel":"sms","external_id":"`+phone+`"}`, 201, nil).id()
			}},
			"user API": {"+61400111002", func(phone string) (string, string) {
				id := f.want(f.instanceKey, "POST", "/external/users",
					`{"firstName":"Steve","lastName":"Example","phoneNumber":"`+phone+`"}`, 201, nil).id()
				return id, f.want(f.apiKey, "GET",
					"/v1/customers/lookup/identity?channel=sms&instance_id="+f.instance+"&external_id=%2B"+phone[1:], "", 200,
					nil).body["identity_id"].(string)
			}},
			"contact API": {"+61400111003", func(phone string) (string, string) {
				id := customer(phone)
				return id, f.want(f.apiKey, "POST", "/global/contactIdentities",
					`{"contactIdentityType":"sms","value":"`+phone+`","contactId":"`+id+`"}`, 201, nil).id()
			}},
		} {
			t.Run(name, func(t *testing.T) {
				f := &apiFixture{
					Store: f.Store, t: t, url: f.url, tenant: f.tenant, instance: f.instance,
					instanceKey: f.instanceKey, apiKey: f.apiKey,
				}
				customer, id := c.make(c.phone)
				query := "phoneNumber=%2B" + c.phone[1:]
				f.want(f.apiKey, "GET", "/v1/customers/"+customer, "", 200,
					map[string]any{"phone_number": c.phone, "first_name": "Steve"})
				f.want(f.apiKey, "GET", "/v1/customers/"+customer+"/identities/"+id, "", 200,
					map[string]any{"external_id": c.phone, "channel": "sms", "verified": false})
				f.want(f.instanceKey, "GET", "/external/users/"+customer, "", 200,
					map[string]any{"phoneNumber": c.phone, "firstName": "Steve", "isAnonymized": false})
				got := f.want(f.instanceKey, "GET", "/external/users/search?"+query, "", 200,
					map[string]any{"conversationIds": []any{}})
				if user, _ := got.body["user"].(map[string]any); user["id"] != customer {
					t.Errorf("search returned %s, want user %s", got.text, customer)
				}
				f.want(f.apiKey, "GET", "/v4/global/contactIdentities/"+id, "", 200,
					map[string]any{"contactId": customer, "contactIdentityType": "SMS", "value": c.phone})
				if !strings.Contains(f.do(f.apiKey, "GET", "/global/contactIdentities", "").text, id) {
					t.Error("not in the list of contact identities")
				}
				f.want(f.instanceKey, "DELETE", "/external/users/"+customer, "", 204, nil)
				for _, path := range []string{
					"/v1/customers/" + customer, "/v1/customers/" + customer + "/identities/" + id,
					"/global/contactIdentities/" + id,
				} {
					f.want(f.apiKey, "GET", path, "", 404, nil)
				}
			})
		}
	})
}

// TestSurfaces_TenantIsolation requests resources of another tenant and compares the responses, byte
// for byte, with those for IDs that do not exist.
func TestSurfaces_TenantIsolation(t *testing.T) {
	runAPITest(t, func(t *testing.T, f *apiFixture) {
		user := f.want(f.foreignInstanceKey, "POST", "/external/users",
			`{"firstName":"Steve","lastName":"Example","email":"steve@example.com","phoneNumber":"+61400111222","fkId":"7"}`,
			201, nil).id()
		list := f.want(f.foreignAPIKey, "GET", "/global/contactIdentities", "", 200, map[string]any{"total": 1})
		contact := list.body["contactIdentities"].([]any)[0].(map[string]any)["id"].(string)
		replacement := `{"contactIdentityType":"sms","value":"+61400111333"}`
		for _, c := range []struct{ secret, method, path, id, body string }{
			{f.instanceKey, "GET", "/external/users/", user, ""},
			{f.instanceKey, "DELETE", "/external/users/", user, ""},
			{f.instanceKey, "GET", "/external/users/search?email=", "steve@example.com", ""},
			{f.instanceKey, "GET", "/external/users/search?phoneNumber=", "%2B61400111222", ""},
			{f.instanceKey, "GET", "/external/users/search?fkId=", "7", ""},
			{f.apiKey, "GET", "/global/contactIdentities/", contact, ""},
			{f.apiKey, "DELETE", "/global/contactIdentities/", contact, ""},
			{f.apiKey, "PUT", "/global/contactIdentities/", contact, replacement},
		} {
			foreign, unknown := f.do(c.secret, c.method, c.path+c.id, c.body), f.do(c.secret, c.method, c.path+newID(), c.body)
			if strings.Contains(c.path, "phone") {
				unknown = f.do(c.secret, c.method, c.path+"%2B61400999999", c.body)
			}
			if foreign.status != 404 || foreign.text != unknown.text {
				t.Errorf("%s %s: %d %s, want the response for an unknown ID: %s", c.method, c.path, foreign.status, foreign.text,
					unknown.text)
			}
		}
		f.want(f.apiKey, "GET", "/global/contactIdentities", "", 200, map[string]any{"total": 0})
		f.want(f.apiKey, "POST", "/global/contactIdentities",
			`{"contactIdentityType":"email","value":"a@example.com","contactId":"`+user+`"}`, 404,
			map[string]any{"message": "Contact not found"})
		// Values that are used in the other tenant are free in this one.
		f.want(f.instanceKey, "POST", "/external/users",
			`{"firstName":"Steve","lastName":"Example","email":"steve@example.com","phoneNumber":"+61400111222","fkId":"7"}`,
			201, nil)
	})
}
