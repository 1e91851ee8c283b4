package api

import (
	"encoding/json"
	"net/http"
	"slices"
	"testing"

	"hydragate/e2e/harness"
	"hydragate/identity"
)

// stringsIn returns all strings of a JSON document that may be a secret.
func stringsIn(body string) (found []string) {
	var collect func(v any)
	collect = func(v any) {
		switch v := v.(type) {
		case string:
			if len(v) >= 6 {
				found = append(found, v)
			}
		case []any:
			for _, item := range v {
				collect(item)
			}
		case map[string]any:
			for _, item := range v {
				collect(item)
			}
		}
	}
	var doc any
	if json.Unmarshal([]byte(body), &doc) == nil {
		collect(doc)
	}
	return found
}

// credentialHeaders returns the headers with which text authenticates a caller, none for most texts.
func credentialHeaders(h *harness.APIFixture, text string) (headers []http.Header) {
	for _, header := range []http.Header{{"X-Api-Key": {text}}, {"Agent-Secret-Key": {text}}} {
		path, rejected := "/v1/customers?limit=1", 401
		if header.Get("Agent-Secret-Key") != "" {
			path, rejected = "/external/users/"+harness.RandomID(), 403
		}
		if h.Send(harness.APIRequest{Method: http.MethodGet, Path: path, Header: header}).Status != rejected {
			headers = append(headers, header)
		}
	}
	return headers
}

// TestReturnedSecrets_GrantNoMore calls every route with a key that has only the scope of the route,
// and uses every string of the response as a credential on every route. It checks that a secret
// that a route returns authorizes nothing that the caller could not do without it.
func TestReturnedSecrets_GrantNoMore(t *testing.T) {
	harness.ForEachAPIEngine(t, func(t *testing.T, h *harness.APIFixture) {
		targets := h.PrepareAll(harness.AnyOperation)
		useless, credentials, requests := map[string]bool{}, 0, 0
		for _, s := range h.PrepareAll(func(op *harness.APIOperation) bool { return op.Surface == "native" }) {
			for _, instance := range []string{"", s.Entities.InstanceID} {
				caller := h.CreateKey(identity.APIKey{
					TenantID: harness.TestTenantID, InstanceID: instance, Scopes: []string{s.Operation.Scope},
				})
				c := s.Request
				if instance == "" && s.Operation.Method != http.MethodGet { // the limited key makes the prepared request
					c = h.ValidRequest(s.Operation, h.CreateEntities(harness.TestTenantID))
				}
				c.Header = s.Operation.AuthHeader(caller.Token, s.Entities)
				for _, text := range stringsIn(h.Send(c).Body) {
					if useless[text] {
						continue
					}
					headers := credentialHeaders(h, text)
					useless[text] = len(headers) == 0
					for _, header := range headers {
						credentials++
						for _, target := range targets {
							requests++
							to := target.Request
							to.Header = header
							status := h.Send(to).Status
							if status != 401 && status != 403 && !mayCall(caller, target.Operation) {
								t.Errorf("%s of %s, which a key with %s received, on %s = %d, want 401 or 403",
									header, s.Operation.ID, s.Operation.Scope, target.Operation.ID, status)
							}
						}
					}
				}
			}
		}
		if credentials < 2 {
			t.Errorf("%d credentials in the responses, want at least those of the keys", credentials)
		}
		t.Logf("%d different texts returned, %d credentials, %d requests with these", len(useless), credentials, requests)
	})
}

// mayCall reports whether a key may call an operation. A user of the conversation-user API is a
// customer of the native API.
func mayCall(k harness.IssuedKey, op *harness.APIOperation) bool {
	if op.Surface != "external" {
		return k.HasScope(op.Scope)
	}
	return k.HasScope("customers:read") && k.HasScope("customers:write")
}

// TestAgentSecretKey_RequiresCustomerScopes checks who receives agent secret keys, and that a key
// which was rotated by a caller who does not receive the new one is replaced nevertheless.
func TestAgentSecretKey_RequiresCustomerScopes(t *testing.T) {
	harness.ForEachAPIEngine(t, func(t *testing.T, h *harness.APIFixture) {
		all := slices.DeleteFunc(slices.Clone(identity.Scopes), func(s string) bool { return s == "channels:write" })
		without := func(scope string) []string {
			return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return s == scope })
		}
		for _, c := range []struct {
			name     string
			scopes   []string
			received bool
		}{
			{"both scopes", []string{"instances:write", "customers:read", "customers:write"}, true},
			{"all scopes", all, true},
			{"all but customers:read", without("customers:read"), false},
			{"all but customers:write", without("customers:write"), false},
			{"instances:write", []string{"instances:write"}, false},
		} {
			own, other := h.CreateEntities(harness.TestTenantID), h.CreateEntities(harness.TestTenantID)
			for _, instance := range []string{"", own.InstanceID} {
				key := h.CreateKey(identity.APIKey{TenantID: harness.TestTenantID, InstanceID: instance, Scopes: c.scopes})
				path := "/v1/instances/" + own.InstanceID + "/agent-secret-key/rotate"
				requests := []harness.Response{h.CallAs(key.Token, "POST", path, `{"overlap_seconds":0}`)}
				if instance == "" {
					requests = append(requests, h.CallAs(key.Token, "POST", "/v1/instances", `{"name":"x"}`))
				}
				for _, a := range requests {
					secret, isText := h.DecodeObject(a.Body)["agent_secret_key"].(string)
					if a.Status != 201 || isText != c.received {
						t.Errorf("%s: %d %s, want 201 with agent_secret_key = null: %v", c.name, a.Status, a.Body, !c.received)
					}
					if !isText {
						continue
					}
					// It is valid within its instance only.
					for id, statuses := range map[string][]int{other.SecondCustomerID: {404}, own.CustomerID: {200, 404}} {
						got := h.Send(harness.APIRequest{
							Method: http.MethodGet, Path: "/external/users/" + id, Header: http.Header{"Agent-Secret-Key": {secret}},
						})
						if !slices.Contains(statuses, got.Status) {
							t.Errorf("%s: get user %s = %d %s, want %v", c.name, id, got.Status, got.Body, statuses)
						}
					}
				}
				old := h.Send(harness.APIRequest{
					Method: http.MethodGet, Path: "/external/users/" + own.CustomerID,
					Header: http.Header{"Agent-Secret-Key": {own.AgentKey}},
				})
				if old.Status != 403 {
					t.Errorf("%s: previous key after the rotation = %d, want 403", c.name, old.Status)
				}
			}
		}
	})
}
