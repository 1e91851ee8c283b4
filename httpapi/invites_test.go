package httpapi

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/gateway"
	"hydragate/httpapi/httpapitest"
	"hydragate/identity"
)

// newInvites creates an invite that waits for staff in each tenant and returns the IDs.
func (h *harness) newInvites() (id, foreignID string) {
	opener := claim.Opener{
		OpenedAt: h.clock, MessageID: unknownID, IdentityID: h.instanceIdentity, ExternalID: "12345", DisplayName: "Steve",
		Username: "steve", FirstSeenAt: h.clock,
	}
	a := h.store.AddInvite(claim.Invite{
		TenantID: identity.DefaultTenant, InstanceID: h.instance, Channel: "telegram", CustomerID: h.customer,
		Opener: opener,
	})
	b := h.store.AddInvite(claim.Invite{
		TenantID: otherTenant, InstanceID: h.foreignInstance, Channel: "telegram", CustomerID: h.foreignCustomer,
		Opener: opener,
	})
	return a.ID, b.ID
}

func TestInvites(t *testing.T) {
	h := newHarness(t)
	h.setUpChannels()
	path := "/v1/customers/" + h.customer + "/invites"
	body := func(channel, rest string) string {
		return `{"channel":"` + channel + `","instance_id":"` + h.instance + `"` + rest + `}`
	}
	got := h.request("POST", path, body("telegram", ""), "Idempotency-Key: once")
	h.expect(got, 201, "")
	f := got.fields(t)
	id := f["id"].(string)
	for field, want := range map[string]any{
		"channel":            "telegram",
		"instance_id":        h.instance,
		"customer_id":        h.customer,
		"role_override":      nil,
		"code":               httpapitest.InviteCode,
		"url":                "https://t.me/acme_bot?start=claim_" + httpapitest.InviteCode,
		"expires_in_seconds": 86400.0,
		"expires_at":         "2026-11-23T02:00:00Z",
		"instructions": "Open https://t.me/acme_bot?start=claim_WDJBMJKLNPQR, or write to @acme_bot on Telegram and " +
			"send /claim WDJB-MJKL-NPQR before 2026-11-23 02:00 UTC. The first person to do so is verified as the customer.",
	} {
		if f[field] != want {
			t.Errorf("%s = %v, want %v", field, f[field], want)
		}
	}
	if got.header.Get("Cache-Control") != "no-store" {
		t.Error("the response may be cached")
	}
	if again := h.request("POST", path, body("telegram", ""), "Idempotency-Key: once").fields(t); again["id"] == id {
		t.Error("the response was replayed")
	}

	f = h.request("POST", path, body("slack", `,"role_override":"owner"`)).fields(t)
	if f["url"] != nil || f["role_override"] != "owner" ||
		f["instructions"] != "Write to the bot in the Slack workspace Acme and send /claim WDJB-MJKL-NPQR before "+
			"2026-11-23 02:00 UTC. The first person to do so is verified as the customer." {
		t.Errorf("%v", f)
	}
	const disabled = `{"detail":[{"type":"value_error","loc":["body","channel"],
		"msg":"Value error, the instance does not allow invites by SMS or WhatsApp; set sms_invites to allow them"}]}`
	h.expect(h.request("POST", path, body("sms", "")), 422, disabled)
	h.expect(h.request("POST", path, body("whatsapp", "")), 422, disabled)
	f = h.request("PATCH", "/v1/instances/"+h.instance, `{"sms_invites":true}`).fields(t)
	if f["sms_invites"] != true {
		t.Errorf("sms_invites = %v, want true", f["sms_invites"])
	}
	for channel, want := range map[string]string{
		"sms":      "sms:+61400111222?body=%2Fclaim%20WDJB-MJKL-NPQR",
		"whatsapp": "https://wa.me/61400111222?text=%2Fclaim%20WDJB-MJKL-NPQR",
	} {
		if f := h.request("POST", path, body(channel, "")).fields(t); f["url"] != want {
			t.Errorf("URL of an invite by %s = %v, want %s", channel, f["url"], want)
		}
	}
	list := h.request("GET", path+"?limit=2", "")
	if strings.Contains(list.body, httpapitest.InviteCode) || strings.Contains(list.body, "WDJB") ||
		strings.Contains(list.body, "url") {
		t.Error("the list contains a code")
	}
	if items := list.fields(t)["items"].([]any); len(items) != 2 || items[0].(map[string]any)["state"] != "live" ||
		list.fields(t)["next_cursor"] == nil {
		t.Error(list.body)
	}
	for range 2 {
		h.expect(h.request("DELETE", path+"/"+id, ""), 204, "")
	}
	if items := h.request("GET", path, "").fields(t)["items"].([]any); items[0].(map[string]any)["state"] != "revoked" {
		t.Errorf("%v", items)
	}
	h.store.Issued[1].UsedAt = h.clock
	h.expect(h.request("DELETE", path+"/"+h.store.Issued[1].ID, ""), 409, `{"detail":"Invite was already used"}`)
}

func TestInvites_Rejected(t *testing.T) {
	h := newHarness(t)
	path := "/v1/customers/" + h.customer + "/invites"
	telegram := func(instance string) string { return `{"channel":"telegram","instance_id":"` + instance + `"}` }
	const notConnected = `{"detail":[{"type":"value_error","loc":["body","channel"],
		"msg":"Value error, the instance is not connected to this channel"}]}`
	h.expect(h.request("POST", path, telegram(h.instance)), 422, notConnected)
	h.setUpChannels()
	h.expect(h.request("POST", path, telegram(h.otherInstance)), 422, notConnected)
	h.expect(h.request("POST", path, `{"channel":"email","instance_id":"`+h.instance+`"}`), 422, "")
	h.expect(
		h.request("POST", path, `{"channel":"telegram","instance_id":"`+h.instance+`","role_override":"admin"}`),
		422,
		"",
	)
	h.expect(
		h.request("POST", path, `{}`),
		422,
		`{"detail":[{"type":"missing","loc":["body","channel"],"msg":"Field required"},{"type":"missing",
			"loc":["body","instance_id"],"msg":"Field required"}]}`,
	)
	const noInstance = `{"detail":"Instance not found"}`
	for _, instance := range []string{h.foreignInstance, unknownID} {
		h.expect(h.request("POST", path, telegram(instance)), 404, noInstance)
	}
	h.endpoints.States[2].Status = gateway.EndpointDisabled
	h.expect(h.request("POST", path, telegram(h.instance)), 422, notConnected)
	h.endpoints.States[2].Status = gateway.EndpointError
	h.expect(h.request("POST", path, telegram(h.instance)), 201, "")
	for err, want := range map[error]string{
		claim.ErrTooManyInvites: `{"detail":"Customer has 5 live invites; revoke one first"}`,
		error(&claim.TooManyCodesError{RetryAfter: 90 * time.Second}): `{"detail":"Too Many Requests"}`,
	} {
		h.claims.Err = err
		got := h.request("POST", path, telegram(h.instance))
		status := map[bool]int{true: 409, false: 429}[errors.Is(err, claim.ErrTooManyInvites)]
		h.expect(got, status, want)
		if status == 429 && got.header.Get("Retry-After") != "90" {
			t.Errorf("Retry-After %q", got.header.Get("Retry-After"))
		}
	}
}

// TestInvites_InstanceKey checks the access of a key that is limited to one instance.
func TestInvites_InstanceKey(t *testing.T) {
	h := newHarness(t)
	h.setUpChannels()
	_, _ = h.endpoints.Configure(context.Background(), gateway.EndpointConfig{
		TenantID: identity.DefaultTenant, InstanceID: h.otherInstance, Channel: adapters.Telegram, Address: "1",
	})
	path := "/v1/customers/" + h.customer + "/invites"
	foreign := `{"channel":"telegram","instance_id":"` + h.otherInstance + `"}`
	elsewhere := h.request("POST", path, foreign).fields(t)["id"].(string)
	key := bearer(h.newInstanceKey("claims:issue", "identities:read"))
	h.expect(h.request("POST", path, foreign, key), 404, `{"detail":"Instance not found"}`)
	here := h.request("POST", path, `{"channel":"telegram","instance_id":"`+h.instance+`"}`, key).fields(t)["id"]
	if items := h.request("GET", path, "", key).fields(t)["items"].([]any); len(items) != 1 ||
		items[0].(map[string]any)["id"] != here {
		t.Errorf("%v", items)
	}
	h.expect(h.request("DELETE", path+"/"+elsewhere, "", key), 404, `{"detail":"Invite not found"}`)
	h.expect(h.request("DELETE", path+"/"+here.(string), "", key), 204, "")
}

// TestInvites_Confirm checks the life and the confirmation of invites.
func TestInvites_Confirm(t *testing.T) {
	h := newHarness(t)
	h.setUpChannels()
	path := "/v1/customers/" + h.customer + "/invites"
	issue := func(rest string) response {
		return h.request("POST", path, `{"channel":"telegram","instance_id":"`+h.instance+`"`+rest+`}`)
	}
	got := issue(`,"confirm":true,"expires_in_seconds":600`)
	h.expect(got, 201, "")
	f := got.fields(t)
	if f["confirm"] != true || f["expires_in_seconds"] != 600.0 || f["expires_at"] != "2026-11-22T02:10:00Z" ||
		!strings.HasSuffix(f["instructions"].(string), "We confirm the account of the first person to do so.") {
		t.Errorf("invite = %v, want one to confirm, for ten minutes", f)
	}
	h.expect(issue(`,"expires_in_seconds":604800`), 201, "")
	h.expect(issue(`,"expires_in_seconds":null,"confirm":null`), 201, "")
	for _, rest := range []string{
		`,"expires_in_seconds":599`, `,"expires_in_seconds":604801`, `,"expires_in_seconds":"soon"`, `,"confirm":"maybe"`,
	} {
		h.expect(issue(rest), 422, "")
	}
	id := f["id"].(string)
	const notPending = `{"detail":"Invite does not wait for confirmation; its state must be pending"}`
	h.expect(h.request("POST", path+"/"+id+"/confirm", ""), 409, notPending)
	h.store.Issued[0].Opener = claim.Opener{
		OpenedAt: h.clock, MessageID: unknownID, IdentityID: h.instanceIdentity, ExternalID: "12345", DisplayName: "Steve",
		FirstSeenAt: h.clock,
	}
	opened := h.request("GET", path+"?limit=1", "").fields(t)["items"].([]any)[0].(map[string]any)
	opener, _ := opened["opener"].(map[string]any)
	if opened["state"] != "pending" || opener["external_id"] != "12345" || opener["display_name"] != "Steve" ||
		opener["username"] != nil || opener["first_seen_at"] != "2026-11-22T02:00:00Z" {
		t.Errorf("opened invite = %v, want pending with its opener", opened)
	}
	h.expect(h.request("POST", path+"/"+unknownID+"/confirm", ""), 404, `{"detail":"Invite not found"}`)
	confirmed := h.request("POST", path+"/"+id+"/confirm", "")
	h.expect(confirmed, 200, "")
	if f := confirmed.fields(t); f["state"] != "used" || f["identity_id"] != h.instanceIdentity {
		t.Errorf("confirmed invite = %v, want used", f)
	}
	h.expect(h.request("POST", path+"/"+id+"/refuse", ""), 409, `{"detail":"Invite was already used"}`)
	h.store.Issued[1].Opener = h.store.Issued[0].Opener
	refused := h.request("POST", path+"/"+h.store.Issued[1].ID+"/refuse", "")
	h.expect(refused, 200, "")
	if f := refused.fields(t); f["state"] != "refused" || f["refused_at"] == nil || f["identity_id"] != nil {
		t.Errorf("refused invite = %v", f)
	}
	elsewhere := bearer(h.newInstanceKey("identities:read"))
	h.expect(h.request("POST", path+"/"+id+"/confirm", "", elsewhere), 403, `{"detail":"Missing scope: claims:issue"}`)
}
