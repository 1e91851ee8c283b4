package httpapi

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hydragate/gateway/delivery"
)

// newDocumentHarness serves an API with all surfaces and events, so that its document is complete.
func newDocumentHarness(t *testing.T) *harness {
	w, _ := newSurfaceHarness(t, func(a *API) {
		for _, e := range delivery.EventTypes() {
			a.Events = append(a.Events, EventType(e))
		}
	})
	return w
}

func (w *harness) document(path string) map[string]any {
	w.t.Helper()
	got := w.request("GET", path, "", "Authorization")
	w.expect(got, 200, "")
	var doc map[string]any
	if err := json.Unmarshal([]byte(got.body), &doc); err != nil {
		w.t.Fatal(err)
	}
	return doc
}

// operations returns the operations of a document, including webhooks, by ID.
func operations(doc map[string]any) map[string]map[string]any {
	all := map[string]map[string]any{}
	for _, section := range []string{"paths", "webhooks"} {
		items, _ := doc[section].(map[string]any)
		for _, item := range items {
			for _, op := range item.(map[string]any) {
				op := op.(map[string]any)
				all[op["operationId"].(string)] = op
			}
		}
	}
	return all
}

func TestOpenAPI_EverythingIsDescribed(t *testing.T) {
	doc := newDocumentHarness(t).document("/openapi.json")
	for id, op := range operations(doc) {
		if text(op["summary"]) == "" || strings.Count(text(op["description"]), ".") == 0 ||
			strings.HasPrefix(text(op["description"]), "\n") {
			t.Errorf("operation %s: summary %q, description %q", id, op["summary"], op["description"])
		}
		parameters, _ := op["parameters"].([]any)
		for _, p := range parameters {
			if p := p.(map[string]any); text(p["description"]) == "" {
				t.Errorf("operation %s: parameter %s has no description", id, p["name"])
			}
		}
	}
	checkProperties(t, doc, "")
}

// checkProperties reports the properties of all schemas in v that have no description, and enums with
// the value null.
func checkProperties(t *testing.T, v any, path string) {
	switch v := v.(type) {
	case map[string]any:
		properties, _ := v["properties"].(map[string]any)
		for name, p := range properties {
			if text(p.(map[string]any)["description"]) == "" {
				t.Errorf("property %s.%s has no description", path, name)
			}
		}
		if enum, ok := v["enum"].([]any); ok && slices.Contains(enum, nil) {
			t.Errorf("enum %s contains null", path)
		}
		for name, member := range v {
			if name != "example" {
				checkProperties(t, member, path+"."+name)
			}
		}
	case []any:
		for _, item := range v {
			checkProperties(t, item, path)
		}
	}
}

func text(v any) string { s, _ := v.(string); return s }

func TestOpenAPI_TagOrder(t *testing.T) {
	doc := newDocumentHarness(t).document("/openapi.json")
	used := map[string]bool{}
	for _, op := range operations(doc) {
		used[text(op["tags"].([]any)[0])] = true
	}
	var names []string
	for _, tag := range doc["tags"].([]any) {
		names = append(names, text(tag.(map[string]any)["name"]))
	}
	want := []string{
		"Instances", "Channels", "Customers", "Identities", "Claims", "Events", "Audit", "Tenant", "Keys",
		"Conversation users",
		"Contact identities",
	}
	if !slices.Equal(names, want) {
		t.Errorf("tags %v, want %v", names, want)
	}
	if slices.Sort(want); !slices.Equal(slices.Sorted(maps.Keys(used)), want) {
		t.Errorf("tags of operations %v, want %v", slices.Sorted(maps.Keys(used)), want)
	}
}

func TestOpenAPI_ErrorExamples(t *testing.T) {
	ops := operations(newDocumentHarness(t).document("/openapi.json"))
	for _, tt := range []struct{ operation, status, want string }{
		{"create_key", "403", `{"detail":"Missing scope: keys:write"}`},
		{"create_key", "404", `{"detail":"Instance not found"}`},
		{"read_audit", "404", `{"detail":"Instance not found"}`},
		{"create_key", "409", `{"detail":"A request with this Idempotency-Key is still in progress"}`},
		{"create_key", "422", `{"detail":[{"loc":["body","name"],"msg":"Field required","type":"missing"}]}`},
		{"create_customer", "409", `{"detail":"Another customer has this email"}`},
		{"revoke_invite", "404", `{"detail":"Invite not found"}`},
		{"external_create_user", "400", `{"details":[{"message":"User already exists."}],` +
			`"message":"User already exists.","name":"BAD_REQUEST","status":400}`},
		{"external_get_user", "404", `{"details":[{"message":"User not found."}],` +
			`"message":"ENTITY_NOT_FOUND","name":"ENTITY_NOT_FOUND_ERROR","status":404}`},
		{"contact_get_identity", "404", `{"errorCode":"NotFound","message":"Contact identity not found"}`},
	} {
		responses := ops[tt.operation]["responses"].(map[string]any)
		got, _ := json.Marshal(jsonMedia(responses[tt.status])["example"])
		if string(got) != tt.want {
			t.Errorf("%s %s: example %s, want %s", tt.operation, tt.status, got, tt.want)
		}
	}
}

func TestOpenAPI_EventsAllowAdditionalFields(t *testing.T) {
	doc := newDocumentHarness(t).document("/openapi.json")
	schemas := doc["components"].(map[string]any)["schemas"].(map[string]any)
	for _, name := range []string{
		"MessageReceived", "IdentityVerified", "EventMessage", "EventSender", "EventCapabilities", "EventReply",
	} {
		schema, ok := schemas[name].(map[string]any)
		if _, limited := schema["additionalProperties"]; !ok || limited {
			t.Errorf("schema %s: additionalProperties %v, want none", name, schema["additionalProperties"])
		}
	}
	for name, item := range doc["webhooks"].(map[string]any) {
		security, ok := item.(map[string]any)["post"].(map[string]any)["security"].([]any)
		if !ok || len(security) != 0 {
			t.Errorf("webhook %s: security %v, want none", name, security)
		}
	}
}

// TestOpenAPI_GenerateClient generates Go code from the document in OpenAPI 3.0 with oapi-codegen, with
// its default options, and compiles it.
func TestOpenAPI_GenerateClient(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles a code generator")
	}
	got := newDocumentHarness(t).request("GET", "/openapi-3.0.json", "", "Authorization")
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "oapi-codegen"))); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "openapi.json"), []byte(got.body), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"tool", "oapi-codegen", "-package", "client", "-o", "client.gen.go", "openapi.json"},
		{"vet", "."},
	} {
		cmd := exec.Command("go", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}
