package api

import (
	"strings"
	"testing"

	"hydragate/e2e/harness"
)

// TestDefaultRegion tests that a number without a country code is one of the default region wherever staff
// enter or search for it, and is rejected if the instances have no common region.
func TestDefaultRegion(t *testing.T) {
	harness.ForEachSurfaceEngine(t, func(t *testing.T, f *harness.SurfaceFixture) {
		instance, other := "/v1/instances/"+f.InstanceID, "/v1/instances/"+f.OtherInstanceID
		f.Expect(f.Token, "PATCH", instance, `{"default_region":"xx"}`, 422, nil)
		f.Expect(f.Token, "PATCH", instance, `{"default_region":"mx"}`, 200, map[string]any{"default_region": "MX"})
		customer := f.NewCustomer()
		identities := "/v1/customers/" + customer + "/identities"
		scoped := `{"channel":"whatsapp","external_id":"55 1234 5678","instance_id":"` + f.InstanceID + `"}`
		f.Expect(f.Token, "POST", identities, scoped, 201, map[string]any{"external_id": "+525512345678"})
		lookup := "/v1/customers/lookup/identity?channel=whatsapp&external_id=55%201234%205678"
		f.Expect(f.Token, "GET", lookup+"&instance_id="+f.InstanceID, "", 200,
			map[string]any{"external_id": "+525512345678"})
		// The other instance has none, so that a number for all instances is ambiguous.
		unscoped := `{"channel":"sms","external_id":"(55) 1234-5678"}`
		rejected := f.Expect(f.Token, "POST", identities, unscoped, 422, nil)
		if !strings.Contains(rejected.Body, "the country code is missing") {
			t.Errorf("link without a region = %s", rejected.Body)
		}
		f.Expect(f.Token, "GET", lookup, "", 422, nil)
		f.Expect(f.Token, "PATCH", other, `{"default_region":"US"}`, 200, nil)
		f.Expect(f.Token, "POST", identities, unscoped, 422, nil)
		f.Expect(f.Token, "PATCH", other, `{"default_region":"MX"}`, 200, nil)
		f.Expect(f.Token, "POST", identities, unscoped, 201, map[string]any{"external_id": "+525512345678"})
		f.Expect(f.Token, "PATCH", "/v1/customers/"+customer, `{"phone_number":"55 1234 5678"}`, 200,
			map[string]any{"phone_number": "+525512345678"})
		found := f.Expect(f.Token, "GET", "/v1/customers?phone_number=5512345678", "", 200, nil)
		if !strings.Contains(found.Body, customer) {
			t.Errorf("search by number = %s", found.Body)
		}
		f.Expect(f.Token, "POST", contactsPath, `{"contactIdentityType":"SMS","value":"5587654321"}`, 201,
			map[string]any{"value": "+525587654321"})
		f.Expect(f.AgentKey, "POST", "/external/users",
			`{"firstName":"Ana","lastName":"Ruiz","phoneNumber":"55 1111 2222"}`, 201,
			map[string]any{"phoneNumber": "+525511112222"})
		f.Expect(f.AgentKey, "GET", "/external/users/search?phoneNumber=5511112222", "", 200, nil)
		f.Expect(f.Token, "PATCH", instance, `{"default_region":null}`, 200, map[string]any{"default_region": nil})
		f.Expect(f.AgentKey, "POST", "/external/users",
			`{"firstName":"Ana","lastName":"Ruiz","phoneNumber":"55 3333 4444"}`, 400, nil)
	})
}
