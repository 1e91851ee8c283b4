package api

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"hydragate/e2e/harness"
	"hydragate/identity"
)

// TestUpdateCustomer_EmailRequiresGrant tests that a key without identities:grant cannot change the
// e-mail address of a customer with verified identities, which applications receive.
func TestUpdateCustomer_EmailRequiresGrant(t *testing.T) {
	harness.ForEachSurfaceEngine(t, func(t *testing.T, f *harness.SurfaceFixture) {
		staff := f.NewKey(f.TenantID, "", slices.DeleteFunc(slices.Clone(identity.Scopes), func(s string) bool {
			return s == "identities:grant"
		})...)
		const email = `"steve@example.com"`
		customer := f.Expect(f.Token, "POST", "/v1/customers", `{"email":`+email+`}`, 201, nil).ID()
		path := "/v1/customers/" + customer
		linked := path + "/identities/" + f.LinkAddress(customer, f.InstanceID, "telegram", "1").ID
		f.LinkAddress(customer, f.OtherInstanceID, "telegram", "1")
		for _, body := range []string{`{"email":null}`, `{"email":"new@example.com"}`, `{"email":` + email + `}`} {
			f.Expect(staff, "PATCH", path, body, 200, nil) // nothing is verified
		}
		f.Expect(f.Token, "PATCH", linked, `{"verified":true}`, 200, nil)
		for _, body := range []string{
			`{"email":null}`, `{"email":"new@example.com"}`, `{"email":"Steve@example.com"}`,
			`{"email":"new@example.com","first_name":"Eve"}`,
		} {
			f.Expect(staff, "PATCH", path, body, 403, map[string]any{"detail": "Missing scope: identities:grant"})
		}
		f.Expect(f.Token, "GET", path, "", 200, map[string]any{"email": "steve@example.com", "first_name": nil})
		// The scope and an unchanged address are accepted, and so are all other fields.
		f.Expect(staff, "PATCH", path, `{"email":`+email+`,"first_name":"Steve","phone_number":"+61400111222"}`, 200, nil)
		f.Expect(staff, "PATCH", "/v1/customers/"+harness.RandomID(), `{"email":"new@example.com"}`, 404, nil)
		f.Expect(f.Token, "PATCH", path, `{"email":"new@example.com"}`, 200, map[string]any{"email": "new@example.com"})
		// The right of a key of one instance does not reach identities of others, or of all instances.
		limited := f.NewKey(f.TenantID, f.OtherInstanceID, "customers:write", "identities:grant")
		const another = `{"email":"limited@example.com"}`
		f.Expect(limited, "PATCH", path, another, 403, map[string]any{"detail": "This API key is limited to one instance"})
		own := f.NewKey(f.TenantID, f.InstanceID, "customers:write", "identities:grant")
		f.Expect(own, "PATCH", path, another, 200, nil)
		everywhere := path + "/identities/" + f.LinkAddress(customer, "", "telegram", "2").ID
		f.Expect(f.Token, "PATCH", everywhere, `{"verified":true}`, 200, nil)
		f.Expect(own, "PATCH", path, `{"email":null}`, 403, nil)
		f.Expect(f.Token, "PATCH", everywhere, `{"verified":false}`, 200, nil)
		f.Expect(f.Token, "PATCH", path, `{"email":"new@example.com"}`, 200, nil)
		f.Expect(f.Token, "PATCH", linked, `{"verified":false}`, 200, nil)
		f.Expect(staff, "PATCH", path, `{"email":`+email+`}`, 200, nil)
	})
}

// TestListCustomers_InstanceKey tests that a key of an instance finds customers by the addresses that
// it may see, and cannot find out the addresses of other instances.
func TestListCustomers_InstanceKey(t *testing.T) {
	harness.ForEachSurfaceEngine(t, func(t *testing.T, f *harness.SurfaceFixture) {
		key := f.NewKey(f.TenantID, f.InstanceID, "customers:read")
		own, other, both := f.NewCustomer(), f.NewCustomer(), f.NewCustomer()
		f.LinkAddress(own, f.InstanceID, "telegram", "47110001")
		f.LinkAddress(other, f.OtherInstanceID, "telegram", "47110002")
		f.LinkAddress(both, f.OtherInstanceID, "telegram", "47110003")
		f.LinkAddress(both, "", "telegram", "47110004")
		for _, c := range []struct {
			query              string
			limited, unbounded []string
		}{
			{"external_id=47110001", []string{own}, []string{own}},
			{"external_id=47110002", nil, []string{other}},
			{"external_id=47110003", nil, []string{both}},
			{"external_id=47110003&channel=telegram", nil, []string{both}},
			{"external_id=47110004", []string{both}, []string{both}},
			{"external_id_prefix=4711", []string{own, both}, []string{own, other, both}},
			{"external_id_prefix=47110002", nil, []string{other}},
			{"external_id_prefix=47110003", nil, []string{both}},
			{"external_id_prefix=4711000&external_id=47110003", nil, []string{both}},
			{"name=Steve&external_id_prefix=47110004", []string{both}, []string{both}},
		} {
			for token, want := range map[string][]string{key: c.limited, f.Token: c.unbounded} {
				got := f.Expect(token, "GET", "/v1/customers?"+c.query, "", 200, nil)
				var ids []string
				for _, item := range got.Fields["items"].([]any) {
					ids = append(ids, item.(map[string]any)["id"].(string))
				}
				if !slices.Equal(ids, want) {
					t.Errorf("GET /v1/customers?%s = %v, want %v (key of one instance: %v)", c.query, ids, want, token == key)
				}
			}
		}
	})
}

// TestUnknownQuery_EveryRoute sends query parameters that a route does not have. It checks that they
// are rejected, that each is named, and that nothing changes.
func TestUnknownQuery_EveryRoute(t *testing.T) {
	harness.ForEachAPIEngine(t, func(t *testing.T, h *harness.APIFixture) {
		stages := h.PrepareAll(func(op *harness.APIOperation) bool { return op.Surface == "native" })
		before, requests := h.AllRows(""), 0
		for at, s := range stages {
			for n, name := range []string{
				"mail", "Limit", "limit ", "ｌimit", "", "tenant_id", "limit[]", strings.Repeat("x", 300),
			} {
				if s.Operation.Param(name) != nil || n > 0 && h.SkippedInShortRun(n+at) {
					continue
				}
				requests++
				c := s.Request
				join := map[bool]string{true: "&", false: "?"}[strings.Contains(c.Path, "?")]
				c.Path += join + url.QueryEscape(name) + "=x&zzz"
				if name == "" {
					c.Path = s.Request.Path + join + "%zz=1"
				}
				a := h.Send(c)
				want := []string{`{"type":"extra_forbidden","loc":["query","zzz"],"msg":"Extra inputs are not permitted"}`}
				switch {
				case name == "":
					want = []string{`"loc":["query"],"msg":"Value error, the query string is malformed"`}
				case len(name) < 300:
					want = append(want, `"loc":["query",`+h.EncodeJSON(name)+`]`)
				}
				for _, w := range want {
					if a.Status != 422 || !strings.Contains(a.Body, w) || len(a.Body) > 1000 {
						t.Errorf("%s with the parameter %.20q = %d %s, want 422 with %s", s.Operation.ID, name, a.Status, a.Body, w)
					}
				}
			}
		}
		h.RequireUnchanged(before)
		h.SendAll(stages)
		t.Logf("%d routes, %d requests with unknown parameters, none accepted", len(stages), requests)
	})
}
