//go:build unix

package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hydragate/identity"
)

// holding gives a key of the default tenant with scopes.
func (h *apiHouse) holding(scopes ...string) heldKey {
	return h.keyed(identity.APIKey{TenantID: proofTenant, Scopes: scopes})
}

// TestEveryScopeOpensItsRoutesAndNoOther calls every route with every scope alone, with
// none and with all; and with scopes that look like a wildcard. What a route does not
// open to is refused before anything is looked up, and changes nothing.
func TestEveryScopeOpensItsRoutesAndNoOther(t *testing.T) {
	inHouses(t, func(t *testing.T, h *apiHouse) {
		keys := map[string]heldKey{"none": h.holding(), "all": h.holding(identity.Scopes...)}
		for _, s := range identity.Scopes {
			keys[s] = h.holding(s)
		}
		for _, s := range []string{"*", "*:*", "identities:*", "*:write", "identities", "IDENTITIES:WRITE", "identities:writ", "identities:write:x", "admin", "root", "%", "identities:read,identities:write"} {
			keys[s] = h.holding(s)
		}
		stages := h.stages(func(op *apiOp) bool { return op.surface != "external" })
		for _, s := range stages {
			if !slices.Contains(identity.Scopes, s.op.scope) {
				t.Errorf("%s: the document says the scope %q", s.op.id, s.op.scope)
			}
			name := "all but " + s.op.scope
			if _, there := keys[name]; !there {
				keys[name] = h.holding(slices.DeleteFunc(slices.Clone(identity.Scopes), func(scope string) bool { return scope == s.op.scope })...)
			}
		}
		opened, refused := 0, 0
		before := h.everyRow("")
		for at, s := range stages {
			for n, name := range sortedNames(keys) {
				if keys[name].May(s.op.scope) || h.spared(n+at) {
					continue
				}
				c := s.right
				c.header = s.op.lets(keys[name].token, s.mine)
				a := h.send(c)
				refused++
				if err := s.op.refusal(a, 403); err != nil || !strings.Contains(a.body, `"Missing scope: `+s.op.scope+`"`) {
					t.Errorf("%s with %s: %v %s", s.op.id, name, err, a.body)
				}
			}
		}
		h.unchanged(before)
		for at, s := range stages {
			for _, name := range []string{s.op.scope, "all"} {
				if name == "all" && h.spared(at) {
					continue
				}
				c := s.right
				if name == "all" {
					c = h.clean(s.op, h.furnish(proofTenant))
				}
				c.header = s.op.lets(keys[name].token, s.mine)
				opened++
				if a := h.send(c); a.status != s.op.status {
					t.Errorf("%s with %s: %d %s", s.op.id, name, a.status, a.body)
				}
			}
		}
		t.Logf("%d calls opened by their scope, %d refused to all others", opened, refused)
	})
}

// TestNobodyHandsOutWhatNobodyHolds asks for keys with scopes that there are not, and
// with more than the caller holds.
func TestNobodyHandsOutWhatNobodyHolds(t *testing.T) {
	h := newAPIHouse(t, "sqlite", quiet())
	th := h.furnish(proofTenant)
	few := h.holding("keys:write", "customers:read")
	before := h.everyRow("")
	asked := 0
	for _, scope := range append([]string{"*", "keys:*", "customers:READ", "", " ", "customers:read ", "admin"}, identity.Scopes...) {
		if scope == "keys:write" || scope == "customers:read" {
			continue
		}
		asked++
		a := h.send(apiCall{"POST", "/v1/keys", h.json(map[string]any{"name": "x", "scopes": []string{"customers:read", scope}}), http.Header{"X-Api-Key": {few.token}}})
		if a.status != 403 && a.status != 422 {
			t.Errorf("%q: %d %s", scope, a.status, a.body)
		}
	}
	if a := h.send(apiCall{"POST", "/v1/keys", h.json(map[string]any{"name": "x", "scopes": []string{"channels:write"}, "instance_id": th.instance}), http.Header{"X-Api-Key": {h.admin}}}); a.status != 422 {
		t.Errorf("channels:write for one instance: %d %s", a.status, a.body)
	}
	if row := differing(before, h.everyRow("")); row != "" {
		t.Error(row)
	}
	t.Logf("%d scopes asked for, 0 handed out", asked)
}

// credentials are headers that prove nothing.
func (h *apiHouse) credentials(th things) map[string]http.Header {
	now := time.Now()
	bearer := func(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }
	expired := h.keyed(identity.APIKey{TenantID: proofTenant, Scopes: identity.Scopes, ExpiresAt: now.Add(-time.Second)})
	revoked := h.holding(identity.Scopes...)
	h.must(h.store.RevokeAPIKey(h.t.Context(), proofTenant, revoked.ID, identity.System))
	rotated := h.holding(identity.Scopes...)
	_, err := h.store.RotateAPIKey(h.t.Context(), proofTenant, rotated.ID, identity.APIKey{Hint: "xxxx"}, identity.HashToken(identity.NewToken("hg_live_")), now.Add(-time.Second), identity.System)
	h.must(err)
	other := h.holding(identity.Scopes...)
	return map[string]http.Header{
		"nothing": {}, "expired": bearer(expired.token), "revoked": bearer(revoked.token), "rotated out": bearer(rotated.token),
		"garbage": bearer("garbage"), "of the right shape": bearer(identity.NewToken("hg_live_")), "its hash": bearer(identity.HashToken(h.admin)), "an id": bearer(expired.ID),
		"empty": {"Authorization": {""}}, "bearer alone": {"Authorization": {"Bearer"}}, "bearer and blank": {"Authorization": {"Bearer "}}, "empty key": {"X-Api-Key": {""}},
		"basic": {"Authorization": {"Basic " + h.admin}}, "digest": {"Authorization": {"Digest " + h.admin}}, "token": {"Authorization": {"Token " + h.admin}}, "no scheme": {"Authorization": {h.admin}},
		"negotiate": {"Authorization": {"Negotiate " + h.admin}}, "bearer with a comma": bearer(h.admin + ", Bearer x"), "cut": bearer(h.admin[:len(h.admin)-1]), "longer": bearer(h.admin + "x"),
		"in capitals": bearer(strings.ToUpper(h.admin)), "very long": bearer(strings.Repeat("a", 12<<10)), "513": bearer(strings.Repeat("a", 513)), "two, one right": {"Authorization": {"Bearer " + h.admin, "Bearer x"}},
		"two keys": {"X-Api-Key": {h.admin, other.token}}, "both, in conflict": {"Authorization": {"Bearer " + h.admin}, "X-Api-Key": {other.token}},
		"both, one empty": {"Authorization": {"Bearer " + h.admin}, "X-Api-Key": {""}}, "right key, wrong bearer": {"Authorization": {"Bearer garbage"}, "X-Api-Key": {h.admin}},
		"right key, basic too": {"Authorization": {"Basic eDp5"}, "X-Api-Key": {h.admin}}, "a JWT": bearer("eyJhbGciOiJub25lIn0.eyJzdWIiOiJzdGV2ZSJ9."), "unicode": bearer("\u212aey"),
		"agent's key": bearer(th.agentKey), "cookie": {"Cookie": {"Authorization=" + h.admin + "; token=" + h.admin}}, "proxy": {"Proxy-Authorization": {"Bearer " + h.admin}},
		"forwarded": {"X-Forwarded-Authorization": {"Bearer " + h.admin}, "X-Forwarded-User": {"admin"}}, "sql": bearer("' or '1'='1"), "wildcard": bearer("hg_live_%"), "nul": bearer("null"),
	}
}

// agentCredentials are headers that name no instance.
func (h *apiHouse) agentCredentials(th, other things) map[string]http.Header {
	named := func(keys ...string) http.Header { return http.Header{"Agent-Secret-Key": keys} }
	return map[string]http.Header{
		"nothing": {}, "empty": named(""), "garbage": named("garbage"), "of the right shape": named(identity.NewToken("ask_")), "two": named(th.agentKey, other.agentKey), "the same twice": named(th.agentKey, th.agentKey),
		"an API key": named(h.admin), "an API key as bearer": {"Authorization": {"Bearer " + h.admin}}, "its key as bearer": {"Authorization": {"Bearer " + th.agentKey}}, "its hash": named(identity.HashToken(th.agentKey)),
		"cut": named(th.agentKey[:len(th.agentKey)-1]), "in capitals": named(strings.ToUpper(th.agentKey)), "very long": named(strings.Repeat("a", 12<<10)), "instance id": named(th.instance), "blank before": named("x " + th.agentKey),
		"another header": {"X-Agent-Secret-Key": {th.agentKey}}, "cookie": {"Cookie": {"Agent-Secret-Key=" + th.agentKey}},
	}
}

// TestNoRouteOpensToWhatProvesNothing sends every route headers that prove nothing, and
// the right key where it is not looked for: in the query and the body. Every answer is
// the same, byte for byte, and nothing changes.
func TestNoRouteOpensToWhatProvesNothing(t *testing.T) {
	inHouses(t, func(t *testing.T, h *apiHouse) {
		th, other := h.furnish(proofTenant), h.furnish(proofTenant)
		open, agents := h.credentials(th), h.agentCredentials(th, other)
		asked, rights := 0, map[string]apiCall{}
		for _, op := range h.ops {
			rights[op.id] = h.clean(op, th)
		}
		before := h.everyRow("")
		for _, op := range h.ops {
			right := rights[op.id]
			tries, status := open, 401
			if op.surface == "external" {
				tries, status = agents, 403
			}
			var first *said
			try := func(why string, c apiCall) {
				asked++
				a := h.send(c)
				if err := op.refusal(a, status); err != nil {
					t.Errorf("%s, %s: %v", op.id, why, err)
				}
				if status == 401 && a.header.Get("WWW-Authenticate") != "Bearer" {
					t.Errorf("%s, %s: %v", op.id, why, a.header)
				}
				if first == nil {
					first = &a
				} else if err := alikeButForID(a, *first); err != nil {
					t.Errorf("%s, %s: %v", op.id, why, err)
				}
			}
			for n, why := range sortedNames(tries) {
				if h.spared(n + asked) {
					continue
				}
				c := right
				c.header = tries[why].Clone()
				try(why, c)
			}
			c := right
			c.header = http.Header{}
			join := map[bool]string{true: "&", false: "?"}[strings.Contains(c.path, "?")]
			c.path += join + strings.ReplaceAll("api_key=K&apikey=K&key=K&access_token=K&token=K&x-api-key=K&authorization=Bearer%20K&agent_secret_key="+th.agentKey, "K", h.admin)
			try("in the query", c)
			c.path, c.body = right.path, `{"api_key":"`+h.admin+`","access_token":"`+h.admin+`","Agent-Secret-Key":"`+th.agentKey+`"}`
			try("in the body", c)
		}
		h.unchanged(before)
		// The twin: odd ways to say it that are right.
		for why, header := range map[string]http.Header{
			"bearer in small letters": {"Authorization": {"bearer " + h.admin}}, "both, the same": {"Authorization": {"Bearer " + h.admin}, "X-Api-Key": {h.admin}},
			"key alone": {"X-Api-Key": {h.admin}}, "more blanks": {"Authorization": {"Bearer   " + h.admin}},
		} {
			if a := h.send(apiCall{"GET", "/v1/customers", "", header}); a.status != 200 {
				t.Errorf("%s: %d %s", why, a.status, a.body)
			}
		}
		t.Logf("%d routes, %d calls that prove nothing, 0 opened", len(h.ops), asked)
	})
}

// TestEndedKeysEndOnEveryReplica ends keys on one replica while another one uses them all
// the time, and measures how long that goes on.
func TestEndedKeysEndOnEveryReplica(t *testing.T) {
	const within = 5 * time.Second
	h := newAPIHouse(t, "postgres", quiet())
	s := h.providers
	s.DatabaseURL, s.RedisURL, s.MasterKeys, s.AdminKey = h.url, testRedis(t), h.masterKeys, h.admin
	_, beside := h.replica(t, &s, quiet())
	_, third := h.replica(t, &s, quiet())
	ends := map[string]func(k heldKey) said{
		"revoked": func(k heldKey) said { return h.as(h.admin, "DELETE", "/v1/keys/"+k.ID, "") },
		"rotated": func(k heldKey) said {
			return h.as(h.admin, "POST", "/v1/keys/"+k.ID+"/rotate", `{"overlap_seconds":0}`)
		},
	}
	var mu sync.Mutex
	longest := map[string]time.Duration{}
	var all sync.WaitGroup
	for why, end := range ends {
		for _, base := range []string{beside, third} {
			for range 2 {
				k := h.holding("customers:read")
				all.Go(func() {
					use := func() int {
						return h.sendTo(base, apiCall{"GET", "/v1/customers?limit=1", "", http.Header{"X-Api-Key": {k.token}}}).status
					}
					if got := use(); got != 200 {
						t.Errorf("before it was %s: %d", why, got)
					}
					begun := time.Now()
					if a := end(k); a.status/100 != 2 {
						t.Errorf("%s: %d %s", why, a.status, a.body)
					}
					for use() == 200 && time.Since(begun) < 2*within {
					}
					took := time.Since(begun)
					mu.Lock()
					defer mu.Unlock()
					longest[why] = max(longest[why], took)
				})
			}
		}
	}
	// A key that expires does so on the clock, whatever is cached.
	soon := h.keyed(identity.APIKey{TenantID: proofTenant, Scopes: []string{"customers:read"}, ExpiresAt: time.Now().Add(time.Second)})
	all.Go(func() {
		for h.sendTo(beside, apiCall{"GET", "/v1/customers?limit=1", "", http.Header{"X-Api-Key": {soon.token}}}).status == 200 {
		}
		mu.Lock()
		defer mu.Unlock()
		longest["expired"] = time.Since(soon.ExpiresAt)
	})
	all.Wait()
	for why, took := range longest {
		if took > within {
			t.Errorf("%s: used for %s more; want at most %s", why, took, within)
		}
	}
	t.Logf("%d keys ended while two other replicas used them; the longest use after: %v", len(ends)*4+1, longest)
}

// as calls with an API key.
func (h *apiHouse) as(token, method, path, body string) said {
	h.t.Helper()
	return h.send(apiCall{method, path, body, http.Header{"Authorization": {"Bearer " + token}}})
}

// TestWrongKeysCostTheSame measures what the program does about a key of an id that there
// is not, and about a wrong secret of one that there is: one look-up, in the same time.
func TestWrongKeysCostTheSame(t *testing.T) {
	inHouses(t, func(t *testing.T, h *apiHouse) {
		runs := 300
		if long() {
			runs = 2000
		}
		live := h.holding("customers:read")
		flipped := []byte(live.token)
		took := map[string][]time.Duration{}
		for i := range runs {
			flipped[len(flipped)-1] = "abcdefghijklmnop"[i%16]
			for why, token := range map[string]string{"unknown": identity.NewToken("hg_live_"), "wrong secret": string(flipped[:len(flipped)-2]) + fmt.Sprintf("%02d", i%100)} {
				begun := time.Now()
				a := h.as(token, "GET", "/v1/customers", "")
				took[why] = append(took[why], time.Since(begun))
				if a.status != 401 {
					t.Fatalf("%s: %d", why, a.status)
				}
			}
		}
		unknown, wrong := median(took["unknown"]), median(took["wrong secret"])
		apart := float64(unknown-wrong) / float64(max(unknown, wrong)) * 100
		if long() && (apart > 10 || apart < -10) {
			t.Errorf("unknown %s, wrong secret %s", unknown, wrong)
		}
		t.Logf("medians of %d: unknown %s, wrong secret %s: %.1f %% apart", runs, unknown, wrong, apart)
	})
}
