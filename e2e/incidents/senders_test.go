package incidents

import (
	"fmt"
	"strings"
	"testing"

	"hydragate/adapters"
	"hydragate/cmd/hydragate/demo"
	"hydragate/e2e/harness"
)

// TestIncidents_OpenClawCVE202628480 replays OpenClaw CVE-2026-28480: a recycled username is
// another person.
func TestIncidents_OpenClawCVE202628480(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		p := s.createLinked(adapters.Telegram)
		s.post(s.telegramRequest(s.telegramUpdate(p.externalID, "steve_the_owner", "hello")))
		s.lastRole(adapters.Telegram, p.externalID, 1)
		s.redeem(p)
		s.post(s.telegramRequest(s.telegramUpdate(p.externalID, "steve_the_owner", "it is me")))
		if role := s.lastRole(adapters.Telegram, p.externalID, 2); role != "owner" {
			s.t.Fatalf("the owner is %s", role)
		}
		heir := s.newExternalID(adapters.Telegram)
		s.post(s.telegramRequest(s.telegramUpdate(heir, "steve_the_owner", "it is me")))
		if role := s.lastRole(adapters.Telegram, heir, 1); role != "unknown" {
			s.t.Errorf("who took over the username is %s", role)
		}
	})
}

// TestIncidents_OpenClaw54288 replays OpenClaw #54288, #96487, #50633: a display name is no
// proof.
func TestIncidents_OpenClaw54288(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		p := s.createVerified(adapters.Slack)
		s.noError(s.API.Call(s.t.Context(), "PATCH", p.path(), demo.JSONObject{"display_name": "Steve Owner"}, nil))
		s.sendText(p.channel, p.externalID, "hello")
		if role := s.lastRole(p.channel, p.externalID, 1); role != "owner" {
			s.t.Fatalf("the owner is %s", role)
		}
		other := s.newExternalID(adapters.Telegram)
		update := strings.Replace(s.telegramUpdate(other, "x", "hello"), `"first_name":"Steve"`, `"first_name":"Steve Owner"`, 1)
		s.post(s.telegramRequest(update))
		if role := s.lastRole(adapters.Telegram, other, 1); role != "unknown" {
			s.t.Errorf("who has the owner's name is %s", role)
		}
	})
}

// TestIncidents_Tdlib667DockerControllerBot25 replays tdlib #667, docker-controller-bot #25:
// accounts that everybody shares are nobody.
func TestIncidents_Tdlib667DockerControllerBot25(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		for _, shared := range []string{"1087968824", "136817688", "777000"} {
			// Staff, misled by what the channel shows, links the shared account.
			p := linkedAccount{channel: adapters.Telegram, customerID: s.createCustomer(), externalID: shared}
			if i, err := s.API.LinkIdentity(s.t.Context(), p.customerID, s.InstanceID, p.channel, shared, ""); err == nil {
				p.identityID = i.ID
				code := s.issueCode(p)
				for _, chat := range []string{`"chat":{"id":-1001,"type":"supergroup"},"sender_chat":{"id":-1001,"type":"supergroup"}`, `"chat":{"id":-1002,"type":"channel"},"sender_chat":{"id":-1002,"type":"channel"}`} {
					s.nextID++
					s.post(s.telegramRequest(fmt.Sprintf(`{"update_id":%d,"message":{"message_id":%d,"date":1700000000,%s,"from":{"id":%s,"is_bot":true,"first_name":"Group"},"text":"/claim %s"}}`,
						900_000_000+s.nextID, s.nextID, chat, shared, code)))
				}
				s.waitIdle()
				if s.isVerified(p) {
					s.t.Errorf("account %s is verified", shared)
				}
			}
		}
		p := s.createLinked(adapters.Telegram) // the same from a person's own account
		s.redeem(p)
		if !s.isVerified(p) {
			s.t.Error("a person's own claim is refused")
		}
	})
}

// TestIncidents_OpenClawPairingStore replays OpenClaw pairing store, #22599: an account of one
// instance is nobody at another, and unlinking holds at once.
func TestIncidents_OpenClawPairingStore(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		p := s.createVerified(adapters.SMS)
		s.sendText(p.channel, p.externalID, "hello")
		if role := s.lastRole(p.channel, p.externalID, 1); role != "owner" {
			s.t.Fatalf("the owner is %s", role)
		}
		other, _, err := s.API.CreateInstance(s.t.Context(), s.AppURL)
		s.noError(err)
		lookup := fmt.Sprintf("/v1/customers/lookup/identity?channel=sms&external_id=%s&instance_id=", strings.Replace(p.externalID, "+", "%2B", 1))
		if status, _ := s.request("GET", lookup+other, harness.BearerHeader(s.API.Key), ""); status != 404 {
			s.t.Errorf("the other instance knows the account: %d", status)
		}
		if status, _ := s.request("GET", lookup+s.InstanceID, harness.BearerHeader(s.API.Key), ""); status != 200 {
			s.t.Errorf("its own instance does not: %d", status)
		}
		s.noError(s.API.Call(s.t.Context(), "DELETE", p.path(), nil, nil))
		s.sendText(p.channel, p.externalID, "hello again")
		if role := s.lastRole(p.channel, p.externalID, 2); role != "unknown" {
			s.t.Errorf("unlinked, and still %s", role)
		}
	})
}

// TestIncidents_OpenClawCVE202635647 replays OpenClaw CVE-2026-35647: a notice respects who does
// not want to be written to.
func TestIncidents_OpenClawCVE202635647(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		first := s.createVerified(adapters.SMS)
		willing := s.linkAnother(first.customerID, adapters.WhatsApp)
		s.redeem(willing)
		s.waitIdle()
		s.sendText(adapters.SMS, first.externalID, "STOP")
		s.waitIdle()
		quiet, heard := s.replyCount(adapters.SMS, first.externalID), s.replyCount(adapters.WhatsApp, willing.externalID)
		s.redeem(s.linkAnother(first.customerID, adapters.Telegram))
		s.waitIdle()
		harness.Eventually(s.t, "the other account reads the notice", func() bool { return s.replyCount(adapters.WhatsApp, willing.externalID) > heard })
		if n := s.replyCount(adapters.SMS, first.externalID); n != quiet {
			s.t.Errorf("%d messages to somebody who said STOP", n-quiet)
		}
	})
}

// TestIncidents_MatterBot232 replays MatterBot #232, DiceMaiden #96: mentions in somebody's name
// call nobody.
func TestIncidents_MatterBot232(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		p := s.createLinked(adapters.Slack)
		s.noError(s.API.Call(s.t.Context(), "PATCH", p.path(), demo.JSONObject{"display_name": "<!channel> <@U0BOT> & <https://evil.example|bank>"}, nil))
		// A mention that calls somebody would be shown as Slack shows mentions.
		answer := s.sendAndExpect(p.channel, p.externalID, "hello", "Hello")
		if !strings.Contains(answer, "<!channel> <@U0BOT> & <https://evil.example|bank>") {
			s.t.Errorf("people read %q", answer)
		}
	})
}

// TestIncidents_Matterbridge310 replays matterbridge #310: the bot's token is in nothing that
// leaves.
func TestIncidents_Matterbridge310(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		from := s.newExternalID(adapters.Telegram)
		s.nextID++
		s.post(s.telegramRequest(fmt.Sprintf(`{"update_id":%d,"message":{"message_id":%d,"date":1700000000,"chat":{"id":%s,"type":"private"},"from":{"id":%s,"is_bot":false,"first_name":"Steve"},
			"caption":"look","photo":[{"file_id":"AgACAgIAAxkB","file_unique_id":"AQAD","file_size":4821,"width":90,"height":90}]}}`, 900_000_000+s.nextID, s.nextID, from, from)))
		s.lastRole(adapters.Telegram, from, 1)
		s.waitIdle()
		seen := s.appRequests.String()
		if !strings.Contains(seen, `"image"`) {
			s.t.Error("the agent was not told of the picture")
		}
		for _, secret := range []string{s.Providers.TelegramToken, s.Providers.TwilioToken, s.Providers.SlackToken, s.Providers.SlackSecret} {
			if strings.Contains(seen, secret) {
				s.t.Error("the agent was sent a provider's secret")
			}
		}
	})
}
