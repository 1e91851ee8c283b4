//go:build unix

package harness

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"hydragate/identity"
	"hydragate/store"
)

// OtherTenantID is another tenant of the same gateway.
const OtherTenantID = "00000000-0000-7000-8000-00000000beef"

// An APIFixture is a Harness with two tenants. Requests are derived from the OpenAPI document, so that
// tests cover new operations.
type APIFixture struct {
	*Harness
	Store      *store.Store
	AdminKey   string // of ValidRequest; all scopes
	Operations []*APIOperation

	serial atomic.Int64
}

// ForEachAPIEngine runs test on the API of a gateway on each engine. The engines run in parallel.
func ForEachAPIEngine(t *testing.T, test func(t *testing.T, h *APIFixture)) {
	for _, engine := range []Engine{SQLite, Postgres} {
		t.Run(string(engine), func(t *testing.T) {
			t.Parallel()
			test(t, NewAPIFixture(t, Options{Engine: engine, APIOnly: true}))
		})
	}
}

// NewAPIFixture starts gateways without channels. Those in this process do not log unless o.Log is set.
func NewAPIFixture(t *testing.T, o Options) *APIFixture {
	t.Helper()
	o.NoChannels = true
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	base, p := Start(t, o)
	h := &APIFixture{Harness: base, AdminKey: AdminKey, Operations: ReadOperations(t, base.API.URL)}
	if p.Gateway != nil {
		h.Store = p.Gateway.Store
	} else {
		h.Store = base.OpenStore()
	}
	h.Exec(`insert into tenants (id, name) values ($1, 'other')`, OtherTenantID)
	return h
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
	want := map[string][]string{
		"native": {"detail"}, "global": {"errorCode", "message"}, "external": {"details", "message", "name", "status"},
	}[op.Surface]
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

// SkippedInShortRun reports whether the nth of many similar requests is left out in a short run. The
// engines leave out different ones; more on SQLite, which is slow.
func (h *APIFixture) SkippedInShortRun(n int) bool {
	switch {
	case FullRun():
		return false
	case h.IsPostgres():
		return n%4 != 1
	}
	return n%8 != 0
}

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
