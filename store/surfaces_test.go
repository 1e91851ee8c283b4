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

// A apiFixture is the HTTP API over a store, with two tenants: ours has two instances.
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
	w := &apiFixture{Store: s, t: t, tenant: newTenant(t, s), other: newTenant(t, s)}
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
	w.url = server.URL
	instance := func(tenant string) (id, key string) {
		key = identity.NewToken("ask_")
		i, err := s.CreateInstance(t.Context(), gateway.Instance{TenantID: tenant, Name: "bot"},
			gateway.InstanceSecrets{AgentSecretKey: key}, identity.System)
		if err != nil {
			t.Fatal(err)
		}
		return i.ID, key
	}
	w.instance, w.instanceKey = instance(w.tenant)
	w.otherInstance, w.otherInstanceKey = instance(w.tenant)
	w.foreignInstance, w.foreignInstanceKey = instance(w.other)
	w.apiKey, w.foreignAPIKey = w.newKey(w.tenant, ""), w.newKey(w.other, "")
	return w
}

func (w *apiFixture) newKey(tenant, instance string, scopes ...string) string {
	w.t.Helper()
	if scopes == nil {
		scopes = identity.Scopes
	}
	token := identity.NewToken("hg_live_")
	_, err := w.CreateAPIKey(w.t.Context(), identity.APIKey{TenantID: tenant, InstanceID: instance, Name: "k",
		Scopes: scopes}, identity.HashToken(token), identity.System)
	if err != nil {
		w.t.Fatal(err)
	}
	return token
}

// A apiResponse is an answer.
type apiResponse struct {
	status int
	text   string
	body   map[string]any
	header http.Header
}

// do calls with a secret: an agent's key for the conversation users, else an API key;
// and with a header more, when one is named.
func (w *apiFixture) do(secret, method, path, body string, header ...string) apiResponse {
	w.t.Helper()
	r, err := http.NewRequest(method, w.url+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
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
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	raw, err := io.ReadAll(answer.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	got := apiResponse{status: answer.StatusCode, text: string(raw), header: answer.Header}
	if len(raw) > 0 {
		_ = json.Unmarshal(raw, &got.body)
	}
	return got
}

// want is ask for an answer with a status, and with fields that are as given.
func (w *apiFixture) want(secret, method, path, body string, status int, fields map[string]any) apiResponse {
	w.t.Helper()
	got := w.do(secret, method, path, body)
	if got.status != status {
		w.t.Errorf("%s %s %s: %d %s; want %d", method, path, body, got.status, got.text, status)
	}
	for name, v := range fields {
		if fmt.Sprint(got.body[name]) != fmt.Sprint(v) {
			w.t.Errorf("%s %s %s: %s is %v; want %v in %s", method, path, body, name, got.body[name], v, got.text)
		}
	}
	return got
}

func (s apiResponse) id() string { id, _ := s.body["id"].(string); return id }

func (w *apiFixture) eventKinds(tenant string) (kinds []string) {
	for _, e := range auditLog(w.t, w.Store, tenant) {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

func runAPITest(t *testing.T, test func(t *testing.T, w *apiFixture)) {
	forEachEngine(t, func(t *testing.T, open func(*testing.T) *Store) { test(t, newAPIFixture(t, open(t))) })
}

// TestSurfaces_Consistent makes people by each surface and looks at them by all.
func TestSurfaces_Consistent(t *testing.T) {
	runAPITest(t, func(t *testing.T, w *apiFixture) {
		customer := func(phone string) string {
			return w.want(w.apiKey, "POST", "/v1/customers",
				`{"first_name":"Steve","last_name":"Example","phone_number":"`+phone+`"}`, 201, nil).id()
		}
		for name, c := range map[string]struct {
			phone string
			make  func(phone string) (customer, identity string)
		}{
			"native API": {"+61400111001", func(phone string) (string, string) {
				id := customer(phone)
				return id, w.want(w.apiKey, "POST", "/v1/customers/"+id+"/identities",
					`{"channel":"sms","external_id":"`+phone+`"}`, 201, nil).id()
			}},
			"user API": {"+61400111002", func(phone string) (string, string) {
				id := w.want(w.instanceKey, "POST", "/external/users",
					`{"firstName":"Steve","lastName":"Example","phoneNumber":"`+phone+`"}`, 201, nil).id()
				return id, w.want(w.apiKey, "GET",
					"/v1/customers/lookup/identity?channel=sms&instance_id="+w.instance+"&external_id=%2B"+phone[1:], "", 200,
					nil).body["identity_id"].(string)
			}},
			"contact API": {"+61400111003", func(phone string) (string, string) {
				id := customer(phone)
				return id, w.want(w.apiKey, "POST", "/global/contactIdentities",
					`{"contactIdentityType":"sms","value":"`+phone+`","contactId":"`+id+`"}`, 201, nil).id()
			}},
		} {
			t.Run(name, func(t *testing.T) {
				w := &apiFixture{Store: w.Store, t: t, url: w.url, tenant: w.tenant, instance: w.instance,
					instanceKey: w.instanceKey, apiKey: w.apiKey}
				customer, id := c.make(c.phone)
				query := "phoneNumber=%2B" + c.phone[1:]
				w.want(w.apiKey, "GET", "/v1/customers/"+customer, "", 200,
					map[string]any{"phone_number": c.phone, "first_name": "Steve"})
				w.want(w.apiKey, "GET", "/v1/customers/"+customer+"/identities/"+id, "", 200,
					map[string]any{"external_id": c.phone, "channel": "sms", "verified": false})
				w.want(w.instanceKey, "GET", "/external/users/"+customer, "", 200,
					map[string]any{"phoneNumber": c.phone, "firstName": "Steve", "isAnonymized": false})
				got := w.want(w.instanceKey, "GET", "/external/users/search?"+query, "", 200,
					map[string]any{"conversationIds": []any{}})
				if user, _ := got.body["user"].(map[string]any); user["id"] != customer {
					t.Errorf("found %s; want %s", got.text, customer)
				}
				w.want(w.apiKey, "GET", "/v4/global/contactIdentities/"+id, "", 200,
					map[string]any{"contactId": customer, "contactIdentityType": "SMS", "value": c.phone})
				if !strings.Contains(w.do(w.apiKey, "GET", "/global/contactIdentities", "").text, id) {
					t.Error("not among the contact identities")
				}
				w.want(w.instanceKey, "DELETE", "/external/users/"+customer, "", 204, nil)
				for _, gone := range []string{"/v1/customers/" + customer, "/v1/customers/" + customer + "/identities/" + id,
					"/global/contactIdentities/" + id} {
					w.want(w.apiKey, "GET", gone, "", 404, nil)
				}
			})
		}
	})
}

// TestSurfaces_TenantIsolation asks each surface of one tenant for what is of another,
// and compares, byte for byte, with what is said of ids that do not exist.
func TestSurfaces_TenantIsolation(t *testing.T) {
	runAPITest(t, func(t *testing.T, w *apiFixture) {
		user := w.want(w.foreignInstanceKey, "POST", "/external/users",
			`{"firstName":"Steve","lastName":"Example","email":"steve@example.com","phoneNumber":"+61400111222","fkId":"7"}`,
			201, nil).id()
		list := w.want(w.foreignAPIKey, "GET", "/global/contactIdentities", "", 200, map[string]any{"total": 1})
		contact := list.body["contactIdentities"].([]any)[0].(map[string]any)["id"].(string)
		replacement := `{"contactIdentityType":"sms","value":"+61400111333"}`
		for _, c := range []struct{ secret, method, path, id, body string }{
			{w.instanceKey, "GET", "/external/users/", user, ""},
			{w.instanceKey, "DELETE", "/external/users/", user, ""},
			{w.instanceKey, "GET", "/external/users/search?email=", "steve@example.com", ""},
			{w.instanceKey, "GET", "/external/users/search?phoneNumber=", "%2B61400111222", ""},
			{w.instanceKey, "GET", "/external/users/search?fkId=", "7", ""},
			{w.apiKey, "GET", "/global/contactIdentities/", contact, ""},
			{w.apiKey, "DELETE", "/global/contactIdentities/", contact, ""},
			{w.apiKey, "PUT", "/global/contactIdentities/", contact, replacement},
		} {
			theirs, unknown := w.do(c.secret, c.method, c.path+c.id, c.body), w.do(c.secret, c.method, c.path+newID(), c.body)
			if strings.Contains(c.path, "phone") {
				unknown = w.do(c.secret, c.method, c.path+"%2B61400999999", c.body)
			}
			if theirs.status != 404 || theirs.text != unknown.text {
				t.Errorf("%s %s: %d %s; of nobody's: %s", c.method, c.path, theirs.status, theirs.text, unknown.text)
			}
		}
		w.want(w.apiKey, "GET", "/global/contactIdentities", "", 200, map[string]any{"total": 0})
		w.want(w.apiKey, "POST", "/global/contactIdentities",
			`{"contactIdentityType":"email","value":"a@example.com","contactId":"`+user+`"}`, 404,
			map[string]any{"message": "Contact not found"})
		// and what is taken there is free here
		w.want(w.instanceKey, "POST", "/external/users",
			`{"firstName":"Steve","lastName":"Example","email":"steve@example.com","phoneNumber":"+61400111222","fkId":"7"}`,
			201, nil)
	})
}
