package httpapi

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"hydragate/gateway"
	"hydragate/httpapi/fastapi"
	"hydragate/httpapi/operation"
	"hydragate/identity"
)

func TestIdempotency_Concurrent(t *testing.T) {
	w := newHarness(t)
	before := w.store.created
	replies := make([]response, 50)
	var all sync.WaitGroup
	for i := range replies {
		all.Go(func() {
			replies[i] = w.request("POST", "/v1/customers", `{"email":"matt@example.com"}`, "Idempotency-Key: one")
		})
	}
	all.Wait()
	replayed := 0
	for _, r := range replies {
		if r.status != 201 || r.body != replies[0].body || r.header.Get("Content-Type") != "application/json" {
			t.Errorf("%d %s", r.status, r.body)
		}
		if r.header.Get("Idempotency-Replayed") == "true" {
			replayed++
		}
	}
	if w.store.created != before+1 || replayed != 49 {
		t.Errorf("%d created, %d replayed", w.store.created-before, replayed)
	}
}

func TestIdempotency(t *testing.T) {
	w := newHarness(t)
	const key = "Idempotency-Key: k1"
	first := w.request("POST", "/v1/customers", `{"first_name":"Steve"}`, key)
	w.expect(first, 201, "")
	w.expect(w.request("POST", "/v1/customers", `{"first_name":"Matt"}`, key), 422,
		`{"detail":[{"type":"value_error","loc":["header","idempotency-key"],"msg":"Value error, the key was already used for another request"}]}`)
	w.expect(w.request("POST", "/v1/customers", ` {"first_name" : "Steve"} `, key), 201, first.body)
	if again := w.request("POST", "/v1/customers", `{"first_name":"Steve"}`, key, bearer(w.foreignToken)); again.body == first.body {
		t.Error("another caller got the answer")
	}

	gone := "/v1/customers/" + w.customer + "/identities/" + w.tenantIdentity
	w.expect(w.request("DELETE", gone, "", "Idempotency-Key: k2"), 204, "")
	again := w.request("DELETE", gone, "", "Idempotency-Key: k2")
	w.expect(again, 204, "")
	if again.header.Get("Idempotency-Replayed") != "true" {
		t.Error("not a replay")
	}

	taken := `{"email":"steve@example.com"}`
	w.expect(w.request("POST", "/v1/customers", taken, "Idempotency-Key: k3"), 409, "")
	if r := w.request("POST", "/v1/customers", taken, "Idempotency-Key: k3"); r.status != 409 || r.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("%d %v", r.status, r.header)
	}

	w.store.panics = true
	w.expect(w.request("POST", "/v1/customers", `{}`, "Idempotency-Key: k4"), 500, "")
	w.store.panics = false
	w.expect(w.request("POST", "/v1/customers", `{}`, "Idempotency-Key: k4"), 201, "")
}

func TestIdempotency_ReplaysSecrets(t *testing.T) {
	w := newHarness(t)
	first := w.request("POST", "/v1/instances", `{"name":"Support"}`, "Idempotency-Key: i")
	w.expect(w.request("POST", "/v1/instances", `{"name":"Support"}`, "Idempotency-Key: i"), 201, first.body)
}

func TestIdempotency_InProgress(t *testing.T) {
	w := newHarness(t, func(a *API) { a.replayWait = replayPollInterval })
	slots := gateway.IdempotencyKey{TenantID: "00000000-0000-7000-8000-000000000001", Principal: w.firstKeyID(), Key: "stuck"}
	// the fingerprint is learnt from a call that ends, and then made to look unfinished
	w.request("POST", "/v1/customers", `{}`, "Idempotency-Key: stuck")
	w.store.mu.Lock()
	kept := w.store.answers[slots]
	w.store.answers[slots] = gateway.StoredResponse{Fingerprint: kept.Fingerprint}
	w.store.mu.Unlock()
	got := w.request("POST", "/v1/customers", `{}`, "Idempotency-Key: stuck")
	if got.status != http.StatusConflict || got.header.Get("Retry-After") == "" {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// disconnectStore is a store that notes what it is asked for callers who have gone.
type disconnectStore struct {
	*fakeStore
	claimed, created []error
}

func (s *disconnectStore) ReserveIdempotencyKey(ctx context.Context, k gateway.IdempotencyKey) (gateway.StoredResponse, bool, error) {
	s.claimed = append(s.claimed, ctx.Err())
	return s.fakeStore.ReserveIdempotencyKey(ctx, k)
}

func (s *disconnectStore) CreateCustomer(ctx context.Context, c identity.Customer, by identity.Actor) (identity.Customer, error) {
	s.created = append(s.created, ctx.Err())
	return s.fakeStore.CreateCustomer(ctx, c, by)
}

// A caller who hangs up leaves a call that is worked to its end, so that the same call
// made again is the same.
func TestIdempotency_ClientDisconnects(t *testing.T) {
	s := &disconnectStore{}
	w := newHarness(t, func(a *API) {
		s.fakeStore = a.Stores.Customers.(*fakeStore)
		a.Stores.Customers, a.Stores.Idempotency = s, s
	})
	gone, hangUp := context.WithCancel(t.Context())
	hangUp()
	for _, key := range []string{"gone", ""} {
		r := httptest.NewRequestWithContext(gone, "POST", "/v1/customers", strings.NewReader(`{}`))
		r.Header.Set("Authorization", "Bearer "+w.adminToken)
		r.Header.Set("Content-Type", "application/json")
		if key != "" {
			r.Header.Set("Idempotency-Key", key)
		}
		w.server.Config.Handler.ServeHTTP(httptest.NewRecorder(), r)
	}
	if len(s.claimed) != 1 || s.claimed[0] != nil || len(s.created) != 2 || s.created[0] != nil {
		t.Errorf("claimed with %v, created with %v", s.claimed, s.created)
	}
	if s.created[1] == nil {
		t.Error("a call without a key is not the caller's to break off")
	}
	if again := w.request("POST", "/v1/customers", `{}`, "Idempotency-Key: gone"); again.status != 201 || again.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("%d %v", again.status, again.header)
	}
}

// An idempotency key that is taken is printable and of bounded length.
func FuzzIdempotencyKey(f *testing.F) {
	for _, s := range []string{"a", "", " ", strings.Repeat("k", 255), strings.Repeat("k", 256), "é", "a\x00", "a\nb", "a\n", "\x7f", "~"} {
		f.Add(s)
	}
	check, schema := operation.NewChecker(false), operation.IdempotencyParam().Schema
	f.Fuzz(func(t *testing.T, in string) {
		var wrong []fastapi.Violation
		got := check.Check(schema, in, []any{"header", "idempotency-key"}, &wrong)
		if len(wrong) > 0 {
			return
		}
		if got != in || in == "" || len(in) > 255 || strings.ContainsFunc(in, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%q is taken as %v", in, got)
		}
	})
}
