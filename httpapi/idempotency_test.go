package httpapi

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"hydragate/gateway"
	"hydragate/httpapi/fastapi"
	"hydragate/httpapi/httpapitest"
	"hydragate/httpapi/operation"
	"hydragate/identity"
)

func TestIdempotency_Concurrent(t *testing.T) {
	h := newHarness(t, func(a *API) { a.replayWait = time.Minute })
	before := h.store.Created
	responses := make([]response, 50)
	var all sync.WaitGroup
	for i := range responses {
		all.Go(func() {
			responses[i] = h.request("POST", "/v1/customers", `{"email":"matt@example.com"}`, "Idempotency-Key: one")
		})
	}
	all.Wait()
	replayed := 0
	for _, r := range responses {
		if r.status != 201 || r.body != responses[0].body || r.header.Get("Content-Type") != "application/json" {
			t.Errorf("%d %s", r.status, r.body)
		}
		if r.header.Get("Idempotency-Replayed") == "true" {
			replayed++
		}
	}
	if h.store.Created != before+1 || replayed != 49 {
		t.Errorf("%d customers created, %d responses replayed, want 1 and 49", h.store.Created-before, replayed)
	}
}

func TestIdempotency(t *testing.T) {
	h := newHarness(t)
	const key = "Idempotency-Key: k1"
	first := h.request("POST", "/v1/customers", `{"first_name":"Steve"}`, key)
	h.expect(first, 201, "")
	h.expect(
		h.request("POST", "/v1/customers", `{"first_name":"Matt"}`, key),
		422,
		`{"detail":[{"type":"value_error","loc":["header","idempotency-key"],
			"msg":"Value error, the key was already used for another request"}]}`,
	)
	h.expect(h.request("POST", "/v1/customers", ` {"first_name" : "Steve"} `, key), 201, first.body)
	other := h.request("POST", "/v1/customers", `{"first_name":"Steve"}`, key, bearer(h.foreignToken))
	if other.body == first.body {
		t.Error("another caller gets the stored response")
	}

	path := "/v1/customers/" + h.customer + "/identities/" + h.tenantIdentity
	h.expect(h.request("DELETE", path, "", "Idempotency-Key: k2"), 204, "")
	again := h.request("DELETE", path, "", "Idempotency-Key: k2")
	h.expect(again, 204, "")
	if again.header.Get("Idempotency-Replayed") != "true" {
		t.Error("the response is not a replay")
	}

	taken := `{"email":"steve@example.com"}`
	h.expect(h.request("POST", "/v1/customers", taken, "Idempotency-Key: k3"), 409, "")
	r := h.request("POST", "/v1/customers", taken, "Idempotency-Key: k3")
	if r.status != 409 || r.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("%d %v", r.status, r.header)
	}

	h.store.PanicOnCreate = true
	h.expect(h.request("POST", "/v1/customers", `{}`, "Idempotency-Key: k4"), 500, "")
	h.store.PanicOnCreate = false
	h.expect(h.request("POST", "/v1/customers", `{}`, "Idempotency-Key: k4"), 201, "")
}

func TestIdempotency_ReplaysSecrets(t *testing.T) {
	h := newHarness(t)
	first := h.request("POST", "/v1/instances", `{"name":"Support"}`, "Idempotency-Key: i")
	h.expect(h.request("POST", "/v1/instances", `{"name":"Support"}`, "Idempotency-Key: i"), 201, first.body)
}

func TestIdempotency_InProgress(t *testing.T) {
	h := newHarness(t, func(a *API) { a.replayWait = replayPollInterval })
	key := gateway.IdempotencyKey{
		TenantID: "00000000-0000-7000-8000-000000000001", Principal: h.adminKey, Key: "stuck",
	}
	// Replace the response of a finished request by that of an unfinished one.
	h.request("POST", "/v1/customers", `{}`, "Idempotency-Key: stuck")
	stored := h.store.Responses[key]
	h.store.Responses[key] = gateway.StoredResponse{Fingerprint: stored.Fingerprint}
	got := h.request("POST", "/v1/customers", `{}`, "Idempotency-Key: stuck")
	if got.status != http.StatusConflict || got.header.Get("Retry-After") == "" {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// A disconnectStore records the context errors of requests whose clients have disconnected.
type disconnectStore struct {
	*httpapitest.Store
	reserved, created []error
}

func (s *disconnectStore) ReserveIdempotencyKey(
	ctx context.Context, k gateway.IdempotencyKey,
) (gateway.StoredResponse, bool, error) {
	s.reserved = append(s.reserved, ctx.Err())
	return s.Store.ReserveIdempotencyKey(ctx, k)
}

func (s *disconnectStore) CreateCustomer(
	ctx context.Context, c identity.Customer, by identity.Actor,
) (identity.Customer, error) {
	s.created = append(s.created, ctx.Err())
	return s.Store.CreateCustomer(ctx, c, by)
}

// TestIdempotency_ClientDisconnects checks that an idempotent request continues after the client
// disconnects, so that a retry gets its response, and that other requests are canceled.
func TestIdempotency_ClientDisconnects(t *testing.T) {
	s := &disconnectStore{}
	h := newHarness(t, func(a *API) {
		s.Store = a.Stores.Customers.(*httpapitest.Store)
		a.Stores.Customers, a.Stores.Idempotency = s, s
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, key := range []string{"gone", ""} {
		r := httptest.NewRequestWithContext(ctx, "POST", "/v1/customers", strings.NewReader(`{}`))
		r.Header.Set("Authorization", "Bearer "+h.adminToken)
		r.Header.Set("Content-Type", "application/json")
		if key != "" {
			r.Header.Set("Idempotency-Key", key)
		}
		h.server.Config.Handler.ServeHTTP(httptest.NewRecorder(), r)
	}
	if len(s.reserved) != 1 || s.reserved[0] != nil || len(s.created) != 2 || s.created[0] != nil {
		t.Errorf("context errors: reserved %v, created %v", s.reserved, s.created)
	}
	if s.created[1] == nil {
		t.Error("a request without an idempotency key continues after the client disconnected")
	}
	if again := h.request("POST", "/v1/customers", `{}`, "Idempotency-Key: gone"); again.status != 201 ||
		again.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("%d %v", again.status, again.header)
	}
}

// FuzzIdempotencyKey checks that accepted keys are printable and not too long.
func FuzzIdempotencyKey(f *testing.F) {
	for _, s := range []string{
		"a", "", " ", strings.Repeat("k", 255), strings.Repeat("k", 256), "é", "a\x00", "a\nb", "a\n", "\x7f", "~",
	} {
		f.Add(s)
	}
	checker, schema := operation.NewChecker(false), operation.IdempotencyParam().Schema
	f.Fuzz(func(t *testing.T, in string) {
		var violations []fastapi.Violation
		got := checker.Check(schema, in, []any{"header", "idempotency-key"}, &violations)
		if len(violations) > 0 {
			return
		}
		if got != in || in == "" || len(in) > 255 || strings.ContainsFunc(
			in, func(r rune) bool { return r < ' ' || r > '~' },
		) {
			t.Errorf("Check(%q) = %v", in, got)
		}
	})
}
