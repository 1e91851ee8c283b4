package api

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"hydragate/e2e/harness"
	"hydragate/identity"
)

const contactsPath = "/global/contactIdentities"

// missingID is a valid ID of nothing.
const missingID = "00000000-0000-7000-8000-0000000000ff"

func TestContactIdentities(t *testing.T) {
	harness.ForEachSurfaceEngine(t, func(t *testing.T, f *harness.SurfaceFixture) {
		for _, at := range []string{"", "/v4"} {
			steve := f.NewCustomer()
			full := `"contactIdentityType":"TWITTER","value":"13616` + at +
				`","avatarUrl":"https://images.example.com/steve.png","infoUrl":"https://social.example.com/users?id=1",` +
				`"screenName":"@steve","originalContactPageUrl":"https://social.example.com/steve"`
			got := f.Expect(f.Token, "POST", at+contactsPath, `{`+full+`,"contactId":"`+steve+`"}`, 201, nil)
			want := `{"id":"` + got.ID() + `","contactId":"` + steve +
				`","contactIdentityType":"Twitter","name":null,"value":"13616` + at + `",` +
				`"avatarUrl":"https://images.example.com/steve.png","infoUrl":"https://social.example.com/users?id=1",` +
				`"screenName":"@steve","originalContactPageUrl":"https://social.example.com/steve"}`
			if got.Body != want {
				t.Errorf("got  %s\nwant %s", got.Body, want)
			}
			if read := f.Expect(f.Token, "GET", at+contactsPath+"/"+got.ID(), "", 200, nil); read.Body != want ||
				read.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("GET: %s, headers %v", read.Body, read.Header)
			}
			// Absent fields become null.
			put := f.Expect(f.Token, "PUT", at+contactsPath+"/"+got.ID(),
				`{"contactIdentityType":"Twitter","value":"13616`+at+`"}`, 200, nil)
			want = `{"id":"` + got.ID() + `","contactId":null,"contactIdentityType":"Twitter","name":null,"value":"13616` +
				at + `","avatarUrl":null,"infoUrl":null,"screenName":null,"originalContactPageUrl":null}`
			if put.Body != want {
				t.Errorf("PUT: %s, want %s", put.Body, want)
			}
			list := f.Expect(f.Token, "GET", at+contactsPath, "", 200, nil)
			if list.Body != `{"contactIdentities":[`+want+`],"nextPage":null,"previousPage":null,"total":1}` {
				t.Errorf("list: %s", list.Body)
			}
			if deleted := f.Expect(f.Token, "DELETE", at+contactsPath+"/"+got.ID(), "", 204, nil); deleted.Body != "" {
				t.Errorf("body of DELETE = %q, want none", deleted.Body)
			}
			f.Expect(f.Token, "DELETE", at+contactsPath+"/"+got.ID(), "", 404,
				map[string]any{"errorCode": "NotFound", "message": "Contact identity not found"})
		}
	})
}

// TestContactIdentities_Types creates a contact identity of each type, with the type in another
// case, and looks it up on the corresponding channel.
func TestContactIdentities_Types(t *testing.T) {
	harness.ForEachSurfaceEngine(t, func(t *testing.T, f *harness.SurfaceFixture) {
		steve := f.NewCustomer()
		for typ, c := range map[string]struct{ channel, value, kept string }{
			"visitor": {"visitor", "v-1", "v-1"}, "email": {"email", " steve@example.com ", "steve@example.com"},
			"SMS":      {"sms", "+61 400 111 222", "+61400111222"},
			"Facebook": {"facebook", "1", "1"}, "Twitter": {"twitter", "1", "1"}, "WeChat": {"wechat", "w_1", "w_1"},
			"ssoid":      {"ssoid", "s", "s"},
			"externalid": {"externalid", "e", "e"}, "Whatsapp": {"whatsapp", "whatsapp:+61400111222", "+61400111222"},
			"inphase":  {"inphase", "i", "i"},
			"Telegram": {"telegram", "12345", "12345"}, "Slack": {"slack", "t024be7ld:u023becgf", "T024BE7LD:U023BECGF"},
		} {
			f.Expect(f.Token, "POST", contactsPath, fmt.Sprintf(`{"contactIdentityType":%q,"value":%q,"contactId":%q}`,
				strings.ToUpper(typ), c.value, steve), 201,
				map[string]any{"contactIdentityType": typ, "value": c.kept})
			i, _, err := f.Lookup(t.Context(), identity.Address{TenantID: f.TenantID, Channel: c.channel, ExternalID: c.kept})
			if err != nil || i.CustomerID != steve {
				t.Errorf("%s: %v", typ, err)
			}
		}
		i := f.LinkAddress(steve, "", "line", "l")
		f.Expect(f.Token, "GET", contactsPath+"/"+i.ID, "", 200, map[string]any{"contactIdentityType": "line"})
	})
}

func TestContactIdentities_Limits(t *testing.T) {
	harness.ForEachSurfaceEngine(t, func(t *testing.T, f *harness.SurfaceFixture) {
		const address = `{"contactIdentityType":"email","value":"a@example.com"`
		url := func(u string) string { return fmt.Sprintf(address+`,"avatarUrl":%q}`, u) }
		const unknownType = "contactIdentityType: the type must be one of visitor, email, SMS, Facebook, Twitter, WeChat, " +
			"ssoid, externalid, Whatsapp, inphase, Telegram, Slack"
		long := "https://example.com/" + strings.Repeat("x", 2029)
		for name, c := range map[string]struct {
			body, message string
			status        int
		}{
			"empty object": {`{}`, "contactIdentityType: Field required; value: Field required", 400},
			"no body":      {``, "Field required", 400},
			"not JSON":     {`{"a"`, "JSON decode error", 400},
			"Type": {
				`{"contactIdentityType":"fax","value":"1"}`,
				unknownType, 400,
			},
			"type with long s": {
				`{"contactIdentityType":"ſms","value":"+61400111222"}`,
				unknownType, 400,
			},
			"empty value": {
				`{"contactIdentityType":"email","value":""}`, "value: String should have at least 1 character",
				400,
			},
			"long value": {
				`{"contactIdentityType":"email","value":"` + strings.Repeat("x", 256) + `"}`,
				"value: String should have at most 255 characters", 400,
			},
			"invalid Telegram ID": {
				`{"contactIdentityType":"telegram","value":"@steve"}`,
				"value: on this channel, a value is a number, such as 12345", 400,
			},
			"invalid phone number": {
				`{"contactIdentityType":"sms","value":"0400"}`,
				"value: the country code is missing: a phone number is written with + and its country code, " +
					"such as +61400111222",
				400,
			},
			"invalid contact ID": {
				address + `,"contactId":"x"}`,
				"contactId: Input should be a valid UUID, invalid character: found `x` at 1", 400,
			},
			"unknown contact":     {address + `,"contactId":"` + missingID + `"}`, "Contact not found", 404},
			"verified":            {address + `,"verified":true}`, "verified: Extra inputs are not permitted", 400},
			"id":                  {address + `,"id":"1"}`, "id: Extra inputs are not permitted", 400},
			"role override":       {address + `,"role_override":"owner"}`, "role_override: Extra inputs are not permitted", 400},
			"wrong case of field": {address + `,"ContactId":null}`, "ContactId: Extra inputs are not permitted", 400},
			"javascript URL":      {url("javascript:alert(1)"), "avatarUrl: a URL must be an absolute https URL", 400},
			"data URL":            {url("data:text/html,x"), "avatarUrl: a URL must be an absolute https URL", 400},
			"http URL":            {url("http://example.com"), "avatarUrl: a URL must be an absolute https URL", 400},
			"URL without scheme":  {url("//evil.example.com"), "avatarUrl: a URL must be an absolute https URL", 400},
			"backslashes in URL":  {url(`https:\\evil.example.com`), "avatarUrl: a URL must be an absolute https URL", 400},
			"backslash in URL path": {
				url(`https://example.com/\evil`),
				"avatarUrl: a URL must not contain spaces, backslashes or invisible characters", 400,
			},
			"URL without host": {url("https:///x"), "avatarUrl: a URL must be an absolute https URL", 400},
			"user and password in URL": {
				url("https://a:b@example.com"),
				"avatarUrl: a URL must not contain a user name or password", 400,
			},
			"user in URL": {
				url("https://example.com@evil.example.com"),
				"avatarUrl: a URL must not contain a user name or password", 400,
			},
			"invisible character in URL": {
				url("https://example.com/\u202egpj.exe"),
				"avatarUrl: a URL must not contain spaces, backslashes or invisible characters", 400,
			},
			"URL too long": {url(long), "avatarUrl: String should have at most 2048 characters", 400},
			"longest URL":  {url(long[:2048]), "", 201},
			"empty URL":    {`{"contactIdentityType":"email","value":"b@example.com","avatarUrl":"","infoUrl":null}`, "", 201},
			"large body":   {`{"a":"` + strings.Repeat("x", 256<<10) + `"}`, "Request Entity Too Large", 413},
		} {
			t.Run(name, func(t *testing.T) {
				f := f.In(t)
				fields := map[string]any{"message": c.message}
				if c.status == 201 {
					fields = nil
				}
				f.Expect(f.Token, "POST", contactsPath, c.body, c.status, fields)
				if c.status == 400 {
					f.Expect(f.Token, "PUT", contactsPath+"/"+f.Do(f.Token, "POST", contactsPath,
						`{"contactIdentityType":"visitor","value":"`+harness.RandomID()+`"}`).ID(), c.body, 400,
						map[string]any{"errorCode": "BadRequest", "message": c.message})
				}
			})
		}
	})
}

// TestContactIdentities_Rejected sends requests that are rejected whatever their body.
func TestContactIdentities_Rejected(t *testing.T) {
	harness.ForEachSurfaceEngine(t, func(t *testing.T, f *harness.SurfaceFixture) {
		for _, page := range []string{"0", "-1", "x", "1.5", "", "1000001", "99999999999999999999"} {
			f.Expect(f.Token, "GET", contactsPath+"?pageIndex="+page, "", 400, map[string]any{"errorCode": "BadRequest"})
		}
		for _, id := range []string{"x", missingID, harness.RandomID()} {
			f.Expect(f.Token, "GET", contactsPath+"/"+id, "", 404, map[string]any{"errorCode": "NotFound"})
		}
		if got := f.Expect("", "GET", contactsPath, "", 401,
			map[string]any{"errorCode": "Unauthorized"}); got.Header.Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("headers = %v, want WWW-Authenticate: Bearer", got.Header)
		}
		reader := f.NewKey(f.TenantID, "", "identities:read")
		f.Expect(reader, "GET", contactsPath, "", 200, nil)
		f.Expect(reader, "POST", contactsPath, "{}", 403,
			map[string]any{"errorCode": "Forbidden", "message": "Missing scope: identities:write"})
		f.Expect(f.NewKey(f.TenantID, "", "identities:write"), "GET", contactsPath, "", 403, nil)
		f.Expect(f.Token, "GET", "/v4/nothing", "", 404, map[string]any{"errorCode": "NotFound"})
		if got := f.Expect(f.Token, "PATCH", contactsPath, "{}", 405,
			map[string]any{"errorCode": "MethodNotAllowed"}); got.Header.Get("Allow") != "GET, POST" {
			t.Errorf("Allow = %q, want GET, POST", got.Header.Get("Allow"))
		}
	})
}

func TestContactIdentities_Paging(t *testing.T) {
	harness.ForEachSurfaceEngine(t, func(t *testing.T, f *harness.SurfaceFixture) {
		steve := f.NewCustomer()
		var ids []string
		for n := range 101 {
			i := f.LinkAddress(steve, "", "visitor", fmt.Sprint(n))
			ids = append(ids, i.ID)
		}
		for _, at := range []string{"", "/v4"} {
			link := func(n int) any {
				if n == 0 {
					return nil
				}
				return fmt.Sprintf("%s%s%s?pageIndex=%d", harness.SurfacePublicURL, at, contactsPath, n)
			}
			for _, p := range []struct{ page, first, rows, previous, next int }{
				{1, 0, 50, 0, 2},
				{2, 50, 50, 1, 3},
				{3, 100, 1, 2, 0},
				{4, 0, 0, 3, 0},
			} {
				got := f.Expect(f.Token, "GET", fmt.Sprintf("%s%s?pageIndex=%d", at, contactsPath, p.page), "", 200,
					map[string]any{"total": 101, "nextPage": link(p.next), "previousPage": link(p.previous)})
				rows, _ := got.Fields["contactIdentities"].([]any)
				if len(rows) != p.rows || p.rows > 0 && rows[0].(map[string]any)["id"] != ids[p.first] {
					t.Errorf("page %d has %d rows, want %d", p.page, len(rows), p.rows)
				}
			}
		}
	})
}

// TestContactIdentities_AddressTaken tests that an address exists once in its scope, and that an
// address without a customer is taken over by the customer to whom it is linked.
func TestContactIdentities_AddressTaken(t *testing.T) {
	harness.ForEachSurfaceEngine(t, func(t *testing.T, f *harness.SurfaceFixture) {
		steve, matt := f.NewCustomer(), f.NewCustomer()
		post := func(value, contact string, status int) harness.SurfaceResponse {
			t.Helper()
			body := `{"contactIdentityType":"telegram","value":"` + value + `"}`
			if contact != "" {
				body = strings.TrimSuffix(body, "}") + `,"contactId":"` + contact + `"}`
			}
			return f.Expect(f.Token, "POST", contactsPath, body, status, nil)
		}
		post("1", steve, 201)
		post("1", matt, 409)
		post("1", "", 409)
		noted := post("2", "", 201)
		post("2", "", 409)
		if _, _, err := f.Lookup(t.Context(), identity.Address{
			TenantID: f.TenantID, InstanceID: f.InstanceID,
			Channel: "telegram", ExternalID: "2",
		}); err == nil {
			t.Error("Lookup found an address that belongs to no customer")
		}
		if got := post("2", steve, 201); got.ID() != noted.ID() {
			t.Error("a new identity was created instead of taking over the address")
		}
		// The sender is known because of an earlier message.
		sender := f.AddUnknownSender("telegram", "3")
		conversation := f.AddConversation(f.InstanceID, sender)
		f.Expect(f.Token, "GET", contactsPath+"/"+sender, "", 200,
			map[string]any{"contactId": nil, "name": "Steve", "screenName": "steve", "value": "3"})
		post("3", "", 409)
		got := post("3", steve, 201)
		if with := f.ConversationIdentity(conversation); with != got.ID() {
			t.Errorf("identity of the conversation = %s, want %s", with, got.ID())
		}
		// The contact identity is created first, then a message arrives, then it is linked.
		noted = post("4", "", 201)
		later := f.AddUnknownSender("telegram", "4")
		conversation = f.AddConversation(f.InstanceID, later)
		f.Expect(f.Token, "PUT", contactsPath+"/"+noted.ID(),
			`{"contactIdentityType":"telegram","value":"4","contactId":"`+steve+`"}`, 200, nil)
		f.Expect(f.Token, "GET", contactsPath+"/"+later, "", 404, nil)
		if with := f.ConversationIdentity(conversation); with != noted.ID() {
			t.Errorf("identity of the conversation = %s, want %s", with, noted.ID())
		}
		noted = post("5", "", 201)
		f.AddUnknownSender("telegram", "5")
		post("5", steve, 201)
		for _, c := range []struct{ value, contact string }{{"1", `"` + steve + `"`}, {"1", "null"}} {
			f.Expect(f.Token, "PUT", contactsPath+"/"+noted.ID(),
				`{"contactIdentityType":"telegram","value":"`+c.value+`","contactId":`+c.contact+`}`, 409,
				map[string]any{"errorCode": "Conflict"})
		}
	})
}

func TestContactIdentities_ConcurrentCreate(t *testing.T) {
	harness.ForEachSurfaceEngine(t, func(t *testing.T, f *harness.SurfaceFixture) {
		for value, contact := range map[string]string{"unlinked": "null", "linked": `"` + f.NewCustomer() + `"`} {
			var wg sync.WaitGroup
			var mu sync.Mutex
			statuses := map[int]int{}
			for range 12 {
				wg.Go(func() {
					got := f.Do(f.Token, "POST", contactsPath,
						`{"contactIdentityType":"visitor","value":"`+value+`","contactId":`+contact+`}`)
					mu.Lock()
					defer mu.Unlock()
					statuses[got.Status]++
				})
			}
			wg.Wait()
			if statuses[201] != 1 || statuses[409] != 11 {
				t.Errorf("%s: statuses = %v, want one 201 and eleven 409", value, statuses)
			}
		}
	})
}
