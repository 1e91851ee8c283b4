package httpapi

import (
	"context"
	"errors"
	"strings"
	"testing"

	"hydragate/claim"
	"hydragate/identity"
)

func TestMergeCustomer_Undo(t *testing.T) {
	h := newHarness(t)
	matt := h.newCustomer()
	path := "/v1/customers/" + h.customer
	h.expect(
		h.request("POST", path+"/merge", `{"into":"`+h.customer+`"}`),
		422,
		`{"detail":[{"type":"value_error","loc":["body","into"],
			"msg":"Value error, a customer cannot be merged into itself"}]}`,
	)
	h.expect(
		h.request("POST", path+"/merge", `{}`),
		422,
		`{"detail":[{"type":"missing","loc":["body","into"],"msg":"Field required"}]}`,
	)
	for _, into := range []string{h.foreignCustomer, unknownID} {
		h.expect(h.request("POST", path+"/merge", `{"into":"`+into+`"}`), 404, `{"detail":"Customer not found"}`)
	}
	h.expect(h.request("POST", path+"/merge/undo", ""), 404, `{"detail":"Merge not found"}`)
	h.store.NeedsGrant = true
	const missing = `{"detail":"Missing scope: identities:grant"}`
	writer := bearer(h.newKey(identity.APIKey{
		TenantID: identity.DefaultTenant, Scopes: []string{"customers:write"},
	}))
	h.expect(h.request("POST", path+"/merge", `{"into":"`+matt+`"}`, writer), 403, missing)
	h.expect(
		h.request("POST", path+"/merge", `{"into":"`+strings.ToUpper(matt)+`"}`),
		200,
		`{"customer_id":"`+h.customer+`","identities":3,"into":"`+matt+`","merged_at":"2026-11-22T02:00:00Z",
			"undo_until":"2026-12-22T02:00:00Z"}`,
	)
	merged := `{"detail":"Customer was merged into ` + matt + `"}`
	for _, c := range []struct{ method, path, body string }{
		{"GET", path, ""},
		{"PATCH", path, `{}`},
		{"DELETE", path, ""},
		{"DELETE", path + "?erase=true", ""},
		{"GET", path + "/export", ""},
		{"POST", path + "/merge", `{"into":"` + matt + `"}`},
	} {
		h.expect(h.request(c.method, c.path, c.body), 404, merged)
	}
	h.expect(h.request("GET", path, "", bearer(h.foreignToken)), 404, `{"detail":"Customer not found"}`)
	h.expect(h.request("POST", path+"/merge/undo", "", writer), 403, missing)
	h.store.IdentifierReused = true
	h.expect(
		h.request("POST", path+"/merge/undo", ""),
		409,
		`{"detail":"Another customer now has the email or id of this customer"}`,
	)
	h.store.IdentifierReused = false
	if got := h.request("POST", path+"/merge/undo", ""); got.status != 200 || got.fields(t)["id"] != h.customer {
		t.Errorf("undo of a merge = %d %s", got.status, got.body)
	}
	h.expect(h.request("GET", path, ""), 200, "")
}

// TestInstanceKey_CannotDeleteOrMerge checks that a key limited to one instance cannot delete or
// merge customers, which have identities in other instances.
func TestInstanceKey_CannotDeleteOrMerge(t *testing.T) {
	h := newHarness(t)
	limited := bearer(h.newInstanceKey("customers:write", "customers:read"))
	path := "/v1/customers/" + h.customer
	for _, c := range []struct{ method, path, body string }{
		{"DELETE", path, ""},
		{"DELETE", path + "?erase=true", ""},
		{"POST", path + "/merge", `{"into":"` + h.newCustomer() + `"}`},
		{"POST", "/v1/customers/" + h.newMergedCustomer() + "/merge/undo", ""},
	} {
		h.expect(h.request(c.method, c.path, c.body, limited), 403, `{"detail":"This API key is limited to one instance"}`)
	}
}

// A fakeCodeDropper records the targets whose codes are dropped.
type fakeCodeDropper struct {
	dropped []claim.Target
	err     error
}

func (d *fakeCodeDropper) Drop(_ context.Context, s claim.Target) error {
	d.dropped = append(d.dropped, s)
	return d.err
}

func TestDeleteCustomer_Erase(t *testing.T) {
	codes := &fakeCodeDropper{}
	h := newHarness(t, func(a *API) { a.CodeDropper = codes })
	matt := h.newCustomer()
	h.expect(h.request("DELETE", "/v1/customers/"+matt, ""), 204, "")
	h.expect(h.request("DELETE", "/v1/customers/"+matt, ""), 404, `{"detail":"Customer not found"}`)
	if len(h.store.Erased) != 0 || len(codes.dropped) != 1 || codes.dropped[0].Gen != 3 {
		t.Errorf("erased = %v, dropped = %v", h.store.Erased, codes.dropped)
	}
	codes.err = errors.New("connection refused")
	h.expect(h.request("DELETE", "/v1/customers/"+h.customer+"?erase=true", ""), 204, "")
	if len(h.store.Erased) != 1 || !strings.Contains(h.log.String(), "drop codes of deleted identities failed") {
		t.Errorf("erased = %v", h.store.Erased)
	}
	h.expect(h.request("DELETE", "/v1/customers/"+h.customer+"?erase=true", ""), 404, `{"detail":"Customer not found"}`)
	h.expect(h.request("DELETE", "/v1/customers/"+h.customer+"?erase=perhaps", ""), 422, "")
}
