package api

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hydragate/e2e/harness"
)

// TestIdempotencyKey_ConcurrentRequests makes every call that takes an Idempotency-Key
// fifty times at once. It happens once: the database has what one call leaves, and all
// answers are the same. The same key with another body is refused.
func TestIdempotencyKey_ConcurrentRequests(t *testing.T) {
	harness.ForEachAPIEngine(t, func(t *testing.T, h *harness.APIFixture) {
		routes, calls := 0, 0
		for _, op := range h.Operations {
			if op.Param("Idempotency-Key") == nil {
				continue
			}
			routes++
			atOnce := 50
			if !harness.FullRun() && op.ID != "create_customer" {
				atOnce = 12
			}
			if h.SkippedInShortRun(routes) && op.ID != "create_customer" {
				atOnce = 4
			}
			calls += atOnce
			// What one call leaves is learnt from one call.
			alone := h.ValidRequest(op, h.CreateEntities(harness.TestTenantID))
			before := rowCounts(h)
			if a := h.Send(alone); a.Status != op.Status {
				t.Errorf("%s alone: %d %s", op.ID, a.Status, a.Body)
			}
			leaves := rowCountChanges(h, before)
			c := h.ValidRequest(op, h.CreateEntities(harness.TestTenantID))
			c.Header.Set("Idempotency-Key", "once-"+op.ID)
			before = rowCounts(h)
			answers := make([]harness.Response, atOnce)
			var all sync.WaitGroup
			for i := range answers {
				all.Go(func() { answers[i] = h.Send(c) })
			}
			all.Wait()
			first := 0
			for _, a := range answers {
				if a.Status != op.Status || a.Body != answers[0].Body {
					t.Errorf("%s: %d %s\nand %d %s", op.ID, a.Status, a.Body, answers[0].Status, answers[0].Body)
				}
				if a.Header.Get("Idempotency-Replayed") == "" {
					first++
				}
			}
			grown := rowCountChanges(h, before)
			delete(grown, "idempotency_keys")
			if fmt.Sprint(grown) != fmt.Sprint(leaves) || first != 1 {
				t.Errorf("%s: many calls left %v, one call %v; %d were the first", op.ID, grown, leaves, first)
			}
			if op.Body == nil {
				continue
			}
			other := h.ValidRequest(op, h.CreateEntities(harness.TestTenantID))
			other.Header.Set("Idempotency-Key", "once-"+op.ID)
			if op.Body.Properties["name"] != nil {
				other.Body = withField(h, other.Body, "name", "another")
			}
			before = rowCounts(h)
			if err := op.CheckRejection(h.Send(other), 422); err != nil {
				t.Errorf("%s, the same key for another call: %v", op.ID, err)
			}
			if grown := rowCountChanges(h, before); len(grown) > 0 {
				t.Errorf("%s, the same key for another call: %v", op.ID, grown)
			}
		}
		if routes < 15 {
			t.Errorf("only %d routes take an Idempotency-Key", routes)
		}
		t.Logf("%d routes, %d calls, those of a route at once: each happened once", routes, calls)
	})
}

// rowCounts counts the rows of every table.
func rowCounts(h *harness.APIFixture) map[string]int {
	h.T.Helper()
	n := map[string]int{}
	for _, table := range h.Tables() {
		n[table] = h.RowCount(table)
	}
	return n
}

// rowCountChanges gives by how much tables changed in size since.
func rowCountChanges(h *harness.APIFixture, since map[string]int) map[string]int {
	h.T.Helper()
	by := map[string]int{}
	for table, n := range rowCounts(h) {
		if n != since[table] {
			by[table] = n - since[table]
		}
	}
	return by
}

// TestIdempotencyKey_ClientDisconnect hangs up on calls at any moment, on the side of the
// caller and, with Postgres, between the gateway and its database. What was asked for
// happened whole or not at all, and asking again with the same key makes it happen once.
func TestIdempotencyKey_ClientDisconnect(t *testing.T) {
	rounds := 40
	if harness.FullRun() {
		rounds = 400
	}
	harness.ForEachAPIEngine(t, func(t *testing.T, h *harness.APIFixture) {
		var cut atomic.Int64
		for n := range rounds {
			email := fmt.Sprintf("cut-%d@example.com", n)
			c := harness.APIRequest{Method: "POST", Path: "/v1/customers", Body: fmt.Sprintf(`{"email":%q}`, email), Header: http.Header{"Authorization": {"Bearer " + h.AdminKey}, "Idempotency-Key": {email}}}
			for range 3 {
				ctx, hangUp := context.WithTimeout(t.Context(), time.Duration(rand.IntN(4000))*time.Microsecond)
				if _, err := h.API.Do(ctx, c.Method, c.Path, c.Header, c.Body); err != nil {
					cut.Add(1)
				}
				hangUp()
			}
			var again harness.Response
			harness.Eventually(t, "asking again is answered", func() bool {
				again = h.Send(c)
				return again.Status != 409 || again.Header.Get("Retry-After") == ""
			})
			if again.Status != 201 {
				t.Errorf("asked again: %d %s", again.Status, again.Body)
			}
			requireSingleCustomer(h, email)
		}
		if cut.Load() == 0 {
			t.Error("no call was cut")
		}
		t.Logf("%d calls, %d connections cut in the middle: each happened once", rounds, cut.Load())
	})
}

// requireSingleCustomer holds the database to one customer with one event of it.
func requireSingleCustomer(h *harness.APIFixture, email string) {
	h.T.Helper()
	var customers, events int
	h.Must(h.DB.QueryRowContext(h.T.Context(), `select count(*) from customers where email = $1`, email).Scan(&customers))
	h.Must(h.DB.QueryRowContext(h.T.Context(), `
		select count(*) from audit_events a join customers c on c.id = a.customer_id where c.email = $1 and a.kind = 'customer.created'`, email).Scan(&events))
	if customers != 1 || events != 1 {
		h.T.Errorf("%s: %d customers, %d events", email, customers, events)
	}
}

// TestIdempotencyKey_DatabaseDisconnect cuts the way to Postgres while calls are made.
func TestIdempotencyKey_DatabaseDisconnect(t *testing.T) {
	h := harness.NewAPIFixture(t, "postgres", harness.DiscardLogger())
	w, err := harness.NewProxy(databaseHost(h.DSN))
	h.Must(err)
	t.Cleanup(w.Close)
	s := h.Providers
	s.DatabaseURL, s.RedisURL, s.MasterKeys, s.AdminKey = strings.Replace(h.DSN, databaseHost(h.DSN), w.Addr(), 1), harness.TestRedisURL(t), h.MasterKeys, h.AdminKey
	_, beside := h.StartReplica(t, &s, harness.DiscardLogger())
	rounds, unanswered, mended := 16, 0, 0
	if harness.FullRun() {
		rounds = 100
	}
	for n := range rounds {
		harness.Eventually(t, "the database is reached", func() bool {
			return h.SendTo(beside, harness.APIRequest{Method: "GET", Path: "/v1/customers?limit=1", Body: "", Header: http.Header{"Authorization": {"Bearer " + h.AdminKey}}}).Status == 200
		})
		emails := make([]string, 8)
		answers := make([]harness.Response, len(emails))
		var all sync.WaitGroup
		for i := range emails {
			emails[i] = fmt.Sprintf("wire-%d-%d@example.com", n, i)
			all.Go(func() {
				answers[i] = h.SendTo(beside, harness.APIRequest{Method: "POST", Path: "/v1/customers", Body: fmt.Sprintf(`{"email":%q}`, emails[i]), Header: http.Header{"Authorization": {"Bearer " + h.AdminKey}}})
			})
		}
		<-time.After(time.Duration(rand.IntN(30_000)) * time.Microsecond)
		w.SetState(harness.ProxyCut)
		all.Wait()
		w.SetState(harness.ProxyUp)
		for i, a := range answers {
			var customers, events int
			h.Must(h.DB.QueryRowContext(t.Context(), `select count(*) from customers where email = $1`, emails[i]).Scan(&customers))
			h.Must(h.DB.QueryRowContext(t.Context(), `
				select count(*) from audit_events a join customers c on c.id = a.customer_id where c.email = $1 and a.kind = 'customer.created'`, emails[i]).Scan(&events))
			if a.Status == 201 && (customers != 1 || events != 1) {
				t.Errorf("%s: answered %d, %d customers, %d events", emails[i], a.Status, customers, events)
			}
			if a.Status != 201 {
				unanswered++
				if a.Status != 503 && a.Status != 500 {
					t.Errorf("%s: %d %s", emails[i], a.Status, a.Body)
				}
			}
			if customers == 0 {
				// What Postgres had heard before the cut may end only now: then the e-mail is taken.
				harness.Eventually(t, "the same call is taken once the database is back", func() bool {
					again := h.SendTo(beside, harness.APIRequest{Method: "POST", Path: "/v1/customers", Body: fmt.Sprintf(`{"email":%q}`, emails[i]), Header: http.Header{"Authorization": {"Bearer " + h.AdminKey}}}).Status
					return again == 201 || again == 409
				})
				mended++
			}
			requireSingleCustomer(h, emails[i])
		}
	}
	if unanswered == 0 {
		t.Error("no call was cut")
	}
	t.Logf("%d cuts, %d calls of %d without success, %d made again: 0 halves", rounds, unanswered, rounds*8, mended)
}

// databaseHost gives host and port of a URL.
func databaseHost(database string) string {
	_, rest, _ := strings.Cut(database, "//")
	if _, after, ok := strings.Cut(rest, "@"); ok {
		rest = after
	}
	host, _, _ := strings.Cut(rest, "/")
	return host
}
