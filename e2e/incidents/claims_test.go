package incidents

import (
	"net/http"
	"strings"
	"testing"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/cmd/hydragate/demo"
	"hydragate/e2e/harness"
)

// TestIncidents_DiscordSRV1714 replays DiscordSRV #1714. It checks that a code is accepted only
// from the account for which it was issued.
func TestIncidents_DiscordSRV1714(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		p := s.createLinked(adapters.Telegram)
		code := s.issueCode(p)
		for _, c := range []adapters.Channel{adapters.Telegram, adapters.SMS, adapters.Slack} {
			s.sendAndExpect(c, s.newExternalID(c), "/claim "+code, demo.ReplyDeclined)
		}
		if s.isVerified(p) {
			s.t.Error("a message from another account verified the identity")
		}
		s.redeem(p)
	})
}

// TestIncidents_DiscordSRV1418 replays DiscordSRV #1418. It checks that no text message unlinks a
// verified account.
func TestIncidents_DiscordSRV1418(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		p := s.createVerified(adapters.Telegram)
		row := func() string {
			return strings.Join(s.db.QueryTexts(`
				select cast(customer_id as text) || cast(verified_at as text) || role_override
					|| cast(claim_gen as text) || coalesce(cast(claim_used_msg as text), '')
				from identities where id = $1`, p.identityID), "")
		}
		before := row()
		texts := []string{
			"unlink", "/unlink now please", "unlink me", "claim", "/claim", "/claim off", "no", "yes",
			"/start", "/start claim_", "/help", "code", "\u202e/unlink", "/ unlink", "1234",
		}
		for range 5 {
			texts = append(texts, "/claim "+claim.NewCode(), claim.NewCode(), claim.Group(strings.ToLower(claim.NewCode())))
		}
		for _, text := range texts {
			s.sendText(p.channel, p.externalID, text)
		}
		s.waitIdle()
		if after := row(); before == "" || after != before {
			s.t.Errorf("identity = %q, want it unchanged: %q", after, before)
		}
	})
}

// TestIncidents_Kratos4521 replays Kratos #4521. It checks that the reply to a wrong code does not
// reveal whether the sender has an account or a pending code.
func TestIncidents_Kratos4521(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		known, pending := s.createLinked(adapters.SMS), s.createLinked(adapters.SMS)
		s.issueCode(pending)
		replies := map[string]bool{}
		for _, external := range []string{known.externalID, pending.externalID, s.newExternalID(adapters.SMS)} {
			replies[s.sendAndExpect(adapters.SMS, external, "/claim "+claim.NewCode(), demo.ReplyDeclined)] = true
		}
		if len(replies) != 1 {
			s.t.Errorf("distinct replies to three senders = %v, want one", replies)
		}
	})
}

// TestIncidents_AILCVE202656450 replays AIL CVE-2026-56450, Nagios CVE-2025-60424 and AuthQuake.
// It checks that the number of attempts to redeem a code is limited.
func TestIncidents_AILCVE202656450(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		p := s.createLinked(adapters.Telegram)
		code := s.issueCode(p)
		for range claim.MaxTries {
			s.sendAndExpect(p.channel, p.externalID, "/claim "+harness.WrongCode(code), demo.ReplyDeclined)
		}
		s.sendAndExpect(p.channel, p.externalID, "/claim "+harness.WrongCode(code), "Too many")
		s.sendText(p.channel, p.externalID, "/claim "+code)
		s.waitIdle()
		if s.isVerified(p) {
			s.t.Error("an attempt over the limit was compared with the code")
		}
		s.redeem(s.createLinked(adapters.Telegram)) // other accounts are not affected
	})
}

// TestIncidents_Kratos4317 replays Kratos #4317. It checks that the scope to issue codes does not
// allow staff to redeem one, and that a claim code is not accepted as an API key.
func TestIncidents_Kratos4317(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		p := s.createLinked(adapters.Telegram)
		code := s.issueCode(p)
		issuer := harness.BearerHeader(s.createKey("claims:issue"))
		before := s.stateDump()
		for _, attempt := range []struct{ method, path, body string }{
			{"PATCH", p.path(), `{"verified":true}`},
			{"PATCH", p.path(), `{"role_override":"owner"}`},
			{"POST", p.path() + "/claim", `{"code":"` + code + `"}`},
			{"POST", p.path() + "/redeem", `{"code":"` + code + `"}`},
			{"PUT", p.path() + "/claim-code", `{"code":"` + code + `"}`},
		} {
			if status, body := s.request(attempt.method, attempt.path, issuer, attempt.body); status/100 == 2 {
				s.t.Errorf("%s %s = %d %s, want an error", attempt.method, attempt.path, status, body)
			}
		}
		if s.stateDump() != before {
			s.t.Error("rejected requests changed the database")
		}
		// A redeemed code is not an API key.
		s.sendAndExpect(p.channel, p.externalID, "/claim "+code, demo.ReplyVerified)
		for _, h := range []http.Header{harness.BearerHeader(code), {"X-Api-Key": {code}}, {"Agent-Secret-Key": {code}}} {
			if status, _ := s.request("GET", p.path(), h, ""); status != 401 {
				s.t.Errorf("GET identity with a claim code as the key = %d, want 401", status)
			}
		}
	})
}

// TestIncidents_OpenClawGHSARqppRjj87wv8 replays OpenClaw GHSA-rqpp-rjj8-7wv8,
// GHSA-4jpw-hj22-2xmc, GHSA-vqvg-86cc-cg83, CVE-2026-33579 and CVE-2026-41909. It checks that
// permissions come from the API key and never from the request.
func TestIncidents_OpenClawGHSARqppRjj87wv8(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		p := s.createLinked(adapters.Telegram)
		issuer := s.createKey("claims:issue", "keys:write", "identities:write")
		before := s.stateDump()
		external := s.newExternalID(adapters.Telegram)
		for _, attempt := range []struct{ path, body string }{
			{"/v1/keys", `{"name":"more","scopes":["identities:grant"]}`},
			{"/v1/keys", `{"name":"more","scopes":["claims:issue","channels:write"]}`},
			{"/v1/keys", `{"name":"more","scopes":["customers:*"]}`},
			{
				"/v1/customers/" + p.customerID + "/identities",
				`{"channel":"telegram","external_id":"` + external + `","role_override":"owner"}`,
			},
		} {
			for _, header := range []http.Header{
				harness.BearerHeader(issuer),
				{
					"Authorization": {"Bearer " + issuer}, "X-Scopes": {"identities:grant"},
					"X-Role": {"owner"}, "X-Forwarded-User": {"admin"},
				},
			} {
				if status, body := s.request("POST", attempt.path, header, attempt.body); status/100 == 2 {
					s.t.Errorf("POST %s %s = %d %s, want an error", attempt.path, attempt.body, status, body)
				}
			}
		}
		if s.stateDump() != before {
			s.t.Error("rejected requests changed the database")
		}
		status, body := s.request("POST", "/v1/keys", harness.BearerHeader(issuer),
			`{"name":"less","scopes":["claims:issue"]}`)
		if status != 201 {
			s.t.Errorf("POST /v1/keys with a subset of the scopes = %d %s, want 201", status, body)
		}
	})
}
