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

// TestIncidents_DiscordSRV1714 replays DiscordSRV #1714: a code alone opens nothing.
func TestIncidents_DiscordSRV1714(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		p := s.createLinked(adapters.Telegram)
		code := s.issueCode(p)
		for _, c := range []adapters.Channel{adapters.Telegram, adapters.SMS, adapters.Slack} {
			s.sendAndExpect(c, s.newExternalID(c), "/claim "+code, demo.ReplyDeclined)
		}
		if s.isVerified(p) {
			s.t.Error("somebody else's message verified the identity")
		}
		s.redeem(p)
	})
}

// TestIncidents_DiscordSRV1418 replays DiscordSRV #1418: no stray text unlinks anybody.
func TestIncidents_DiscordSRV1418(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		p := s.createVerified(adapters.Telegram)
		row := func() string {
			return strings.Join(s.db.QueryTexts(`select cast(customer_id as text) || cast(verified_at as text) || role_override || cast(claim_gen as text) || coalesce(cast(claim_used_msg as text), '') from identities where id = $1`, p.identityID), "")
		}
		before := row()
		texts := []string{"unlink", "/unlink now please", "unlink me", "claim", "/claim", "/claim off", "no", "yes", "/start", "/start claim_", "/help", "code", "\u202e/unlink", "/ unlink", "1234"}
		for range 5 {
			texts = append(texts, "/claim "+claim.NewCode(), claim.NewCode(), claim.Group(strings.ToLower(claim.NewCode())))
		}
		for _, text := range texts {
			s.sendText(p.channel, p.externalID, text)
		}
		s.waitIdle()
		if after := row(); before == "" || after != before {
			s.t.Errorf("before %q after %q", before, after)
		}
	})
}

// TestIncidents_Kratos4521 replays Kratos #4521: the answer does not tell who has an account.
func TestIncidents_Kratos4521(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		known, waiting := s.createLinked(adapters.SMS), s.createLinked(adapters.SMS)
		s.issueCode(waiting)
		answers := map[string]bool{}
		for _, external := range []string{known.externalID, waiting.externalID, s.newExternalID(adapters.SMS)} {
			answers[s.sendAndExpect(adapters.SMS, external, "/claim "+claim.NewCode(), demo.ReplyDeclined)] = true
		}
		if len(answers) != 1 {
			s.t.Errorf("three people, different answers: %v", answers)
		}
	})
}

// TestIncidents_AILCVE202656450 replays AIL CVE-2026-56450, Nagios CVE-2025-60424, AuthQuake: the
// second step has a limit, too.
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
			s.t.Error("the sixth try is compared")
		}
		s.redeem(s.createLinked(adapters.Telegram)) // others are not kept waiting
	})
}

// TestIncidents_Kratos4317 replays Kratos #4317: what proves the person does not stand in for
// staff, nor staff's right to issue for the person.
func TestIncidents_Kratos4317(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		p := s.createLinked(adapters.Telegram)
		code := s.issueCode(p)
		issuer := harness.BearerHeader(s.createKey("claims:issue"))
		before := s.stateDump()
		for _, try := range [][3]string{
			{"PATCH", p.path(), `{"verified":true}`}, {"PATCH", p.path(), `{"role_override":"owner"}`}, {"POST", p.path() + "/claim", `{"code":"` + code + `"}`},
			{"POST", p.path() + "/redeem", `{"code":"` + code + `"}`}, {"PUT", p.path() + "/claim-code", `{"code":"` + code + `"}`},
		} {
			if status, body := s.request(try[0], try[1], issuer, try[2]); status/100 == 2 {
				s.t.Errorf("%s %s: %d %s", try[0], try[1], status, body)
			}
		}
		if s.stateDump() != before {
			s.t.Error("something changed")
		}
		// The verified person's code is no key of the API.
		s.sendAndExpect(p.channel, p.externalID, "/claim "+code, demo.ReplyVerified)
		for _, h := range []http.Header{harness.BearerHeader(code), {"X-Api-Key": {code}}, {"Agent-Secret-Key": {code}}} {
			if status, _ := s.request("GET", p.path(), h, ""); status != 401 {
				s.t.Errorf("a code as a key: %d", status)
			}
		}
	})
}

// TestIncidents_OpenClawGHSARqppRjj87wv8 replays OpenClaw GHSA-rqpp-rjj8-7wv8,
// GHSA-4jpw-hj22-2xmc, GHSA-vqvg-86cc-cg83, CVE-2026-33579, CVE-2026-41909: rights are the key's,
// never the caller's word.
func TestIncidents_OpenClawGHSARqppRjj87wv8(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		p := s.createLinked(adapters.Telegram)
		issuer := s.createKey("claims:issue", "keys:write", "identities:write")
		before := s.stateDump()
		for _, try := range [][2]string{
			{"/v1/keys", `{"name":"more","scopes":["identities:grant"]}`}, {"/v1/keys", `{"name":"more","scopes":["claims:issue","channels:write"]}`},
			{"/v1/keys", `{"name":"more","scopes":["customers:*"]}`},
			{"/v1/customers/" + p.customerID + "/identities", `{"channel":"telegram","external_id":"` + s.newExternalID(adapters.Telegram) + `","role_override":"owner"}`},
		} {
			for _, header := range []http.Header{harness.BearerHeader(issuer), {"Authorization": {"Bearer " + issuer}, "X-Scopes": {"identities:grant"}, "X-Role": {"owner"}, "X-Forwarded-User": {"admin"}}} {
				if status, body := s.request("POST", try[0], header, try[1]); status/100 == 2 {
					s.t.Errorf("%s %s: %d %s", try[0], try[1], status, body)
				}
			}
		}
		if s.stateDump() != before {
			s.t.Error("something changed")
		}
		if status, body := s.request("POST", "/v1/keys", harness.BearerHeader(issuer), `{"name":"less","scopes":["claims:issue"]}`); status != 201 {
			s.t.Errorf("less than one holds: %d %s", status, body)
		}
	})
}
