package httpapi

import (
	"testing"

	"hydragate/identity"
)

func TestIdentityHistory(t *testing.T) {
	h := newHarness(t)
	since := h.clock
	h.store.Owners = []identity.Ownership{
		{
			IdentityID: unknownID, Channel: "telegram", ExternalID: "12345", CustomerID: unknownID, Since: since,
			Until: since.Add(1e9), ErasedAt: since,
		},
		{
			IdentityID: h.otherInstanceIdentity, InstanceID: h.otherInstance, Channel: "telegram", ExternalID: "12345",
			CustomerID: h.customer, Since: since,
		},
	}
	path := "/v1/identities/" + h.tenantIdentity + "/history"
	erased := `{"customer_id":"` + unknownID + `","erased":true,"identity_id":"` + unknownID + `",
		"instance_id":null,"since":"2026-11-22T02:00:00Z","until":"2026-11-22T02:00:01Z"}`
	now := `{"customer_id":"` + h.customer + `","erased":false,"identity_id":"` + h.otherInstanceIdentity + `",
		"instance_id":"` + h.otherInstance + `","since":"2026-11-22T02:00:00Z","until":null}`
	head := `{"channel":"telegram","external_id":"12345","identity_id":"` + h.tenantIdentity + `","owners":[`
	h.expect(h.request("GET", path, ""), 200, head+erased+","+now+`]}`)
	limited := bearer(h.newInstanceKey("identities:read"))
	h.expect(h.request("GET", path, "", limited), 200, head+erased+`]}`)
	h.expect(
		h.request("GET", "/v1/identities/"+h.otherInstanceIdentity+"/history", "", limited),
		404,
		`{"detail":"Identity not found"}`,
	)
	h.expect(
		h.request("GET", "/v1/identities/"+h.sender+"/history", ""),
		200,
		`{"channel":"telegram","external_id":"777","identity_id":"`+h.sender+`","owners":[]}`,
	)
}

func TestUpdateIdentity(t *testing.T) {
	h := newHarness(t)
	one := "/v1/customers/" + h.customer + "/identities/" + h.tenantIdentity
	got := h.request("PATCH", one, `{"verified":true,"role_override":"owner","display_name":"Steve"}`).fields(t)
	if got["verified"] != true || got["verified_at"] != "2026-11-22T02:00:00Z" || got["role_override"] != "owner" {
		t.Errorf("%v", got)
	}
	got = h.request("PATCH", one, `{"verified":false,"role_override":null}`).fields(t)
	if got["verified"] != false || got["verified_at"] != nil || got["role_override"] != nil ||
		got["display_name"] != "Steve" {
		t.Errorf("%v", got)
	}
	h.expect(h.request("PATCH", "/v1/instances/"+h.instance, `{"name":null}`), 422, "")
	got = h.request("PATCH", "/v1/instances/"+h.instance, `{"unknown_senders":null}`).fields(t)
	if got["unknown_senders"] != "forward" {
		t.Errorf("%v", got)
	}
}
