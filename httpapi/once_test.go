package httpapi

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"hydragate/identity"
)

func TestIdempotencyFiftyAtOnceMakeOne(t *testing.T) {
	w := newWorld(t)
	before := w.store.created
	replies := make([]reply, 50)
	var all sync.WaitGroup
	for i := range replies {
		all.Go(func() {
			replies[i] = w.ask("POST", "/v1/customers", `{"email":"matt@example.com"}`, "Idempotency-Key: one")
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
	w := newWorld(t)
	const key = "Idempotency-Key: k1"
	first := w.ask("POST", "/v1/customers", `{"first_name":"Steve"}`, key)
	w.want(first, 201, "")
	w.want(w.ask("POST", "/v1/customers", `{"first_name":"Matt"}`, key), 422,
		`{"detail":[{"type":"value_error","loc":["header","idempotency-key"],"msg":"Value error, the same key was used for another call"}]}`)
	w.want(w.ask("POST", "/v1/customers", ` {"first_name" : "Steve"} `, key), 201, first.body)
	if again := w.ask("POST", "/v1/customers", `{"first_name":"Steve"}`, key, as(w.foreign)); again.body == first.body {
		t.Error("another caller got the answer")
	}

	gone := "/v1/customers/" + w.steve + "/identities/" + w.linked
	w.want(w.ask("DELETE", gone, "", "Idempotency-Key: k2"), 204, "")
	again := w.ask("DELETE", gone, "", "Idempotency-Key: k2")
	w.want(again, 204, "")
	if again.header.Get("Idempotency-Replayed") != "true" {
		t.Error("not a replay")
	}

	taken := `{"email":"steve@example.com"}`
	w.want(w.ask("POST", "/v1/customers", taken, "Idempotency-Key: k3"), 409, "")
	if r := w.ask("POST", "/v1/customers", taken, "Idempotency-Key: k3"); r.status != 409 || r.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("%d %v", r.status, r.header)
	}

	w.store.explode = true
	w.want(w.ask("POST", "/v1/customers", `{}`, "Idempotency-Key: k4"), 500, "")
	w.store.explode = false
	w.want(w.ask("POST", "/v1/customers", `{}`, "Idempotency-Key: k4"), 201, "")
}

func TestIdempotencySecretsAreReplayed(t *testing.T) {
	w := newWorld(t)
	first := w.ask("POST", "/v1/instances", `{"name":"Support"}`, "Idempotency-Key: i")
	w.want(w.ask("POST", "/v1/instances", `{"name":"Support"}`, "Idempotency-Key: i"), 201, first.body)
}

func TestIdempotencyStillWorked(t *testing.T) {
	w := newWorld(t, func(a *API) { a.patience = lookAgain })
	slots := IdempotencyKey{TenantID: "00000000-0000-7000-8000-000000000001", Principal: w.spareKey(), Key: "stuck"}
	// the fingerprint is learnt from a call that ends, and then made to look unfinished
	w.ask("POST", "/v1/customers", `{}`, "Idempotency-Key: stuck")
	w.store.mu.Lock()
	kept := w.store.answers[slots]
	w.store.answers[slots] = StoredAnswer{Fingerprint: kept.Fingerprint}
	w.store.mu.Unlock()
	got := w.ask("POST", "/v1/customers", `{}`, "Idempotency-Key: stuck")
	if got.status != http.StatusConflict || got.header.Get("Retry-After") == "" {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func TestClaimCodeIsNeverKept(t *testing.T) {
	w := newWorld(t)
	path := "/v1/customers/" + w.steve + "/identities/" + w.linked + "/claim-code"
	for range 2 {
		got := w.ask("POST", path, "", "Idempotency-Key: c")
		w.want(got, 201, "")
		if got.header.Get("Idempotency-Replayed") != "" || got.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%v", got.header)
		}
	}
	if len(w.store.answers) != 0 {
		t.Error("an answer was kept")
	}
	if op := w.ask("GET", "/openapi.json", "").body; !strings.Contains(op, "Idempotency-Key is ignored") || strings.Contains(op, "ends the one before") {
		t.Error("not documented, or as if an invite or another secret ended the one before")
	}
	if slices.Contains(strings.Fields(w.log.String()), "WDJBMJ") || strings.Contains(w.log.String(), "WDJBMJ") {
		t.Error("the code is in the log")
	}
}

// leaving is a store that notes what it is asked for callers who have gone.
type leaving struct {
	*fakeStore
	claimed, created []error
}

func (s *leaving) Remember(ctx context.Context, k IdempotencyKey) (StoredAnswer, bool, error) {
	s.claimed = append(s.claimed, ctx.Err())
	return s.fakeStore.Remember(ctx, k)
}

func (s *leaving) CreateCustomer(ctx context.Context, c identity.Customer, by identity.Actor) (identity.Customer, error) {
	s.created = append(s.created, ctx.Err())
	return s.fakeStore.CreateCustomer(ctx, c, by)
}

// A caller who hangs up leaves a call that is worked to its end, so that the same call
// made again is the same.
func TestIdempotentCallsOutliveTheirCaller(t *testing.T) {
	s := &leaving{}
	w := newWorld(t, func(a *API) { s.fakeStore = a.Store.(*fakeStore); a.Store = s })
	gone, hangUp := context.WithCancel(t.Context())
	hangUp()
	for _, key := range []string{"gone", ""} {
		r := httptest.NewRequestWithContext(gone, "POST", "/v1/customers", strings.NewReader(`{}`))
		r.Header.Set("Authorization", "Bearer "+w.token)
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
	if again := w.ask("POST", "/v1/customers", `{}`, "Idempotency-Key: gone"); again.status != 201 || again.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("%d %v", again.status, again.header)
	}
}
