//go:build unix

package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"hydragate/adapters/simulator"
	"hydragate/claim"
	"hydragate/gateway"
	"hydragate/httpapi"
	"hydragate/identity"
	"hydragate/store"
)

// strangeTenant is another organisation on the same gateway.
const strangeTenant = "00000000-0000-7000-8000-00000000beef"

// An apiHouse is the whole program behind its HTTP, with a database of its own, pretend
// providers, two tenants, and a hand on the database itself. What it is asked is made
// from the document that the program gives of itself, so that nobody has to remember a
// new route here.
type apiHouse struct {
	t          *testing.T
	base       string
	parts      *parts
	store      *store.Store
	url        string // of the database
	sql        *sql.DB
	admin      string
	masterKeys string
	ops        []*apiOp

	providers settings // where they are
	serial    atomic.Int64
	client    *http.Client
}

// inHouses runs test in a house on each engine.
func inHouses(t *testing.T, test func(t *testing.T, h *apiHouse)) {
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			test(t, newAPIHouse(t, engine, quiet()))
		})
	}
}

func newAPIHouse(t *testing.T, engine string, log *slog.Logger) *apiHouse {
	t.Helper()
	h := &apiHouse{t: t, admin: identity.NewToken("hg_live_"), client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
	t.Cleanup(h.client.CloseIdleConnections)
	h.providers = pretendProviders(t)
	s := h.settings(t, engine)
	if h.url = s.DatabaseURL; h.url == "" {
		h.url = s.DataDir + "/hydragate.db"
	}
	h.parts, h.base = h.replica(t, s, log)
	h.store, h.sql = h.parts.store, openDatabase(t, h.url)
	if _, err := h.parts.ensureAdmin(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	h.exec(`insert into tenants (id, name) values ($1, 'strange')`, strangeTenant)
	h.ops = readDocument(t, h.base)
	return h
}

// settings are those of a gateway on the engine.
func (h *apiHouse) settings(t *testing.T, engine string) *settings {
	s := h.providers
	s.DataDir, s.AdminKey, s.AgentAllowPrivate = t.TempDir(), h.admin, "true"
	if engine == "postgres" {
		h.masterKeys = store.NewMasterKey("k1")
		s.DatabaseURL, s.RedisURL, s.MasterKeys = freshDatabase(t, testPostgres(t)), testRedis(t), h.masterKeys
	}
	return &s
}

// replica builds the program and serves what it answers, without a limit on calls.
func (h *apiHouse) replica(t *testing.T, s *settings, log *slog.Logger) (*parts, string) {
	t.Helper()
	p, err := build(t.Context(), s, "https://gate.example.com", log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.closeAll)
	p.api.Rate, p.api.Burst = 1e9, 1e9
	server := httptest.NewServer(p.handler())
	t.Cleanup(server.Close)
	return p, server.URL
}

// pretendProviders serves Telegram, Twilio and Slack, who know the account that each
// set-up of this house names.
func pretendProviders(t *testing.T) settings {
	telegram, twilio, slack := simulator.NewTelegram(), simulator.NewTwilio(), simulator.NewSlack()
	serve := func(h http.Handler) string {
		s := httptest.NewServer(h)
		t.Cleanup(func() {
			s.CloseClientConnections()
			s.Close()
		})
		return s.URL
	}
	telegram.AddBot(telegramToken, telegramBot)
	twilio.AddAccount(twilioAccount, twilioToken)
	twilio.AddNumber(twilioAccount, phoneBot)
	slack.SetURL(serve(slack))
	slack.AddApp(new(world).slackApp("", ""))
	t.Cleanup(telegram.Close)
	t.Cleanup(twilio.Close)
	return settings{TelegramAPIURL: serve(telegram), TwilioAPIURL: serve(twilio), SlackAPIURL: slack.APIURL()}
}

// things are one of everything that a route can be about, all of one tenant.
type things struct {
	tenant, instance, agentKey string
	customer, second, merged   string
	identity, wide, sender     string // of the instance; of all instances; of nobody
	external                   string // id of identity on its channel
	key                        string // an API key that holds keys:write alone
	invite                     string // of customer to the instance
}

// furnish makes things, which no other call has seen.
func (h *apiHouse) furnish(tenant string) things {
	h.t.Helper()
	ctx, th := h.t.Context(), things{tenant: tenant, agentKey: identity.NewToken("ask_")}
	i, err := h.store.CreateInstance(ctx, gateway.Instance{TenantID: tenant, Name: "Support"}, gateway.InstanceSecrets{AgentSecretKey: th.agentKey, WebhookSecret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}, identity.System)
	h.must(err)
	th.instance = i.ID
	customer := func() string {
		c, err := h.store.CreateCustomer(ctx, identity.Customer{TenantID: tenant, Email: h.unique() + "@example.com", FirstName: "Steve"}, identity.System)
		h.must(err)
		return c.ID
	}
	th.customer, th.second, th.merged = customer(), customer(), customer()
	_, err = h.store.MergeCustomer(ctx, tenant, th.merged, th.second, true, identity.System)
	h.must(err)
	link := func(instance, external string) string {
		i, err := h.store.Link(ctx, identity.Identity{TenantID: tenant, CustomerID: th.customer, InstanceID: instance, Channel: "telegram", ExternalID: external}, identity.System)
		h.must(err)
		return i.ID
	}
	th.external = h.unique()
	th.identity, th.wide = link(th.instance, th.external), link("", h.unique())
	c, err := h.store.CreateContactIdentity(ctx, httpapi.ContactIdentity{Identity: identity.Identity{TenantID: tenant, InstanceID: th.instance, Channel: "telegram", ExternalID: h.unique()}}, identity.System)
	h.must(err)
	th.sender = c.ID
	invite, _, err := (&claim.Desk{Ledger: h.store}).Invite(ctx, claim.Invite{TenantID: tenant, CustomerID: th.customer, InstanceID: th.instance, Channel: "telegram"}, identity.Actor("key:"+h.unique()))
	h.must(err)
	th.invite = invite.ID
	th.key = h.keyed(identity.APIKey{TenantID: tenant, Name: "spare", Scopes: []string{"keys:write"}, InstanceID: th.instance}).ID
	return th
}

// A heldKey is an API key with its token.
type heldKey struct {
	identity.APIKey
	token string
}

// keyed makes an API key.
func (h *apiHouse) keyed(k identity.APIKey) heldKey {
	h.t.Helper()
	token := identity.NewToken("hg_live_")
	if k.Name == "" {
		k.Name = "proof"
	}
	kept, err := h.store.CreateAPIKey(h.t.Context(), k, identity.HashToken(token), identity.System)
	h.must(err)
	return heldKey{kept, token}
}

// unique gives digits that were not given before.
func (h *apiHouse) unique() string { return fmt.Sprint(100_000 + h.serial.Add(1)) }

func (h *apiHouse) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *apiHouse) exec(query string, args ...any) {
	h.t.Helper()
	_, err := h.sql.ExecContext(h.t.Context(), query, args...)
	h.must(err)
}

// A said is what an API answered.
type said struct {
	status int
	header http.Header
	body   string
}

// A call is one request of an operation.
type apiCall struct {
	method, path, body string
	header             http.Header
}

func (h *apiHouse) send(c apiCall) said {
	h.t.Helper()
	return h.sendTo(h.base, c)
}

func (h *apiHouse) sendTo(base string, c apiCall) said {
	h.t.Helper()
	r, err := http.NewRequestWithContext(h.t.Context(), c.method, base+c.path, strings.NewReader(c.body))
	h.must(err)
	r.Header = c.header.Clone()
	if c.body != "" && r.Header.Get("Content-Type") == "" {
		r.Header.Set("Content-Type", "application/json")
	}
	a, err := h.client.Transport.RoundTrip(r)
	h.must(err)
	defer func() { _ = a.Body.Close() }()
	b, err := io.ReadAll(a.Body)
	h.must(err)
	return said{a.StatusCode, a.Header, string(b)}
}

// lets gives the headers that open an operation: the instance's key for conversation
// users, else an API key.
func (op *apiOp) lets(token string, th things) http.Header {
	if op.surface == "external" {
		return http.Header{"Agent-Secret-Key": {th.agentKey}}
	}
	return http.Header{"Authorization": {"Bearer " + token}}
}

// clean gives a call of op about th that should succeed.
func (h *apiHouse) clean(op *apiOp, th things) apiCall {
	h.t.Helper()
	if channel, needs := op.channel(); needs {
		if a := h.send(h.clean(h.op("set_up_"+channel), th)); a.status != 200 {
			h.t.Fatalf("set up %s: %d %s", channel, a.status, a.body)
		}
	}
	return apiCall{op.method, h.path(op, op.ids(h.t, th)) + h.query(op, th), h.body(op, th), op.lets(h.admin, th)}
}

// channel names the channel that must be set up before op can succeed.
func (op *apiOp) channel() (name string, needs bool) {
	if op.id == "issue_invite" {
		return "telegram", true
	}
	return strings.CutPrefix(op.id, "remove_")
}

// op finds an operation by its id.
func (h *apiHouse) op(id string) *apiOp {
	h.t.Helper()
	at := slices.IndexFunc(h.ops, func(op *apiOp) bool { return op.id == id })
	if at < 0 {
		h.t.Fatalf("there is no operation %s", id)
	}
	return h.ops[at]
}

// A stage is an operation with things of its own and the call that should succeed.
type stage struct {
	op    *apiOp
	mine  things
	right apiCall
}

// stages readies every operation, so that what is refused of all can be held against one
// state of the database.
func (h *apiHouse) stages(which func(*apiOp) bool) (all []stage) {
	h.t.Helper()
	for _, op := range h.ops {
		if which(op) {
			mine := h.furnish(proofTenant)
			all = append(all, stage{op, mine, h.clean(op, mine)})
		}
	}
	return all
}

func everyOp(*apiOp) bool { return true }

// unchanged fails the test when the database is not as it was.
func (h *apiHouse) unchanged(before []string) {
	h.t.Helper()
	if row := differing(before, h.everyRow("")); row != "" {
		h.t.Errorf("all was refused, and yet there is a row %s", row)
	}
}

// rightly makes the calls that should succeed.
func (h *apiHouse) rightly(all []stage) {
	h.t.Helper()
	for _, s := range all {
		if a := h.send(s.right); a.status != s.op.status {
			h.t.Errorf("%s, asked rightly: %d %s", s.op.id, a.status, a.body)
		}
	}
}

// asked gives the query of a call with the mark before it, or "".
func (c apiCall) asked() string {
	if _, q, ok := strings.Cut(c.path, "?"); ok {
		return "?" + q
	}
	return ""
}

func (h *apiHouse) path(op *apiOp, ids map[string]string) string {
	h.t.Helper()
	path := op.path
	for name, id := range ids {
		path = strings.ReplaceAll(path, "{"+name+"}", id)
	}
	if strings.Contains(path, "{") {
		h.t.Fatalf("%s: what its path names is not in the table of ids", op.id)
	}
	return path
}

// ids says what each name in a path stands for.
func (op *apiOp) ids(t *testing.T, th things) map[string]string {
	t.Helper()
	ids := map[string]string{"customer_id": th.customer, "identity_id": th.identity, "instance_id": th.instance, "key_id": th.key, "invite_id": th.invite}
	switch op.id {
	case "adopt_identity", "block_sender", "unblock_sender":
		ids["identity_id"] = th.sender
	case "undo_merge":
		ids["customer_id"] = th.merged
	}
	switch op.surface {
	case "external":
		ids["id"] = th.customer
	case "global":
		ids["id"] = th.identity
	}
	return ids
}

// query gives what an operation must be asked.
func (h *apiHouse) query(op *apiOp, th things) string {
	h.t.Helper()
	if op.id == "search_user" {
		return "?fkId=" + h.userOf(th)
	}
	var parts []string
	for _, p := range op.params {
		if p.In != "query" || !p.Required {
			continue
		}
		value, known := map[string]string{"channel": "telegram", "external_id": th.external, "customer": "none"}[p.Name]
		if !known {
			h.t.Fatalf("%s: what to ask for by %s is not in the table of queries", op.id, p.Name)
		}
		parts = append(parts, p.Name+"="+value)
	}
	if op.id == "lookup_identity" {
		parts = append(parts, "instance_id="+th.instance)
	}
	if len(parts) == 0 {
		return ""
	}
	return "?" + strings.Join(parts, "&")
}

// userOf makes the customer of th known by an id of the caller's own, and gives it.
func (h *apiHouse) userOf(th things) string {
	fk := h.unique()
	h.exec(`update customers set fk_id = $1 where id = $2`, fk, th.customer)
	return fk
}

// body gives the example of the document, with what must be unique or exist made so.
func (h *apiHouse) body(op *apiOp, th things) string {
	h.t.Helper()
	if op.body == nil {
		return ""
	}
	fields := map[string]any{}
	if err := json.Unmarshal(op.example, &fields); err != nil {
		h.t.Fatalf("%s: the document has no example of its body: %v", op.id, err)
	}
	for name, value := range op.filling(h, th) {
		if _, given := fields[name]; given {
			fields[name] = value
		}
	}
	b, err := json.Marshal(fields)
	h.must(err)
	return string(b)
}

// filling gives values for the fields of examples that stand for something.
func (op *apiOp) filling(h *apiHouse, th things) map[string]any {
	n := h.unique()
	switch op.id {
	case "set_up_sms", "set_up_whatsapp":
		return map[string]any{"account_sid": twilioAccount, "auth_token": twilioToken, "phone_number": phoneBot}
	case "set_up_telegram":
		return map[string]any{"bot_token": telegramToken}
	case "set_up_slack":
		return map[string]any{"bot_token": slackToken, "signing_secret": slackSecret}
	}
	return map[string]any{
		"email": n + "@example.com", "external_id": n, "value": n, "fkId": n, "phone_number": "+61400" + n, "phoneNumber": "+61400" + n, "into": th.second,
		"scopes": []string{"keys:write"}, "instance_id": th.instance,
	}
}

// An apiOp is an operation as the document describes it.
type apiOp struct {
	id, method, path string
	scope            string
	surface          string // native, global or external
	status           int
	params           []apiParam
	body             *apiSchema // nil: it takes none
	example          json.RawMessage
}

type apiParam struct {
	Name     string     `json:"name"`
	In       string     `json:"in"`
	Required bool       `json:"required"`
	Schema   *apiSchema `json:"schema"`
}

type apiSchema struct {
	Ref        string                `json:"$ref"`
	Type       any                   `json:"type"`
	Format     string                `json:"format"`
	Enum       []any                 `json:"enum"`
	Properties map[string]*apiSchema `json:"properties"`
	Items      *apiSchema            `json:"items"`
}

// is reports whether the schema is of a type, or of that type or null.
func (s *apiSchema) is(kind string) bool {
	kinds, several := s.Type.([]any)
	return s.Type == kind || several && slices.Contains(kinds, any(kind))
}

// readDocument reads every operation from the document of a gateway, by its path.
func readDocument(t *testing.T, base string) []*apiOp {
	t.Helper()
	res, err := http.Get(base + "/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	type media struct {
		Schema  *apiSchema      `json:"schema"`
		Example json.RawMessage `json:"example"`
	}
	var doc struct {
		Paths map[string]map[string]struct {
			ID          string     `json:"operationId"`
			Scope       string     `json:"x-scope"`
			Parameters  []apiParam `json:"parameters"`
			RequestBody *struct {
				Content map[string]media `json:"content"`
			} `json:"requestBody"`
			Responses map[string]json.RawMessage `json:"responses"`
		} `json:"paths"`
		Components struct {
			Schemas map[string]*apiSchema `json:"schemas"`
		} `json:"components"`
	}
	if err := json.NewDecoder(res.Body).Decode(&doc); err != nil {
		t.Fatal(err)
	}
	var ops []*apiOp
	for path, methods := range doc.Paths {
		for method, o := range methods {
			op := &apiOp{id: o.ID, method: strings.ToUpper(method), path: path, scope: o.Scope, surface: surfaceAt(t, path), params: o.Parameters}
			for status := range o.Responses {
				if strings.HasPrefix(status, "2") {
					_, _ = fmt.Sscan(status, &op.status)
				}
			}
			if o.RequestBody != nil {
				m := o.RequestBody.Content["application/json"]
				op.body, op.example = m.Schema, m.Example
				if name, ok := strings.CutPrefix(m.Schema.Ref, "#/components/schemas/"); ok {
					op.body = doc.Components.Schemas[name]
				}
			}
			ops = append(ops, op)
		}
	}
	if len(ops) < 50 {
		t.Fatalf("the document has %d operations", len(ops))
	}
	slices.SortFunc(ops, func(a, b *apiOp) int { return strings.Compare(a.id, b.id) })
	return ops
}

func surfaceAt(t *testing.T, path string) string {
	t.Helper()
	first, _, _ := strings.Cut(path[1:], "/")
	surface, known := map[string]string{"v1": "native", "external": "external", "global": "global", "v4": "global"}[first]
	if !known {
		t.Fatalf("%s is of no surface that is known here", path)
	}
	return surface
}

// refusal gives an error unless a is an answer that says no with one of the statuses,
// in the shape of the surface and in nothing else.
func (op *apiOp) refusal(a said, statuses ...int) error {
	if op.surface != "native" {
		for i, s := range statuses {
			if s == 422 {
				statuses[i] = 400
			}
		}
	}
	if !slices.Contains(statuses, a.status) {
		return fmt.Errorf("%d %s; want %v", a.status, a.body, statuses)
	}
	var fields map[string]any
	if err := json.Unmarshal([]byte(a.body), &fields); err != nil {
		return fmt.Errorf("%d %q is not JSON", a.status, a.body)
	}
	want := map[string][]string{"native": {"detail"}, "global": {"errorCode", "message"}, "external": {"details", "message", "name", "status"}}[op.surface]
	if a.status == 500 && op.surface == "external" {
		want = []string{"message", "status"}
	}
	if got := sortedNames(fields); !slices.Equal(got, want) {
		return fmt.Errorf("%d %s has the fields %v; want %v", a.status, a.body, got, want)
	}
	_, listed := fields["detail"].([]any)
	if op.surface == "native" && listed != (a.status == 422) {
		return fmt.Errorf("%d %s", a.status, a.body)
	}
	return nil
}

func sortedNames[V any](m map[string]V) []string {
	var names []string
	for n := range m {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// everyRow gives every row of every table, each with the table's name before it, but for
// notes of when a key was used. where, when not empty, is a condition for tables that
// have a tenant.
func (h *apiHouse) everyRow(where string) []string {
	h.t.Helper()
	var all []string
	for _, table := range h.tables() {
		condition := ""
		switch {
		case table == "tenants" || table == "goose_db_version" || where == "":
		default:
			condition = " where " + where
		}
		all = append(all, h.rows(table, condition)...)
	}
	return all
}

func (h *apiHouse) tables() (names []string) {
	h.t.Helper()
	q := `select name from sqlite_master where type = 'table' and name not like 'sqlite%' order by name`
	if store.IsPostgres(h.url) {
		q = `select table_name::text from information_schema.tables where table_schema = 'public' and table_type = 'BASE TABLE' order by 1`
	}
	rows, err := h.sql.QueryContext(h.t.Context(), q)
	h.must(err)
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var n string
		h.must(rows.Scan(&n))
		names = append(names, n)
	}
	h.must(rows.Err())
	return names
}

func (h *apiHouse) rows(table, condition string) (all []string) {
	h.t.Helper()
	rows, err := h.sql.QueryContext(h.t.Context(), `select * from `+table+condition)
	h.must(err)
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	h.must(err)
	values, into := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		h.must(rows.Scan(into...))
		for i, c := range columns {
			if c == "last_used_at" {
				values[i] = nil
			}
			if b, ok := values[i].([]byte); ok {
				values[i] = string(b)
			}
		}
		all = append(all, fmt.Sprintf("%s %v %v", table, columns, values))
	}
	h.must(rows.Err())
	slices.Sort(all)
	return all
}

// count counts the rows of a table.
func (h *apiHouse) count(table string) (n int) {
	h.t.Helper()
	h.must(h.sql.QueryRowContext(context.Background(), `select count(*) from `+table).Scan(&n))
	return n
}

// differing gives a row in which two states differ, or "".
func differing(before, after []string) string {
	had := map[string]int{}
	for _, row := range before {
		had[row]++
	}
	for _, row := range after {
		if had[row]--; had[row] < 0 {
			return "new: " + row
		}
	}
	for row, n := range had {
		if n > 0 {
			return "gone: " + row
		}
	}
	return ""
}

func randomID() string { return uuid.Must(uuid.NewV7()).String() }

// spared reports whether the nth of many tries is left to the other engine in a short run:
// what is refused before anything is looked up is refused the same on both, and SQLite is
// slow when races are looked for.
func (h *apiHouse) spared(n int) bool { return !long() && !store.IsPostgres(h.url) && n%8 != 0 }

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func (h *apiHouse) fields(body string) (fields map[string]any) {
	h.t.Helper()
	h.must(json.Unmarshal([]byte(body), &fields))
	return fields
}

func (h *apiHouse) json(v any) string {
	h.t.Helper()
	b, err := json.Marshal(v)
	h.must(err)
	return string(b)
}
