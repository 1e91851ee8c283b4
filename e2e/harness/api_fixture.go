//go:build unix

package harness

import (
	"cmp"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"hydragate/claim"
	"hydragate/cmd/hydragate/app"
	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store"
	"hydragate/store/keyring"
)

// OtherTenantID is another tenant of the same gateway.
const OtherTenantID = "00000000-0000-7000-8000-00000000beef"

// An APIFixture is the API of a gateway with two tenants, without workers and request limits. Requests
// are derived from the OpenAPI document, so that tests cover new operations.
type APIFixture struct {
	T       *testing.T
	API     *Client
	gateway *app.Gateway
	Store   *store.Store
	*DB
	AdminKey   string
	MasterKeys string
	Operations []*APIOperation

	Providers app.Settings // URLs of the fake providers
	serial    atomic.Int64
}

// ForEachAPIEngine runs test on each engine.
func ForEachAPIEngine(t *testing.T, test func(t *testing.T, h *APIFixture)) {
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			test(t, NewAPIFixture(t, engine, DiscardLogger()))
		})
	}
}

// NewAPIFixture starts the API on an engine, "sqlite" or "postgres".
func NewAPIFixture(t *testing.T, engine string, log *slog.Logger) *APIFixture {
	t.Helper()
	h := &APIFixture{T: t, AdminKey: identity.NewToken("hg_live_")}
	providers := StartProviders(t.Cleanup, 0)
	providers.AddAccounts()
	h.Providers = providers.Settings()
	s := h.newSettings(t, engine)
	dsn := cmp.Or(s.DatabaseURL, filepath.Join(s.DataDir, "hydragate.db"))
	var url string
	h.gateway, url = h.StartReplica(t, s, log)
	h.API = NewClient(url, h.AdminKey, EventTimeout)
	t.Cleanup(h.API.HTTP.CloseIdleConnections)
	h.Store, h.DB = h.gateway.Store, OpenDatabase(t, dsn)
	if _, err := h.gateway.EnsureAdminKey(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	h.Exec(`insert into tenants (id, name) values ($1, 'other')`, OtherTenantID)
	h.Operations = ReadOperations(t, url)
	return h
}

// newSettings returns the settings of a gateway on an engine.
func (h *APIFixture) newSettings(t *testing.T, engine string) *app.Settings {
	s := h.Providers
	s.DataDir, s.AdminKey, s.AgentAllowPrivate = t.TempDir(), h.AdminKey, "true"
	if engine == "postgres" {
		h.MasterKeys = keyring.GenerateKey("k1")
		s.DatabaseURL, s.RedisURL, s.MasterKeys = CreateDatabase(t, TestPostgresURL(t)), TestRedisURL(t), h.MasterKeys
	}
	return &s
}

// StartReplica serves the API of another gateway without request limits. It returns its URL.
func (h *APIFixture) StartReplica(t *testing.T, s *app.Settings, log *slog.Logger) (*app.Gateway, string) {
	t.Helper()
	p, err := app.New(t.Context(), s, "https://gate.example.com", log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	p.API.Limiter.Rate, p.API.Limiter.Burst = 1e9, 1e9
	server := httptest.NewServer(p.Handler())
	t.Cleanup(server.Close)
	return p, server.URL
}

// Entities are one of each kind of entity that a path can name, all of one tenant.
type Entities struct {
	TenantID, InstanceID, AgentKey                    string
	CustomerID, SecondCustomerID, mergedCustomerID    string
	IdentityID, tenantWideIdentityID, UnknownSenderID string // of the instance; of all instances; without a customer
	externalID                                        string // of IdentityID
	APIKeyID                                          string // has only the scope keys:write
	inviteID                                          string // of the customer to the instance
}

// CreateEntities creates new entities of a tenant.
func (h *APIFixture) CreateEntities(tenant string) Entities {
	h.T.Helper()
	ctx, th := h.T.Context(), Entities{TenantID: tenant, AgentKey: identity.NewToken("ask_")}
	i, err := h.Store.CreateInstance(
		ctx,
		gateway.Instance{TenantID: tenant, Name: "Support"},
		gateway.InstanceSecrets{AgentSecretKey: th.AgentKey, WebhookSecret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"},
		identity.System,
	)
	h.Must(err)
	th.InstanceID = i.ID
	customer := func() string {
		c, err := h.Store.CreateCustomer(
			ctx,
			identity.Customer{TenantID: tenant, Email: h.UniqueDigits() + "@example.com", FirstName: "Steve"},
			identity.System,
		)
		h.Must(err)
		return c.ID
	}
	th.CustomerID, th.SecondCustomerID, th.mergedCustomerID = customer(), customer(), customer()
	_, err = h.Store.MergeCustomer(
		ctx,
		identity.MergeRequest{
			TenantID:   tenant,
			CustomerID: th.mergedCustomerID,
			TargetID:   th.SecondCustomerID,
			MayGrant:   true,
		},
		identity.System,
	)
	h.Must(err)
	link := func(instance, external string) string {
		i, err := h.Store.Link(
			ctx,
			identity.Identity{
				TenantID:   tenant,
				CustomerID: th.CustomerID,
				InstanceID: instance,
				Channel:    "telegram",
				ExternalID: external,
			},
			identity.System,
		)
		h.Must(err)
		return i.ID
	}
	th.externalID = h.UniqueDigits()
	th.IdentityID, th.tenantWideIdentityID = link(th.InstanceID, th.externalID), link("", h.UniqueDigits())
	c, err := h.Store.CreateContactIdentity(
		ctx,
		identity.ContactIdentity{
			Identity: identity.Identity{
				TenantID:   tenant,
				InstanceID: th.InstanceID,
				Channel:    "telegram",
				ExternalID: h.UniqueDigits(),
			},
		},
		identity.System,
	)
	h.Must(err)
	th.UnknownSenderID = c.ID
	invite, _, err := (&claim.Service{Store: h.Store}).IssueInvite(
		ctx,
		claim.Invite{TenantID: tenant, CustomerID: th.CustomerID, InstanceID: th.InstanceID, Channel: "telegram"},
		identity.Actor("key:"+h.UniqueDigits()),
	)
	h.Must(err)
	th.inviteID = invite.ID
	th.APIKeyID = h.CreateKey(
		identity.APIKey{TenantID: tenant, Name: "spare", Scopes: []string{"keys:write"}, InstanceID: th.InstanceID},
	).ID
	return th
}

// An IssuedKey is an API key with its token.
type IssuedKey struct {
	identity.APIKey
	Token string
}

// CreateKey creates an API key.
func (h *APIFixture) CreateKey(k identity.APIKey) IssuedKey {
	h.T.Helper()
	token := identity.NewToken("hg_live_")
	if k.Name == "" {
		k.Name = "test"
	}
	created, err := h.Store.CreateAPIKey(h.T.Context(), k, identity.HashToken(token), identity.System)
	h.Must(err)
	return IssuedKey{created, token}
}

// UniqueDigits returns a new number.
func (h *APIFixture) UniqueDigits() string { return fmt.Sprint(100_000 + h.serial.Add(1)) }

// Must fails the test if err is not nil.
func (h *APIFixture) Must(err error) {
	h.T.Helper()
	if err != nil {
		h.T.Fatal(err)
	}
}

// Send sends a request.
func (h *APIFixture) Send(c APIRequest) Response {
	h.T.Helper()
	return h.SendTo(h.API.URL, c)
}

// SendTo sends a request to another gateway.
func (h *APIFixture) SendTo(base string, c APIRequest) Response {
	h.T.Helper()
	to := Client{URL: base, HTTP: h.API.HTTP}
	res, err := to.Do(h.T.Context(), c.Method, c.Path, c.Header, c.Body)
	h.Must(err)
	return res
}

// AuthHeader returns the headers that authorize an operation: the agent key for the external surface, or
// an API key.
func (op *APIOperation) AuthHeader(token string, th Entities) http.Header {
	if op.Surface == "external" {
		return http.Header{"Agent-Secret-Key": {th.AgentKey}}
	}
	return BearerHeader(token)
}

// ValidRequest returns a request of op with the entities that should succeed.
func (h *APIFixture) ValidRequest(op *APIOperation, th Entities) APIRequest {
	h.T.Helper()
	if channel, needs := op.RequiredChannel(); needs {
		if a := h.Send(h.ValidRequest(h.operation("set_up_"+channel), th)); a.Status != 200 {
			h.T.Fatalf("set up %s: %d %s", channel, a.Status, a.Body)
		}
	}
	return APIRequest{
		Method: op.Method,
		Path:   h.PathOf(op, op.PathIDs(h.T, th)) + h.queryFor(op, th),
		Body:   h.exampleBody(op, th),
		Header: op.AuthHeader(h.AdminKey, th),
	}
}

// RequiredChannel returns the channel that must be set up before op.
func (op *APIOperation) RequiredChannel() (name string, needs bool) {
	if op.ID == "issue_invite" {
		return "telegram", true
	}
	return strings.CutPrefix(op.ID, "remove_")
}

// operation returns the operation with an ID.
func (h *APIFixture) operation(id string) *APIOperation {
	h.T.Helper()
	at := slices.IndexFunc(h.Operations, func(op *APIOperation) bool { return op.ID == id })
	if at < 0 {
		h.T.Fatalf("unknown operation %s", id)
	}
	return h.Operations[at]
}

// A preparedOperation is an operation with its own entities and a valid request.
type preparedOperation struct {
	Operation *APIOperation
	Entities  Entities
	Request   APIRequest
}

// PrepareAll prepares the operations that include selects, so that the database does not change later.
func (h *APIFixture) PrepareAll(include func(*APIOperation) bool) (all []preparedOperation) {
	h.T.Helper()
	for _, op := range h.Operations {
		if include(op) {
			entities := h.CreateEntities(TestTenantID)
			all = append(all, preparedOperation{op, entities, h.ValidRequest(op, entities)})
		}
	}
	return all
}

// AnyOperation returns true.
func AnyOperation(*APIOperation) bool { return true }

// RequireUnchanged fails the test if the rows of the database have changed.
func (h *APIFixture) RequireUnchanged(before []string) {
	h.T.Helper()
	if row := DiffRows(before, h.AllRows("")); row != "" {
		h.T.Errorf("all requests were rejected, but there is a row %s", row)
	}
}

// SendAll sends the valid requests, which must succeed.
func (h *APIFixture) SendAll(all []preparedOperation) {
	h.T.Helper()
	for _, s := range all {
		if a := h.Send(s.Request); a.Status != s.Operation.Status {
			h.T.Errorf("valid request of %s = %d %s", s.Operation.ID, a.Status, a.Body)
		}
	}
}

// RawQuery returns the query with the question mark, or "".
func (c APIRequest) RawQuery() string {
	if _, q, ok := strings.Cut(c.Path, "?"); ok {
		return "?" + q
	}
	return ""
}

// PathOf returns the path of an operation with the IDs.
func (h *APIFixture) PathOf(op *APIOperation, ids map[string]string) string {
	h.T.Helper()
	path := op.Path
	for name, id := range ids {
		path = strings.ReplaceAll(path, "{"+name+"}", id)
	}
	if strings.Contains(path, "{") {
		h.T.Fatalf("%s: unknown path parameter", op.ID)
	}
	return path
}

// PathIDs returns the values of path parameters.
func (op *APIOperation) PathIDs(t *testing.T, th Entities) map[string]string {
	t.Helper()
	ids := map[string]string{
		"customer_id": th.CustomerID,
		"identity_id": th.IdentityID,
		"instance_id": th.InstanceID,
		"key_id":      th.APIKeyID,
		"invite_id":   th.inviteID,
	}
	switch op.ID {
	case "adopt_identity", "block_sender", "unblock_sender":
		ids["identity_id"] = th.UnknownSenderID
	case "undo_merge":
		ids["customer_id"] = th.mergedCustomerID
	}
	switch op.Surface {
	case "external":
		ids["id"] = th.CustomerID
	case "global":
		ids["id"] = th.IdentityID
	}
	return ids
}

// queryFor returns the required query parameters.
func (h *APIFixture) queryFor(op *APIOperation, th Entities) string {
	h.T.Helper()
	if op.ID == "external_search_user" {
		return "?fkId=" + h.setExternalKey(th)
	}
	var parts []string
	for _, p := range op.Params {
		if p.In != "query" || !p.Required {
			continue
		}
		value, known := map[string]string{"channel": "telegram", "external_id": th.externalID, "customer": "none"}[p.Name]
		if !known {
			h.T.Fatalf("%s: unknown query parameter %s", op.ID, p.Name)
		}
		parts = append(parts, p.Name+"="+value)
	}
	if op.ID == "lookup_identity" {
		parts = append(parts, "instance_id="+th.InstanceID)
	}
	if len(parts) == 0 {
		return ""
	}
	return "?" + strings.Join(parts, "&")
}

// setExternalKey sets a new external key of the customer and returns it.
func (h *APIFixture) setExternalKey(th Entities) string {
	fk := h.UniqueDigits()
	h.Exec(`update customers set fk_id = $1 where id = $2`, fk, th.CustomerID)
	return fk
}

// exampleBody returns the example of the document, with values that are unique or exist.
func (h *APIFixture) exampleBody(op *APIOperation, th Entities) string {
	h.T.Helper()
	if op.Body == nil {
		return ""
	}
	fields := map[string]any{}
	if err := json.Unmarshal(op.example, &fields); err != nil {
		h.T.Fatalf("%s: example of the body: %v", op.ID, err)
	}
	for name, value := range op.exampleValues(h, th) {
		if _, given := fields[name]; given {
			fields[name] = value
		}
	}
	b, err := json.Marshal(fields)
	h.Must(err)
	return string(b)
}

// exampleValues returns values for fields that must be unique or exist.
func (op *APIOperation) exampleValues(h *APIFixture, th Entities) map[string]any {
	n := h.UniqueDigits()
	switch op.ID {
	case "set_up_sms", "set_up_whatsapp":
		return map[string]any{"account_sid": TwilioAccount, "auth_token": TwilioToken, "phone_number": SMSBotNumber}
	case "set_up_telegram":
		return map[string]any{"bot_token": TelegramToken}
	case "set_up_slack":
		return map[string]any{"bot_token": SlackToken, "signing_secret": SlackSecret}
	}
	return map[string]any{
		"email": n + "@example.com", "external_id": n, "value": n, "fkId": n, "phone_number": "+61400" + n, "phoneNumber": "+61400" + n, "into": th.SecondCustomerID,
		"scopes": []string{"keys:write"}, "instance_id": th.InstanceID,
	}
}

// IsType reports whether the schema has a type, possibly with null.
func (s *APISchema) IsType(kind string) bool {
	kinds, several := s.Type.([]any)
	return s.Type == kind || several && slices.Contains(kinds, any(kind))
}

// CheckRejection returns an error unless a is an error response with one of the statuses, in the format
// of the surface.
func (op *APIOperation) CheckRejection(a Response, statuses ...int) error {
	if op.Surface != "native" {
		for i, s := range statuses {
			if s == 422 {
				statuses[i] = 400
			}
		}
	}
	if !slices.Contains(statuses, a.Status) {
		return fmt.Errorf("%d %s; want %v", a.Status, a.Body, statuses)
	}
	var fields map[string]any
	if err := json.Unmarshal([]byte(a.Body), &fields); err != nil {
		return fmt.Errorf("%d %q is not JSON", a.Status, a.Body)
	}
	want := map[string][]string{"native": {"detail"}, "global": {"errorCode", "message"}, "external": {"details", "message", "name", "status"}}[op.Surface]
	if a.Status == 500 && op.Surface == "external" {
		want = []string{"message", "status"}
	}
	if got := SortedKeys(fields); !slices.Equal(got, want) {
		return fmt.Errorf("%d %s has the fields %v; want %v", a.Status, a.Body, got, want)
	}
	_, listed := fields["detail"].([]any)
	if op.Surface == "native" && listed != (a.Status == 422) {
		return fmt.Errorf("%d %s", a.Status, a.Body)
	}
	return nil
}

// RowCount returns the number of rows of a table.
func (h *APIFixture) RowCount(table string) int {
	h.T.Helper()
	return h.QueryInt(`select count(*) from ` + table)
}

// RandomID returns a new UUID.
func RandomID() string { return uuid.Must(uuid.NewV7()).String() }

// SkippedInShortRun reports whether the nth of many similar requests is left out on SQLite in a short
// run, because SQLite is slow with the race detector.
func (h *APIFixture) SkippedInShortRun(n int) bool {
	return !FullRun() && !h.IsPostgres() && n%8 != 0
}

// DiscardLogger returns a logger that discards everything.
func DiscardLogger() *slog.Logger { return slog.New(slog.DiscardHandler) }

// DecodeObject decodes a JSON object.
func (h *APIFixture) DecodeObject(body string) (fields map[string]any) {
	h.T.Helper()
	h.Must(json.Unmarshal([]byte(body), &fields))
	return fields
}

// EncodeJSON encodes v.
func (h *APIFixture) EncodeJSON(v any) string {
	h.T.Helper()
	b, err := json.Marshal(v)
	h.Must(err)
	return string(b)
}

// CreateScopedKey creates an API key of the default tenant.
func (h *APIFixture) CreateScopedKey(scopes ...string) IssuedKey {
	return h.CreateKey(identity.APIKey{TenantID: TestTenantID, Scopes: scopes})
}

// CallAs sends a request with an API key.
func (h *APIFixture) CallAs(token, method, path, body string) Response {
	h.T.Helper()
	return h.Send(APIRequest{Method: method, Path: path, Body: body, Header: BearerHeader(token)})
}
