package httpapi

import (
	"context"
	"errors"
	"strings"
	"testing"

	"hydragate/claim"
	"hydragate/identity"
)

func TestMergeAndUndo(t *testing.T) {
	w := newWorld(t)
	matt := w.matt()
	path := "/v1/customers/" + w.steve
	w.want(w.ask("POST", path+"/merge", `{"into":"`+w.steve+`"}`), 422, `{"detail":[{"type":"value_error","loc":["body","into"],"msg":"Value error, a customer cannot be merged into itself"}]}`)
	w.want(w.ask("POST", path+"/merge", `{}`), 422, `{"detail":[{"type":"missing","loc":["body","into"],"msg":"Field required"}]}`)
	for _, into := range []string{w.strangeCustomer, nobody} {
		w.want(w.ask("POST", path+"/merge", `{"into":"`+into+`"}`), 404, `{"detail":"Customer not found"}`)
	}
	w.want(w.ask("POST", path+"/merge/undo", ""), 404, `{"detail":"Merge not found"}`)
	w.store.life.rights = true
	w.want(w.ask("POST", path+"/merge", `{"into":"`+matt+`"}`, as(w.key(identity.APIKey{TenantID: identity.DefaultTenant, Scopes: []string{"customers:write"}}))), 403, `{"detail":"Missing scope: identities:grant"}`)
	w.want(w.ask("POST", path+"/merge", `{"into":"`+strings.ToUpper(matt)+`"}`), 200,
		`{"customer_id":"`+w.steve+`","identities":3,"into":"`+matt+`","merged_at":"2026-11-22T02:00:00Z","undo_until":"2026-12-22T02:00:00Z"}`)
	named := `{"detail":"Customer was merged into ` + matt + `"}`
	for _, c := range []struct{ method, path, body string }{
		{"GET", path, ""}, {"PATCH", path, `{}`}, {"DELETE", path, ""}, {"DELETE", path + "?erase=true", ""}, {"GET", path + "/export", ""}, {"POST", path + "/merge", `{"into":"` + matt + `"}`},
	} {
		w.want(w.ask(c.method, c.path, c.body), 404, named)
	}
	w.want(w.ask("GET", path, "", as(w.foreign)), 404, `{"detail":"Customer not found"}`)
	w.want(w.ask("POST", path+"/merge/undo", "", as(w.key(identity.APIKey{TenantID: identity.DefaultTenant, Scopes: []string{"customers:write"}}))), 403, `{"detail":"Missing scope: identities:grant"}`)
	w.store.life.taken = true
	w.want(w.ask("POST", path+"/merge/undo", ""), 409, `{"detail":"Another customer has the email or id of this one now"}`)
	w.store.life.taken = false
	if got := w.ask("POST", path+"/merge/undo", ""); got.status != 200 || got.fields(t)["id"] != w.steve {
		t.Errorf("%d %s", got.status, got.body)
	}
	w.want(w.ask("GET", path, ""), 200, "")
}

// TestCustomersAreNotOneInstances: a key limited to one instance removes and merges
// nobody, for that would reach into instances that are not its own.
func TestCustomersAreNotOneInstances(t *testing.T) {
	w := newWorld(t)
	limited := as(w.limited("customers:write", "customers:read"))
	path := "/v1/customers/" + w.steve
	for _, c := range []struct{ method, path, body string }{
		{"DELETE", path, ""}, {"DELETE", path + "?erase=true", ""}, {"POST", path + "/merge", `{"into":"` + w.matt() + `"}`}, {"POST", "/v1/customers/" + w.merged() + "/merge/undo", ""},
	} {
		w.want(w.ask(c.method, c.path, c.body, limited), 403, `{"detail":"This API key is limited to one instance"}`)
	}
}

// A proofList notes which proofs are dropped.
type proofList struct {
	dropped []claim.Subject
	err     error
}

func (p *proofList) Drop(_ context.Context, s claim.Subject) error {
	p.dropped = append(p.dropped, s)
	return p.err
}

func TestDeleteAndErase(t *testing.T) {
	proofs := &proofList{}
	w := newWorld(t, func(a *API) { a.Forgetter = proofs })
	matt := w.matt()
	w.want(w.ask("DELETE", "/v1/customers/"+matt, ""), 204, "")
	w.want(w.ask("DELETE", "/v1/customers/"+matt, ""), 404, `{"detail":"Customer not found"}`)
	if len(w.store.life.erased) != 0 || len(proofs.dropped) != 1 || proofs.dropped[0].Gen != 3 {
		t.Errorf("erased %v, dropped %v", w.store.life.erased, proofs.dropped)
	}
	proofs.err = errors.New("redis is away")
	w.want(w.ask("DELETE", "/v1/customers/"+w.steve+"?erase=true", ""), 204, "")
	if len(w.store.life.erased) != 1 || !strings.Contains(w.log.String(), "not dropped") {
		t.Errorf("erased %v", w.store.life.erased)
	}
	w.want(w.ask("DELETE", "/v1/customers/"+w.steve+"?erase=true", ""), 404, `{"detail":"Customer not found"}`)
	w.want(w.ask("DELETE", "/v1/customers/"+w.steve+"?erase=perhaps", ""), 422, "")
}

func TestBlockSenders(t *testing.T) {
	w := newWorld(t)
	path := "/v1/identities/" + w.sender
	w.want(w.ask("POST", path+"/block", ""), 200, `{"blocked":true,"blocked_at":"2026-11-22T02:00:00Z","identity_id":"`+w.sender+`"}`)
	w.want(w.ask("POST", path+"/unblock", ""), 200, `{"blocked":false,"blocked_at":null,"identity_id":"`+w.sender+`"}`)
	w.want(w.ask("POST", "/v1/identities/"+w.linked+"/block", ""), 409, `{"detail":"Identity is already linked to a customer"}`)
	w.want(w.ask("POST", "/v1/identities/"+w.otherSender+"/block", "", as(w.limited("identities:write"))), 404, `{"detail":"Identity not found"}`)
	w.want(w.ask("POST", path+"/block", "", as(w.foreign)), 404, `{"detail":"Identity not found"}`)
}

func TestHistory(t *testing.T) {
	w := newWorld(t)
	since := w.clock
	w.store.life.owners = []identity.Ownership{
		{IdentityID: nobody, Channel: "telegram", ExternalID: "12345", CustomerID: nobody, Since: since, Until: since.Add(1e9), ErasedAt: since},
		{IdentityID: w.elsewise, InstanceID: w.otherBot, Channel: "telegram", ExternalID: "12345", CustomerID: w.steve, Since: since},
	}
	path := "/v1/identities/" + w.linked + "/history"
	erased := `{"customer_id":"` + nobody + `","erased":true,"identity_id":"` + nobody + `","instance_id":null,"since":"2026-11-22T02:00:00Z","until":"2026-11-22T02:00:01Z"}`
	now := `{"customer_id":"` + w.steve + `","erased":false,"identity_id":"` + w.elsewise + `","instance_id":"` + w.otherBot + `","since":"2026-11-22T02:00:00Z","until":null}`
	head := `{"channel":"telegram","external_id":"12345","identity_id":"` + w.linked + `","owners":[`
	w.want(w.ask("GET", path, ""), 200, head+erased+","+now+`]}`)
	limited := as(w.limited("identities:read"))
	w.want(w.ask("GET", path, "", limited), 200, head+erased+`]}`)
	w.want(w.ask("GET", "/v1/identities/"+w.elsewise+"/history", "", limited), 404, `{"detail":"Identity not found"}`)
	w.want(w.ask("GET", "/v1/identities/"+w.sender+"/history", ""), 200, `{"channel":"telegram","external_id":"777","identity_id":"`+w.sender+`","owners":[]}`)
}
