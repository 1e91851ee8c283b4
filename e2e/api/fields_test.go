package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"unicode"

	"hydragate/e2e/harness"
)

// serverFields returns fields that only the gateway may set, and similar fields of compatible
// products. Callers must leave out a field that is documented for a route.
func serverFields() map[string]any {
	id := harness.RandomID()
	const past = "2020-01-01T00:00:00Z"
	return map[string]any{
		"id": id, "_id": id, "tenant_id": harness.OtherTenantID, "tenantId": harness.OtherTenantID,
		"customer_id": id, "customerId": id, "contactId": id, "identity_id": id, "instance_id": id, "owner_id": id,
		"verified": true, "is_verified": true, "verified_at": past, "verifiedAt": past,
		"role_override": "owner", "role": "owner", "roleOverride": "owner",
		"claim_gen": 7, "claim_expires_at": "2099-01-01T00:00:00Z", "claim_used_msg": nil, "claim_revoked_at": nil,
		"opted_out_at": nil, "blocked_at": nil, "refused_at": nil,
		"created_at": past, "updated_at": past, "deleted_at": nil, "merged_into": id, "isAnonymized": true,
		"agent_secret_key": "ask_x", "agent_secret_hash": "x", "webhook_secret": "whsec_x",
		"credentials": map[string]any{}, "settings": map[string]any{}, "status": "active", "enabled": true,
		"webhook_url": "https://evil.example.com", "api_url": "https://evil.example.com",
		"key": "hg_live_x", "hash": "x", "hint": "x", "revoked_at": nil, "last_used_at": nil,
		"scopes": []string{"keys:write"}, "agent_disabled_at": nil, "poll_epoch": 1,
		"__proto__": map[string]any{"verified": true}, "constructor": nil, "": "x", "$set": map[string]any{},
	}
}

// lookAlikes returns names that a lenient decoder may confuse with name: in another case, with
// letters that case-fold to it, and with invisible characters around it.
func lookAlikes(name string) []string {
	var names []string
	add := func(s string) {
		if s != name && !slices.Contains(names, s) {
			names = append(names, s)
		}
	}
	add(strings.ToUpper(name))
	add(strings.ToLower(name))
	first := []rune(name)
	first[0] = unicode.ToUpper(first[0])
	add(string(first))
	var alternating strings.Builder
	for i, r := range name {
		if i%2 == 0 {
			r = unicode.ToUpper(r)
		}
		alternating.WriteRune(r)
	}
	add(alternating.String())
	add(strings.ReplaceAll(name, "s", "\u017f"))
	add(strings.ReplaceAll(name, "k", "\u212a"))
	add(strings.ReplaceAll(name, "_", "-"))
	add(strings.ReplaceAll(name, "_", ""))
	for _, s := range []string{
		" " + name, name + " ", name + "\u200b", "\ufeff" + name, name + "\x00", name + "[]", "body." + name,
	} {
		add(s)
	}
	return names
}

// invalidBodies returns variants of a valid body, each with an undocumented or duplicate field, or
// otherwise malformed.
func invalidBodies(t *testing.T, op *harness.APIOperation, valid string) map[string]string {
	t.Helper()
	var fields map[string]any
	if err := json.Unmarshal([]byte(valid), &fields); err != nil {
		t.Fatal(err)
	}
	bodies := map[string]string{}
	with := func(kind, name string, value any) {
		body := maps.Clone(fields)
		body[name] = value
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		bodies[kind+" "+name] = string(b)
	}
	for name, value := range serverFields() {
		if op.Body.Properties[name] == nil {
			with("server field", name, value)
		}
		for _, similar := range lookAlikes(name + "x")[:1] {
			with("similar to server field", strings.TrimSuffix(similar, "X"), value)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(op.Body.Properties)) {
		value := fields[name]
		for _, similar := range lookAlikes(name) {
			if op.Body.Properties[similar] == nil {
				with("similar to field", similar, value)
			}
		}
		v, _ := json.Marshal(value)
		open := strings.TrimSuffix(valid, "}")
		if len(fields) > 0 {
			open += ","
		}
		escaped := fmt.Sprintf(`"\u%04x%s"`, name[0], name[1:])
		member := fmt.Sprintf(`%q:%s`, name, v)
		bodies["duplicate, same value, "+name] = open + member + "," + member + "}"
		bodies["duplicate, other value, "+name] = open + member + "," + fmt.Sprintf(`%q:%s`, name, `"other"`) + "}"
		bodies["duplicate, escaped, "+name] = open + member + "," + escaped + ":" + string(v) + "}"
		bodies["duplicate, null, "+name] = `{"` + name + `":null,` + strings.TrimPrefix(open, "{") + member + "}"
	}
	for _, rest := range []string{"{}", valid, "x", ",", "]", "}", "\x00", "\ufeff", "//", "/* */", "null", "\"\""} {
		bodies["followed by "+rest] = valid + rest
	}
	maps.Copy(bodies, map[string]string{
		"a list":        "[" + valid + "]",
		"a string":      fmt.Sprintf("%q", valid),
		"a number":      "1",
		"true":          "true",
		"single quotes": strings.ReplaceAll(valid, `"`, "'"),
		"comment":       "/**/" + valid,
		"prefix":        "x" + valid,
		"two objects":   valid + "\n" + valid,
		"invalid UTF-8": strings.Replace(valid, "{", "{\"\xff\":1,", 1),
	})
	return bodies
}

// TestUndocumentedFields_Rejected checks that every route with a body rejects each invalid variant
// of it in the error format of its surface, that nothing changes, and that the valid body is
// accepted.
func TestUndocumentedFields_Rejected(t *testing.T) {
	harness.ForEachAPIEngine(t, func(t *testing.T, h *harness.APIFixture) {
		stages, requests := h.PrepareAll(func(op *harness.APIOperation) bool { return op.Body != nil }), 0
		before := h.AllRows("")
		for at, s := range stages {
			bodies := invalidBodies(t, s.Operation, s.Request.Body)
			for n, kind := range harness.SortedKeys(bodies) {
				if h.SkippedInShortRun(n + at) {
					continue
				}
				requests++
				invalid := s.Request
				invalid.Body = bodies[kind]
				if err := s.Operation.CheckRejection(h.Send(invalid), 422, 400); err != nil {
					t.Errorf("%s, %s: %v", s.Operation.ID, kind, err)
				}
			}
		}
		h.RequireUnchanged(before)
		h.SendAll(stages)
		t.Logf("%d routes with a body, %d invalid bodies, none accepted", len(stages), requests)
	})
}

// TestUndocumentedInput_Ignored checks that fields that only the gateway may set have no effect in
// metadata, in the query, in headers and in bodies of routes without one.
func TestUndocumentedInput_Ignored(t *testing.T) {
	harness.ForEachAPIEngine(t, func(t *testing.T, h *harness.APIFixture) {
		fields := serverFields()
		b, err := json.Marshal(fields)
		h.Must(err)
		cases, calls := 0, 0
		for _, op := range h.Operations {
			if op.Method == http.MethodGet {
				continue
			}
			for _, place := range []string{"data", "query", "header", "body"} {
				if cases++; h.SkippedInShortRun(cases) {
					continue
				}
				th := h.CreateEntities(harness.TestTenantID)
				c := h.ValidRequest(op, th)
				switch {
				case place == "data" && op.Body != nil:
					name := dataField(op)
					if name == "" {
						continue
					}
					var body map[string]any
					h.Must(json.Unmarshal([]byte(c.Body), &body))
					body[name] = fields
					withData, err := json.Marshal(body)
					h.Must(err)
					c.Body = string(withData)
				case place == "query":
					for name, value := range fields {
						if s, ok := value.(string); ok && name != "" && op.Param(name) == nil {
							c.Path += map[bool]string{true: "&", false: "?"}[strings.Contains(c.Path, "?")] + name + "=" + s
						}
					}
				case place == "header":
					for _, name := range []string{
						"X-Tenant-Id", "X-Customer-Id", "X-Role", "X-Verified", "X-User-Id", "X-Forwarded-User",
						"X-Original-Url", "X-Rewrite-Url", "X-Http-Method-Override", "X-Method-Override",
					} {
						c.Header.Set(name, "owner")
					}
				case place == "body" && op.Body == nil:
					c.Body = string(b)
				default:
					continue
				}
				calls++
				if a := h.Send(c); a.Status != op.Status {
					t.Errorf("%s with fields in %s = %d %s, want %d", op.ID, place, a.Status, a.Body, op.Status)
				}
				var changed int
				h.Must(h.DB.QueryRowContext(t.Context(), `
					select count(*) from identities
					where role_override is not null or verified_at is not null
						or created_at < '2021-01-01' or tenant_id <> $1`, harness.TestTenantID).Scan(&changed))
				if changed > 0 {
					t.Fatalf("%s with fields in %s changed %d identities, want 0", op.ID, place, changed)
				}
			}
		}
		if calls < 5 {
			t.Errorf("number of calls = %d, want at least 5", calls)
		}
		t.Logf("%d calls with undocumented input, all ignored", calls)
	})
}

// dataField returns the name of the body field that holds arbitrary data of the caller, or "".
func dataField(op *harness.APIOperation) string {
	for _, name := range slices.Sorted(maps.Keys(op.Body.Properties)) {
		if op.Body.Properties[name].IsType("object") {
			return name
		}
	}
	return ""
}
