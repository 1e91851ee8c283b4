//go:build unix

package main

import (
	"net/http"
	"strings"

	"hydragate/adapters"
	"hydragate/claim"
)

// incidentsOfClaims are ways in which codes opened what they should not, or people
// were locked out.
var incidentsOfClaims = []incident{
	{"DiscordSRV #1714: a code alone opens nothing", func(s *scene) {
		p := s.linked(adapters.Telegram)
		code := s.code(p)
		for _, c := range []adapters.Channel{adapters.Telegram, adapters.SMS, adapters.Slack} {
			s.ask(c, s.somebody(c), "/claim "+code, saysDeclined)
		}
		if s.isVerified(p) {
			s.t.Error("somebody else's message verified the identity")
		}
		s.claims(p)
	}},
	{"DiscordSRV #1418: no stray text unlinks anybody", func(s *scene) {
		p := s.verified(adapters.Telegram)
		row := func() string {
			h := &proofHouse{t: s.t, sql: s.sql}
			return strings.Join(h.texts(`select cast(customer_id as text) || cast(verified_at as text) || role_override || cast(claim_gen as text) || coalesce(cast(claim_used_msg as text), '') from identities where id = $1`, p.identity), "")
		}
		before := row()
		texts := []string{"unlink", "/unlink now please", "unlink me", "claim", "/claim", "/claim off", "no", "yes", "/start", "/start claim_", "/help", "code", "\u202e/unlink", "/ unlink", "1234"}
		for range 5 {
			texts = append(texts, "/claim "+claim.NewCode(), claim.NewCode(), claim.Group(strings.ToLower(claim.NewCode())))
		}
		for _, text := range texts {
			s.say(p.channel, p.external, text)
		}
		s.settle()
		if after := row(); before == "" || after != before {
			s.t.Errorf("before %q after %q", before, after)
		}
	}},
	{"Kratos #4521: the answer does not tell who has an account", func(s *scene) {
		known, waiting := s.linked(adapters.SMS), s.linked(adapters.SMS)
		s.code(waiting)
		answers := map[string]bool{}
		for _, external := range []string{known.external, waiting.external, s.somebody(adapters.SMS)} {
			answers[s.ask(adapters.SMS, external, "/claim "+claim.NewCode(), saysDeclined)] = true
		}
		if len(answers) != 1 {
			s.t.Errorf("three people, different answers: %v", answers)
		}
	}},
	{"AIL CVE-2026-56450, Nagios CVE-2025-60424, AuthQuake: the second step has a limit, too", func(s *scene) {
		p := s.linked(adapters.Telegram)
		code := s.code(p)
		for range claim.MaxTries {
			s.ask(p.channel, p.external, "/claim "+otherThan(code), saysDeclined)
		}
		s.ask(p.channel, p.external, "/claim "+otherThan(code), "Too many")
		s.say(p.channel, p.external, "/claim "+code)
		s.settle()
		if s.isVerified(p) {
			s.t.Error("the sixth try is compared")
		}
		s.claims(s.linked(adapters.Telegram)) // others are not kept waiting
	}},
	{"Kratos #4317: what proves the person does not stand in for staff, nor staff's right to issue for the person", func(s *scene) {
		p := s.linked(adapters.Telegram)
		code := s.code(p)
		issuer := bearer(s.key("claims:issue"))
		before := s.kept()
		for _, try := range [][3]string{
			{"PATCH", p.path(), `{"verified":true}`}, {"PATCH", p.path(), `{"role_override":"owner"}`}, {"POST", p.path() + "/claim", `{"code":"` + code + `"}`},
			{"POST", p.path() + "/redeem", `{"code":"` + code + `"}`}, {"PUT", p.path() + "/claim-code", `{"code":"` + code + `"}`},
		} {
			if status, body := s.try(try[0], try[1], issuer, try[2]); status/100 == 2 {
				s.t.Errorf("%s %s: %d %s", try[0], try[1], status, body)
			}
		}
		if s.kept() != before {
			s.t.Error("something changed")
		}
		// The verified person's code is no key of the API.
		s.ask(p.channel, p.external, "/claim "+code, saysVerified)
		for _, h := range []http.Header{bearer(code), {"X-Api-Key": {code}}, {"Agent-Secret-Key": {code}}} {
			if status, _ := s.try("GET", p.path(), h, ""); status != 401 {
				s.t.Errorf("a code as a key: %d", status)
			}
		}
	}},
	{"OpenClaw GHSA-rqpp-rjj8-7wv8, GHSA-4jpw-hj22-2xmc, GHSA-vqvg-86cc-cg83, CVE-2026-33579, CVE-2026-41909: rights are the key's, never the caller's word", func(s *scene) {
		p := s.linked(adapters.Telegram)
		issuer := s.key("claims:issue", "keys:write", "identities:write")
		before := s.kept()
		for _, try := range [][2]string{
			{"/v1/keys", `{"name":"more","scopes":["identities:grant"]}`}, {"/v1/keys", `{"name":"more","scopes":["claims:issue","channels:write"]}`},
			{"/v1/keys", `{"name":"more","scopes":["customers:*"]}`},
			{"/v1/customers/" + p.customer + "/identities", `{"channel":"telegram","external_id":"` + s.somebody(adapters.Telegram) + `","role_override":"owner"}`},
		} {
			for _, header := range []http.Header{bearer(issuer), {"Authorization": {"Bearer " + issuer}, "X-Scopes": {"identities:grant"}, "X-Role": {"owner"}, "X-Forwarded-User": {"admin"}}} {
				if status, body := s.try("POST", try[0], header, try[1]); status/100 == 2 {
					s.t.Errorf("%s %s: %d %s", try[0], try[1], status, body)
				}
			}
		}
		if s.kept() != before {
			s.t.Error("something changed")
		}
		if status, body := s.try("POST", "/v1/keys", bearer(issuer), `{"name":"less","scopes":["claims:issue"]}`); status != 201 {
			s.t.Errorf("less than one holds: %d %s", status, body)
		}
	}},
}
