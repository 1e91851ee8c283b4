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

const typedInvite = "WDJBMJKLNPQR"

func (d *fakeDesk) Invite(ctx context.Context, i claim.Invite, _ identity.Actor) (claim.Invite, string, error) {
	bot, err := d.store.Instance(ctx, i.TenantID, i.InstanceID)
	switch {
	case d.err != nil:
		return claim.Invite{}, "", d.err
	case err != nil:
		return claim.Invite{}, "", identity.ErrNoInstance
	case (i.Channel == "sms" || i.Channel == "whatsapp") && !bot.SMSInvites:
		return claim.Invite{}, "", claim.ErrNotInvited
	}
	return d.store.invite(i), typedInvite, nil
}

func (s *fakeStore) invite(i claim.Invite) claim.Invite {
	defer s.lock()()
	i.ID, i.CreatedAt, i.ExpiresAt = s.id(), s.now, s.now.Add(claim.InviteLife)
	s.invites = append(s.invites, i)
	return i
}

func (s *fakeStore) Invites(ctx context.Context, tenant, customer, instance, after string, limit int) ([]claim.Invite, error) {
	if _, err := s.Customer(ctx, tenant, customer); err != nil {
		return nil, err
	}
	defer s.lock()()
	return some(s.invites, limit, func(i claim.Invite) bool {
		return i.TenantID == tenant && i.CustomerID == customer && i.ID > after && (instance == "" || i.InstanceID == instance)
	}), nil
}

func (s *fakeStore) RevokeInvite(_ context.Context, tenant, customer, instance, id string, _ identity.Actor) error {
	defer s.lock()()
	for n, i := range s.invites {
		switch {
		case i.TenantID != tenant || i.CustomerID != customer || i.ID != id || instance != "" && i.InstanceID != instance:
		case !i.UsedAt.IsZero():
			return claim.ErrInviteUsed
		default:
			s.invites[n].RevokedAt = s.now
			return nil
		}
	}
	return identity.ErrNotFound
}

// invited gives an invite of Steve's, and one of the other tenant.
func (w *world) invited() (ours, theirs string) {
	a := w.store.invite(claim.Invite{TenantID: identity.DefaultTenant, InstanceID: w.bot, Channel: "telegram", CustomerID: w.steve})
	b := w.store.invite(claim.Invite{TenantID: otherTenant, InstanceID: w.strange, Channel: "telegram", CustomerID: w.strangeCustomer})
	return a.ID, b.ID
}

func TestInvites(t *testing.T) {
	w := newWorld(t)
	w.setUpAll()
	of := "/v1/customers/" + w.steve + "/invites"
	body := func(channel, rest string) string {
		return `{"channel":"` + channel + `","instance_id":"` + w.bot + `"` + rest + `}`
	}
	got := w.ask("POST", of, body("telegram", ""), "Idempotency-Key: once")
	w.want(got, 201, "")
	f := got.fields(t)
	id := f["id"].(string)
	for field, want := range map[string]any{
		"channel": "telegram", "instance_id": w.bot, "customer_id": w.steve, "role_override": nil, "code": typedInvite,
		"url": "https://t.me/acme_bot?start=claim_" + typedInvite, "expires_in_seconds": 86400.0, "expires_at": "2026-11-23T02:00:00Z",
		"instructions": "Open https://t.me/acme_bot?start=claim_WDJBMJKLNPQR, or write to @acme_bot on Telegram and send /claim WDJB-MJKL-NPQR, valid until 2026-11-23 02:00 UTC. Whoever opens it first is taken for the customer.",
	} {
		if f[field] != want {
			t.Errorf("%s: %v; want %v", field, f[field], want)
		}
	}
	if got.header.Get("Cache-Control") != "no-store" {
		t.Error("the answer may be kept")
	}
	if again := w.ask("POST", of, body("telegram", ""), "Idempotency-Key: once").fields(t); again["id"] == id {
		t.Error("the answer was kept for a repeated call")
	}

	f = w.ask("POST", of, body("slack", `,"role_override":"owner"`)).fields(t)
	if f["url"] != nil || f["role_override"] != "owner" || f["instructions"] != "Write to the bot in the Slack workspace Acme and send /claim WDJB-MJKL-NPQR, valid until 2026-11-23 02:00 UTC. Whoever opens it first is taken for the customer." {
		t.Errorf("%v", f)
	}
	const notByPhone = `{"detail":[{"type":"value_error","loc":["body","channel"],"msg":"Value error, the instance does not invite by SMS or WhatsApp: its field sms_invites is false"}]}`
	w.want(w.ask("POST", of, body("sms", "")), 422, notByPhone)
	w.want(w.ask("POST", of, body("whatsapp", "")), 422, notByPhone)
	if got := w.ask("PATCH", "/v1/instances/"+w.bot, `{"sms_invites":true}`).fields(t); got["sms_invites"] != true {
		t.Errorf("%v", got)
	}
	if f := w.ask("POST", of, body("sms", "")).fields(t); f["url"] != "sms:+61400111222?body=%2Fclaim%20WDJB-MJKL-NPQR" {
		t.Errorf("%v", f)
	}
	if f := w.ask("POST", of, body("whatsapp", "")).fields(t); f["url"] != "https://wa.me/61400111222?text=%2Fclaim%20WDJB-MJKL-NPQR" {
		t.Errorf("%v", f)
	}
	list := w.ask("GET", of+"?limit=2", "")
	if strings.Contains(list.body, typedInvite) || strings.Contains(list.body, "WDJB") || strings.Contains(list.body, "url") {
		t.Error("a list shows a code")
	}
	if items := list.fields(t)["items"].([]any); len(items) != 2 || items[0].(map[string]any)["state"] != "live" || list.fields(t)["next_cursor"] == nil {
		t.Error(list.body)
	}
	for range 2 {
		w.want(w.ask("DELETE", of+"/"+id, ""), 204, "")
	}
	if items := w.ask("GET", of, "").fields(t)["items"].([]any); items[0].(map[string]any)["state"] != "revoked" {
		t.Errorf("%v", items)
	}
	w.store.invites[1].UsedAt = w.clock
	w.want(w.ask("DELETE", of+"/"+w.store.invites[1].ID, ""), 409, `{"detail":"Invite was used already"}`)
}

func TestInvitesRefused(t *testing.T) {
	w := newWorld(t)
	of := "/v1/customers/" + w.steve + "/invites"
	telegram := func(instance string) string { return `{"channel":"telegram","instance_id":"` + instance + `"}` }
	const unset = `{"detail":[{"type":"value_error","loc":["body","channel"],"msg":"Value error, the instance is not connected to this channel"}]}`
	w.want(w.ask("POST", of, telegram(w.bot)), 422, unset)
	w.setUpAll()
	w.want(w.ask("POST", of, telegram(w.otherBot)), 422, unset)
	w.want(w.ask("POST", of, `{"channel":"email","instance_id":"`+w.bot+`"}`), 422, "")
	w.want(w.ask("POST", of, `{"channel":"telegram","instance_id":"`+w.bot+`","role_override":"admin"}`), 422, "")
	w.want(w.ask("POST", of, `{}`), 422, `{"detail":[{"type":"missing","loc":["body","channel"],"msg":"Field required"},{"type":"missing","loc":["body","instance_id"],"msg":"Field required"}]}`)
	const noInstance = `{"detail":"Instance not found"}`
	for _, instance := range []string{w.strange, nobody} {
		w.want(w.ask("POST", of, telegram(instance)), 404, noInstance)
	}
	w.channels.seats[2].Status = gateway.Disabled
	w.want(w.ask("POST", of, telegram(w.bot)), 422, unset)
	w.channels.seats[2].Status = gateway.Faulty // what is mended meanwhile hears it
	w.want(w.ask("POST", of, telegram(w.bot)), 201, "")
	for err, want := range map[error]string{
		claim.ErrInvitesFull: `{"detail":"Customer has 5 live invites: revoke one first"}`, error(&claim.TooMany{RetryAfter: 90 * time.Second}): `{"detail":"Too Many Requests"}`,
	} {
		w.desk.err = err
		got := w.ask("POST", of, telegram(w.bot))
		status := map[bool]int{true: 409, false: 429}[errors.Is(err, claim.ErrInvitesFull)]
		w.want(got, status, want)
		if status == 429 && got.header.Get("Retry-After") != "90" {
			t.Errorf("Retry-After %q", got.header.Get("Retry-After"))
		}
	}
}

// TestInvitesOfOneInstance holds what a key that is limited to one instance sees and
// does.
func TestInvitesOfOneInstance(t *testing.T) {
	w := newWorld(t)
	w.setUpAll()
	_, _ = w.channels.Configure(context.Background(), identity.DefaultTenant, w.otherBot, adapters.Telegram, adapters.Webhook, nil, "1", "")
	of := "/v1/customers/" + w.steve + "/invites"
	elsewhere := w.ask("POST", of, `{"channel":"telegram","instance_id":"`+w.otherBot+`"}`).fields(t)["id"].(string)
	key := as(w.limited("claims:issue", "identities:read"))
	w.want(w.ask("POST", of, `{"channel":"telegram","instance_id":"`+w.otherBot+`"}`, key), 404, `{"detail":"Instance not found"}`)
	here := w.ask("POST", of, `{"channel":"telegram","instance_id":"`+w.bot+`"}`, key).fields(t)["id"]
	if items := w.ask("GET", of, "", key).fields(t)["items"].([]any); len(items) != 1 || items[0].(map[string]any)["id"] != here {
		t.Errorf("%v", items)
	}
	w.want(w.ask("DELETE", of+"/"+elsewhere, "", key), 404, `{"detail":"Invite not found"}`)
	w.want(w.ask("DELETE", of+"/"+here.(string), "", key), 204, "")
}
