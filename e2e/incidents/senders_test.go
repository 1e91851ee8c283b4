package incidents

import (
	"fmt"
	"strings"
	"testing"

	"hydragate/adapters"
	"hydragate/cmd/hydragate/demo"
	"hydragate/e2e/harness"
)

// TestIncidents_OpenClawCVE202628480 replays OpenClaw CVE-2026-28480. It checks that an account
// that takes over the username of a verified account does not get its role.
func TestIncidents_OpenClawCVE202628480(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		p := s.createLinked(adapters.Telegram)
		s.post(s.telegramRequest(s.telegramUpdate(p.externalID, "steve_the_owner", "hello")))
		s.lastRole(adapters.Telegram, p.externalID, 1)
		s.redeem(p)
		s.post(s.telegramRequest(s.telegramUpdate(p.externalID, "steve_the_owner", "it is me")))
		if role := s.lastRole(adapters.Telegram, p.externalID, 2); role != "owner" {
			s.t.Fatalf("role of the verified account = %q, want owner", role)
		}
		other := s.newExternalID(adapters.Telegram)
		s.post(s.telegramRequest(s.telegramUpdate(other, "steve_the_owner", "it is me")))
		if role := s.lastRole(adapters.Telegram, other, 1); role != "unknown" {
			s.t.Errorf("role of the account with a reused username = %q, want unknown", role)
		}
	})
}

// TestIncidents_OpenClaw54288 replays OpenClaw #54288, #96487 and #50633. It checks that a sender
// is not identified by the display name.
func TestIncidents_OpenClaw54288(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		p := s.createVerified(adapters.Slack)
		s.noError(s.API.Call(s.t.Context(), "PATCH", p.path(), demo.JSONObject{"display_name": "Steve Owner"}, nil))
		s.sendText(p.channel, p.externalID, "hello")
		if role := s.lastRole(p.channel, p.externalID, 1); role != "owner" {
			s.t.Fatalf("role of the verified account = %q, want owner", role)
		}
		other := s.newExternalID(adapters.Telegram)
		update := strings.Replace(s.telegramUpdate(other, "x", "hello"),
			`"first_name":"Steve"`, `"first_name":"Steve Owner"`, 1)
		s.post(s.telegramRequest(update))
		if role := s.lastRole(adapters.Telegram, other, 1); role != "unknown" {
			s.t.Errorf("role of the account with the owner's display name = %q, want unknown", role)
		}
	})
}

// TestIncidents_Tdlib667DockerControllerBot25 replays tdlib #667 and docker-controller-bot #25. It
// checks that accounts shared by many people, such as Telegram's group bot, cannot be verified.
func TestIncidents_Tdlib667DockerControllerBot25(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		for _, shared := range []string{"1087968824", "136817688", "777000"} {
			// A staff member links the shared account by mistake.
			p := linkedAccount{channel: adapters.Telegram, customerID: s.createCustomer(), externalID: shared}
			if i, err := s.API.LinkIdentity(s.t.Context(), p.customerID, s.InstanceID, p.channel, shared, ""); err == nil {
				p.identityID = i.ID
				code := s.issueCode(p)
				for _, chat := range []string{
					`"chat":{"id":-1001,"type":"supergroup"},"sender_chat":{"id":-1001,"type":"supergroup"}`,
					`"chat":{"id":-1002,"type":"channel"},"sender_chat":{"id":-1002,"type":"channel"}`,
				} {
					s.nextID++
					s.post(s.telegramRequest(fmt.Sprintf(`{"update_id":%d,"message":{"message_id":%d,"date":1700000000,
						%s,"from":{"id":%s,"is_bot":true,"first_name":"Group"},"text":"/claim %s"}}`,
						900_000_000+s.nextID, s.nextID, chat, shared, code)))
				}
				s.waitIdle()
				if s.isVerified(p) {
					s.t.Errorf("shared account %s is verified", shared)
				}
			}
		}
		p := s.createLinked(adapters.Telegram) // a personal account can be verified
		s.redeem(p)
		if !s.isVerified(p) {
			s.t.Error("a personal account was not verified")
		}
	})
}

// TestIncidents_OpenClawPairingStore replays the OpenClaw pairing store incident and #22599. It
// checks that an account linked on one instance is unknown on another, and that unlinking takes
// effect immediately.
func TestIncidents_OpenClawPairingStore(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		p := s.createVerified(adapters.SMS)
		s.sendText(p.channel, p.externalID, "hello")
		if role := s.lastRole(p.channel, p.externalID, 1); role != "owner" {
			s.t.Fatalf("role of the verified account = %q, want owner", role)
		}
		other, _, err := s.API.CreateInstance(s.t.Context(), s.AppURL)
		s.noError(err)
		lookup := fmt.Sprintf("/v1/customers/lookup/identity?channel=sms&external_id=%s&instance_id=",
			strings.Replace(p.externalID, "+", "%2B", 1))
		if status, _ := s.request("GET", lookup+other, harness.BearerHeader(s.API.Key), ""); status != 404 {
			s.t.Errorf("lookup on another instance = %d, want 404", status)
		}
		if status, _ := s.request("GET", lookup+s.InstanceID, harness.BearerHeader(s.API.Key), ""); status != 200 {
			s.t.Errorf("lookup on the same instance = %d, want 200", status)
		}
		s.noError(s.API.Call(s.t.Context(), "DELETE", p.path(), nil, nil))
		s.sendText(p.channel, p.externalID, "hello again")
		if role := s.lastRole(p.channel, p.externalID, 2); role != "unknown" {
			s.t.Errorf("role after unlinking = %q, want unknown", role)
		}
	})
}

// TestIncidents_OpenClawCVE202635647 replays OpenClaw CVE-2026-35647. It checks that no
// notification is sent to an account that has opted out.
func TestIncidents_OpenClawCVE202635647(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		optedOut := s.createVerified(adapters.SMS)
		optedIn := s.linkAnother(optedOut.customerID, adapters.WhatsApp)
		s.redeem(optedIn)
		s.waitIdle()
		s.sendText(adapters.SMS, optedOut.externalID, "STOP")
		s.waitIdle()
		want := s.replyCount(adapters.SMS, optedOut.externalID)
		before := s.replyCount(adapters.WhatsApp, optedIn.externalID)
		s.redeem(s.linkAnother(optedOut.customerID, adapters.Telegram))
		s.waitIdle()
		harness.Eventually(s.t, "the other account receives the notification", func() bool {
			return s.replyCount(adapters.WhatsApp, optedIn.externalID) > before
		})
		if got := s.replyCount(adapters.SMS, optedOut.externalID); got != want {
			s.t.Errorf("messages to an account that opted out = %d, want %d", got, want)
		}
	})
}

// TestIncidents_MatterBot232 replays MatterBot #232 and DiceMaiden #96. It checks that mentions in
// a display name are escaped and notify no user.
func TestIncidents_MatterBot232(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		p := s.createLinked(adapters.Slack)
		const name = "<!channel> <@U0BOT> & <https://evil.example|bank>"
		s.noError(s.API.Call(s.t.Context(), "PATCH", p.path(), demo.JSONObject{"display_name": name}, nil))
		// The fake Slack displays an active mention the way Slack does, not as this text.
		reply := s.sendAndExpect(p.channel, p.externalID, "hello", "Hello")
		if !strings.Contains(reply, name) {
			s.t.Errorf("displayed reply = %q, want it to contain %q", reply, name)
		}
	})
}

// TestIncidents_Matterbridge310 replays matterbridge #310. It checks that no credential of a
// provider is sent to the application.
func TestIncidents_Matterbridge310(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		from := s.newExternalID(adapters.Telegram)
		s.nextID++
		s.post(s.telegramRequest(fmt.Sprintf(`{"update_id":%d,"message":{"message_id":%d,"date":1700000000,
			"chat":{"id":%s,"type":"private"},"from":{"id":%s,"is_bot":false,"first_name":"Steve"},"caption":"look",
			"photo":[{"file_id":"AgACAgIAAxkB","file_unique_id":"AQAD","file_size":4821,"width":90,"height":90}]}}`,
			900_000_000+s.nextID, s.nextID, from, from)))
		s.lastRole(adapters.Telegram, from, 1)
		s.waitIdle()
		requests := s.appRequests.String()
		if !strings.Contains(requests, `"image"`) {
			s.t.Error("the application did not receive the image")
		}
		p := s.Providers
		for _, secret := range []string{p.TelegramToken, p.TwilioToken, p.SlackToken, p.SlackSecret} {
			if strings.Contains(requests, secret) {
				s.t.Error("the application received a credential of a provider")
			}
		}
	})
}
