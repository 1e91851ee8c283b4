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

// TestScopes_EveryRoute calls every route with a key for each scope, with no scope, with all
// scopes, with all but the required scope, and with scopes that look like a wildcard. It checks
// that a key without the required scope is rejected with 403 and that nothing changes.
func TestScopes_EveryRoute(t *testing.T) {
	harness.ForEachAPIEngine(t, func(t *testing.T, h *harness.APIFixture) {
		keys := map[string]harness.IssuedKey{"none": h.CreateScopedKey(), "all": h.CreateScopedKey(identity.Scopes...)}
		for _, s := range identity.Scopes {
			keys[s] = h.CreateScopedKey(s)
		}
		wildcards := []string{
			"*", "*:*", "identities:*", "*:write", "identities", "IDENTITIES:WRITE", "identities:writ",
			"identities:write:x", "admin", "root", "%", "identities:read,identities:write",
		}
		for _, s := range wildcards {
			keys[s] = h.CreateScopedKey(s)
		}
		stages := h.PrepareAll(func(op *harness.APIOperation) bool { return op.Surface != "external" })
		for _, s := range stages {
			if !slices.Contains(identity.Scopes, s.Operation.Scope) {
				t.Errorf("%s: documented scope = %q, want a known scope", s.Operation.ID, s.Operation.Scope)
			}
			name := "all but " + s.Operation.Scope
			if _, ok := keys[name]; !ok {
				keys[name] = h.CreateScopedKey(slices.DeleteFunc(slices.Clone(identity.Scopes), func(scope string) bool {
					return scope == s.Operation.Scope
				})...)
			}
		}
		accepted, rejected := 0, 0
		before := h.AllRows("")
		for at, s := range stages {
			for n, name := range harness.SortedKeys(keys) {
				if keys[name].HasScope(s.Operation.Scope) || h.SkippedInShortRun(n+at) {
					continue
				}
				c := s.Request
				c.Header = s.Operation.AuthHeader(keys[name].Token, s.Entities)
				a := h.Send(c)
				rejected++
				err := s.Operation.CheckRejection(a, 403)
				if want := `"Missing scope: ` + s.Operation.Scope + `"`; err != nil || !strings.Contains(a.Body, want) {
					t.Errorf("%s with scope %s: %v, response %s, want it to contain %s", s.Operation.ID, name, err, a.Body, want)
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
				accepted++
				if a := h.Send(c); a.Status != s.Operation.Status {
					t.Errorf("%s with scope %s = %d %s, want %d", s.Operation.ID, name, a.Status, a.Body, s.Operation.Status)
				}
			}
		}
		t.Logf("%d requests accepted with their scope, %d rejected without it", accepted, rejected)
	})
}

// TestCreateKey_ScopeSubset checks that a key cannot be created with unknown scopes or with scopes
// that the caller does not have.
func TestCreateKey_ScopeSubset(t *testing.T) {
	h := harness.NewAPIFixture(t, harness.Options{Engine: harness.SQLite, APIOnly: true})
	th := h.CreateEntities(harness.TestTenantID)
	limited := h.CreateScopedKey("keys:write", "customers:read")
	createKey := func(token string, body map[string]any) harness.Response {
		return h.Send(harness.APIRequest{
			Method: "POST", Path: "/v1/keys", Body: h.EncodeJSON(body), Header: http.Header{"X-Api-Key": {token}},
		})
	}
	before := h.AllRows("")
	requests := 0
	unknown := []string{"*", "keys:*", "customers:READ", "", " ", "customers:read ", "admin"}
	for _, scope := range append(unknown, identity.Scopes...) {
		if scope == "keys:write" || scope == "customers:read" {
			continue
		}
		requests++
		a := createKey(limited.Token, map[string]any{"name": "x", "scopes": []string{"customers:read", scope}})
		if a.Status != 403 && a.Status != 422 {
			t.Errorf("create key with scope %q = %d %s, want 403 or 422", scope, a.Status, a.Body)
		}
	}
	body := map[string]any{"name": "x", "scopes": []string{"channels:write"}, "instance_id": th.InstanceID}
	if a := createKey(h.AdminKey, body); a.Status != 422 {
		t.Errorf("create key with channels:write for one instance = %d %s, want 422", a.Status, a.Body)
	}
	if row := harness.DiffRows(before, h.AllRows("")); row != "" {
		t.Error(row)
	}
	t.Logf("%d scopes requested, none granted", requests)
}

// invalidCredentials returns headers that do not authenticate a caller of the API.
func invalidCredentials(h *harness.APIFixture, th harness.Entities) map[string]http.Header {
	now := time.Now()
	bearer := func(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }
	expired := h.CreateKey(identity.APIKey{
		TenantID: harness.TestTenantID, Scopes: identity.Scopes, ExpiresAt: now.Add(-time.Second),
	})
	revoked := h.CreateScopedKey(identity.Scopes...)
	h.Must(h.Store.RevokeAPIKey(h.T.Context(), harness.TestTenantID, revoked.ID, identity.System))
	rotated := h.CreateScopedKey(identity.Scopes...)
	_, err := h.Store.RotateAPIKey(h.T.Context(), identity.KeyRotation{
		TenantID: harness.TestTenantID, KeyID: rotated.ID, Hint: "xxxx",
		Hash: identity.HashToken(identity.NewToken("hg_live_")), OldUntil: now.Add(-time.Second),
	}, identity.System)
	h.Must(err)
	other := h.CreateScopedKey(identity.Scopes...)
	return map[string]http.Header{
		"no header":                    {},
		"expired key":                  bearer(expired.Token),
		"revoked key":                  bearer(revoked.Token),
		"rotated key":                  bearer(rotated.Token),
		"garbage":                      bearer("garbage"),
		"unknown key":                  bearer(identity.NewToken("hg_live_")),
		"hash of the key":              bearer(identity.HashToken(h.AdminKey)),
		"key ID":                       bearer(expired.ID),
		"empty header":                 {"Authorization": {""}},
		"bearer without token":         {"Authorization": {"Bearer"}},
		"bearer and space":             {"Authorization": {"Bearer "}},
		"empty X-Api-Key":              {"X-Api-Key": {""}},
		"basic":                        {"Authorization": {"Basic " + h.AdminKey}},
		"digest":                       {"Authorization": {"Digest " + h.AdminKey}},
		"token":                        {"Authorization": {"Token " + h.AdminKey}},
		"no scheme":                    {"Authorization": {h.AdminKey}},
		"negotiate":                    {"Authorization": {"Negotiate " + h.AdminKey}},
		"two tokens in one header":     bearer(h.AdminKey + ", Bearer x"),
		"truncated key":                bearer(h.AdminKey[:len(h.AdminKey)-1]),
		"extended key":                 bearer(h.AdminKey + "x"),
		"upper case key":               bearer(strings.ToUpper(h.AdminKey)),
		"very long token":              bearer(strings.Repeat("a", 12<<10)),
		"token of 513 bytes":           bearer(strings.Repeat("a", 513)),
		"valid and invalid bearer":     {"Authorization": {"Bearer " + h.AdminKey, "Bearer x"}},
		"two valid keys":               {"X-Api-Key": {h.AdminKey, other.Token}},
		"different bearer and key":     {"Authorization": {"Bearer " + h.AdminKey}, "X-Api-Key": {other.Token}},
		"bearer and empty key":         {"Authorization": {"Bearer " + h.AdminKey}, "X-Api-Key": {""}},
		"valid key and invalid bearer": {"Authorization": {"Bearer garbage"}, "X-Api-Key": {h.AdminKey}},
		"valid key and basic":          {"Authorization": {"Basic eDp5"}, "X-Api-Key": {h.AdminKey}},
		"unsigned JWT":                 bearer("eyJhbGciOiJub25lIn0.eyJzdWIiOiJzdGV2ZSJ9."),
		"non-ASCII token":              bearer("\u212aey"),
		"agent secret key":             bearer(th.AgentKey),
		"cookie":                       {"Cookie": {"Authorization=" + h.AdminKey + "; token=" + h.AdminKey}},
		"proxy authorization":          {"Proxy-Authorization": {"Bearer " + h.AdminKey}},
		"forwarded headers": {
			"X-Forwarded-Authorization": {"Bearer " + h.AdminKey}, "X-Forwarded-User": {"admin"},
		},
		"SQL":      bearer("' or '1'='1"),
		"wildcard": bearer("hg_live_%"),
		"null":     bearer("null"),
	}
}

// invalidAgentCredentials returns headers that do not authenticate an instance on the external
// surface.
func invalidAgentCredentials(h *harness.APIFixture, th, other harness.Entities) map[string]http.Header {
	agentKey := func(keys ...string) http.Header { return http.Header{"Agent-Secret-Key": keys} }
	return map[string]http.Header{
		"no header":             {},
		"empty header":          agentKey(""),
		"garbage":               agentKey("garbage"),
		"unknown key":           agentKey(identity.NewToken("ask_")),
		"two keys":              agentKey(th.AgentKey, other.AgentKey),
		"repeated key":          agentKey(th.AgentKey, th.AgentKey),
		"API key":               agentKey(h.AdminKey),
		"API key as bearer":     {"Authorization": {"Bearer " + h.AdminKey}},
		"agent key as bearer":   {"Authorization": {"Bearer " + th.AgentKey}},
		"hash of the key":       agentKey(identity.HashToken(th.AgentKey)),
		"truncated key":         agentKey(th.AgentKey[:len(th.AgentKey)-1]),
		"upper case key":        agentKey(strings.ToUpper(th.AgentKey)),
		"very long key":         agentKey(strings.Repeat("a", 12<<10)),
		"instance ID":           agentKey(th.InstanceID),
		"prefix before the key": agentKey("x " + th.AgentKey),
		"X-Agent-Secret-Key":    {"X-Agent-Secret-Key": {th.AgentKey}},
		"cookie":                {"Cookie": {"Agent-Secret-Key=" + th.AgentKey}},
	}
}

// TestInvalidCredentials_EveryRoute sends invalid credentials to every route, and a valid key in
// the query and the body, where it is not read. It checks that all responses of a route are
// identical and that nothing changes.
func TestInvalidCredentials_EveryRoute(t *testing.T) {
	harness.ForEachAPIEngine(t, func(t *testing.T, h *harness.APIFixture) {
		th, other := h.CreateEntities(harness.TestTenantID), h.CreateEntities(harness.TestTenantID)
		apiHeaders, agentHeaders := invalidCredentials(h, th), invalidAgentCredentials(h, th, other)
		requests, valid := 0, map[string]harness.APIRequest{}
		for _, op := range h.Operations {
			valid[op.ID] = h.ValidRequest(op, th)
		}
		before := h.AllRows("")
		for _, op := range h.Operations {
			request := valid[op.ID]
			headers, status := apiHeaders, 401
			if op.Surface == "external" {
				headers, status = agentHeaders, 403
			}
			var first *harness.Response
			expectRejected := func(name string, c harness.APIRequest) {
				requests++
				a := h.Send(c)
				if err := op.CheckRejection(a, status); err != nil {
					t.Errorf("%s, %s: %v", op.ID, name, err)
				}
				if got := a.Header.Get("WWW-Authenticate"); status == 401 && got != "Bearer" {
					t.Errorf("%s, %s: WWW-Authenticate = %q, want Bearer", op.ID, name, got)
				}
				if first == nil {
					first = &a
				} else if err := compareIgnoringID(a, *first); err != nil {
					t.Errorf("%s, %s: %v", op.ID, name, err)
				}
			}
			for n, name := range harness.SortedKeys(headers) {
				if h.SkippedInShortRun(n + requests) {
					continue
				}
				c := request
				c.Header = headers[name].Clone()
				expectRejected(name, c)
			}
			c := request
			c.Header = http.Header{}
			join := map[bool]string{true: "&", false: "?"}[strings.Contains(c.Path, "?")]
			const query = "api_key=K&apikey=K&key=K&access_token=K&token=K&x-api-key=K&authorization=Bearer%20K"
			c.Path += join + strings.ReplaceAll(query, "K", h.AdminKey) + "&agent_secret_key=" + th.AgentKey
			expectRejected("key in the query", c)
			c.Path = request.Path
			c.Body = `{"api_key":"` + h.AdminKey + `","access_token":"` + h.AdminKey +
				`","Agent-Secret-Key":"` + th.AgentKey + `"}`
			expectRejected("key in the body", c)
		}
		h.RequireUnchanged(before)
		// Unusual but valid credentials are accepted.
		for name, header := range map[string]http.Header{
			"lower case scheme":   {"Authorization": {"bearer " + h.AdminKey}},
			"same bearer and key": {"Authorization": {"Bearer " + h.AdminKey}, "X-Api-Key": {h.AdminKey}},
			"X-Api-Key":           {"X-Api-Key": {h.AdminKey}},
			"several spaces":      {"Authorization": {"Bearer   " + h.AdminKey}},
		} {
			if a := h.Send(harness.APIRequest{Method: "GET", Path: "/v1/customers", Body: "", Header: header}); a.Status != 200 {
				t.Errorf("GET /v1/customers with %s = %d %s, want 200", name, a.Status, a.Body)
			}
		}
		t.Logf("%d routes, %d requests with invalid credentials, none accepted", len(h.Operations), requests)
	})
}

// TestEndedKeys_EveryReplica revokes, rotates and expires keys that are in use on other replicas,
// and checks that no key is accepted for more than five seconds afterwards.
func TestEndedKeys_EveryReplica(t *testing.T) {
	const limit = 5 * time.Second
	h := harness.NewAPIFixture(t, harness.Options{APIOnly: true, Replicas: 3})
	second, third := "http://"+h.Replicas()[1].Addr, "http://"+h.Replicas()[2].Addr
	ends := map[string]func(k harness.IssuedKey) harness.Response{
		"revoked": func(k harness.IssuedKey) harness.Response {
			return h.CallAs(h.AdminKey, "DELETE", "/v1/keys/"+k.ID, "")
		},
		"rotated": func(k harness.IssuedKey) harness.Response {
			return h.CallAs(h.AdminKey, "POST", "/v1/keys/"+k.ID+"/rotate", `{"overlap_seconds":0}`)
		},
	}
	use := func(base string, k harness.IssuedKey) int {
		return h.SendTo(base, harness.APIRequest{
			Method: "GET", Path: "/v1/customers?limit=1", Header: http.Header{"X-Api-Key": {k.Token}},
		}).Status
	}
	var mu sync.Mutex
	longest := map[string]time.Duration{}
	var all sync.WaitGroup
	for reason, end := range ends {
		for _, base := range []string{second, third} {
			for range 2 {
				k := h.CreateScopedKey("customers:read")
				all.Go(func() {
					if got := use(base, k); got != 200 {
						t.Errorf("status before the key was %s = %d, want 200", reason, got)
					}
					if a := end(k); a.Status/100 != 2 {
						t.Errorf("request by which the key is %s = %d %s, want 2xx", reason, a.Status, a.Body)
					}
					took := lastAccepted(h, time.Now(), 2*limit, func() int { return use(base, k) })
					mu.Lock()
					defer mu.Unlock()
					longest[reason] = max(longest[reason], took)
				})
			}
		}
	}
	// A key expires on time even if it is cached.
	expiring := h.CreateKey(identity.APIKey{
		TenantID: harness.TestTenantID, Scopes: []string{"customers:read"}, ExpiresAt: time.Now().Add(time.Second),
	})
	all.Go(func() {
		took := lastAccepted(h, expiring.ExpiresAt, 2*limit, func() int { return use(second, expiring) })
		mu.Lock()
		defer mu.Unlock()
		longest["expired"] = took
	})
	all.Wait()
	for reason, took := range longest {
		if took > limit {
			t.Errorf("%s key accepted for %s, want at most %s", reason, took, limit)
		}
	}
	t.Logf("%d keys ended while in use on two other replicas; longest use afterwards: %v", len(ends)*4+1, longest)
}

// lastAccepted calls use until it returns another status than 200, for at most a time after since. It
// returns how long after since the last call began that returned 200: a request counts when it is made,
// however long its response takes.
func lastAccepted(h *harness.APIFixture, since time.Time, atMost time.Duration, use func() int) (last time.Duration) {
	for {
		began := time.Since(since)
		if use() != 200 || began > atMost {
			return last
		}
		last = began
		h.Sleep(10 * time.Millisecond)
	}
}

// TestInvalidKeys_ConstantTime checks that a request with an unknown key and one with an existing
// key and a wrong secret take the same time. Each is sent once, because unknown keys are cached.
func TestInvalidKeys_ConstantTime(t *testing.T) {
	harness.ForEachAPIEngine(t, func(t *testing.T, h *harness.APIFixture) {
		runs := 300
		if harness.FullRun() {
			runs = 2000
		}
		live := h.CreateScopedKey("customers:read")
		took := map[string][]time.Duration{}
		for i := range runs {
			for kind, token := range map[string]string{
				"unknown":      identity.NewToken("hg_live_"),
				"wrong secret": live.Token[:len(live.Token)-4] + fmt.Sprintf("%04d", i),
			} {
				start := time.Now()
				a := h.CallAs(token, "GET", "/v1/customers", "")
				took[kind] = append(took[kind], time.Since(start))
				if a.Status != 401 {
					t.Fatalf("request with %s key = %d, want 401", kind, a.Status)
				}
			}
		}
		unknown, wrong := harness.Median(took["unknown"]), harness.Median(took["wrong secret"])
		difference := float64(unknown-wrong) / float64(max(unknown, wrong)) * 100
		if harness.FullRun() && (difference > 10 || difference < -10) {
			t.Errorf("median time with an unknown key = %s, with a wrong secret = %s, want less than 10 %% difference", unknown,
				wrong)
		}
		t.Logf("medians of %d requests: unknown key %s, wrong secret %s, difference %.1f %%", runs, unknown, wrong,
			difference)
	})
}
