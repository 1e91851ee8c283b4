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
	w := newHarness(t)
	matt := w.newCustomer()
	path := "/v1/customers/" + w.customer
	w.expect(w.request("POST", path+"/merge", `{"into":"`+w.customer+`"}`), 422, `{"detail":[{"type":"value_error","loc":["body","into"],"msg":"Value error, a customer cannot be merged into itself"}]}`)
	w.expect(w.request("POST", path+"/merge", `{}`), 422, `{"detail":[{"type":"missing","loc":["body","into"],"msg":"Field required"}]}`)
	for _, into := range []string{w.foreignCustomer, unknownID} {
		w.expect(w.request("POST", path+"/merge", `{"into":"`+into+`"}`), 404, `{"detail":"Customer not found"}`)
	}
	w.expect(w.request("POST", path+"/merge/undo", ""), 404, `{"detail":"Merge not found"}`)
	w.store.data.needsGrant = true
	w.expect(w.request("POST", path+"/merge", `{"into":"`+matt+`"}`, bearer(w.newKey(identity.APIKey{TenantID: identity.DefaultTenant, Scopes: []string{"customers:write"}}))), 403, `{"detail":"Missing scope: identities:grant"}`)
	w.expect(w.request("POST", path+"/merge", `{"into":"`+strings.ToUpper(matt)+`"}`), 200,
		`{"customer_id":"`+w.customer+`","identities":3,"into":"`+matt+`","merged_at":"2026-11-22T02:00:00Z","undo_until":"2026-12-22T02:00:00Z"}`)
	named := `{"detail":"Customer was merged into ` + matt + `"}`
	for _, c := range []struct{ method, path, body string }{
		{"GET", path, ""}, {"PATCH", path, `{}`}, {"DELETE", path, ""}, {"DELETE", path + "?erase=true", ""}, {"GET", path + "/export", ""}, {"POST", path + "/merge", `{"into":"` + matt + `"}`},
	} {
		w.expect(w.request(c.method, c.path, c.body), 404, named)
	}
	w.expect(w.request("GET", path, "", bearer(w.foreignToken)), 404, `{"detail":"Customer not found"}`)
	w.expect(w.request("POST", path+"/merge/undo", "", bearer(w.newKey(identity.APIKey{TenantID: identity.DefaultTenant, Scopes: []string{"customers:write"}}))), 403, `{"detail":"Missing scope: identities:grant"}`)
	w.store.data.reclaimed = true
	w.expect(w.request("POST", path+"/merge/undo", ""), 409, `{"detail":"Another customer now has the email or id of this customer"}`)
	w.store.data.reclaimed = false
	if got := w.request("POST", path+"/merge/undo", ""); got.status != 200 || got.fields(t)["id"] != w.customer {
		t.Errorf("%d %s", got.status, got.body)
	}
	w.expect(w.request("GET", path, ""), 200, "")
}

// TestInstanceKey_CannotDeleteOrMerge: a key limited to one instance removes and merges
// nobody, for that would reach into instances that are not its own.
func TestInstanceKey_CannotDeleteOrMerge(t *testing.T) {
	w := newHarness(t)
	limited := bearer(w.newInstanceKey("customers:write", "customers:read"))
	path := "/v1/customers/" + w.customer
	for _, c := range []struct{ method, path, body string }{
		{"DELETE", path, ""}, {"DELETE", path + "?erase=true", ""}, {"POST", path + "/merge", `{"into":"` + w.newCustomer() + `"}`}, {"POST", "/v1/customers/" + w.newMergedCustomer() + "/merge/undo", ""},
	} {
		w.expect(w.request(c.method, c.path, c.body, limited), 403, `{"detail":"This API key is limited to one instance"}`)
	}
}

// A fakeCodeDropper notes which proofs are dropped.
type fakeCodeDropper struct {
	dropped []claim.Target
	err     error
}

func (p *fakeCodeDropper) Drop(_ context.Context, s claim.Target) error {
	p.dropped = append(p.dropped, s)
	return p.err
}

func TestDeleteCustomer_Erase(t *testing.T) {
	proofs := &fakeCodeDropper{}
	w := newHarness(t, func(a *API) { a.CodeDropper = proofs })
	matt := w.newCustomer()
	w.expect(w.request("DELETE", "/v1/customers/"+matt, ""), 204, "")
	w.expect(w.request("DELETE", "/v1/customers/"+matt, ""), 404, `{"detail":"Customer not found"}`)
	if len(w.store.data.erased) != 0 || len(proofs.dropped) != 1 || proofs.dropped[0].Gen != 3 {
		t.Errorf("erased %v, dropped %v", w.store.data.erased, proofs.dropped)
	}
	proofs.err = errors.New("redis is away")
	w.expect(w.request("DELETE", "/v1/customers/"+w.customer+"?erase=true", ""), 204, "")
	if len(w.store.data.erased) != 1 || !strings.Contains(w.log.String(), "drop codes of deleted identities failed") {
		t.Errorf("erased %v", w.store.data.erased)
	}
	w.expect(w.request("DELETE", "/v1/customers/"+w.customer+"?erase=true", ""), 404, `{"detail":"Customer not found"}`)
	w.expect(w.request("DELETE", "/v1/customers/"+w.customer+"?erase=perhaps", ""), 422, "")
}
