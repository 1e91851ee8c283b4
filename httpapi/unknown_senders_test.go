package httpapi

import (
	"slices"
	"testing"
)

func TestBlockSender(t *testing.T) {
	h := newHarness(t)
	path := "/v1/identities/" + h.sender
	h.expect(
		h.request("POST", path+"/block", ""),
		200,
		`{"blocked":true,"blocked_at":"2026-11-22T02:00:00Z","identity_id":"`+h.sender+`"}`,
	)
	h.expect(
		h.request("POST", path+"/unblock", ""),
		200,
		`{"blocked":false,"blocked_at":null,"identity_id":"`+h.sender+`"}`,
	)
	h.expect(
		h.request("POST", "/v1/identities/"+h.tenantIdentity+"/block", ""),
		409,
		`{"detail":"Identity is already linked to a customer"}`,
	)
	h.expect(
		h.request("POST", "/v1/identities/"+h.otherSender+"/block", "", bearer(h.newInstanceKey("identities:write"))),
		404,
		`{"detail":"Identity not found"}`,
	)
	h.expect(h.request("POST", path+"/block", "", bearer(h.foreignToken)), 404, `{"detail":"Identity not found"}`)
}

func TestEraseSender(t *testing.T) {
	h := newHarness(t)
	path := "/v1/identities/" + h.sender
	limited, notFound := bearer(h.newInstanceKey("identities:write")), `{"detail":"Identity not found"}`
	h.expect(h.request("DELETE", path, ""), 422, "")
	h.expect(h.request("DELETE", path+"?erase=false", ""), 422, "")
	h.expect(h.request("DELETE", path+"?erase=true", "", limited), 403, "")
	h.expect(h.request("DELETE", path+"?erase=true", "", bearer(h.foreignToken)), 404, notFound)
	h.expect(h.request("DELETE", "/v1/identities/"+h.tenantIdentity+"?erase=true", ""), 409,
		`{"detail":"Identity is already linked to a customer"}`)
	if len(h.store.Erased) != 0 {
		t.Errorf("erased = %v, want nothing", h.store.Erased)
	}
	h.expect(h.request("DELETE", path+"?erase=true", ""), 204, "")
	h.expect(h.request("DELETE", path+"?erase=true", ""), 404, notFound)
	if !slices.Equal(h.store.Erased, []string{h.sender}) {
		t.Errorf("erased = %v, want the sender", h.store.Erased)
	}
	h.expect(h.request("DELETE", "/v1/identities?channel=telegram&external_id=4711", ""), 422, "")
	h.expect(h.request("DELETE", "/v1/identities?channel=telegram&external_id=999999&erase=true", "", limited), 403, "")
	h.expect(h.request("DELETE", "/v1/identities?channel=telegram&external_id=999999&erase=true", ""), 404, notFound)
}

func TestAdoptIdentity(t *testing.T) {
	h := newHarness(t)
	path := "/v1/customers/" + h.customer + "/identities/" + h.sender + "/adopt"
	if got := h.request("POST", path, "").fields(t); got["customer_id"] != h.customer || got["instance_id"] != h.instance {
		t.Errorf("%v", got)
	}
	h.expect(h.request("POST", path, ""), 409, "")
}
