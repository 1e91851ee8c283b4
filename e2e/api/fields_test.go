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

// serverFields are fields that the gateway alone decides on, here or in the neighbouring
// products. Where one is a field of a body, it is left out for that route.
func serverFields() map[string]any {
	id := harness.RandomID()
	return map[string]any{
		"id": id, "_id": id, "tenant_id": harness.OtherTenantID, "tenantId": harness.OtherTenantID, "customer_id": id, "customerId": id, "contactId": id, "identity_id": id, "instance_id": id,
		"owner_id": id, "verified": true, "is_verified": true, "verified_at": "2020-01-01T00:00:00Z", "verifiedAt": "2020-01-01T00:00:00Z", "role_override": "owner", "role": "owner",
		"roleOverride": "owner", "claim_gen": 7, "claim_expires_at": "2099-01-01T00:00:00Z", "claim_used_msg": nil, "claim_revoked_at": nil, "opted_out_at": nil, "blocked_at": nil,
		"refused_at": nil, "created_at": "2020-01-01T00:00:00Z", "updated_at": "2020-01-01T00:00:00Z", "deleted_at": nil, "merged_into": id, "isAnonymized": true,
		"agent_secret_key": "ask_x", "agent_secret_hash": "x", "webhook_secret": "whsec_x", "credentials": map[string]any{}, "settings": map[string]any{}, "status": "active",
		"enabled": true, "webhook_url": "https://evil.example.com", "key": "hg_live_x", "hash": "x", "hint": "x", "revoked_at": nil, "last_used_at": nil, "scopes": []string{"keys:write"},
		"agent_disabled_at": nil, "poll_epoch": 1, "api_url": "https://evil.example.com", "__proto__": map[string]any{"verified": true}, "constructor": nil, "": "x", "$set": map[string]any{},
	}
}

// lookAlikes are names that a careless reader takes for name: in another case, with
// letters that fold to it, and with what cannot be seen around it.
func lookAlikes(name string) []string {
	var some []string
	add := func(s string) {
		if s != name && !slices.Contains(some, s) {
			some = append(some, s)
		}
	}
	add(strings.ToUpper(name))
	add(strings.ToLower(name))
	first := []rune(name)
	first[0] = unicode.ToUpper(first[0])
	add(string(first))
	var turned strings.Builder
	for i, r := range name {
		if i%2 == 0 {
			r = unicode.ToUpper(r)
		}
		turned.WriteRune(r)
	}
	add(turned.String())
	add(strings.ReplaceAll(name, "s", "\u017f"))
	add(strings.ReplaceAll(name, "k", "\u212a"))
	add(strings.ReplaceAll(name, "_", "-"))
	add(strings.ReplaceAll(name, "_", ""))
	for _, s := range []string{" " + name, name + " ", name + "\u200b", "\ufeff" + name, name + "\x00", name + "[]", "body." + name} {
		add(s)
	}
	return some
}

// invalidBodies are bodies made of a right one, each with something that must not be there.
func invalidBodies(t *testing.T, op *harness.APIOperation, right string) map[string]string {
	t.Helper()
	var fields map[string]any
	if err := json.Unmarshal([]byte(right), &fields); err != nil {
		t.Fatal(err)
	}
	bad := map[string]string{}
	with := func(why, name string, value any) {
		body := maps.Clone(fields)
		body[name] = value
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		bad[why+" "+name] = string(b)
	}
	for name, value := range serverFields() {
		if op.Body.Properties[name] == nil {
			with("the server's own", name, value)
		}
		for _, alike := range lookAlikes(name + "x")[:1] {
			with("like the server's own", strings.TrimSuffix(alike, "X"), value)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(op.Body.Properties)) {
		value := fields[name]
		for _, alike := range lookAlikes(name) {
			if op.Body.Properties[alike] == nil {
				with("like a field", alike, value)
			}
		}
		v, _ := json.Marshal(value)
		open := strings.TrimSuffix(right, "}")
		if len(fields) > 0 {
			open += ","
		}
		escaped := fmt.Sprintf(`"\u%04x%s"`, name[0], name[1:])
		given := fmt.Sprintf(`%q:%s`, name, v)
		bad["twice, the same, "+name] = open + given + "," + given + "}"
		bad["twice, another, "+name] = open + given + "," + fmt.Sprintf(`%q:%s`, name, `"other"`) + "}"
		bad["twice, escaped, "+name] = open + given + "," + escaped + ":" + string(v) + "}"
		bad["twice, null, "+name] = `{"` + name + `":null,` + strings.TrimPrefix(open, "{") + given + "}"
	}
	for _, rest := range []string{"{}", right, "x", ",", "]", "}", "\x00", "\ufeff", "//", "/* */", "null", "\"\""} {
		bad["followed by "+rest] = right + rest
	}
	for why, body := range map[string]string{"a list": "[" + right + "]", "a text": fmt.Sprintf("%q", right), "a number": "1", "true": "true", "single quotes": strings.ReplaceAll(right, `"`, "'"),
		"comment": "/**/" + right, "before": "x" + right, "twice": right + "\n" + right, "invalid UTF-8": strings.Replace(right, "{", "{\"\xff\":1,", 1)} {
		bad[why] = body
	}
	return bad
}

// TestUndocumentedFields_Rejected spoils the body of every route that takes one, in
// every way that ever made some program take more than it offers. Each is refused in
// the shape of its surface and changes nothing; the body itself is taken.
func TestUndocumentedFields_Rejected(t *testing.T) {
	harness.ForEachAPIEngine(t, func(t *testing.T, h *harness.APIFixture) {
		stages, bodies := h.PrepareAll(func(op *harness.APIOperation) bool { return op.Body != nil }), 0
		before := h.AllRows("")
		for at, s := range stages {
			bad := invalidBodies(t, s.Operation, s.Request.Body)
			for n, why := range harness.SortedKeys(bad) {
				if h.SkippedInShortRun(n + at) {
					continue
				}
				bodies++
				wrong := s.Request
				wrong.Body = bad[why]
				if err := s.Operation.CheckRejection(h.Send(wrong), 422, 400); err != nil {
					t.Errorf("%s, %s: %v", s.Operation.ID, why, err)
				}
			}
		}
		h.RequireUnchanged(before)
		h.SendAll(stages)
		t.Logf("%d routes with a body, %d spoilt bodies, 0 taken", len(stages), bodies)
	})
}

// TestUndocumentedInput_Ignored puts the server's own fields into metadata, into
// the query, into headers and into bodies of routes that take none. They are data there,
// or nothing at all.
func TestUndocumentedInput_Ignored(t *testing.T) {
	harness.ForEachAPIEngine(t, func(t *testing.T, h *harness.APIFixture) {
		own := serverFields()
		b, err := json.Marshal(own)
		h.Must(err)
		tries, calls := 0, 0
		for _, op := range h.Operations {
			if op.Method == http.MethodGet {
				continue
			}
			for _, way := range []string{"data", "query", "header", "body"} {
				if tries++; h.SkippedInShortRun(tries) {
					continue
				}
				th := h.CreateEntities(harness.TestTenantID)
				c := h.ValidRequest(op, th)
				switch {
				case way == "data" && op.Body != nil:
					name := dataField(op)
					if name == "" {
						continue
					}
					var fields map[string]any
					h.Must(json.Unmarshal([]byte(c.Body), &fields))
					fields[name] = own
					withData, err := json.Marshal(fields)
					h.Must(err)
					c.Body = string(withData)
				case way == "query":
					for name, value := range own {
						if s, ok := value.(string); ok && name != "" && op.Param(name) == nil {
							c.Path += map[bool]string{true: "&", false: "?"}[strings.Contains(c.Path, "?")] + name + "=" + s
						}
					}
				case way == "header":
					for _, name := range []string{"X-Tenant-Id", "X-Customer-Id", "X-Role", "X-Verified", "X-User-Id", "X-Forwarded-User", "X-Original-Url", "X-Rewrite-Url", "X-Http-Method-Override", "X-Method-Override"} {
						c.Header.Set(name, "owner")
					}
				case way == "body" && op.Body == nil:
					c.Body = string(b)
				default:
					continue
				}
				calls++
				if a := h.Send(c); a.Status != op.Status {
					t.Errorf("%s, %s: %d %s", op.ID, way, a.Status, a.Body)
				}
				var raised int
				h.Must(h.DB.QueryRowContext(t.Context(), `
					select count(*) from identities
					where role_override is not null or verified_at is not null or created_at < '2021-01-01' or tenant_id <> $1`, harness.TestTenantID).Scan(&raised))
				if raised > 0 {
					t.Fatalf("%s, %s: somebody is verified, an owner, old or a stranger's now", op.ID, way)
				}
			}
		}
		if calls < 5 {
			t.Errorf("only %d calls were made", calls)
		}
		t.Logf("%d calls with fields beside the body, 0 read", calls)
	})
}

// dataField names the field of a body that holds data of the caller's own, if any.
func dataField(op *harness.APIOperation) string {
	for _, name := range slices.Sorted(maps.Keys(op.Body.Properties)) {
		if op.Body.Properties[name].IsType("object") {
			return name
		}
	}
	return ""
}
