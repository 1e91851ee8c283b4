package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/httpapi/operation"
	"hydragate/identity"
)

const unknownID = "01930f6e-ffff-7000-8000-ffffffffffff"

// routePath fills in a route's path. ids override what the world has.
func (w *harness) routePath(to *operation.Route, ids map[string]string) string {
	mine := map[string]string{"customer_id": w.customer, "identity_id": w.tenantIdentity, "instance_id": w.instance, "key_id": w.firstKeyID()}
	switch to.ID {
	case "adopt_identity", "block_sender", "unblock_sender":
		mine["identity_id"] = w.sender
	case "revoke_invite":
		mine["invite_id"], _ = w.newInvites()
	case "undo_merge":
		mine["customer_id"] = w.newMergedCustomer()
	}
	maps.Copy(mine, ids)
	path := to.Path
	for name, id := range mine {
		path = strings.ReplaceAll(path, "{"+name+"}", id)
	}
	switch to.ID {
	case "lookup_identity":
		path += "?channel=telegram&external_id=12345"
	case "list_unknown_senders":
		path += "?customer=none"
	}
	return path
}

func (w *harness) firstKeyID() string {
	defer w.store.lock()()
	return w.store.keys[0].ID
}

// exampleRequest gives the example request of a route, with ids of the world.
func (w *harness) exampleRequest(to *operation.Route) string {
	return strings.NewReplacer("steve@example.com", "steve@example.org", strings.Trim(exampleOtherID, `"`), w.newCustomer(), strings.Trim(operation.ExampleInstanceID, `"`), w.instance).Replace(to.Example.Request)
}

func (w *harness) setUpChannels() {
	for _, c := range []adapters.Channel{adapters.SMS, adapters.WhatsApp, adapters.Telegram, adapters.Slack} {
		_, _ = w.endpoints.Configure(context.Background(), gateway.EndpointConfig{
			TenantID: identity.DefaultTenant, InstanceID: w.instance, Channel: c, Address: "+61400111222",
		})
	}
}

// TestRoutes_MatchExamples sends the example of every route and holds
// the answer against the example in the document.
func TestRoutes_MatchExamples(t *testing.T) {
	for _, to := range new(API).nativeRoutes() {
		t.Run(to.ID, func(t *testing.T) {
			w := newHarness(t)
			w.setUpChannels()
			w.addUnknownSender(w.instance, "9")
			body := w.exampleRequest(to)
			got := w.request(to.Method, w.routePath(to, nil), strings.ReplaceAll(body, "12345", "99999"))
			w.expect(got, to.Status, "")
			if to.Status == http.StatusNoContent {
				if got.body != "" {
					t.Errorf("a body: %s", got.body)
				}
				return
			}
			var want, have any
			if err := json.Unmarshal([]byte(to.Example.Response), &want); err != nil {
				t.Fatalf("example: %v", err)
			}
			if err := json.Unmarshal([]byte(got.body), &have); err != nil {
				t.Fatal(err)
			}
			if !sameShape(want, have) {
				t.Errorf("got  %s\nlike %s", got.body, to.Example.Response)
			}
			if got.header.Get("Cache-Control") != "no-store" {
				t.Errorf("Cache-Control %q", got.header.Get("Cache-Control"))
			}
		})
	}
}

// sameShape reports whether two values have the same fields, all the way down.
func sameShape(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || !slices.Equal(operation.SortedKeys(a), operation.SortedKeys(b)) {
			return false
		}
		for k := range a {
			if k != "metadata" && !sameShape(a[k], b[k]) {
				return false
			}
		}
	case []any:
		b, ok := b.([]any)
		return ok && (len(a) == 0 || len(b) == 0 || sameShape(a[0], b[0]))
	case nil:
		return true
	default:
		return b == nil || fmt.Sprintf("%T", a) == fmt.Sprintf("%T", b)
	}
	return true
}

// TestOpenAPI_Document holds the document to the routes: every route is in it, with its
// scope, examples and errors, and nothing else is.
func TestOpenAPI_Document(t *testing.T) {
	w := newHarness(t)
	got := w.request("GET", "/openapi.json", "", "Authorization")
	w.expect(got, 200, "")
	var doc struct {
		OpenAPI    string                               `json:"openapi"`
		Paths      map[string]map[string]map[string]any `json:"paths"`
		Components struct{ Schemas map[string]any }     `json:"components"`
	}
	if err := json.Unmarshal([]byte(got.body), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.OpenAPI != "3.1.0" || strings.Contains(got.body, "ErrorModel") || strings.Contains(got.body, "problem+json") {
		t.Error("not the document of this API")
	}
	operations := 0
	for _, methods := range doc.Paths {
		operations += len(methods)
	}
	routes := w.api.nativeRoutes()
	if operations != len(routes) {
		t.Errorf("%d operations, %d routes", operations, len(routes))
	}
	for _, to := range routes {
		op := doc.Paths[to.Path][strings.ToLower(to.Method)]
		if op == nil || op["x-scope"] != to.Scope || op["operationId"] != to.ID || op["summary"] != to.Summary || op["security"] == nil {
			t.Errorf("%s: %v", to.ID, op["x-scope"])
			continue
		}
		if !slices.Contains(identity.Scopes, to.Scope) {
			t.Errorf("%s: no such scope %s", to.ID, to.Scope)
		}
		responses := op["responses"].(map[string]any)
		for _, status := range append(to.ErrorStatuses(), to.Status) {
			media := jsonMedia(responses[strconv.Itoa(status)])
			if status != http.StatusNoContent && (media["schema"] == nil || media["example"] == nil) {
				t.Errorf("%s %d: no schema or no example", to.ID, status)
			}
		}
		if request := op["requestBody"]; (request != nil) != (to.Example.Request != "") || request != nil && jsonMedia(request)["example"] == nil {
			t.Errorf("%s: no example of a request", to.ID)
		}
	}
	for _, ref := range strings.Split(got.body, `"$ref":"#/components/schemas/`)[1:] {
		name, _, _ := strings.Cut(ref, `"`)
		if doc.Components.Schemas[name] == nil {
			t.Errorf("no schema %s", name)
		}
	}
}

func jsonMedia(holder any) map[string]any {
	h, _ := holder.(map[string]any)
	content, _ := h["content"].(map[string]any)
	media, _ := content["application/json"].(map[string]any)
	return media
}

// TestRoutes_Scopes calls every route with every scope but its own, and with its own alone.
func TestRoutes_Scopes(t *testing.T) {
	w := newHarness(t)
	w.setUpChannels()
	for _, to := range w.api.nativeRoutes() {
		others := slices.DeleteFunc(slices.Clone(identity.Scopes), func(s string) bool { return s == to.Scope })
		got := w.request(to.Method, w.routePath(to, nil), w.exampleRequest(to), bearer(w.newKey(identity.APIKey{TenantID: identity.DefaultTenant, Scopes: others})))
		w.expect(got, 403, `{"detail":"Missing scope: `+to.Scope+`"}`)
		got = w.request(to.Method, w.routePath(to, map[string]string{"customer_id": unknownID, "instance_id": unknownID, "key_id": unknownID}), w.exampleRequest(to),
			bearer(w.newKey(identity.APIKey{TenantID: identity.DefaultTenant, Scopes: []string{to.Scope}})))
		if got.status == 403 && to.ID != "create_key" || got.status == 401 || got.status >= 500 {
			t.Errorf("%s with its scope: %d %s", to.ID, got.status, got.body)
		}
	}
}

// TestRoutes_OtherTenantNotFound compares, byte for byte, what is said of ids of another
// tenant with what is said of ids that do not exist.
func TestRoutes_OtherTenantNotFound(t *testing.T) {
	w := newHarness(t)
	w.setUpChannels()
	keys, _ := w.store.ListAPIKeys(context.Background(), otherTenant, "", 1)
	_, strangeInvite := w.newInvites()
	for _, to := range w.api.nativeRoutes() {
		for name, strange := range map[string]string{"customer_id": w.foreignCustomer, "identity_id": w.foreignIdentity, "instance_id": w.foreignInstance, "key_id": keys[0].ID, "invite_id": strangeInvite} {
			if !strings.Contains(to.Path, "{"+name+"}") {
				continue
			}
			theirs := w.request(to.Method, w.routePath(to, map[string]string{name: strange}), w.exampleRequest(to))
			unknown := w.request(to.Method, w.routePath(to, map[string]string{name: unknownID}), w.exampleRequest(to))
			if theirs.status != 404 || theirs.body != unknown.body || unknown.status != 404 {
				t.Errorf("%s %s: %d %s, unknown %d %s", to.ID, name, theirs.status, theirs.body, unknown.status, unknown.body)
			}
		}
	}
	// and an identity of ours under another customer of ours
	other := w.request("POST", "/v1/customers", `{}`).fields(t)["id"].(string)
	for _, to := range w.api.nativeRoutes() {
		if strings.Contains(to.Path, "{customer_id}") && strings.Contains(to.Path, "{identity_id}") && to.ID != "adopt_identity" {
			got := w.request(to.Method, w.routePath(to, map[string]string{"customer_id": other}), w.exampleRequest(to))
			w.expect(got, 404, `{"detail":"Identity not found"}`)
		}
	}
}

// TestRoutes_MassAssignment tries to set what is not the caller's to set, on every route
// that takes a body.
func TestRoutes_MassAssignment(t *testing.T) {
	w := newHarness(t)
	for _, to := range w.api.nativeRoutes() {
		if to.Example.Request == "" {
			continue
		}
		known := w.api.routesByID[to.ID].Schema.Properties
		for _, field := range []string{"id", "ID", "Id", "customer_id", "identity_id", "tenant_id", "tenantId", "verified", "Verified", "VERIFIED", "verified_at",
			"role_override", "ROLE_OVERRIDE", "created_at", "updated_at", "claim_gen", "agent_secret_key", "webhook_secret", "hash", "hint", "scopes", "ſcopes", "Scopes",
			"channel", "Channel", "ſtatus", "status", "__proto__", ""} {
			if known[field] != nil {
				continue
			}
			body := strings.TrimSuffix(strings.TrimSpace(w.exampleRequest(to)), "}") + fmt.Sprintf(",%q:true}", field)
			got := w.request(to.Method, w.routePath(to, nil), body)
			want := fmt.Sprintf(`{"detail":[{"type":"extra_forbidden","loc":["body",%q],"msg":"Extra inputs are not permitted"}]}`, field)
			w.expect(got, 422, want)
		}
	}
	body := `{"channel":"telegram","external_id":"555","metadata":{"role_override":"owner","verified":true}}`
	got := w.request("POST", "/v1/customers/"+w.customer+"/identities", body).fields(t)
	if got["role_override"] != nil || got["verified"] != false {
		t.Errorf("metadata is more than data: %v", got)
	}
}

// TestRoutes_NoSecretEchoed sends secrets in every field of every body, in ways that are
// refused.
func TestRoutes_NoSecretEchoed(t *testing.T) {
	w := newHarness(t)
	const canary = "hg-canary-4711"
	for _, to := range w.api.nativeRoutes() {
		shape := w.api.routesByID[to.ID]
		for _, name := range shape.Fields {
			for _, body := range []string{
				fmt.Sprintf(`{%q:{"a":%q}}`, name, canary), fmt.Sprintf(`{%q:[%q]}`, name, canary), fmt.Sprintf(`{%q:%q,"zzz":%q}`, name, canary, canary),
				fmt.Sprintf(`{%q:%q,}`, name, canary), fmt.Sprintf(`{%q:"%s`, name, canary), fmt.Sprintf(`{%q:"%s\u0000"}`, name, canary), fmt.Sprintf(`{%q:"%s","a":1e999999}`, name, canary),
				fmt.Sprintf(`%q`, canary), canary,
			} {
				got := w.request(to.Method, w.routePath(to, nil), body)
				if got.status >= 500 || got.status >= 400 && strings.Contains(got.body, "canary") {
					t.Errorf("%s %s: %d %s", to.ID, body, got.status, got.body)
				}
			}
		}
	}
	if strings.Contains(w.log.String(), canary) {
		t.Error("a secret in the log")
	}
}
