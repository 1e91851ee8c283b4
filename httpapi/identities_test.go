package httpapi

import (
	"testing"

	"hydragate/identity"
)

func TestIdentityHistory(t *testing.T) {
	w := newHarness(t)
	since := w.clock
	w.store.data.owners = []identity.Ownership{
		{IdentityID: unknownID, Channel: "telegram", ExternalID: "12345", CustomerID: unknownID, Since: since, Until: since.Add(1e9), ErasedAt: since},
		{IdentityID: w.otherInstanceIdentity, InstanceID: w.otherInstance, Channel: "telegram", ExternalID: "12345", CustomerID: w.customer, Since: since},
	}
	path := "/v1/identities/" + w.tenantIdentity + "/history"
	erased := `{"customer_id":"` + unknownID + `","erased":true,"identity_id":"` + unknownID + `","instance_id":null,"since":"2026-11-22T02:00:00Z","until":"2026-11-22T02:00:01Z"}`
	now := `{"customer_id":"` + w.customer + `","erased":false,"identity_id":"` + w.otherInstanceIdentity + `","instance_id":"` + w.otherInstance + `","since":"2026-11-22T02:00:00Z","until":null}`
	head := `{"channel":"telegram","external_id":"12345","identity_id":"` + w.tenantIdentity + `","owners":[`
	w.expect(w.request("GET", path, ""), 200, head+erased+","+now+`]}`)
	limited := bearer(w.newInstanceKey("identities:read"))
	w.expect(w.request("GET", path, "", limited), 200, head+erased+`]}`)
	w.expect(w.request("GET", "/v1/identities/"+w.otherInstanceIdentity+"/history", "", limited), 404, `{"detail":"Identity not found"}`)
	w.expect(w.request("GET", "/v1/identities/"+w.sender+"/history", ""), 200, `{"channel":"telegram","external_id":"777","identity_id":"`+w.sender+`","owners":[]}`)
}

func TestUpdateIdentity(t *testing.T) {
	w := newHarness(t)
	one := "/v1/customers/" + w.customer + "/identities/" + w.tenantIdentity
	got := w.request("PATCH", one, `{"verified":true,"role_override":"owner","display_name":"Steve"}`).fields(t)
	if got["verified"] != true || got["verified_at"] != "2026-11-22T02:00:00Z" || got["role_override"] != "owner" {
		t.Errorf("%v", got)
	}
	got = w.request("PATCH", one, `{"verified":false,"role_override":null}`).fields(t)
	if got["verified"] != false || got["verified_at"] != nil || got["role_override"] != nil || got["display_name"] != "Steve" {
		t.Errorf("%v", got)
	}
	w.expect(w.request("PATCH", "/v1/instances/"+w.instance, `{"name":null}`), 422, "")
	if got := w.request("PATCH", "/v1/instances/"+w.instance, `{"unknown_senders":null}`).fields(t); got["unknown_senders"] != "forward" {
		t.Errorf("%v", got)
	}
}
