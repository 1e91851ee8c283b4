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
	"hydragate/identity"
)

const testInviteCode = "WDJBMJKLNPQR"

func (d *fakeClaims) IssueInvite(ctx context.Context, i claim.Invite, _ identity.Actor) (claim.Invite, string, error) {
	bot, err := d.store.Instance(ctx, i.TenantID, i.InstanceID)
	switch {
	case d.err != nil:
		return claim.Invite{}, "", d.err
	case err != nil:
		return claim.Invite{}, "", identity.ErrNoInstance
	case (i.Channel == "sms" || i.Channel == "whatsapp") && !bot.SMSInvites:
		return claim.Invite{}, "", claim.ErrInvitesDisabled
	}
	return d.store.addInvite(i), testInviteCode, nil
}

func (s *fakeStore) addInvite(i claim.Invite) claim.Invite {
	defer s.lock()()
	i.ID, i.CreatedAt, i.ExpiresAt = s.id(), s.now, s.now.Add(claim.InviteLife)
	s.invites = append(s.invites, i)
	return i
}

func (s *fakeStore) Invites(ctx context.Context, q claim.InviteQuery) ([]claim.Invite, error) {
	if _, err := s.Customer(ctx, q.TenantID, q.CustomerID); err != nil {
		return nil, err
	}
	defer s.lock()()
	return filterRows(s.invites, q.Limit, func(i claim.Invite) bool {
		return i.TenantID == q.TenantID && i.CustomerID == q.CustomerID && i.ID > q.After && (q.InstanceID == "" || i.InstanceID == q.InstanceID)
	}), nil
}

func (s *fakeStore) RevokeInvite(_ context.Context, k claim.InviteKey, _ identity.Actor) error {
	defer s.lock()()
	for n, i := range s.invites {
		switch {
		case i.TenantID != k.TenantID || i.CustomerID != k.CustomerID || i.ID != k.InviteID || k.InstanceID != "" && i.InstanceID != k.InstanceID:
		case !i.UsedAt.IsZero():
			return claim.ErrInviteUsed
		default:
			s.invites[n].RevokedAt = s.now
			return nil
		}
	}
	return identity.ErrNotFound
}

// newInvites gives an invite of Steve's, and one of the other tenant.
func (w *harness) newInvites() (ours, theirs string) {
	a := w.store.addInvite(claim.Invite{TenantID: identity.DefaultTenant, InstanceID: w.instance, Channel: "telegram", CustomerID: w.customer})
	b := w.store.addInvite(claim.Invite{TenantID: otherTenant, InstanceID: w.foreignInstance, Channel: "telegram", CustomerID: w.foreignCustomer})
	return a.ID, b.ID
}

func TestInvites(t *testing.T) {
	w := newHarness(t)
	w.setUpChannels()
	of := "/v1/customers/" + w.customer + "/invites"
	body := func(channel, rest string) string {
		return `{"channel":"` + channel + `","instance_id":"` + w.instance + `"` + rest + `}`
	}
	got := w.request("POST", of, body("telegram", ""), "Idempotency-Key: once")
	w.expect(got, 201, "")
	f := got.fields(t)
	id := f["id"].(string)
	for field, want := range map[string]any{
		"channel": "telegram", "instance_id": w.instance, "customer_id": w.customer, "role_override": nil, "code": testInviteCode,
		"url": "https://t.me/acme_bot?start=claim_" + testInviteCode, "expires_in_seconds": 86400.0, "expires_at": "2026-11-23T02:00:00Z",
		"instructions": "Open https://t.me/acme_bot?start=claim_WDJBMJKLNPQR, or write to @acme_bot on Telegram and send /claim WDJB-MJKL-NPQR before 2026-11-23 02:00 UTC. The first person to do so is verified as the customer.",
	} {
		if f[field] != want {
			t.Errorf("%s: %v; want %v", field, f[field], want)
		}
	}
	if got.header.Get("Cache-Control") != "no-store" {
		t.Error("the answer may be kept")
	}
	if again := w.request("POST", of, body("telegram", ""), "Idempotency-Key: once").fields(t); again["id"] == id {
		t.Error("the answer was kept for a repeated call")
	}

	f = w.request("POST", of, body("slack", `,"role_override":"owner"`)).fields(t)
	if f["url"] != nil || f["role_override"] != "owner" || f["instructions"] != "Write to the bot in the Slack workspace Acme and send /claim WDJB-MJKL-NPQR before 2026-11-23 02:00 UTC. The first person to do so is verified as the customer." {
		t.Errorf("%v", f)
	}
	const notByPhone = `{"detail":[{"type":"value_error","loc":["body","channel"],"msg":"Value error, the instance does not allow invites by SMS or WhatsApp; set sms_invites to allow them"}]}`
	w.expect(w.request("POST", of, body("sms", "")), 422, notByPhone)
	w.expect(w.request("POST", of, body("whatsapp", "")), 422, notByPhone)
	if got := w.request("PATCH", "/v1/instances/"+w.instance, `{"sms_invites":true}`).fields(t); got["sms_invites"] != true {
		t.Errorf("%v", got)
	}
	if f := w.request("POST", of, body("sms", "")).fields(t); f["url"] != "sms:+61400111222?body=%2Fclaim%20WDJB-MJKL-NPQR" {
		t.Errorf("%v", f)
	}
	if f := w.request("POST", of, body("whatsapp", "")).fields(t); f["url"] != "https://wa.me/61400111222?text=%2Fclaim%20WDJB-MJKL-NPQR" {
		t.Errorf("%v", f)
	}
	list := w.request("GET", of+"?limit=2", "")
	if strings.Contains(list.body, testInviteCode) || strings.Contains(list.body, "WDJB") || strings.Contains(list.body, "url") {
		t.Error("a list shows a code")
	}
	if items := list.fields(t)["items"].([]any); len(items) != 2 || items[0].(map[string]any)["state"] != "live" || list.fields(t)["next_cursor"] == nil {
		t.Error(list.body)
	}
	for range 2 {
		w.expect(w.request("DELETE", of+"/"+id, ""), 204, "")
	}
	if items := w.request("GET", of, "").fields(t)["items"].([]any); items[0].(map[string]any)["state"] != "revoked" {
		t.Errorf("%v", items)
	}
	w.store.invites[1].UsedAt = w.clock
	w.expect(w.request("DELETE", of+"/"+w.store.invites[1].ID, ""), 409, `{"detail":"Invite was already used"}`)
}

func TestInvites_Rejected(t *testing.T) {
	w := newHarness(t)
	of := "/v1/customers/" + w.customer + "/invites"
	telegram := func(instance string) string { return `{"channel":"telegram","instance_id":"` + instance + `"}` }
	const unset = `{"detail":[{"type":"value_error","loc":["body","channel"],"msg":"Value error, the instance is not connected to this channel"}]}`
	w.expect(w.request("POST", of, telegram(w.instance)), 422, unset)
	w.setUpChannels()
	w.expect(w.request("POST", of, telegram(w.otherInstance)), 422, unset)
	w.expect(w.request("POST", of, `{"channel":"email","instance_id":"`+w.instance+`"}`), 422, "")
	w.expect(w.request("POST", of, `{"channel":"telegram","instance_id":"`+w.instance+`","role_override":"admin"}`), 422, "")
	w.expect(w.request("POST", of, `{}`), 422, `{"detail":[{"type":"missing","loc":["body","channel"],"msg":"Field required"},{"type":"missing","loc":["body","instance_id"],"msg":"Field required"}]}`)
	const noInstance = `{"detail":"Instance not found"}`
	for _, instance := range []string{w.foreignInstance, unknownID} {
		w.expect(w.request("POST", of, telegram(instance)), 404, noInstance)
	}
	w.endpoints.seats[2].Status = gateway.EndpointDisabled
	w.expect(w.request("POST", of, telegram(w.instance)), 422, unset)
	w.endpoints.seats[2].Status = gateway.EndpointError // what is mended meanwhile hears it
	w.expect(w.request("POST", of, telegram(w.instance)), 201, "")
	for err, want := range map[error]string{
		claim.ErrTooManyInvites: `{"detail":"Customer has 5 live invites; revoke one first"}`, error(&claim.TooManyCodesError{RetryAfter: 90 * time.Second}): `{"detail":"Too Many Requests"}`,
	} {
		w.claims.err = err
		got := w.request("POST", of, telegram(w.instance))
		status := map[bool]int{true: 409, false: 429}[errors.Is(err, claim.ErrTooManyInvites)]
		w.expect(got, status, want)
		if status == 429 && got.header.Get("Retry-After") != "90" {
			t.Errorf("Retry-After %q", got.header.Get("Retry-After"))
		}
	}
}

// TestInvites_InstanceKey holds what a key that is limited to one instance sees and
// does.
func TestInvites_InstanceKey(t *testing.T) {
	w := newHarness(t)
	w.setUpChannels()
	_, _ = w.endpoints.Configure(context.Background(), gateway.EndpointConfig{
		TenantID: identity.DefaultTenant, InstanceID: w.otherInstance, Channel: adapters.Telegram, Address: "1",
	})
	of := "/v1/customers/" + w.customer + "/invites"
	elsewhere := w.request("POST", of, `{"channel":"telegram","instance_id":"`+w.otherInstance+`"}`).fields(t)["id"].(string)
	key := bearer(w.newInstanceKey("claims:issue", "identities:read"))
	w.expect(w.request("POST", of, `{"channel":"telegram","instance_id":"`+w.otherInstance+`"}`, key), 404, `{"detail":"Instance not found"}`)
	here := w.request("POST", of, `{"channel":"telegram","instance_id":"`+w.instance+`"}`, key).fields(t)["id"]
	if items := w.request("GET", of, "", key).fields(t)["items"].([]any); len(items) != 1 || items[0].(map[string]any)["id"] != here {
		t.Errorf("%v", items)
	}
	w.expect(w.request("DELETE", of+"/"+elsewhere, "", key), 404, `{"detail":"Invite not found"}`)
	w.expect(w.request("DELETE", of+"/"+here.(string), "", key), 204, "")
}
