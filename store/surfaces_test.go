package store

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pressly/goose/v3"

	"hydragate/gateway"
	"hydragate/httpapi"
	"hydragate/identity"
)

var (
	_ httpapi.Users    = (*Store)(nil)
	_ httpapi.Contacts = (*Store)(nil)
)

const publicURL = "https://gate.example.com"

// A town is the HTTP API over a store, with two tenants: ours has two instances.
type town struct {
	*Store
	t                       *testing.T
	url                     string
	tenant, other           string
	bot, otherBot, strange  string // instances
	agent, otherAgent, them string // their keys
	key, foreign            string // API keys of the tenants, with every scope
}

func newTown(t *testing.T, s *Store) *town {
	t.Helper()
	w := &town{Store: s, t: t, tenant: newTenant(t, s), other: newTenant(t, s)}
	api := &httpapi.API{Store: s, Users: s, Contacts: s, PublicURL: publicURL, Rate: 1e6, Burst: 1e6}
	server := httptest.NewServer(api.Handler())
	t.Cleanup(server.Close)
	w.url = server.URL
	instance := func(tenant string) (id, key string) {
		key = identity.NewToken("ask_")
		i, err := s.CreateInstance(t.Context(), gateway.Instance{TenantID: tenant, Name: "bot"}, gateway.InstanceSecrets{AgentSecretKey: key}, identity.System)
		if err != nil {
			t.Fatal(err)
		}
		return i.ID, key
	}
	w.bot, w.agent = instance(w.tenant)
	w.otherBot, w.otherAgent = instance(w.tenant)
	w.strange, w.them = instance(w.other)
	w.key, w.foreign = w.newKey(w.tenant, ""), w.newKey(w.other, "")
	return w
}

func (w *town) newKey(tenant, instance string, scopes ...string) string {
	w.t.Helper()
	if scopes == nil {
		scopes = identity.Scopes
	}
	token := identity.NewToken("hg_live_")
	_, err := w.CreateAPIKey(w.t.Context(), identity.APIKey{TenantID: tenant, InstanceID: instance, Name: "k", Scopes: scopes}, identity.HashToken(token), identity.System)
	if err != nil {
		w.t.Fatal(err)
	}
	return token
}

// A said is an answer.
type said struct {
	status int
	text   string
	body   map[string]any
	header http.Header
}

// ask calls with a secret: an agent's key for the conversation users, else an API key;
// and with a header more, when one is named.
func (w *town) ask(secret, method, path, body string, header ...string) said {
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
	got := said{status: answer.StatusCode, text: string(raw), header: answer.Header}
	if len(raw) > 0 {
		_ = json.Unmarshal(raw, &got.body)
	}
	return got
}

// want is ask for an answer with a status, and with fields that are as given.
func (w *town) want(secret, method, path, body string, status int, fields map[string]any) said {
	w.t.Helper()
	got := w.ask(secret, method, path, body)
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

func (s said) id() string { id, _ := s.body["id"].(string); return id }

func (w *town) kinds(tenant string) (kinds []string) {
	for _, e := range auditLog(w.t, w.Store, tenant) {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

func inTown(t *testing.T, test func(t *testing.T, w *town)) {
	engines(t, func(t *testing.T, open func(*testing.T) *Store) { test(t, newTown(t, open(t))) })
}

// TestSurfacesShowTheSame makes people by each surface and looks at them by all.
func TestSurfacesShowTheSame(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		customer := func(phone string) string {
			return w.want(w.key, "POST", "/v1/customers", `{"first_name":"Steve","last_name":"Example","phone_number":"`+phone+`"}`, 201, nil).id()
		}
		for name, c := range map[string]struct {
			phone string
			make  func(phone string) (customer, identity string)
		}{
			"Native": {"+61400111001", func(phone string) (string, string) {
				id := customer(phone)
				return id, w.want(w.key, "POST", "/v1/customers/"+id+"/identities", `{"channel":"sms","external_id":"`+phone+`"}`, 201, nil).id()
			}},
			"User": {"+61400111002", func(phone string) (string, string) {
				id := w.want(w.agent, "POST", "/external/users", `{"firstName":"Steve","lastName":"Example","phoneNumber":"`+phone+`"}`, 201, nil).id()
				return id, w.want(w.key, "GET", "/v1/customers/lookup/identity?channel=sms&instance_id="+w.bot+"&external_id=%2B"+phone[1:], "", 200, nil).body["identity_id"].(string)
			}},
			"Contact": {"+61400111003", func(phone string) (string, string) {
				id := customer(phone)
				return id, w.want(w.key, "POST", "/global/contactIdentities", `{"contactIdentityType":"sms","value":"`+phone+`","contactId":"`+id+`"}`, 201, nil).id()
			}},
		} {
			t.Run(name, func(t *testing.T) {
				w := &town{Store: w.Store, t: t, url: w.url, tenant: w.tenant, bot: w.bot, agent: w.agent, key: w.key}
				customer, id := c.make(c.phone)
				query := "phoneNumber=%2B" + c.phone[1:]
				w.want(w.key, "GET", "/v1/customers/"+customer, "", 200, map[string]any{"phone_number": c.phone, "first_name": "Steve"})
				w.want(w.key, "GET", "/v1/customers/"+customer+"/identities/"+id, "", 200, map[string]any{"external_id": c.phone, "channel": "sms", "verified": false})
				w.want(w.agent, "GET", "/external/users/"+customer, "", 200, map[string]any{"phoneNumber": c.phone, "firstName": "Steve", "isAnonymized": false})
				got := w.want(w.agent, "GET", "/external/users/search?"+query, "", 200, map[string]any{"conversationIds": []any{}})
				if user, _ := got.body["user"].(map[string]any); user["id"] != customer {
					t.Errorf("found %s; want %s", got.text, customer)
				}
				w.want(w.key, "GET", "/v4/global/contactIdentities/"+id, "", 200, map[string]any{"contactId": customer, "contactIdentityType": "SMS", "value": c.phone})
				if !strings.Contains(w.ask(w.key, "GET", "/global/contactIdentities", "").text, id) {
					t.Error("not among the contact identities")
				}
				w.want(w.agent, "DELETE", "/external/users/"+customer, "", 204, nil)
				for _, gone := range []string{"/v1/customers/" + customer, "/v1/customers/" + customer + "/identities/" + id, "/global/contactIdentities/" + id} {
					w.want(w.key, "GET", gone, "", 404, nil)
				}
			})
		}
	})
}

// TestSurfacesKeepTenantsApart asks each surface of one tenant for what is of another,
// and compares, byte for byte, with what is said of ids that do not exist.
func TestSurfacesKeepTenantsApart(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		user := w.want(w.them, "POST", "/external/users", `{"firstName":"Steve","lastName":"Example","email":"steve@example.com","phoneNumber":"+61400111222","fkId":"7"}`, 201, nil).id()
		list := w.want(w.foreign, "GET", "/global/contactIdentities", "", 200, map[string]any{"total": 1})
		contact := list.body["contactIdentities"].([]any)[0].(map[string]any)["id"].(string)
		replacement := `{"contactIdentityType":"sms","value":"+61400111333"}`
		for _, c := range []struct{ secret, method, path, id, body string }{
			{w.agent, "GET", "/external/users/", user, ""},
			{w.agent, "DELETE", "/external/users/", user, ""},
			{w.agent, "GET", "/external/users/search?email=", "steve@example.com", ""},
			{w.agent, "GET", "/external/users/search?phoneNumber=", "%2B61400111222", ""},
			{w.agent, "GET", "/external/users/search?fkId=", "7", ""},
			{w.key, "GET", "/global/contactIdentities/", contact, ""},
			{w.key, "DELETE", "/global/contactIdentities/", contact, ""},
			{w.key, "PUT", "/global/contactIdentities/", contact, replacement},
		} {
			theirs, unknown := w.ask(c.secret, c.method, c.path+c.id, c.body), w.ask(c.secret, c.method, c.path+newID(), c.body)
			if strings.Contains(c.path, "phone") {
				unknown = w.ask(c.secret, c.method, c.path+"%2B61400999999", c.body)
			}
			if theirs.status != 404 || theirs.text != unknown.text {
				t.Errorf("%s %s: %d %s; of nobody's: %s", c.method, c.path, theirs.status, theirs.text, unknown.text)
			}
		}
		w.want(w.key, "GET", "/global/contactIdentities", "", 200, map[string]any{"total": 0})
		w.want(w.key, "POST", "/global/contactIdentities", `{"contactIdentityType":"email","value":"a@example.com","contactId":"`+user+`"}`, 404, map[string]any{"message": "Contact not found"})
		// and what is taken there is free here
		w.want(w.agent, "POST", "/external/users", `{"firstName":"Steve","lastName":"Example","email":"steve@example.com","phoneNumber":"+61400111222","fkId":"7"}`, 201, nil)
	})
}

// TestSurfacesMigrationKeepsIdentities brings a database with a person and a
// conversation in it up to date: SQLite makes the table of identities anew.
func TestSurfacesMigrationKeepsIdentities(t *testing.T) {
	for name, dsn := range map[string]func(*testing.T) string{
		"sqlite":   func(t *testing.T) string { return filepath.Join(t.TempDir(), "hydragate.db") },
		"postgres": freshPostgres,
	} {
		t.Run(name, func(t *testing.T) {
			url := dsn(t)
			err := withProvider(t.Context(), url, func(p *goose.Provider) error {
				_, err := p.UpTo(t.Context(), 1)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			ids := oldRows(t, url)
			s := mustOpen(t, url)
			c, err := s.ContactIdentity(t.Context(), identity.DefaultTenant, ids["identity"])
			if err != nil || c.CustomerID != ids["customer"] || c.InstanceID != ids["instance"] || !c.IsVerified() || c.RoleOverride != "owner" || c.AvatarURL != "" {
				t.Errorf("%+v, %v", c, err)
			}
			if with := queryText(t, s, `select identity_id from conversations where id = $1`, ids["conversation"]); with != ids["identity"] {
				t.Errorf("the conversation is with %q", with)
			}
			if _, err := s.db.Exec(t.Context(), `delete from identities where id = $1`, ids["identity"]); !s.d.orphan(err) {
				t.Errorf("%v; want a foreign key that holds", err)
			}
			if err := s.DeleteInstance(t.Context(), identity.DefaultTenant, ids["instance"], identity.System); err != nil {
				t.Error(err)
			}
			if _, err := s.ContactIdentity(t.Context(), identity.DefaultTenant, ids["identity"]); err == nil {
				t.Error("the identity outlived its instance")
			}
		})
	}
}

// oldRows fills a database of version 1 and gives the ids.
func oldRows(t *testing.T, url string) map[string]string {
	t.Helper()
	var d db
	var err error
	if IsPostgres(url) {
		d, err = openPostgres(t.Context(), url, 2)
	} else {
		d, err = openSQLite(t.Context(), url)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	ids := map[string]string{"instance": newID(), "customer": newID(), "identity": newID(), "conversation": newID()}
	const tenant = identity.DefaultTenant
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	err = d.Batch(t.Context(), []stmt{
		{query: `insert into instances (id, tenant_id, name, agent_secret_hash, webhook_secret, created_at, updated_at) values ($1, $2, 'bot', 'x', 'x', $3, $3)`,
			args: []any{ids["instance"], tenant, at}},
		{query: `insert into customers (id, tenant_id, created_at, updated_at) values ($1, $2, $3, $3)`, args: []any{ids["customer"], tenant, at}},
		{query: `
			insert into identities (id, tenant_id, instance_id, customer_id, channel, external_id, role_override, verified_at, created_at, updated_at)
			values ($1, $2, $3, $4, 'telegram', '12345', 'owner', $5, $5, $5)`, args: []any{ids["identity"], tenant, ids["instance"], ids["customer"], at}},
		{query: `
			insert into conversations (id, tenant_id, instance_id, channel, place_id, is_group, identity_id, created_at)
			values ($1, $2, $3, 'telegram', '12345', false, $4, $5)`, args: []any{ids["conversation"], tenant, ids["instance"], ids["identity"], at}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}
