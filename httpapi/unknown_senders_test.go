package httpapi

import (
	"testing"
)

func TestBlockSender(t *testing.T) {
	w := newHarness(t)
	path := "/v1/identities/" + w.sender
	w.expect(w.request("POST", path+"/block", ""), 200, `{"blocked":true,"blocked_at":"2026-11-22T02:00:00Z","identity_id":"`+w.sender+`"}`)
	w.expect(w.request("POST", path+"/unblock", ""), 200, `{"blocked":false,"blocked_at":null,"identity_id":"`+w.sender+`"}`)
	w.expect(w.request("POST", "/v1/identities/"+w.tenantIdentity+"/block", ""), 409, `{"detail":"Identity is already linked to a customer"}`)
	w.expect(w.request("POST", "/v1/identities/"+w.otherSender+"/block", "", bearer(w.newInstanceKey("identities:write"))), 404, `{"detail":"Identity not found"}`)
	w.expect(w.request("POST", path+"/block", "", bearer(w.foreignToken)), 404, `{"detail":"Identity not found"}`)
}

func TestAdoptIdentity(t *testing.T) {
	w := newHarness(t)
	path := "/v1/customers/" + w.customer + "/identities/" + w.sender + "/adopt"
	if got := w.request("POST", path, "").fields(t); got["customer_id"] != w.customer || got["instance_id"] != w.instance {
		t.Errorf("%v", got)
	}
	w.expect(w.request("POST", path, ""), 409, "")
}
