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
	"hydragate/httpapi/httpapitest"
	"hydragate/httpapi/operation"
	"hydragate/identity"
)

const unknownID = httpapitest.SurfaceID

// routePath returns the path of a route with the IDs of the harness, or those in ids.
func (h *harness) routePath(to *operation.Route, ids map[string]string) string {
	values := map[string]string{
		"customer_id": h.customer, "identity_id": h.tenantIdentity, "instance_id": h.instance, "key_id": h.adminKey,
	}
	switch to.ID {
	case "adopt_identity", "block_sender", "unblock_sender", "erase_sender":
		values["identity_id"] = h.sender
	case "revoke_invite", "confirm_invite", "refuse_invite":
		values["invite_id"], _ = h.newInvites()
	case "undo_merge":
		values["customer_id"] = h.newMergedCustomer()
	}
	maps.Copy(values, ids)
	path := to.Path
	for name, id := range values {
		path = strings.ReplaceAll(path, "{"+name+"}", id)
	}
	switch to.ID {
	case "lookup_identity":
		path += "?channel=telegram&external_id=12345"
	case "list_unknown_senders":
		path += "?customer=none"
	case "erase_sender":
		path += "?erase=true"
	case "erase_address":
		path += "?channel=telegram&external_id=777&erase=true"
	}
	return path
}

// exampleRequest returns the example request of a route with IDs of the harness.
func (h *harness) exampleRequest(to *operation.Route) string {
	return strings.NewReplacer(
		"steve@example.com", "steve@example.org",
		strings.Trim(exampleOtherID, `"`), h.newCustomer(),
		strings.Trim(operation.ExampleInstanceID, `"`), h.instance,
	).Replace(to.Example.Request)
}

func (h *harness) setUpChannels() {
	for _, c := range []adapters.Channel{adapters.SMS, adapters.WhatsApp, adapters.Telegram, adapters.Slack} {
		_, _ = h.endpoints.Configure(context.Background(), gateway.EndpointConfig{
			TenantID: identity.DefaultTenant, InstanceID: h.instance, Channel: c, Address: "+61400111222",
		})
	}
}

// TestRoutes_MatchExamples sends the example request of each route and compares the response with
// the example response.
func TestRoutes_MatchExamples(t *testing.T) {
	for _, to := range new(API).nativeRoutes() {
		t.Run(to.ID, func(t *testing.T) {
			h := newHarness(t)
			h.setUpChannels()
			h.addUnknownSender(h.instance, "9")
			body := h.exampleRequest(to)
			got := h.request(to.Method, h.routePath(to, nil), strings.ReplaceAll(body, "12345", "99999"))
			h.expect(got, to.Status, "")
			if to.Status == http.StatusNoContent {
				if got.body != "" {
					t.Errorf("body = %q, want none", got.body)
				}
				return
			}
			var want, have any
			if err := json.Unmarshal([]byte(to.Example.Response), &want); err != nil {
				t.Fatalf("invalid example: %v", err)
			}
			if err := json.Unmarshal([]byte(got.body), &have); err != nil {
				t.Fatal(err)
			}
			if !sameShape(want, have) {
				t.Errorf("response = %s\nwant the fields of %s", got.body, to.Example.Response)
			}
			if got.header.Get("Cache-Control") != "no-store" {
				t.Errorf("Cache-Control %q", got.header.Get("Cache-Control"))
			}
		})
	}
}

// sameShape reports whether two JSON values have the same fields and types, recursively.
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

// TestOpenAPI_Document checks that the document contains the routes with their scopes, examples and
// errors, and no other operations.
func TestOpenAPI_Document(t *testing.T) {
	h := newHarness(t)
	got := h.request("GET", "/openapi.json", "", "Authorization")
	h.expect(got, 200, "")
	var doc struct {
		OpenAPI    string                               `json:"openapi"`
		Paths      map[string]map[string]map[string]any `json:"paths"`
		Components struct{ Schemas map[string]any }     `json:"components"`
	}
	if err := json.Unmarshal([]byte(got.body), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.OpenAPI != "3.1.0" || strings.Contains(got.body, "ErrorModel") || strings.Contains(got.body, "problem+json") {
		t.Error("the document has another version, or error formats of huma")
	}
	operations := 0
	for _, methods := range doc.Paths {
		operations += len(methods)
	}
	routes := h.api.nativeRoutes()
	if operations != len(routes) {
		t.Errorf("document has %d operations, want %d", operations, len(routes))
	}
	for _, to := range routes {
		op := doc.Paths[to.Path][strings.ToLower(to.Method)]
		if op == nil || op["x-scope"] != to.Scope || op["operationId"] != to.ID || op["summary"] != to.Summary ||
			op["security"] == nil {
			t.Errorf("%s: %v", to.ID, op["x-scope"])
			continue
		}
		if !slices.Contains(identity.Scopes, to.Scope) {
			t.Errorf("%s: unknown scope %s", to.ID, to.Scope)
		}
		responses := op["responses"].(map[string]any)
		for _, status := range append(to.ErrorStatuses(), to.Status) {
			media := jsonMedia(responses[strconv.Itoa(status)])
			if status != http.StatusNoContent && (media["schema"] == nil || media["example"] == nil) {
				t.Errorf("%s %d: no schema or no example", to.ID, status)
			}
		}
		if request := op["requestBody"]; (request != nil) != (to.Example.Request != "") ||
			request != nil && jsonMedia(request)["example"] == nil {
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

// TestRoutes_Scopes requests each route with all scopes except its own, and with only its own.
func TestRoutes_Scopes(t *testing.T) {
	h := newHarness(t)
	h.setUpChannels()
	for _, to := range h.api.nativeRoutes() {
		others := slices.DeleteFunc(slices.Clone(identity.Scopes), func(s string) bool { return s == to.Scope })
		got := h.request(
			to.Method, h.routePath(to, nil), h.exampleRequest(to),
			bearer(h.newKey(identity.APIKey{TenantID: identity.DefaultTenant, Scopes: others})),
		)
		h.expect(got, 403, `{"detail":"Missing scope: `+to.Scope+`"}`)
		got = h.request(to.Method, h.routePath(to, map[string]string{
			"customer_id": unknownID, "instance_id": unknownID, "key_id": unknownID,
		}), h.exampleRequest(to),
			bearer(h.newKey(identity.APIKey{TenantID: identity.DefaultTenant, Scopes: []string{to.Scope}})))
		if got.status == 403 && to.ID != "create_key" || got.status == 401 || got.status >= 500 {
			t.Errorf("%s with its scope = %d %s", to.ID, got.status, got.body)
		}
	}
}

// TestRoutes_OtherTenantNotFound checks that the response to an ID of another tenant is that to an
// unknown ID.
func TestRoutes_OtherTenantNotFound(t *testing.T) {
	h := newHarness(t)
	h.setUpChannels()
	keys, _ := h.store.ListAPIKeys(context.Background(), otherTenant, "", 1)
	_, foreignInvite := h.newInvites()
	for _, to := range h.api.nativeRoutes() {
		for name, id := range map[string]string{
			"customer_id": h.foreignCustomer, "identity_id": h.foreignIdentity, "instance_id": h.foreignInstance,
			"key_id": keys[0].ID, "invite_id": foreignInvite,
		} {
			if !strings.Contains(to.Path, "{"+name+"}") {
				continue
			}
			foreign := h.request(to.Method, h.routePath(to, map[string]string{name: id}), h.exampleRequest(to))
			unknown := h.request(to.Method, h.routePath(to, map[string]string{name: unknownID}), h.exampleRequest(to))
			if foreign.status != 404 || foreign.body != unknown.body || unknown.status != 404 {
				t.Errorf(
					"%s with a foreign %s = %d %s, unknown ID %d %s", to.ID, name, foreign.status, foreign.body,
					unknown.status, unknown.body,
				)
			}
		}
	}
	// An identity of another customer of the same tenant is not found either.
	other := h.request("POST", "/v1/customers", `{}`).fields(t)["id"].(string)
	for _, to := range h.api.nativeRoutes() {
		if strings.Contains(to.Path, "{customer_id}") && strings.Contains(to.Path, "{identity_id}") &&
			to.ID != "adopt_identity" {
			got := h.request(to.Method, h.routePath(to, map[string]string{"customer_id": other}), h.exampleRequest(to))
			h.expect(got, 404, `{"detail":"Identity not found"}`)
		}
	}
}

// TestRoutes_MassAssignment sends read-only and internal fields to each route that has a body.
func TestRoutes_MassAssignment(t *testing.T) {
	h := newHarness(t)
	for _, to := range h.api.nativeRoutes() {
		if to.Example.Request == "" {
			continue
		}
		known := h.api.routesByID[to.ID].Schema.Properties
		for _, field := range []string{
			"id", "ID", "Id", "customer_id", "identity_id", "tenant_id", "tenantId", "verified", "Verified", "VERIFIED",
			"verified_at", "role_override", "ROLE_OVERRIDE", "created_at", "updated_at", "claim_gen", "agent_secret_key",
			"webhook_secret", "hash", "hint", "scopes", "ſcopes", "Scopes",
			"channel", "Channel", "ſtatus", "status", "__proto__", "",
		} {
			if known[field] != nil {
				continue
			}
			body := strings.TrimSuffix(strings.TrimSpace(h.exampleRequest(to)), "}") + fmt.Sprintf(",%q:true}", field)
			got := h.request(to.Method, h.routePath(to, nil), body)
			want := fmt.Sprintf(
				`{"detail":[{"type":"extra_forbidden","loc":["body",%q],"msg":"Extra inputs are not permitted"}]}`,
				field,
			)
			h.expect(got, 422, want)
		}
	}
	body := `{"channel":"telegram","external_id":"555","metadata":{"role_override":"owner","verified":true}}`
	got := h.request("POST", "/v1/customers/"+h.customer+"/identities", body).fields(t)
	if got["role_override"] != nil || got["verified"] != false {
		t.Errorf("metadata changed the identity: %v", got)
	}
}

// TestRoutes_NoSecretEchoed sends secrets in all fields of all bodies and checks that error
// responses do not contain them.
func TestRoutes_NoSecretEchoed(t *testing.T) {
	h := newHarness(t)
	const canary = "hg-canary-4711"
	for _, to := range h.api.nativeRoutes() {
		route := h.api.routesByID[to.ID]
		for _, name := range route.Fields {
			field := fmt.Sprintf(`{%q:`, name)
			for _, body := range []string{
				field + `{"a":"` + canary + `"}}`, field + `["` + canary + `"]}`,
				field + `"` + canary + `","zzz":"` + canary + `"}`, field + `"` + canary + `",}`,
				field + `"` + canary, field + `"` + canary + `\u0000"}`, field + `"` + canary + `","a":1e999999}`,
				`"` + canary + `"`, canary,
			} {
				got := h.request(to.Method, h.routePath(to, nil), body)
				if got.status >= 500 || got.status >= 400 && strings.Contains(got.body, "canary") {
					t.Errorf("%s %s: %d %s", to.ID, body, got.status, got.body)
				}
			}
		}
	}
	if strings.Contains(h.log.String(), canary) {
		t.Error("the log contains a secret")
	}
}
