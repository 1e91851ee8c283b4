package api

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"

	"hydragate/e2e/harness"
	"hydragate/identity"
)

const userBody = `{"firstName":"Steve","lastName":"Example","email":"steve@example.com","phoneNumber":"+61 400 111 222",
	"fkId":"123456","fkUserId":"u-1",
	"context":"Support","source":"webchat","customData":{"tier":"gold","n":[1,2]}}`

func TestUsers(t *testing.T) {
	harness.ForEachSurfaceEngine(t, func(t *testing.T, f *harness.SurfaceFixture) {
		got := f.Expect(f.AgentKey, "POST", "/external/users", userBody, 201, nil)
		want := `{"id":"` + got.ID() +
			`","firstName":"Steve","lastName":"Example","context":"Support","source":"webchat",` +
			`"fkId":"123456","fkUserId":"u-1",` +
			`"email":"steve@example.com","phoneNumber":"+61400111222",` +
			`"metadata":{"customData":{"n":[1,2],"tier":"gold"}},"isAnonymized":false}`
		if got.Body != want {
			t.Errorf("got  %s\nwant %s", got.Body, want)
		}
		if got.Header.Get("Cache-Control") != "no-store" || got.Header.Get("Content-Type") != "application/json" {
			t.Errorf("headers = %v", got.Header)
		}
		same := f.Expect(f.AgentKey, "GET", "/external/users/"+strings.ToUpper(got.ID()), "", 200, nil)
		if same.Body != want {
			t.Errorf("GET: %s, want %s", same.Body, want)
		}
		for _, filter := range []string{
			"email=STEVE@example.com", "phoneNumber=%2B61400111222",
			"phoneNumber=+61%20400%20111%20222", "fkId=123456",
		} {
			if found := f.Expect(f.AgentKey, "GET", "/external/users/search?"+filter, "", 200,
				nil); found.Body != `{"user":`+want+`,"conversationIds":[]}` {
				t.Errorf("%s: %s", filter, found.Body)
			}
		}
		f.Expect(f.Token, "GET", "/v1/customers/"+got.ID(), "", 200,
			map[string]any{"metadata": map[string]any{"customData": map[string]any{"tier": "gold", "n": []any{1, 2}}}})
		f.Expect(f.AgentKey, "DELETE", "/external/users/"+got.ID(), "", 204, nil)
		f.Expect(f.AgentKey, "DELETE", "/external/users/"+got.ID(), "", 404,
			map[string]any{"name": "ENTITY_NOT_FOUND_ERROR", "status": 404})
		kinds := f.EventKinds()
		for _, kind := range []string{"user.created", "identity.linked", "user.deleted", "identity.unlinked"} {
			if !slices.Contains(kinds, kind) {
				t.Errorf("event %s missing in %v", kind, kinds)
			}
		}
	})
}

// errorSummary returns the details of an error in one line, "" for a response without details.
func errorSummary(t *testing.T, r harness.SurfaceResponse) string {
	t.Helper()
	var problem struct {
		Details []struct{ Field, Message string }
	}
	if err := json.Unmarshal([]byte(r.Body), &problem); err != nil {
		t.Fatal(err)
	}
	var parts []string
	for _, d := range problem.Details {
		if d.Field != "" {
			d.Message = d.Field + ": " + d.Message
		}
		parts = append(parts, d.Message)
	}
	return strings.Join(parts, "; ")
}

// TestUsers_Limits sends invalid bodies, and valid ones at the limits.
func TestUsers_Limits(t *testing.T) {
	harness.ForEachSurfaceEngine(t, func(t *testing.T, f *harness.SurfaceFixture) {
		const names = `{"firstName":"Steve","lastName":"Example"`
		long := strings.Repeat("x", 256)
		for name, c := range map[string]struct {
			body    string
			status  int
			message string
		}{
			"no name":       {`{"email":"a@example.com"}`, 400, "firstName: Field required; lastName: Field required"},
			"no identifier": {names + `}`, 400, "at least one of email, phoneNumber and fkId is required"},
			"null identifiers": {
				names + `,"email":null,"fkId":null}`, 400,
				"at least one of email, phoneNumber and fkId is required",
			},
			"blank identifier": {names + `,"fkId":"  "}`, 400, "at least one of email, phoneNumber and fkId is required"},
			"empty e-mail":     {names + `,"email":""}`, 400, "email: String should have at least 1 character"},
			"invalid e-mail":   {names + `,"email":"steve"}`, 400, "email: value is not a valid email address"},
			"invalid phone number": {
				names + `,"phoneNumber":"0400"}`, 400,
				"phoneNumber: the country code is missing: a phone number is written with + and its country code, " +
					"such as +61400111222",
			},
			"invalid e-mail and phone number": {
				names + `,"phoneNumber":"0400","email":"steve"}`, 400,
				"email: value is not a valid email address; " +
					"phoneNumber: the country code is missing: a phone number is written with + and its country code, " +
					"such as +61400111222",
			},
			"unknown field":       {names + `,"fkId":"1","tenant_id":"x"}`, 400, "tenant_id: Extra inputs are not permitted"},
			"id":                  {names + `,"fkId":"1","id":"x"}`, 400, "id: Extra inputs are not permitted"},
			"wrong case of field": {names + `,"FkId":"1"}`, 400, "FkId: Extra inputs are not permitted"},
			"field given twice":   {names + `,"fkId":"1","fkId":"2"}`, 400, "fkId: duplicate field"},
			"long name": {
				`{"firstName":"` + long + `","lastName":"E","fkId":"1"}`, 400,
				"firstName: String should have at most 255 characters",
			},
			"custom data as list": {
				names + `,"fkId":"1","customData":[]}`, 400,
				"customData: Input should be a valid dictionary",
			},
			"not JSON":   {`{`, 400, "JSON decode error"},
			"empty body": {``, 400, "Field required"},
			"large body": {
				`{"a":"` + strings.Repeat("x", 256<<10) + `"}`, 413,
				"Request Entity Too Large",
			},
			"phone validation skipped": {
				names + `,"phoneNumber":"ext. 12","skipPhoneNumberValidation":true}`, 201,
				"",
			},
			"e-mail validation skipped": {names + `,"email":"steve","skipEmailValidation":true}`, 201, ""},
			"phone validation skipped, valid number": {names +
				`,"phoneNumber":"+61 400 111 333","skipPhoneNumberValidation":true}`, 201, ""},
			"only fkId": {names + `,"fkId":"%_"}`, 201, ""},
		} {
			t.Run(name, func(t *testing.T) {
				f := f.In(t)
				got := f.Expect(f.AgentKey, "POST", "/external/users", c.body, c.status, nil)
				if problem := errorSummary(t, got); problem != c.message {
					t.Errorf("POST %s: details = %q, want %q", c.body, problem, c.message)
				}
				if c.status == 400 && (got.Fields["name"] != "BAD_REQUEST" || got.Fields["message"] != "INVALID_REQUEST") {
					t.Errorf("POST %s = %s, want BAD_REQUEST with INVALID_REQUEST", c.body, got.Body)
				}
			})
		}
		for _, filter := range []string{
			"", "?", "?email=", "?email=%20", "?email=a@example.com&fkId=1", "?email=&fkId=1",
			"?name=Steve", "?phoneNumber=%00",
		} {
			f.Expect(f.AgentKey, "GET", "/external/users/search"+filter, "", 400,
				map[string]any{"status": 400, "name": "BAD_REQUEST"})
		}
		for _, filter := range []string{
			"email=%25", "email=s%25", "email=_teve", "fkId=%25", "fkId=_%25",
			"phoneNumber=%25", "fkId=zzz", "email=*", "fkId='%20or%201=1",
		} {
			f.Expect(f.AgentKey, "GET", "/external/users/search?"+filter, "", 404,
				map[string]any{"status": 404, "name": "ENTITY_NOT_FOUND_ERROR", "message": "ENTITY_NOT_FOUND"})
		}
		f.Expect(f.AgentKey, "GET", "/external/users/search?fkId=%25_", "", 200, nil)
		f.Expect(f.AgentKey, "GET", "/external/users/search?phoneNumber=ext.%2012", "", 200, nil)
		f.Expect(f.AgentKey, "GET", "/external/users/search?phoneNumber=%2B61400111333", "", 200, nil)
		for _, id := range []string{"nobody", harness.RandomID(), "search%20"} {
			f.Expect(f.AgentKey, "GET", "/external/users/"+id, "", 404,
				map[string]any{
					"message": "ENTITY_NOT_FOUND", "details": []any{map[string]any{"message": "User not found."}},
				})
		}
		f.Expect(f.AgentKey, "GET", "/external/nothing", "", 404, map[string]any{"name": "ENTITY_NOT_FOUND_ERROR"})
		if got := f.Expect(f.AgentKey, "PUT", "/external/users", "{}", 405,
			map[string]any{"status": 405}); got.Header.Get("Allow") != "POST" {
			t.Errorf("Allow = %q, want POST", got.Header.Get("Allow"))
		}
	})
}

// TestUsers_AgentKeyScope tests that agent keys and API keys are valid for their own APIs only, and
// that all wrong keys get the same response.
func TestUsers_AgentKeyScope(t *testing.T) {
	harness.ForEachSurfaceEngine(t, func(t *testing.T, f *harness.SurfaceFixture) {
		const refused = `{"status":403,"name":"FORBIDDEN_ERROR","message":"INVALID_CREDENTIALS","details":[{"message":` +
			`"Invalid API key or secret key. Ensure that you are using a valid authentication key."}]}`
		for name, secret := range map[string]string{
			"no key": "", "API key": f.Token, "wrong key": "ask_x",
			"long key": strings.Repeat("x", 600), "hash of the key": identity.HashToken(f.AgentKey),
		} {
			if got := f.Expect(secret, "GET", "/external/users/search?fkId=1", "", 403, nil); got.Body != refused {
				t.Errorf("%s: %s", name, got.Body)
			}
			f.Expect(secret, "POST", "/external/users", "{", 403, nil)
		}
		f.Expect(f.AgentKey, "GET", "/v1/customers", "", 401, nil)
		f.Expect(f.AgentKey, "GET", "/global/contactIdentities", "", 401, nil)
		if err := f.DeleteInstance(t.Context(), f.TenantID, f.InstanceID, identity.System); err != nil {
			t.Fatal(err)
		}
		f.Expect(f.AgentKey, "GET", "/external/users/search?fkId=1", "", 403, nil)
	})
}

// TestUsers_Conflict creates users with an e-mail address, phone number or fkId of another user.
func TestUsers_Conflict(t *testing.T) {
	harness.ForEachSurfaceEngine(t, func(t *testing.T, f *harness.SurfaceFixture) {
		f.Expect(f.AgentKey, "POST", "/external/users", userBody, 201, nil)
		native := f.Expect(f.Token, "POST", "/v1/customers", `{"first_name":"Steve"}`, 201, nil).ID()
		f.Expect(f.Token, "POST", "/v1/customers/"+native+"/identities", `{"channel":"sms","external_id":"+61400111999"}`,
			201, nil)
		const names = `{"firstName":"Steve","lastName":"Example"`
		for _, taken := range []string{
			`"email":"STEVE@EXAMPLE.COM"`, `"phoneNumber":"+61 400 111 222"`, `"fkId":"123456"`,
			`"phoneNumber":"+61400111999"`,
			`"email":"free@example.com","phoneNumber":"+61400111444","fkId":"123456"`,
		} {
			const conflict = `{"status":400,"name":"BAD_REQUEST","message":"User already exists.",` +
				`"details":[{"message":"User already exists."}]}`
			for _, agent := range []string{f.AgentKey, f.OtherAgentKey} {
				got := f.Expect(agent, "POST", "/external/users", names+`,`+taken+`}`, 400, nil)
				if got.Body != conflict {
					t.Errorf("%s: %s", taken, got.Body)
				}
			}
		}
		// Nothing of the rejected users was stored.
		f.Expect(f.AgentKey, "GET", "/external/users/search?email=free@example.com", "", 404, nil)
		f.Expect(f.AgentKey, "POST", "/external/users", names+`,"email":"free@example.com","phoneNumber":"+61400111444"}`,
			201, nil)
	})
}

// TestUsers_ConcurrentCreate creates the same user concurrently, identified by each of the three
// fields.
func TestUsers_ConcurrentCreate(t *testing.T) {
	harness.ForEachSurfaceEngine(t, func(t *testing.T, f *harness.SurfaceFixture) {
		for _, same := range []string{`"email":"once@example.com"`, `"phoneNumber":"+61400111555"`, `"fkId":"once"`} {
			var wg sync.WaitGroup
			var mu sync.Mutex
			statuses := map[int]int{}
			for n := range 12 {
				agent := []string{f.AgentKey, f.OtherAgentKey}[n%2]
				wg.Go(func() {
					got := f.Do(agent, "POST", "/external/users", `{"firstName":"Steve","lastName":"Example",`+same+`}`)
					mu.Lock()
					defer mu.Unlock()
					statuses[got.Status]++
				})
			}
			wg.Wait()
			if statuses[201] != 1 || statuses[400] != 11 {
				t.Errorf("%s: statuses = %v, want one 201 and eleven 400", same, statuses)
			}
		}
	})
}

// TestUsers_LinksUnknownSender tests that an unknown sender of the instance is linked with its
// conversations, and that an agent sees only the conversations of its own instance.
func TestUsers_LinksUnknownSender(t *testing.T) {
	harness.ForEachSurfaceEngine(t, func(t *testing.T, f *harness.SurfaceFixture) {
		sender := f.AddUnknownSender("sms", "+61400111222")
		mine := f.AddConversation(f.InstanceID, sender)
		user := f.Expect(f.AgentKey, "POST", "/external/users", userBody, 201, nil).ID()
		other, err := f.Link(t.Context(), identity.Identity{
			TenantID: f.TenantID, CustomerID: user,
			InstanceID: f.OtherInstanceID, Channel: "telegram", ExternalID: "1",
		}, identity.System)
		if err != nil {
			t.Fatal(err)
		}
		theirs := f.AddConversation(f.OtherInstanceID, other.ID)
		f.Expect(f.AgentKey, "GET", "/external/users/search?fkId=123456", "", 200,
			map[string]any{"conversationIds": []any{mine}})
		f.Expect(f.OtherAgentKey, "GET", "/external/users/search?fkId=123456", "", 200,
			map[string]any{"conversationIds": []any{theirs}})
		f.Expect(f.Token, "GET", "/global/contactIdentities/"+sender, "", 200, map[string]any{"contactId": user})
		f.Expect(f.AgentKey, "DELETE", "/external/users/"+user, "", 204, nil)
		if with := f.ConversationIdentity(mine); with != "" {
			t.Errorf("identity of the conversation = %s, want none", with)
		}
	})
}
