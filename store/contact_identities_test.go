package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"hydragate/identity"
)

const contactsPath = "/global/contactIdentities"

func (f *apiFixture) createCustomer() string {
	f.t.Helper()
	c, err := f.CreateCustomer(f.t.Context(), identity.Customer{TenantID: f.tenant, FirstName: "Steve"}, identity.System)
	if err != nil {
		f.t.Fatal(err)
	}
	return c.ID
}

func TestContactIdentities(t *testing.T) {
	runAPITest(t, func(t *testing.T, f *apiFixture) {
		for _, at := range []string{"", "/v4"} {
			steve := f.createCustomer()
			full := `"contactIdentityType":"TWITTER","value":"13616` + at +
				`","avatarUrl":"https://images.example.com/steve.png","infoUrl":"https://social.example.com/users?id=1",` +
				`"screenName":"@steve","originalContactPageUrl":"https://social.example.com/steve"`
			got := f.want(f.apiKey, "POST", at+contactsPath, `{`+full+`,"contactId":"`+steve+`"}`, 201, nil)
			want := `{"id":"` + got.id() + `","contactId":"` + steve +
				`","contactIdentityType":"Twitter","name":null,"value":"13616` + at + `",` +
				`"avatarUrl":"https://images.example.com/steve.png","infoUrl":"https://social.example.com/users?id=1","screenName":"@steve","originalContactPageUrl":"https://social.example.com/steve"}`
			if got.text != want {
				t.Errorf("got  %s\nwant %s", got.text, want)
			}
			if read := f.want(f.apiKey, "GET", at+contactsPath+"/"+got.id(), "", 200, nil); read.text != want ||
				read.header.Get("Cache-Control") != "no-store" {
				t.Errorf("GET: %s, headers %v", read.text, read.header)
			}
			// Absent fields become null.
			put := f.want(f.apiKey, "PUT", at+contactsPath+"/"+got.id(),
				`{"contactIdentityType":"Twitter","value":"13616`+at+`"}`, 200, nil)
			want = `{"id":"` + got.id() + `","contactId":null,"contactIdentityType":"Twitter","name":null,"value":"13616` +
				at + `","avatarUrl":null,"infoUrl":null,"screenName":null,"originalContactPageUrl":null}`
			if put.text != want {
				t.Errorf("PUT: %s, want %s", put.text, want)
			}
			list := f.want(f.apiKey, "GET", at+contactsPath, "", 200, nil)
			if list.text != `{"contactIdentities":[`+want+`],"nextPage":null,"previousPage":null,"total":1}` {
				t.Errorf("list: %s", list.text)
			}
			if deleted := f.want(f.apiKey, "DELETE", at+contactsPath+"/"+got.id(), "", 204, nil); deleted.text != "" {
				t.Errorf("body of DELETE = %q, want none", deleted.text)
			}
			f.want(f.apiKey, "DELETE", at+contactsPath+"/"+got.id(), "", 404,
				map[string]any{"errorCode": "NotFound", "message": "Contact identity not found"})
		}
	})
}

// TestContactIdentities_Types creates a contact identity of each type, with the type in another
// case, and looks it up on the corresponding channel.
func TestContactIdentities_Types(t *testing.T) {
	runAPITest(t, func(t *testing.T, f *apiFixture) {
		steve := f.createCustomer()
		for typ, c := range map[string]struct{ channel, value, kept string }{
			"visitor": {"visitor", "v-1", "v-1"}, "email": {"email", " steve@example.com ", "steve@example.com"},
			"SMS":      {"sms", "+61 400 111 222", "+61400111222"},
			"Facebook": {"facebook", "1", "1"}, "Twitter": {"twitter", "1", "1"}, "WeChat": {"wechat", "w_1", "w_1"},
			"ssoid":      {"ssoid", "s", "s"},
			"externalid": {"externalid", "e", "e"}, "Whatsapp": {"whatsapp", "whatsapp:+61400111222", "+61400111222"},
			"inphase":  {"inphase", "i", "i"},
			"Telegram": {"telegram", "12345", "12345"}, "Slack": {"slack", "t024be7ld:u023becgf", "T024BE7LD:U023BECGF"},
		} {
			f.want(f.apiKey, "POST", contactsPath, fmt.Sprintf(`{"contactIdentityType":%q,"value":%q,"contactId":%q}`,
				strings.ToUpper(typ), c.value, steve), 201,
				map[string]any{"contactIdentityType": typ, "value": c.kept})
			i, _, err := f.Lookup(t.Context(), identity.Address{TenantID: f.tenant, Channel: c.channel, ExternalID: c.kept})
			if err != nil || i.CustomerID != steve {
				t.Errorf("%s: %v", typ, err)
			}
		}
		i, err := f.Link(t.Context(), identity.Identity{
			TenantID: f.tenant, CustomerID: steve, Channel: "line",
			ExternalID: "l",
		}, identity.System)
		if err != nil {
			t.Fatal(err)
		}
		f.want(f.apiKey, "GET", contactsPath+"/"+i.ID, "", 200, map[string]any{"contactIdentityType": "line"})
	})
}

func TestContactIdentities_Limits(t *testing.T) {
	runAPITest(t, func(t *testing.T, f *apiFixture) {
		const address = `{"contactIdentityType":"email","value":"a@example.com"`
		url := func(u string) string { return fmt.Sprintf(address+`,"avatarUrl":%q}`, u) }
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
				"contactIdentityType: the type must be one of visitor, email, SMS, Facebook, Twitter, WeChat, ssoid, externalid, Whatsapp, inphase, Telegram, Slack", 400,
			},
			"type with long s": {
				`{"contactIdentityType":"ſms","value":"+61400111222"}`,
				"contactIdentityType: the type must be one of visitor, email, SMS, Facebook, Twitter, WeChat, ssoid, externalid, Whatsapp, inphase, Telegram, Slack", 400,
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
				"value: a numeric value is a positive integer, such as 12345", 400,
			},
			"invalid phone number": {
				`{"contactIdentityType":"sms","value":"0400"}`,
				"value: a phone number is written with its country code, such as +61400111222", 400,
			},
			"invalid contact ID": {
				address + `,"contactId":"x"}`,
				"contactId: Input should be a valid UUID, invalid character: found `x` at 1", 400,
			},
			"unknown contact":     {address + `,"contactId":"` + unknownID + `"}`, "Contact not found", 404},
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
				f := &apiFixture{Store: f.Store, t: t, url: f.url, apiKey: f.apiKey}
				fields := map[string]any{"message": c.message}
				if c.status == 201 {
					fields = nil
				}
				f.want(f.apiKey, "POST", contactsPath, c.body, c.status, fields)
				if c.status == 400 {
					f.want(f.apiKey, "PUT", contactsPath+"/"+f.do(f.apiKey, "POST", contactsPath,
						`{"contactIdentityType":"visitor","value":"`+newID()+`"}`).id(), c.body, 400,
						map[string]any{"errorCode": "BadRequest", "message": c.message})
				}
			})
		}
		for _, page := range []string{"0", "-1", "x", "1.5", "", "1000001", "99999999999999999999"} {
			f.want(f.apiKey, "GET", contactsPath+"?pageIndex="+page, "", 400, map[string]any{"errorCode": "BadRequest"})
		}
		for _, id := range []string{"x", unknownID, newID()} {
			f.want(f.apiKey, "GET", contactsPath+"/"+id, "", 404, map[string]any{"errorCode": "NotFound"})
		}
		if got := f.want("", "GET", contactsPath, "", 401,
			map[string]any{"errorCode": "Unauthorized"}); got.header.Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("headers = %v, want WWW-Authenticate: Bearer", got.header)
		}
		reader := f.newKey(f.tenant, "", "identities:read")
		f.want(reader, "GET", contactsPath, "", 200, nil)
		f.want(reader, "POST", contactsPath, "{}", 403,
			map[string]any{"errorCode": "Forbidden", "message": "Missing scope: identities:write"})
		f.want(f.newKey(f.tenant, "", "identities:write"), "GET", contactsPath, "", 403, nil)
		f.want(f.apiKey, "GET", "/v4/nothing", "", 404, map[string]any{"errorCode": "NotFound"})
		if got := f.want(f.apiKey, "PATCH", contactsPath, "{}", 405,
			map[string]any{"errorCode": "MethodNotAllowed"}); got.header.Get("Allow") != "GET, POST" {
			t.Errorf("Allow = %q, want GET, POST", got.header.Get("Allow"))
		}
	})
}

func TestContactIdentities_Paging(t *testing.T) {
	runAPITest(t, func(t *testing.T, f *apiFixture) {
		steve := f.createCustomer()
		var ids []string
		for n := range 101 {
			i, err := f.Link(t.Context(), identity.Identity{
				TenantID: f.tenant, CustomerID: steve, Channel: "visitor",
				ExternalID: fmt.Sprint(n),
			}, identity.System)
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, i.ID)
		}
		for _, at := range []string{"", "/v4"} {
			link := func(n int) any {
				if n == 0 {
					return nil
				}
				return fmt.Sprintf("%s%s%s?pageIndex=%d", publicURL, at, contactsPath, n)
			}
			for _, p := range []struct{ page, first, rows, previous, next int }{
				{1, 0, 50, 0, 2},
				{2, 50, 50, 1, 3},
				{3, 100, 1, 2, 0},
				{4, 0, 0, 3, 0},
			} {
				got := f.want(f.apiKey, "GET", fmt.Sprintf("%s%s?pageIndex=%d", at, contactsPath, p.page), "", 200,
					map[string]any{"total": 101, "nextPage": link(p.next), "previousPage": link(p.previous)})
				rows, _ := got.body["contactIdentities"].([]any)
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
	runAPITest(t, func(t *testing.T, f *apiFixture) {
		steve, matt := f.createCustomer(), f.createCustomer()
		post := func(value, contact string, status int) apiResponse {
			t.Helper()
			body := `{"contactIdentityType":"telegram","value":"` + value + `"}`
			if contact != "" {
				body = strings.TrimSuffix(body, "}") + `,"contactId":"` + contact + `"}`
			}
			return f.want(f.apiKey, "POST", contactsPath, body, status, nil)
		}
		post("1", steve, 201)
		post("1", matt, 409)
		post("1", "", 409)
		noted := post("2", "", 201)
		post("2", "", 409)
		if _, _, err := f.Lookup(t.Context(), identity.Address{
			TenantID: f.tenant, InstanceID: f.instance,
			Channel: "telegram", ExternalID: "2",
		}); err == nil {
			t.Error("Lookup found an address that belongs to no customer")
		}
		if got := post("2", steve, 201); got.id() != noted.id() {
			t.Error("a new identity was created instead of taking over the address")
		}
		// The sender is known because of an earlier message.
		sender := newUnknown(t, f.Store, identity.Identity{
			TenantID: f.tenant, InstanceID: f.instance, Channel: "telegram",
			ExternalID: "3", DisplayName: "Steve", Username: "steve",
		})
		conversation := newConversation(t, f.Store, f.tenant, f.instance, sender.ID)
		f.want(f.apiKey, "GET", contactsPath+"/"+sender.ID, "", 200,
			map[string]any{"contactId": nil, "name": "Steve", "screenName": "steve", "value": "3"})
		post("3", "", 409)
		got := post("3", steve, 201)
		if with := queryText(t, f.Store, `select identity_id from conversations where id = $1`,
			conversation); with != got.id() {
			t.Errorf("identity of the conversation = %s, want %s", with, got.id())
		}
		// The contact identity is created first, then a message arrives, then it is linked.
		noted = post("4", "", 201)
		later := newUnknown(t, f.Store, identity.Identity{
			TenantID: f.tenant, InstanceID: f.instance, Channel: "telegram",
			ExternalID: "4",
		})
		conversation = newConversation(t, f.Store, f.tenant, f.instance, later.ID)
		f.want(f.apiKey, "PUT", contactsPath+"/"+noted.id(),
			`{"contactIdentityType":"telegram","value":"4","contactId":"`+steve+`"}`, 200, nil)
		f.want(f.apiKey, "GET", contactsPath+"/"+later.ID, "", 404, nil)
		if with := queryText(t, f.Store, `select identity_id from conversations where id = $1`,
			conversation); with != noted.id() {
			t.Errorf("identity of the conversation = %s, want %s", with, noted.id())
		}
		noted = post("5", "", 201)
		newUnknown(t, f.Store, identity.Identity{
			TenantID: f.tenant, InstanceID: f.instance, Channel: "telegram",
			ExternalID: "5",
		})
		post("5", steve, 201)
		for _, c := range []struct{ value, contact string }{{"1", `"` + steve + `"`}, {"1", "null"}} {
			f.want(f.apiKey, "PUT", contactsPath+"/"+noted.id(),
				`{"contactIdentityType":"telegram","value":"`+c.value+`","contactId":`+c.contact+`}`, 409,
				map[string]any{"errorCode": "Conflict"})
		}
	})
}

func TestContactIdentities_ConcurrentCreate(t *testing.T) {
	runAPITest(t, func(t *testing.T, f *apiFixture) {
		for value, contact := range map[string]string{"unlinked": "null", "linked": `"` + f.createCustomer() + `"`} {
			var wg sync.WaitGroup
			var mu sync.Mutex
			statuses := map[int]int{}
			for range 12 {
				wg.Go(func() {
					got := f.do(f.apiKey, "POST", contactsPath,
						`{"contactIdentityType":"visitor","value":"`+value+`","contactId":`+contact+`}`)
					mu.Lock()
					defer mu.Unlock()
					statuses[got.status]++
				})
			}
			wg.Wait()
			if statuses[201] != 1 || statuses[409] != 11 {
				t.Errorf("%s: statuses = %v, want one 201 and eleven 409", value, statuses)
			}
		}
	})
}

// TestContactIdentities_ReplaceEndsVerification replaces each part of a verified identity with a
// live code. The verification ends with the customer and with the address, and with nothing else.
func TestContactIdentities_ReplaceEndsVerification(t *testing.T) {
	runAPITest(t, func(t *testing.T, f *apiFixture) {
		steve, matt := f.createCustomer(), f.createCustomer()
		for n, c := range []struct {
			name, typ, value, contact string
			wantVerified              bool // the verification is kept
			wantConversation          bool // the conversation and the display name are kept
		}{
			{"nothing changed", "telegram", "%", steve, true, true},
			{"customer changed", "telegram", "%", matt, false, true},
			{"customer removed", "telegram", "%", "", false, true},
			{"address changed", "telegram", "9%", steve, false, false},
			{"type changed", "visitor", "%", steve, false, false},
			{"everything changed", "visitor", "9%", matt, false, false},
		} {
			t.Run(c.name, func(t *testing.T) {
				f := &apiFixture{Store: f.Store, t: t, url: f.url, tenant: f.tenant, instance: f.instance, apiKey: f.apiKey}
				external := fmt.Sprint(700 + n)
				i, err := f.Link(t.Context(), identity.Identity{
					TenantID: f.tenant, CustomerID: steve, InstanceID: f.instance,
					Channel: "telegram", ExternalID: external, DisplayName: "Steve", RoleOverride: "owner",
				}, identity.System)
				if err != nil {
					t.Fatal(err)
				}
				before, _, err := f.IssueCode(t.Context(), identity.Key{TenantID: f.tenant, CustomerID: steve, IdentityID: i.ID},
					identity.System)
				if err != nil {
					t.Fatal(err)
				}
				mustExec(t, f.Store, `update identities set verified_at = $2 where id = $1`, i.ID, f.now())
				conversation := newConversation(t, f.Store, f.tenant, f.instance, i.ID)
				contact := "null"
				if c.contact != "" {
					contact = `"` + c.contact + `"`
				}
				value := strings.ReplaceAll(c.value, "%", external)
				f.want(f.apiKey, "PUT", contactsPath+"/"+i.ID,
					`{"contactIdentityType":"`+c.typ+`","value":"`+value+`","contactId":`+contact+`,"screenName":"@s"}`, 200,
					map[string]any{"value": value, "screenName": "@s"})
				got, err := f.ContactIdentity(t.Context(), f.tenant, i.ID)
				if err != nil {
					t.Fatal(err)
				}
				if got.IsVerified() != c.wantVerified || (got.RoleOverride == "owner") != c.wantVerified ||
					got.InstanceID != f.instance {
					t.Errorf("identity = %+v, want verification kept: %v", got.Identity, c.wantVerified)
				}
				gen := queryText(t, f.Store, `select cast(claim_gen as text) from identities where id = $1`, i.ID)
				if (gen == fmt.Sprint(before.Gen)) != c.wantVerified {
					t.Errorf("claim generation = %s, before %d, want kept: %v", gen, before.Gen, c.wantVerified)
				}
				if live := queryText(t, f.Store, `select cast(claim_expires_at as text) from identities where id = $1`,
					i.ID) != ""; live != c.wantVerified {
					t.Errorf("has a live code = %v, want %v", live, c.wantVerified)
				}
				if with := queryText(t, f.Store, `select identity_id from conversations where id = $1`,
					conversation) == i.ID; with != c.wantConversation {
					t.Errorf("conversation kept = %v, want %v", with, c.wantConversation)
				}
				if (got.DisplayName == "Steve") != c.wantConversation {
					t.Errorf("display name = %q, want kept: %v", got.DisplayName, c.wantConversation)
				}
			})
		}
		kinds := f.eventKinds(f.tenant)
		for _, kind := range []string{"identity.updated", "identity.unlinked", "identity.linked", "identity.noted"} {
			if !slices.Contains(kinds, kind) {
				t.Errorf("event %s missing in %v", kind, kinds)
			}
		}
	})
}

// TestContactIdentities_InstanceKey tests that a key of an instance reads the identities of its
// instance and of all instances, and changes only those of its instance.
func TestContactIdentities_InstanceKey(t *testing.T) {
	runAPITest(t, func(t *testing.T, f *apiFixture) {
		steve := f.createCustomer()
		link := func(instance, external string) string {
			i, err := f.Link(t.Context(), identity.Identity{
				TenantID: f.tenant, CustomerID: steve, InstanceID: instance,
				Channel: "telegram", ExternalID: external,
			}, identity.System)
			if err != nil {
				t.Fatal(err)
			}
			return i.ID
		}
		own, wide, other := link(f.instance, "1"), link("", "2"), link(f.otherInstance, "3")
		key := f.newKey(f.tenant, f.instance, "identities:read", "identities:write")
		f.want(key, "GET", contactsPath, "", 200, map[string]any{"total": 2})
		for id, want := range map[string][2]int{own: {200, 200}, wide: {200, 403}, other: {404, 404}} {
			f.want(key, "GET", contactsPath+"/"+id, "", want[0], nil)
			value := map[string]string{own: "1", wide: "2", other: "3"}[id]
			f.want(key, "PUT", contactsPath+"/"+id,
				`{"contactIdentityType":"telegram","value":"`+value+`","contactId":"`+steve+`"}`, want[1], nil)
		}
		f.want(key, "DELETE", contactsPath+"/"+wide, "", 403, nil)
		f.want(key, "DELETE", contactsPath+"/"+other, "", 404, nil)
		made := f.want(key, "POST", contactsPath, `{"contactIdentityType":"telegram","value":"3"}`, 201, nil)
		got, err := f.ContactIdentity(t.Context(), f.tenant, made.id())
		if err != nil || got.InstanceID != f.instance {
			t.Errorf("ContactIdentity() = %+v, %v, want one of the key's instance", got, err)
		}
		f.want(key, "DELETE", contactsPath+"/"+made.id(), "", 204, nil)
	})
}

// TestContactIdentities_LinkedDuringReplace links an unknown sender for all instances after a key
// of one instance was authorized to change it. The key must not change the linked identity.
func TestContactIdentities_LinkedDuringReplace(t *testing.T) {
	runAPITest(t, func(t *testing.T, f *apiFixture) {
		key := f.newKey(f.tenant, f.instance, "identities:read", "identities:write")
		seen, err := f.ContactIdentity(t.Context(), f.tenant,
			f.want(key, "POST", contactsPath, `{"contactIdentityType":"telegram","value":"7"}`, 201, nil).id())
		if err != nil || seen.InstanceID != f.instance {
			t.Fatalf("%+v, %v", seen, err)
		}
		steve := f.createCustomer()
		linked, err := f.Link(t.Context(), identity.Identity{
			TenantID: f.tenant, CustomerID: steve, Channel: "telegram",
			ExternalID: "7",
		}, identity.System)
		if err != nil || linked.ID != seen.ID || linked.InstanceID != "" {
			t.Fatalf("Link() = %+v, %v, want the same row for all instances", linked, err)
		}
		mine := seen
		mine.CustomerID = f.createCustomer()
		if got, err := f.ReplaceContactIdentity(t.Context(), mine, nil, "key:test"); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("ReplaceContactIdentity() = %+v, %v, want ErrNotFound", got, err)
		}
		if err := f.DeleteContactIdentity(t.Context(), identity.SenderKey{
			TenantID: f.tenant, InstanceID: seen.InstanceID,
			IdentityID: seen.ID,
		}, "key:test"); !errors.Is(err,
			identity.ErrNotFound) {
			t.Errorf("DeleteContactIdentity() = %v, want ErrNotFound", err)
		}
		if i, _, err := f.Lookup(t.Context(), identity.Address{
			TenantID: f.tenant, InstanceID: f.otherInstance,
			Channel: "telegram", ExternalID: "7",
		}); err != nil || i.CustomerID != steve {
			t.Errorf("Lookup() = %+v, %v, want the identity of steve", i, err)
		}
	})
}
