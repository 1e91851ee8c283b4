package api

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hydragate/e2e/harness"
	"hydragate/identity"
)

// TestScopes_EveryRoute calls every route with every scope alone, with
// none and with all; and with scopes that look like a wildcard. What a route does not
// open to is refused before anything is looked up, and changes nothing.
func TestScopes_EveryRoute(t *testing.T) {
	harness.ForEachAPIEngine(t, func(t *testing.T, h *harness.APIFixture) {
		keys := map[string]harness.IssuedKey{"none": h.CreateScopedKey(), "all": h.CreateScopedKey(identity.Scopes...)}
		for _, s := range identity.Scopes {
			keys[s] = h.CreateScopedKey(s)
		}
		for _, s := range []string{"*", "*:*", "identities:*", "*:write", "identities", "IDENTITIES:WRITE", "identities:writ", "identities:write:x", "admin", "root", "%", "identities:read,identities:write"} {
			keys[s] = h.CreateScopedKey(s)
		}
		stages := h.PrepareAll(func(op *harness.APIOperation) bool { return op.Surface != "external" })
		for _, s := range stages {
			if !slices.Contains(identity.Scopes, s.Operation.Scope) {
				t.Errorf("%s: the document says the scope %q", s.Operation.ID, s.Operation.Scope)
			}
			name := "all but " + s.Operation.Scope
			if _, there := keys[name]; !there {
				keys[name] = h.CreateScopedKey(slices.DeleteFunc(slices.Clone(identity.Scopes), func(scope string) bool { return scope == s.Operation.Scope })...)
			}
		}
		opened, refused := 0, 0
		before := h.AllRows("")
		for at, s := range stages {
			for n, name := range harness.SortedKeys(keys) {
				if keys[name].HasScope(s.Operation.Scope) || h.SkippedInShortRun(n+at) {
					continue
				}
				c := s.Request
				c.Header = s.Operation.AuthHeader(keys[name].Token, s.Entities)
				a := h.Send(c)
				refused++
				if err := s.Operation.CheckRejection(a, 403); err != nil || !strings.Contains(a.Body, `"Missing scope: `+s.Operation.Scope+`"`) {
					t.Errorf("%s with %s: %v %s", s.Operation.ID, name, err, a.Body)
				}
			}
		}
		h.RequireUnchanged(before)
		for at, s := range stages {
			for _, name := range []string{s.Operation.Scope, "all"} {
				if name == "all" && h.SkippedInShortRun(at) {
					continue
				}
				c := s.Request
				if name == "all" {
					c = h.ValidRequest(s.Operation, h.CreateEntities(harness.TestTenantID))
				}
				c.Header = s.Operation.AuthHeader(keys[name].Token, s.Entities)
				opened++
				if a := h.Send(c); a.Status != s.Operation.Status {
					t.Errorf("%s with %s: %d %s", s.Operation.ID, name, a.Status, a.Body)
				}
			}
		}
		t.Logf("%d calls opened by their scope, %d refused to all others", opened, refused)
	})
}

// TestCreateKey_ScopeSubset asks for keys with scopes that there are not, and
// with more than the caller holds.
func TestCreateKey_ScopeSubset(t *testing.T) {
	h := harness.NewAPIFixture(t, "sqlite", harness.DiscardLogger())
	th := h.CreateEntities(harness.TestTenantID)
	few := h.CreateScopedKey("keys:write", "customers:read")
	before := h.AllRows("")
	asked := 0
	for _, scope := range append([]string{"*", "keys:*", "customers:READ", "", " ", "customers:read ", "admin"}, identity.Scopes...) {
		if scope == "keys:write" || scope == "customers:read" {
			continue
		}
		asked++
		a := h.Send(harness.APIRequest{Method: "POST", Path: "/v1/keys", Body: h.EncodeJSON(map[string]any{"name": "x", "scopes": []string{"customers:read", scope}}), Header: http.Header{"X-Api-Key": {few.Token}}})
		if a.Status != 403 && a.Status != 422 {
			t.Errorf("%q: %d %s", scope, a.Status, a.Body)
		}
	}
	if a := h.Send(harness.APIRequest{Method: "POST", Path: "/v1/keys", Body: h.EncodeJSON(map[string]any{"name": "x", "scopes": []string{"channels:write"}, "instance_id": th.InstanceID}), Header: http.Header{"X-Api-Key": {h.AdminKey}}}); a.Status != 422 {
		t.Errorf("channels:write for one instance: %d %s", a.Status, a.Body)
	}
	if row := harness.DiffRows(before, h.AllRows("")); row != "" {
		t.Error(row)
	}
	t.Logf("%d scopes asked for, 0 handed out", asked)
}

// invalidCredentials are headers that prove nothing.
func invalidCredentials(h *harness.APIFixture, th harness.Entities) map[string]http.Header {
	now := time.Now()
	bearer := func(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }
	expired := h.CreateKey(identity.APIKey{TenantID: harness.TestTenantID, Scopes: identity.Scopes, ExpiresAt: now.Add(-time.Second)})
	revoked := h.CreateScopedKey(identity.Scopes...)
	h.Must(h.Store.RevokeAPIKey(h.T.Context(), harness.TestTenantID, revoked.ID, identity.System))
	rotated := h.CreateScopedKey(identity.Scopes...)
	_, err := h.Store.RotateAPIKey(h.T.Context(), harness.TestTenantID, rotated.ID, identity.APIKey{Hint: "xxxx"}, identity.HashToken(identity.NewToken("hg_live_")), now.Add(-time.Second), identity.System)
	h.Must(err)
	other := h.CreateScopedKey(identity.Scopes...)
	return map[string]http.Header{
		"nothing": {}, "expired": bearer(expired.Token), "revoked": bearer(revoked.Token), "rotated out": bearer(rotated.Token),
		"garbage": bearer("garbage"), "of the right shape": bearer(identity.NewToken("hg_live_")), "its hash": bearer(identity.HashToken(h.AdminKey)), "an id": bearer(expired.ID),
		"empty": {"Authorization": {""}}, "bearer alone": {"Authorization": {"Bearer"}}, "bearer and blank": {"Authorization": {"Bearer "}}, "empty key": {"X-Api-Key": {""}},
		"basic": {"Authorization": {"Basic " + h.AdminKey}}, "digest": {"Authorization": {"Digest " + h.AdminKey}}, "token": {"Authorization": {"Token " + h.AdminKey}}, "no scheme": {"Authorization": {h.AdminKey}},
		"negotiate": {"Authorization": {"Negotiate " + h.AdminKey}}, "bearer with a comma": bearer(h.AdminKey + ", Bearer x"), "cut": bearer(h.AdminKey[:len(h.AdminKey)-1]), "longer": bearer(h.AdminKey + "x"),
		"in capitals": bearer(strings.ToUpper(h.AdminKey)), "very long": bearer(strings.Repeat("a", 12<<10)), "513": bearer(strings.Repeat("a", 513)), "two, one right": {"Authorization": {"Bearer " + h.AdminKey, "Bearer x"}},
		"two keys": {"X-Api-Key": {h.AdminKey, other.Token}}, "both, in conflict": {"Authorization": {"Bearer " + h.AdminKey}, "X-Api-Key": {other.Token}},
		"both, one empty": {"Authorization": {"Bearer " + h.AdminKey}, "X-Api-Key": {""}}, "right key, wrong bearer": {"Authorization": {"Bearer garbage"}, "X-Api-Key": {h.AdminKey}},
		"right key, basic too": {"Authorization": {"Basic eDp5"}, "X-Api-Key": {h.AdminKey}}, "a JWT": bearer("eyJhbGciOiJub25lIn0.eyJzdWIiOiJzdGV2ZSJ9."), "unicode": bearer("\u212aey"),
		"agent's key": bearer(th.AgentKey), "cookie": {"Cookie": {"Authorization=" + h.AdminKey + "; token=" + h.AdminKey}}, "proxy": {"Proxy-Authorization": {"Bearer " + h.AdminKey}},
		"forwarded": {"X-Forwarded-Authorization": {"Bearer " + h.AdminKey}, "X-Forwarded-User": {"admin"}}, "sql": bearer("' or '1'='1"), "wildcard": bearer("hg_live_%"), "nul": bearer("null"),
	}
}

// invalidAgentCredentials are headers that name no instance.
func invalidAgentCredentials(h *harness.APIFixture, th, other harness.Entities) map[string]http.Header {
	named := func(keys ...string) http.Header { return http.Header{"Agent-Secret-Key": keys} }
	return map[string]http.Header{
		"nothing": {}, "empty": named(""), "garbage": named("garbage"), "of the right shape": named(identity.NewToken("ask_")), "two": named(th.AgentKey, other.AgentKey), "the same twice": named(th.AgentKey, th.AgentKey),
		"an API key": named(h.AdminKey), "an API key as bearer": {"Authorization": {"Bearer " + h.AdminKey}}, "its key as bearer": {"Authorization": {"Bearer " + th.AgentKey}}, "its hash": named(identity.HashToken(th.AgentKey)),
		"cut": named(th.AgentKey[:len(th.AgentKey)-1]), "in capitals": named(strings.ToUpper(th.AgentKey)), "very long": named(strings.Repeat("a", 12<<10)), "instance id": named(th.InstanceID), "blank before": named("x " + th.AgentKey),
		"another header": {"X-Agent-Secret-Key": {th.AgentKey}}, "cookie": {"Cookie": {"Agent-Secret-Key=" + th.AgentKey}},
	}
}

// TestInvalidCredentials_EveryRoute sends every route headers that prove nothing, and
// the right key where it is not looked for: in the query and the body. Every answer is
// the same, byte for byte, and nothing changes.
func TestInvalidCredentials_EveryRoute(t *testing.T) {
	harness.ForEachAPIEngine(t, func(t *testing.T, h *harness.APIFixture) {
		th, other := h.CreateEntities(harness.TestTenantID), h.CreateEntities(harness.TestTenantID)
		open, agents := invalidCredentials(h, th), invalidAgentCredentials(h, th, other)
		asked, rights := 0, map[string]harness.APIRequest{}
		for _, op := range h.Operations {
			rights[op.ID] = h.ValidRequest(op, th)
		}
		before := h.AllRows("")
		for _, op := range h.Operations {
			right := rights[op.ID]
			tries, status := open, 401
			if op.Surface == "external" {
				tries, status = agents, 403
			}
			var first *harness.Response
			try := func(why string, c harness.APIRequest) {
				asked++
				a := h.Send(c)
				if err := op.CheckRejection(a, status); err != nil {
					t.Errorf("%s, %s: %v", op.ID, why, err)
				}
				if status == 401 && a.Header.Get("WWW-Authenticate") != "Bearer" {
					t.Errorf("%s, %s: %v", op.ID, why, a.Header)
				}
				if first == nil {
					first = &a
				} else if err := compareIgnoringID(a, *first); err != nil {
					t.Errorf("%s, %s: %v", op.ID, why, err)
				}
			}
			for n, why := range harness.SortedKeys(tries) {
				if h.SkippedInShortRun(n + asked) {
					continue
				}
				c := right
				c.Header = tries[why].Clone()
				try(why, c)
			}
			c := right
			c.Header = http.Header{}
			join := map[bool]string{true: "&", false: "?"}[strings.Contains(c.Path, "?")]
			c.Path += join + strings.ReplaceAll("api_key=K&apikey=K&key=K&access_token=K&token=K&x-api-key=K&authorization=Bearer%20K&agent_secret_key="+th.AgentKey, "K", h.AdminKey)
			try("in the query", c)
			c.Path, c.Body = right.Path, `{"api_key":"`+h.AdminKey+`","access_token":"`+h.AdminKey+`","Agent-Secret-Key":"`+th.AgentKey+`"}`
			try("in the body", c)
		}
		h.RequireUnchanged(before)
		// The twin: odd ways to say it that are right.
		for why, header := range map[string]http.Header{
			"bearer in small letters": {"Authorization": {"bearer " + h.AdminKey}}, "both, the same": {"Authorization": {"Bearer " + h.AdminKey}, "X-Api-Key": {h.AdminKey}},
			"key alone": {"X-Api-Key": {h.AdminKey}}, "more blanks": {"Authorization": {"Bearer   " + h.AdminKey}},
		} {
			if a := h.Send(harness.APIRequest{Method: "GET", Path: "/v1/customers", Body: "", Header: header}); a.Status != 200 {
				t.Errorf("%s: %d %s", why, a.Status, a.Body)
			}
		}
		t.Logf("%d routes, %d calls that prove nothing, 0 opened", len(h.Operations), asked)
	})
}

// TestEndedKeys_EveryReplica ends keys on one replica while another one uses them all
// the time, and measures how long that goes on.
func TestEndedKeys_EveryReplica(t *testing.T) {
	const within = 5 * time.Second
	h := harness.NewAPIFixture(t, "postgres", harness.DiscardLogger())
	s := h.Providers
	s.DatabaseURL, s.RedisURL, s.MasterKeys, s.AdminKey = h.DSN, harness.TestRedisURL(t), h.MasterKeys, h.AdminKey
	_, beside := h.StartReplica(t, &s, harness.DiscardLogger())
	_, third := h.StartReplica(t, &s, harness.DiscardLogger())
	ends := map[string]func(k harness.IssuedKey) harness.Response{
		"revoked": func(k harness.IssuedKey) harness.Response {
			return h.CallAs(h.AdminKey, "DELETE", "/v1/keys/"+k.ID, "")
		},
		"rotated": func(k harness.IssuedKey) harness.Response {
			return h.CallAs(h.AdminKey, "POST", "/v1/keys/"+k.ID+"/rotate", `{"overlap_seconds":0}`)
		},
	}
	var mu sync.Mutex
	longest := map[string]time.Duration{}
	var all sync.WaitGroup
	for why, end := range ends {
		for _, base := range []string{beside, third} {
			for range 2 {
				k := h.CreateScopedKey("customers:read")
				all.Go(func() {
					use := func() int {
						return h.SendTo(base, harness.APIRequest{Method: "GET", Path: "/v1/customers?limit=1", Body: "", Header: http.Header{"X-Api-Key": {k.Token}}}).Status
					}
					if got := use(); got != 200 {
						t.Errorf("before it was %s: %d", why, got)
					}
					begun := time.Now()
					if a := end(k); a.Status/100 != 2 {
						t.Errorf("%s: %d %s", why, a.Status, a.Body)
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
	soon := h.CreateKey(identity.APIKey{TenantID: harness.TestTenantID, Scopes: []string{"customers:read"}, ExpiresAt: time.Now().Add(time.Second)})
	all.Go(func() {
		for h.SendTo(beside, harness.APIRequest{Method: "GET", Path: "/v1/customers?limit=1", Body: "", Header: http.Header{"X-Api-Key": {soon.Token}}}).Status == 200 {
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

// TestInvalidKeys_ConstantTime measures what the program does about a key of an id that there
// is not, and about a wrong secret of one that there is: one look-up, in the same time.
func TestInvalidKeys_ConstantTime(t *testing.T) {
	harness.ForEachAPIEngine(t, func(t *testing.T, h *harness.APIFixture) {
		runs := 300
		if harness.FullRun() {
			runs = 2000
		}
		live := h.CreateScopedKey("customers:read")
		flipped := []byte(live.Token)
		took := map[string][]time.Duration{}
		for i := range runs {
			flipped[len(flipped)-1] = "abcdefghijklmnop"[i%16]
			for why, token := range map[string]string{"unknown": identity.NewToken("hg_live_"), "wrong secret": string(flipped[:len(flipped)-2]) + fmt.Sprintf("%02d", i%100)} {
				begun := time.Now()
				a := h.CallAs(token, "GET", "/v1/customers", "")
				took[why] = append(took[why], time.Since(begun))
				if a.Status != 401 {
					t.Fatalf("%s: %d", why, a.Status)
				}
			}
		}
		unknown, wrong := harness.Median(took["unknown"]), harness.Median(took["wrong secret"])
		apart := float64(unknown-wrong) / float64(max(unknown, wrong)) * 100
		if harness.FullRun() && (apart > 10 || apart < -10) {
			t.Errorf("unknown %s, wrong secret %s", unknown, wrong)
		}
		t.Logf("medians of %d: unknown %s, wrong secret %s: %.1f %% apart", runs, unknown, wrong, apart)
	})
}
