package api

import (
	"testing"

	"hydragate/e2e/harness"
)

// TestUsers_InstanceScope tests that an agent sees and deletes the users that its instance created,
// and those with an identity that is valid there or a conversation, and no others.
func TestUsers_InstanceScope(t *testing.T) {
	harness.ForEachSurfaceEngine(t, func(t *testing.T, f *harness.SurfaceFixture) {
		native := func(email string) string {
			return f.Expect(f.Token, "POST", "/v1/customers", `{"email":"`+email+`"}`, 201, nil).ID()
		}
		created := f.Expect(f.AgentKey, "POST", "/external/users",
			`{"firstName":"Ann","lastName":"Example","email":"created@example.com"}`, 201, nil).ID()
		limited := f.Expect(f.NewKey(f.TenantID, f.InstanceID), "POST", "/v1/customers",
			`{"email":"limited@example.com"}`, 201, nil).ID()
		plain, linked, written, everywhere := native("plain@example.com"), native("linked@example.com"),
			native("written@example.com"), native("everywhere@example.com")
		f.LinkAddress(linked, f.InstanceID, "telegram", "1")
		f.LinkAddress(everywhere, "", "telegram", "2")
		f.AddConversation(f.InstanceID, f.LinkAddress(written, f.OtherInstanceID, "telegram", "3").ID)
		// Undoing a merge restores who created the customer.
		f.Expect(f.Token, "POST", "/v1/customers/"+created+"/merge", `{"into":"`+plain+`"}`, 200, nil)
		f.Expect(f.AgentKey, "GET", "/external/users/"+created, "", 404, nil)
		f.Expect(f.Token, "POST", "/v1/customers/"+created+"/merge/undo", "", 200, nil)
		for _, c := range []struct {
			name, id, email string
			own, other      int // status for the agent of the instance, and that of another one
		}{
			{"created by the agent", created, "created@example.com", 200, 404},
			{"created by a key of the instance", limited, "limited@example.com", 200, 404},
			{"with an identity in the instance", linked, "linked@example.com", 200, 404},
			{"with a conversation in the instance", written, "written@example.com", 200, 200},
			{"with an identity of all instances", everywhere, "everywhere@example.com", 200, 200},
			{"without an identity", plain, "plain@example.com", 404, 404},
		} {
			t.Run(c.name, func(t *testing.T) {
				f := f.In(t)
				agents := map[string]int{f.AgentKey: c.own, f.OtherAgentKey: c.other, f.ForeignAgentKey: 404}
				unknown := f.Do(f.AgentKey, "GET", "/external/users/"+harness.RandomID(), "")
				for agent, status := range agents {
					got := f.Expect(agent, "GET", "/external/users/"+c.id, "", status, nil)
					if status == 404 && got.Body != unknown.Body {
						t.Errorf("GET of a user of another instance = %s, want %s", got.Body, unknown.Body)
					}
					f.Expect(agent, "GET", "/external/users/search?email="+c.email, "", status, nil)
					if status == 404 {
						f.Expect(agent, "DELETE", "/external/users/"+c.id, "", 404, nil)
					}
				}
				f.Expect(f.OtherAgentKey, "POST", "/external/users",
					`{"firstName":"Ann","lastName":"Example","email":"`+c.email+`"}`, 400,
					map[string]any{"message": "User already exists."})
				f.Expect(f.Token, "GET", "/v1/customers/"+c.id, "", 200, nil)
				if c.own == 200 {
					f.Expect(f.AgentKey, "DELETE", "/external/users/"+c.id, "", 204, nil)
					f.Expect(f.Token, "GET", "/v1/customers/"+c.id, "", 404, nil)
				}
			})
		}
	})
}

// TestUsers_DeleteVerifiedElsewhere tests that an agent cannot delete a user who is verified in
// another instance, and can delete one who is verified in its own.
func TestUsers_DeleteVerifiedElsewhere(t *testing.T) {
	harness.ForEachSurfaceEngine(t, func(t *testing.T, f *harness.SurfaceFixture) {
		const refused = `{"status":403,"name":"FORBIDDEN_ERROR","message":"INVALID_CREDENTIALS","details":[{"message":` +
			`"An identity of this user is verified in another instance. Delete the customer with an API key."}]}`
		for _, c := range []struct {
			name, instance string
			verified       bool
			status         int
		}{
			{"verified in another instance", f.OtherInstanceID, true, 403},
			{"verified in all instances", "", true, 403},
			{"unverified in another instance", f.OtherInstanceID, false, 204},
			{"verified in the instance", f.InstanceID, true, 204},
		} {
			t.Run(c.name, func(t *testing.T) {
				f := f.In(t)
				user := f.Expect(f.AgentKey, "POST", "/external/users",
					`{"firstName":"Ann","lastName":"Example","fkId":"`+harness.RandomID()+`"}`, 201, nil).ID()
				i := f.LinkAddress(user, c.instance, "telegram", harness.RandomID())
				path := "/v1/customers/" + user + "/identities/" + i.ID
				if c.verified {
					f.Expect(f.Token, "PATCH", path, `{"verified":true,"role_override":"owner"}`, 200, nil)
				}
				before := f.DB.AllRows("")
				got := f.Expect(f.AgentKey, "DELETE", "/external/users/"+user, "", c.status, nil)
				if c.status == 204 {
					return
				}
				if got.Body != refused {
					t.Errorf("DELETE of a user who is verified elsewhere = %s, want %s", got.Body, refused)
				}
				if row := harness.DiffRows(before, f.DB.AllRows("")); row != "" {
					t.Errorf("the deletion was rejected, but there is a row %s", row)
				}
				f.Expect(f.Token, "PATCH", path, `{"verified":false}`, 200, nil)
				f.Expect(f.AgentKey, "DELETE", "/external/users/"+user, "", 204, nil)
			})
		}
	})
}
