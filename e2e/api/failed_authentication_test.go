package api

import (
	"fmt"
	"strconv"
	"sync"
	"testing"

	"hydragate/e2e/harness"
	"hydragate/httpapi/operation"
	"hydragate/identity"
)

// TestUnknownKeys_LimitedByNetwork sends 300 unknown keys of each kind from one network concurrently.
// It checks that they cost few look-ups and are answered with 429 beyond the limit, and that keys which
// exist, also those that were never used, and clients in other networks are not affected.
func TestUnknownKeys_LimitedByNetwork(t *testing.T) {
	harness.ForEachSurfaceEngine(t, func(t *testing.T, f *harness.SurfaceFixture) {
		const keys, existing = 300, 10
		for name, c := range map[string]struct {
			network, other, path string
			unauthenticated      int
			token                func() string
			create               func() string // a key that exists
		}{
			"API keys": {
				"192.0.2.1", "192.0.2.2", "/v1/customers?limit=1", 401,
				func() string { return identity.NewToken("hg_live_") },
				func() string { return f.NewKey(f.TenantID, "") },
			},
			"agent keys": {
				"2001:db8:1:2::1", "2001:db8:1:3::1", "/external/users/search?fkId=x", 403,
				func() string { return identity.NewToken("ask_") },
				func() string { return f.AgentKey },
			},
		} {
			send := func(token, client string) harness.SurfaceResponse {
				return f.Do(token, "GET", c.path, "", "X-Forwarded-For", client)
			}
			f.KeyLookups.Store(0)
			var mu sync.Mutex
			var all sync.WaitGroup
			statuses, accepted := map[int]int{}, map[int]int{}
			for range keys {
				all.Go(func() {
					got := send(c.token(), c.network)
					mu.Lock()
					defer mu.Unlock()
					statuses[got.Status]++
					if n, err := strconv.Atoi(got.Header.Get("Retry-After")); got.Status == 429 && (err != nil || n < 1) {
						t.Errorf("%s: Retry-After = %q, want a number of seconds", name, got.Header.Get("Retry-After"))
					}
				})
			}
			for range existing {
				token := c.create()
				all.Go(func() {
					for range 3 {
						got := send(token, c.network)
						mu.Lock()
						accepted[got.Status]++
						mu.Unlock()
					}
				})
			}
			all.Wait()
			if accepted[401]+accepted[403]+accepted[429] > 0 {
				t.Errorf("%s: statuses of keys that exist = %v", name, accepted)
			}
			// The limit refills while the requests are made.
			within := statuses[c.unauthenticated]
			if within < operation.FailuresPerMinute || within > 2*operation.FailuresPerMinute ||
				statuses[429] != keys-within {
				t.Errorf("%s: statuses of unknown keys = %v, want %d times %d, otherwise 429", name, statuses,
					operation.FailuresPerMinute, c.unauthenticated)
			}
			// Each existing key is looked up at most three times, when its cached copy is missing or old.
			lookups := int(f.KeyLookups.Load()) - within
			if most := 3*existing + keys/4; lookups > most {
				t.Errorf("%s: %d look-ups for keys beyond the limit, want at most %d", name, lookups, most)
			}
			if got := send(c.token(), c.other); got.Status != c.unauthenticated {
				t.Errorf("%s: status in another network = %d, want %d", name, got.Status, c.unauthenticated)
			}
			unknown := c.token()
			send(unknown, c.network)
			before := f.KeyLookups.Load()
			for range 5 {
				if got := send(unknown, c.network); got.Status == 200 {
					t.Errorf("%s: status of an unknown key = 200", name)
				}
			}
			if n := f.KeyLookups.Load() - before; n > 0 {
				t.Errorf("%s: %d look-ups of a key that is known not to exist, want none", name, n)
			}
			t.Logf("%s: %s; %d look-ups beyond the limit; keys that exist: %v", name, fmt.Sprint(statuses), lookups, accepted)
		}
	})
}
