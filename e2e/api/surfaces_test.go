package api

import (
	"strings"
	"testing"

	"hydragate/e2e/harness"
)

// TestSurfaces_Consistent creates a customer through each API and reads it through all of them.
func TestSurfaces_Consistent(t *testing.T) {
	harness.ForEachSurfaceEngine(t, func(t *testing.T, f *harness.SurfaceFixture) {
		customer := func(phone string) string {
			return f.Expect(f.Token, "POST", "/v1/customers",
				`{"first_name":"Steve","last_name":"Example","phone_number":"`+phone+`"}`, 201, nil).ID()
		}
		for name, c := range map[string]struct {
			phone string
			make  func(phone string) (customer, identity string)
		}{
			"native API": {"+61400111001", func(phone string) (string, string) {
				id := customer(phone)
				return id, f.Expect(f.Token, "POST", "/v1/customers/"+id+"/identities",
					`{"channel":"sms","external_id":"`+phone+`"}`, 201, nil).ID()
			}},
			"user API": {"+61400111002", func(phone string) (string, string) {
				id := f.Expect(f.AgentKey, "POST", "/external/users",
					`{"firstName":"Steve","lastName":"Example","phoneNumber":"`+phone+`"}`, 201, nil).ID()
				return id, f.Expect(f.Token, "GET",
					"/v1/customers/lookup/identity?channel=sms&instance_id="+f.InstanceID+"&external_id=%2B"+phone[1:], "", 200,
					nil).Fields["identity_id"].(string)
			}},
			"contact API": {"+61400111003", func(phone string) (string, string) {
				id := customer(phone)
				return id, f.Expect(f.Token, "POST", "/global/contactIdentities",
					`{"contactIdentityType":"sms","value":"`+phone+`","contactId":"`+id+`"}`, 201, nil).ID()
			}},
		} {
			t.Run(name, func(t *testing.T) {
				f := f.In(t)
				customer, id := c.make(c.phone)
				query := "phoneNumber=%2B" + c.phone[1:]
				f.Expect(f.Token, "GET", "/v1/customers/"+customer, "", 200,
					map[string]any{"phone_number": c.phone, "first_name": "Steve"})
				f.Expect(f.Token, "GET", "/v1/customers/"+customer+"/identities/"+id, "", 200,
					map[string]any{"external_id": c.phone, "channel": "sms", "verified": false})
				f.Expect(f.AgentKey, "GET", "/external/users/"+customer, "", 200,
					map[string]any{"phoneNumber": c.phone, "firstName": "Steve", "isAnonymized": false})
				got := f.Expect(f.AgentKey, "GET", "/external/users/search?"+query, "", 200,
					map[string]any{"conversationIds": []any{}})
				if user, _ := got.Fields["user"].(map[string]any); user["id"] != customer {
					t.Errorf("search returned %s, want user %s", got.Body, customer)
				}
				f.Expect(f.Token, "GET", "/v4/global/contactIdentities/"+id, "", 200,
					map[string]any{"contactId": customer, "contactIdentityType": "SMS", "value": c.phone})
				if !strings.Contains(f.Do(f.Token, "GET", "/global/contactIdentities", "").Body, id) {
					t.Error("not in the list of contact identities")
				}
				f.Expect(f.AgentKey, "DELETE", "/external/users/"+customer, "", 204, nil)
				for _, path := range []string{
					"/v1/customers/" + customer, "/v1/customers/" + customer + "/identities/" + id,
					"/global/contactIdentities/" + id,
				} {
					f.Expect(f.Token, "GET", path, "", 404, nil)
				}
			})
		}
	})
}

// TestSurfaces_TenantIsolation requests resources of another tenant and compares the responses, byte
// for byte, with those for IDs that do not exist.
func TestSurfaces_TenantIsolation(t *testing.T) {
	harness.ForEachSurfaceEngine(t, func(t *testing.T, f *harness.SurfaceFixture) {
		user := f.Expect(f.ForeignAgentKey, "POST", "/external/users",
			`{"firstName":"Steve","lastName":"Example","email":"steve@example.com","phoneNumber":"+61400111222","fkId":"7"}`,
			201, nil).ID()
		list := f.Expect(f.ForeignToken, "GET", "/global/contactIdentities", "", 200, map[string]any{"total": 1})
		contact := list.Fields["contactIdentities"].([]any)[0].(map[string]any)["id"].(string)
		replacement := `{"contactIdentityType":"sms","value":"+61400111333"}`
		for _, c := range []struct{ secret, method, path, id, body string }{
			{f.AgentKey, "GET", "/external/users/", user, ""},
			{f.AgentKey, "DELETE", "/external/users/", user, ""},
			{f.AgentKey, "GET", "/external/users/search?email=", "steve@example.com", ""},
			{f.AgentKey, "GET", "/external/users/search?phoneNumber=", "%2B61400111222", ""},
			{f.AgentKey, "GET", "/external/users/search?fkId=", "7", ""},
			{f.Token, "GET", "/global/contactIdentities/", contact, ""},
			{f.Token, "DELETE", "/global/contactIdentities/", contact, ""},
			{f.Token, "PUT", "/global/contactIdentities/", contact, replacement},
		} {
			foreign := f.Do(c.secret, c.method, c.path+c.id, c.body)
			unknown := f.Do(c.secret, c.method, c.path+harness.RandomID(), c.body)
			if strings.Contains(c.path, "phone") {
				unknown = f.Do(c.secret, c.method, c.path+"%2B61400999999", c.body)
			}
			if foreign.Status != 404 || foreign.Body != unknown.Body {
				t.Errorf("%s %s: %d %s, want the response for an unknown ID: %s", c.method, c.path, foreign.Status, foreign.Body,
					unknown.Body)
			}
		}
		f.Expect(f.Token, "GET", "/global/contactIdentities", "", 200, map[string]any{"total": 0})
		f.Expect(f.Token, "POST", "/global/contactIdentities",
			`{"contactIdentityType":"email","value":"a@example.com","contactId":"`+user+`"}`, 404,
			map[string]any{"message": "Contact not found"})
		// Values that are used in the other tenant are free in this one.
		f.Expect(f.AgentKey, "POST", "/external/users",
			`{"firstName":"Steve","lastName":"Example","email":"steve@example.com","phoneNumber":"+61400111222","fkId":"7"}`,
			201, nil)
	})
}
