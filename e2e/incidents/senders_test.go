package incidents

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"hydragate/adapters"
	"hydragate/e2e/harness"
)

// TestIncidents_Roles replays incidents of senders who got the role of another.
func TestIncidents_Roles(t *testing.T) {
	replay(t, []incident{
		{"OpenClaw CVE-2026-28480: a reused username does not inherit a role", func(s *fixture) {
			p := s.createLinked(adapters.Telegram)
			s.post(s.telegramMessage(p.externalID, "steve_the_owner", hello))
			s.expectRole(p.externalID, 1, "unverified")
			s.redeem(p)
			s.post(s.telegramMessage(p.externalID, "steve_the_owner", hello))
			s.expectRole(p.externalID, 2, "owner")
			other := s.newExternalID(adapters.Telegram)
			s.post(s.telegramMessage(other, "steve_the_owner", hello))
			s.expectRole(other, 1, "unknown")
		}},
		{"OpenClaw #54288, #96487 and #50633: a sender is not identified by the display name", func(s *fixture) {
			p := s.createVerified(adapters.Slack)
			s.MustCall("PATCH", p.path(), map[string]string{"display_name": "Steve Owner"}, 200, nil)
			s.send(p.channel, p.externalID, "hello")
			s.expectRole(p.externalID, 1, "owner")
			other := s.newExternalID(adapters.Telegram)
			m := s.telegramMessage(other, "x", hello)
			m.body = strings.Replace(m.body, `"first_name":"Steve"`, `"first_name":"Steve Owner"`, 1)
			s.post(m)
			s.expectRole(other, 1, "unknown")
		}},
		{"OpenClaw pairing store and #22599: an account is known on its instance until it is unlinked", func(s *fixture) {
			p := s.createVerified(adapters.SMS)
			s.send(p.channel, p.externalID, "hello")
			s.expectRole(p.externalID, 1, "owner")
			lookup := fmt.Sprintf("/v1/customers/lookup/identity?channel=sms&external_id=%s&instance_id=",
				strings.Replace(p.externalID, "+", "%2B", 1))
			s.MustCall("GET", lookup+s.PollingInstanceID, nil, http.StatusNotFound, nil)
			s.MustCall("GET", lookup+s.InstanceID, nil, http.StatusOK, nil)
			s.MustCall("DELETE", p.path(), nil, http.StatusNoContent, nil)
			s.send(p.channel, p.externalID, "hello again")
			s.expectRole(p.externalID, 2, "unknown")
		}},
		{"tdlib #667 and docker-controller-bot #25: accounts shared by many people cannot be verified", func(s *fixture) {
			for _, shared := range []string{"1087968824", "136817688", "777000"} { // Telegram's group bot and others
				// A staff member links the shared account by mistake.
				p := linkedAccount{adapters.Telegram, s.createLinked(adapters.SMS).customerID, "", shared}
				res := s.API.Call(s.T.Context(), "POST", "/v1/customers/"+p.customerID+"/identities",
					map[string]string{"channel": "telegram", "external_id": shared, "instance_id": s.InstanceID})
				var linked struct{ ID string }
				if err := json.Unmarshal([]byte(res.Body), &linked); res.Status != http.StatusCreated || err != nil {
					continue
				}
				p.identityID = linked.ID
				code := s.issueCode(p)
				for _, chat := range []string{
					`"chat":{"id":-1001,"type":"supergroup"},"sender_chat":{"id":-1001,"type":"supergroup"}`,
					`"chat":{"id":-1002,"type":"channel"},"sender_chat":{"id":-1002,"type":"channel"}`,
				} {
					m := s.telegramMessage(shared, "group", `"text":"/claim `+code+`"`)
					m.body = strings.Replace(m.body, `"chat":{"id":`+shared+`,"type":"private"}`, chat, 1)
					m.body = strings.Replace(m.body, `"is_bot":false`, `"is_bot":true`, 1)
					s.post(m)
				}
				s.waitIdle()
				if s.isVerified(p) {
					s.T.Errorf("shared account %s is verified", shared)
				}
			}
			if p := s.createVerified(adapters.Telegram); !s.isVerified(p) {
				s.T.Error("a personal account was not verified")
			}
		}},
	})
}

// TestIncidents_Messages replays incidents of messages that contained or notified too much.
func TestIncidents_Messages(t *testing.T) {
	replay(t, []incident{
		{"OpenClaw CVE-2026-35647: an account that has opted out gets no notification", func(s *fixture) {
			connected := s.ConnectChannel(s.InstanceID, "whatsapp", map[string]string{
				"account_sid": harness.TwilioAccount, "auth_token": harness.TwilioToken, "phone_number": harness.SMSBotNumber,
			})
			s.Twilio.SetWhatsAppURL(harness.TwilioAccount, harness.SMSBotNumber, connected["webhook_url"].(string), "")
			optedOut := s.createVerified(adapters.SMS)
			link := func(c adapters.Channel) linkedAccount { return s.link(optedOut.customerID, c, s.newExternalID(c)) }
			optedIn := link(adapters.WhatsApp)
			s.redeem(optedIn)
			s.waitIdle()
			s.send(adapters.SMS, optedOut.externalID, "STOP")
			s.waitIdle()
			want := len(s.replies(adapters.SMS, optedOut.externalID))
			before := len(s.replies(adapters.WhatsApp, optedIn.externalID))
			s.redeem(link(adapters.Telegram))
			s.waitIdle()
			harness.Eventually(s.T, "the other account receives the notification", func() bool {
				return len(s.replies(adapters.WhatsApp, optedIn.externalID)) > before
			})
			if got := len(s.replies(adapters.SMS, optedOut.externalID)); got != want {
				s.T.Errorf("messages to an account that opted out = %d, want %d", got, want)
			}
		}},
		{"MatterBot #232 and DiceMaiden #96: mentions in a display name notify no user", func(s *fixture) {
			p := s.createLinked(adapters.Slack)
			const name = "<!channel> <@U0BOT> & <https://evil.example|bank>"
			s.MustCall("PATCH", p.path(), map[string]string{"display_name": name}, 200, nil)
			s.App.Update(func() { s.App.ReplyText = "Hello " + name })
			// The fake Slack displays an active mention the way Slack does, not as this text.
			s.sendAndExpect(p.channel, p.externalID, "hello", name)
			if got := s.App.MessagesFrom(p.externalID)[0].Field("display_name"); got != name {
				s.T.Errorf("display name in the event = %q, want %q", got, name)
			}
		}},
		{"matterbridge #310: the application receives no credential of a provider", func(s *fixture) {
			from := s.newExternalID(adapters.Telegram)
			s.post(s.telegramMessage(from, "x", `"caption":"look","photo":[
				{"file_id":"AgACAgIAAxkB","file_unique_id":"AQAD","file_size":4821,"width":90,"height":90}]`))
			s.expectRole(from, 1, "unknown")
			s.waitIdle()
			e := s.App.MessagesFrom(from)[0]
			request := fmt.Sprintf("%v\n%s", e.Header, e.Body)
			if !strings.Contains(request, `"image"`) {
				s.T.Error("the application did not receive the image")
			}
			for _, secret := range []string{
				harness.TelegramToken, harness.TwilioToken, harness.SlackToken, harness.SlackSecret,
			} {
				if strings.Contains(request, secret) {
					s.T.Error("the application received a credential of a provider")
				}
			}
		}},
	})
}
