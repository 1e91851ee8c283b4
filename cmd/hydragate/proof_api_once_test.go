//go:build unix

package main

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
)

// TestTheSameCallFiftyTimesAtOnceIsOne makes every call that takes an Idempotency-Key
// fifty times at once. It happens once: the database has what one call leaves, and all
// answers are the same. The same key with another body is refused.
func TestTheSameCallFiftyTimesAtOnceIsOne(t *testing.T) {
	inHouses(t, func(t *testing.T, h *apiHouse) {
		routes, calls := 0, 0
		for _, op := range h.ops {
			if op.param("Idempotency-Key") == nil {
				continue
			}
			routes++
			atOnce := 50
			if !long() && op.id != "create_customer" {
				atOnce = 12
			}
			if h.spared(routes) && op.id != "create_customer" {
				atOnce = 4
			}
			calls += atOnce
			// What one call leaves is learnt from one call.
			alone := h.clean(op, h.furnish(proofTenant))
			before := h.sizes()
			if a := h.send(alone); a.status != op.status {
				t.Errorf("%s alone: %d %s", op.id, a.status, a.body)
			}
			leaves := h.grown(before)
			c := h.clean(op, h.furnish(proofTenant))
			c.header.Set("Idempotency-Key", "once-"+op.id)
			before = h.sizes()
			answers := make([]said, atOnce)
			var all sync.WaitGroup
			for i := range answers {
				all.Go(func() { answers[i] = h.send(c) })
			}
			all.Wait()
			first := 0
			for _, a := range answers {
				if a.status != op.status || a.body != answers[0].body {
					t.Errorf("%s: %d %s\nand %d %s", op.id, a.status, a.body, answers[0].status, answers[0].body)
				}
				if a.header.Get("Idempotency-Replayed") == "" {
					first++
				}
			}
			grown := h.grown(before)
			delete(grown, "idempotency_keys")
			if fmt.Sprint(grown) != fmt.Sprint(leaves) || first != 1 {
				t.Errorf("%s: many calls left %v, one call %v; %d were the first", op.id, grown, leaves, first)
			}
			if op.body == nil {
				continue
			}
			other := h.clean(op, h.furnish(proofTenant))
			other.header.Set("Idempotency-Key", "once-"+op.id)
			if op.body.Properties["name"] != nil {
				other.body = withField(h, other.body, "name", "another")
			}
			before = h.sizes()
			if err := op.refusal(h.send(other), 422); err != nil {
				t.Errorf("%s, the same key for another call: %v", op.id, err)
			}
			if grown := h.grown(before); len(grown) > 0 {
				t.Errorf("%s, the same key for another call: %v", op.id, grown)
			}
		}
		if routes < 15 {
			t.Errorf("only %d routes take an Idempotency-Key", routes)
		}
		t.Logf("%d routes, %d calls, those of a route at once: each happened once", routes, calls)
	})
}

// sizes counts the rows of every table.
func (h *apiHouse) sizes() map[string]int {
	h.t.Helper()
	n := map[string]int{}
	for _, table := range h.tables() {
		n[table] = h.count(table)
	}
	return n
}

// grown gives by how much tables changed in size since.
func (h *apiHouse) grown(since map[string]int) map[string]int {
	h.t.Helper()
	by := map[string]int{}
	for table, n := range h.sizes() {
		if n != since[table] {
			by[table] = n - since[table]
		}
	}
	return by
}

// TestACutConnectionLeavesNoHalf hangs up on calls at any moment, on the side of the
// caller and, with Postgres, between the gateway and its database. What was asked for
// happened whole or not at all, and asking again with the same key makes it happen once.
func TestACutConnectionLeavesNoHalf(t *testing.T) {
	rounds := 40
	if long() {
		rounds = 400
	}
	inHouses(t, func(t *testing.T, h *apiHouse) {
		var cut atomic.Int64
		for n := range rounds {
			email := fmt.Sprintf("cut-%d@example.com", n)
			c := apiCall{"POST", "/v1/customers", fmt.Sprintf(`{"email":%q}`, email), http.Header{"Authorization": {"Bearer " + h.admin}, "Idempotency-Key": {email}}}
			for range 3 {
				ctx, hangUp := context.WithTimeout(t.Context(), time.Duration(rand.IntN(4000))*time.Microsecond)
				r, err := http.NewRequestWithContext(ctx, c.method, h.base+c.path, strings.NewReader(c.body))
				h.must(err)
				r.Header = c.header.Clone()
				r.Header.Set("Content-Type", "application/json")
				if a, err := h.client.Transport.RoundTrip(r); err != nil {
					cut.Add(1)
				} else {
					_ = a.Body.Close()
				}
				hangUp()
			}
			var again said
			eventually(t, "asking again is answered", func() bool {
				again = h.send(c)
				return again.status != 409 || again.header.Get("Retry-After") == ""
			})
			if again.status != 201 {
				t.Errorf("asked again: %d %s", again.status, again.body)
			}
			h.wholeOnce(email)
		}
		if cut.Load() == 0 {
			t.Error("no call was cut")
		}
		t.Logf("%d calls, %d connections cut in the middle: each happened once", rounds, cut.Load())
	})
}

// wholeOnce holds the database to one customer with one event of it.
func (h *apiHouse) wholeOnce(email string) {
	h.t.Helper()
	var customers, events int
	h.must(h.sql.QueryRowContext(h.t.Context(), `select count(*) from customers where email = $1`, email).Scan(&customers))
	h.must(h.sql.QueryRowContext(h.t.Context(), `
		select count(*) from audit_events a join customers c on c.id = a.customer_id where c.email = $1 and a.kind = 'customer.created'`, email).Scan(&events))
	if customers != 1 || events != 1 {
		h.t.Errorf("%s: %d customers, %d events", email, customers, events)
	}
}

// TestACutDatabaseLeavesNoHalf cuts the way to Postgres while calls are made.
func TestACutDatabaseLeavesNoHalf(t *testing.T) {
	h := newAPIHouse(t, "postgres", quiet())
	w, err := newWire(hostIn(h.url))
	h.must(err)
	t.Cleanup(w.close)
	s := h.providers
	s.DatabaseURL, s.RedisURL, s.MasterKeys, s.AdminKey = strings.Replace(h.url, hostIn(h.url), w.addr(), 1), testRedis(t), h.masterKeys, h.admin
	_, beside := h.replica(t, &s, quiet())
	rounds, unanswered, mended := 16, 0, 0
	if long() {
		rounds = 100
	}
	for n := range rounds {
		eventually(t, "the database is reached", func() bool {
			return h.sendTo(beside, apiCall{"GET", "/v1/customers?limit=1", "", http.Header{"Authorization": {"Bearer " + h.admin}}}).status == 200
		})
		emails := make([]string, 8)
		answers := make([]said, len(emails))
		var all sync.WaitGroup
		for i := range emails {
			emails[i] = fmt.Sprintf("wire-%d-%d@example.com", n, i)
			all.Go(func() {
				answers[i] = h.sendTo(beside, apiCall{"POST", "/v1/customers", fmt.Sprintf(`{"email":%q}`, emails[i]), http.Header{"Authorization": {"Bearer " + h.admin}}})
			})
		}
		<-time.After(time.Duration(rand.IntN(30_000)) * time.Microsecond)
		w.set(cut)
		all.Wait()
		w.set(whole)
		for i, a := range answers {
			var customers, events int
			h.must(h.sql.QueryRowContext(t.Context(), `select count(*) from customers where email = $1`, emails[i]).Scan(&customers))
			h.must(h.sql.QueryRowContext(t.Context(), `
				select count(*) from audit_events a join customers c on c.id = a.customer_id where c.email = $1 and a.kind = 'customer.created'`, emails[i]).Scan(&events))
			if a.status == 201 && (customers != 1 || events != 1) {
				t.Errorf("%s: answered %d, %d customers, %d events", emails[i], a.status, customers, events)
			}
			if a.status != 201 {
				unanswered++
				if a.status != 503 && a.status != 500 {
					t.Errorf("%s: %d %s", emails[i], a.status, a.body)
				}
			}
			if customers == 0 {
				// What Postgres had heard before the cut may end only now: then the e-mail is taken.
				eventually(t, "the same call is taken once the database is back", func() bool {
					again := h.sendTo(beside, apiCall{"POST", "/v1/customers", fmt.Sprintf(`{"email":%q}`, emails[i]), http.Header{"Authorization": {"Bearer " + h.admin}}}).status
					return again == 201 || again == 409
				})
				mended++
			}
			h.wholeOnce(emails[i])
		}
	}
	if unanswered == 0 {
		t.Error("no call was cut")
	}
	t.Logf("%d cuts, %d calls of %d without success, %d made again: 0 halves", rounds, unanswered, rounds*8, mended)
}

// hostIn gives host and port of a URL.
func hostIn(database string) string {
	_, rest, _ := strings.Cut(database, "//")
	if _, after, ok := strings.Cut(rest, "@"); ok {
		rest = after
	}
	host, _, _ := strings.Cut(rest, "/")
	return host
}
