package incidents

import (
	"strings"
	"testing"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/e2e/harness"
)

// TestIncidents_Claims replays incidents of codes, of accounts that were verified or unlinked by
// others, and of guessing.
func TestIncidents_Claims(t *testing.T) {
	const declined = "That code did not work."
	replay(t, []incident{
		{"DiscordSRV #1714: a code is accepted only from the account for which it was issued", func(s *fixture) {
			p := s.createLinked(adapters.Telegram)
			code := s.issueCode(p)
			for _, c := range []adapters.Channel{adapters.Telegram, adapters.SMS, adapters.Slack} {
				s.sendAndExpect(c, s.newExternalID(c), "/claim "+code, declined)
			}
			if s.isVerified(p) {
				s.T.Error("a message from another account verified the identity")
			}
			s.redeem(p)
		}},
		{"DiscordSRV #1418: no text message unlinks a verified account", func(s *fixture) {
			p := s.createVerified(adapters.Telegram)
			row := func() string {
				return strings.Join(s.QueryTexts(`
					select customer_id, verified_at, role_override, claim_gen, claim_used_msg
					from identities where id = $1`, p.identityID), "")
			}
			before := row()
			texts := []string{
				"unlink", "/unlink now please", "unlink me", "claim", "/claim", "/claim off", "no", "yes",
				"/start", "/start claim_", "/help", "code", "/ unlink", "unlink/", "/unlinked", "1234",
			}
			for range 5 {
				texts = append(texts,
					"/claim "+claim.NewCode(), claim.NewCode(), claim.Group(strings.ToLower(claim.NewCode())))
			}
			for _, text := range texts {
				s.send(p.channel, p.externalID, text)
			}
			s.waitIdle()
			if after := row(); before == "" || after != before {
				s.T.Errorf("identity = %q, want it unchanged: %q", after, before)
			}
		}},
		{"Kratos #4521: the reply to a wrong code does not reveal an account or a pending code", func(s *fixture) {
			known, pending := s.createLinked(adapters.SMS), s.createLinked(adapters.SMS)
			s.issueCode(pending)
			replies := map[string]bool{}
			for _, external := range []string{known.externalID, pending.externalID, s.newExternalID(adapters.SMS)} {
				replies[s.sendAndExpect(adapters.SMS, external, "/claim "+claim.NewCode(), declined)] = true
			}
			if len(replies) != 1 {
				s.T.Errorf("distinct replies to three senders = %v, want one", replies)
			}
		}},
		{"AIL CVE-2026-56450, Nagios CVE-2025-60424 and AuthQuake: attempts to redeem a code are limited", func(s *fixture) {
			p := s.createLinked(adapters.Telegram)
			code := s.issueCode(p)
			for range claim.MaxTries {
				s.sendAndExpect(p.channel, p.externalID, "/claim "+harness.WrongCode(code), declined)
			}
			s.sendAndExpect(p.channel, p.externalID, "/claim "+harness.WrongCode(code), "Too many")
			s.send(p.channel, p.externalID, "/claim "+code)
			s.waitIdle()
			if s.isVerified(p) {
				s.T.Error("an attempt over the limit was compared with the code")
			}
			s.redeem(s.createLinked(adapters.Telegram)) // other accounts are not affected
		}},
	})
}
