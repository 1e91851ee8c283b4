package api

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hydragate/cmd/hydragate/app"
	"hydragate/e2e/harness"
)

// TestIdempotencyKey_ConcurrentRequests sends many concurrent requests with the same
// Idempotency-Key to every route that accepts one. It checks that the database changes as after
// one request and that all responses are the same. The key must be rejected with another body.
func TestIdempotencyKey_ConcurrentRequests(t *testing.T) {
	harness.ForEachAPIEngine(t, func(t *testing.T, h *harness.APIFixture) {
		routes, calls := 0, 0
		for _, op := range h.Operations {
			if op.Param("Idempotency-Key") == nil {
				continue
			}
			routes++
			concurrency := 50
			if !harness.FullRun() && op.ID != "create_customer" {
				concurrency = 8
			}
			if h.SkippedInShortRun(routes) && op.ID != "create_customer" {
				concurrency = 3
			}
			calls += concurrency
			// Measure the effect of a single request.
			single := h.ValidRequest(op, h.CreateEntities(harness.TestTenantID))
			before := rowCounts(h)
			if a := h.Send(single); a.Status != op.Status {
				t.Errorf("single %s = %d %s, want %d", op.ID, a.Status, a.Body, op.Status)
			}
			want := rowCountChanges(h, before)
			c := h.ValidRequest(op, h.CreateEntities(harness.TestTenantID))
			c.Header.Set("Idempotency-Key", "single-"+op.ID)
			before = rowCounts(h)
			responses := make([]harness.Response, concurrency)
			var wg sync.WaitGroup
			for i := range responses {
				wg.Go(func() { responses[i] = h.Send(c) })
			}
			wg.Wait()
			first := 0
			for _, a := range responses {
				if a.Status != op.Status || a.Body != responses[0].Body {
					t.Errorf("%s = %d %s, want %d %s", op.ID, a.Status, a.Body, op.Status, responses[0].Body)
				}
				if a.Header.Get("Idempotency-Replayed") == "" {
					first++
				}
			}
			got := rowCountChanges(h, before)
			delete(got, "idempotency_keys")
			if fmt.Sprint(got) != fmt.Sprint(want) || first != 1 {
				t.Errorf("%s: row changes = %v, want %v; responses not replayed = %d, want 1", op.ID, got, want, first)
			}
			if op.Body == nil {
				continue
			}
			other := h.ValidRequest(op, h.CreateEntities(harness.TestTenantID))
			other.Header.Set("Idempotency-Key", "single-"+op.ID)
			if op.Body.Properties["name"] != nil {
				other.Body = withField(h, other.Body, "name", "another")
			}
			if op.Body.Properties["unknown_sender_days"] != nil {
				other.Body = withField(h, other.Body, "unknown_sender_days", 7)
			}
			before = rowCounts(h)
			if err := op.CheckRejection(h.Send(other), 422); err != nil {
				t.Errorf("%s with a reused key: %v", op.ID, err)
			}
			if changes := rowCountChanges(h, before); len(changes) > 0 {
				t.Errorf("%s with a reused key: row changes = %v, want none", op.ID, changes)
			}
		}
		if routes < 15 {
			t.Errorf("routes that accept an Idempotency-Key = %d, want at least 15", routes)
		}
		t.Logf("%d routes, %d calls, concurrent for each route: each took effect once", routes, calls)
	})
}

// rowCounts returns the number of rows of every table.
func rowCounts(h *harness.APIFixture) map[string]int {
	h.T.Helper()
	n := map[string]int{}
	for _, table := range h.Tables() {
		n[table] = h.RowCount(table)
	}
	return n
}

// rowCountChanges returns the tables whose row count differs from before, with the difference.
func rowCountChanges(h *harness.APIFixture, before map[string]int) map[string]int {
	h.T.Helper()
	changes := map[string]int{}
	for table, n := range rowCounts(h) {
		if n != before[table] {
			changes[table] = n - before[table]
		}
	}
	return changes
}

// TestIdempotencyKey_ClientDisconnect cancels requests after a random time. It checks that a
// request takes effect completely or not at all, and that retrying with the same key makes it take
// effect exactly once.
func TestIdempotencyKey_ClientDisconnect(t *testing.T) {
	rounds := 40
	if harness.FullRun() {
		rounds = 400
	}
	harness.ForEachAPIEngine(t, func(t *testing.T, h *harness.APIFixture) {
		var canceled atomic.Int64
		for n := range rounds {
			email := fmt.Sprintf("cut-%d@example.com", n)
			c := harness.APIRequest{
				Method: "POST", Path: "/v1/customers", Body: fmt.Sprintf(`{"email":%q}`, email),
				Header: http.Header{"Authorization": {"Bearer " + h.AdminKey}, "Idempotency-Key": {email}},
			}
			for range 3 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(4000))*time.Microsecond)
				if _, err := h.API.Do(ctx, c.Method, c.Path, c.Header, c.Body); err != nil {
					canceled.Add(1)
				}
				cancel()
			}
			var retry harness.Response
			harness.Eventually(t, "the retry gets a response", func() bool {
				retry = h.Send(c)
				return retry.Status != 409 || retry.Header.Get("Retry-After") == ""
			})
			if retry.Status != 201 {
				t.Errorf("retry = %d %s, want 201", retry.Status, retry.Body)
			}
			requireSingleCustomer(h, email)
		}
		if canceled.Load() == 0 {
			t.Error("no call was interrupted")
		}
		t.Logf("%d calls, %d canceled: each took effect once", rounds, canceled.Load())
	})
}

// requireSingleCustomer checks that the database contains one customer with the address and one
// event of its creation.
func requireSingleCustomer(h *harness.APIFixture, email string) {
	h.T.Helper()
	var customers, events int
	h.Must(h.DB.QueryRowContext(h.T.Context(), `select count(*) from customers where email = $1`, email).Scan(&customers))
	h.Must(h.DB.QueryRowContext(h.T.Context(), `
		select count(*) from audit_events a join customers c on c.id = a.customer_id
		where c.email = $1 and a.kind = 'customer.created'`, email).Scan(&events))
	if customers != 1 || events != 1 {
		h.T.Errorf("%s: customers = %d, events = %d, want 1 and 1", email, customers, events)
	}
}

// TestIdempotencyKey_DatabaseDisconnect cuts the connection to Postgres during requests. It checks
// that each request takes effect completely or not at all, and that it can be repeated.
func TestIdempotencyKey_DatabaseDisconnect(t *testing.T) {
	h := harness.NewAPIFixture(t, harness.Options{InProcess: true, Modify: func(g *app.Gateway) error {
		g.API.Limiter.Rate, g.API.Limiter.Burst = 1e9, 1e9
		return nil
	}})
	proxy := h.Proxies["postgres"]
	rounds, failed, retried := 16, 0, 0
	if harness.FullRun() {
		rounds = 100
	}
	authorization := http.Header{"Authorization": {"Bearer " + h.AdminKey}}
	for n := range rounds {
		harness.Eventually(t, "the database is available", func() bool {
			list := harness.APIRequest{Method: "GET", Path: "/v1/customers?limit=1", Header: authorization}
			return h.Send(list).Status == 200
		})
		emails := make([]string, 8)
		create := func(email string) harness.Response {
			body := fmt.Sprintf(`{"email":%q}`, email)
			return h.Send(harness.APIRequest{
				Method: "POST", Path: "/v1/customers", Body: body, Header: authorization,
			})
		}
		responses := make([]harness.Response, len(emails))
		var wg sync.WaitGroup
		for i := range emails {
			emails[i] = fmt.Sprintf("wire-%d-%d@example.com", n, i)
			wg.Go(func() { responses[i] = create(emails[i]) })
		}
		<-time.After(time.Duration(rand.IntN(30_000)) * time.Microsecond)
		proxy.SetState(harness.ProxyCut)
		wg.Wait()
		proxy.SetState(harness.ProxyUp)
		for i, a := range responses {
			var customers, events int
			h.Must(h.DB.QueryRowContext(t.Context(),
				`select count(*) from customers where email = $1`, emails[i]).Scan(&customers))
			h.Must(h.DB.QueryRowContext(t.Context(), `
				select count(*) from audit_events a join customers c on c.id = a.customer_id
				where c.email = $1 and a.kind = 'customer.created'`, emails[i]).Scan(&events))
			if a.Status == 201 && (customers != 1 || events != 1) {
				t.Errorf("%s: status = 201 with %d customers and %d events, want 1 and 1", emails[i], customers, events)
			}
			if a.Status != 201 {
				failed++
				if a.Status != 503 && a.Status != 500 {
					t.Errorf("%s: status = %d %s, want 201, 500 or 503", emails[i], a.Status, a.Body)
				}
			}
			if customers == 0 {
				// Postgres may commit the interrupted request late; then the address is in use.
				harness.Eventually(t, "the repeated request is accepted", func() bool {
					status := create(emails[i]).Status
					return status == 201 || status == 409
				})
				retried++
			}
			requireSingleCustomer(h, emails[i])
		}
	}
	if failed == 0 {
		t.Error("no call was interrupted")
	}
	t.Logf("%d interruptions, %d of %d calls failed, %d repeated: none took effect partially", rounds, failed, rounds*8,
		retried)
}
