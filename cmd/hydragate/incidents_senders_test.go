//go:build unix

package main

import (
	"fmt"
	"strings"

	"hydragate/adapters"
)

// incidentsOfSenders are mistakes about who speaks.
var incidentsOfSenders = []incident{
	{"OpenClaw CVE-2026-28480: a recycled username is another person", func(s *scene) {
		p := s.linked(adapters.Telegram)
		s.post(s.telegramPost(s.written(p.external, "steve_the_owner", "hello")))
		s.role(adapters.Telegram, p.external, 1)
		s.claims(p)
		s.post(s.telegramPost(s.written(p.external, "steve_the_owner", "it is me")))
		if role := s.role(adapters.Telegram, p.external, 2); role != "owner" {
			s.t.Fatalf("the owner is %s", role)
		}
		heir := s.somebody(adapters.Telegram)
		s.post(s.telegramPost(s.written(heir, "steve_the_owner", "it is me")))
		if role := s.role(adapters.Telegram, heir, 1); role != "unknown" {
			s.t.Errorf("who took over the username is %s", role)
		}
	}},
	{"OpenClaw #54288, #96487, #50633: a display name is no proof", func(s *scene) {
		p := s.verified(adapters.Slack)
		s.must(s.staff.call(s.t.Context(), "PATCH", p.path(), object{"display_name": "Steve Owner"}, nil))
		s.say(p.channel, p.external, "hello")
		if role := s.role(p.channel, p.external, 1); role != "owner" {
			s.t.Fatalf("the owner is %s", role)
		}
		other := s.somebody(adapters.Telegram)
		update := strings.Replace(s.written(other, "x", "hello"), `"first_name":"Steve"`, `"first_name":"Steve Owner"`, 1)
		s.post(s.telegramPost(update))
		if role := s.role(adapters.Telegram, other, 1); role != "unknown" {
			s.t.Errorf("who has the owner's name is %s", role)
		}
	}},
	{"tdlib #667, docker-controller-bot #25: accounts that everybody shares are nobody", func(s *scene) {
		for _, shared := range []string{"1087968824", "136817688", "777000"} {
			// Staff, misled by what the channel shows, links the shared account.
			p := sceneSteve{channel: adapters.Telegram, customer: s.customer(), external: shared}
			if i, err := s.staff.link(s.t.Context(), p.customer, s.instance, p.channel, shared, ""); err == nil {
				p.identity = i.ID
				code := s.code(p)
				for _, chat := range []string{`"chat":{"id":-1001,"type":"supergroup"},"sender_chat":{"id":-1001,"type":"supergroup"}`, `"chat":{"id":-1002,"type":"channel"},"sender_chat":{"id":-1002,"type":"channel"}`} {
					s.people++
					s.post(s.telegramPost(fmt.Sprintf(`{"update_id":%d,"message":{"message_id":%d,"date":1700000000,%s,"from":{"id":%s,"is_bot":true,"first_name":"Group"},"text":"/claim %s"}}`,
						900_000_000+s.people, s.people, chat, shared, code)))
				}
				s.settle()
				if s.isVerified(p) {
					s.t.Errorf("account %s is verified", shared)
				}
			}
		}
		p := s.linked(adapters.Telegram) // the same from a person's own account
		s.claims(p)
		if !s.isVerified(p) {
			s.t.Error("a person's own claim is refused")
		}
	}},
	{"OpenClaw pairing store, #22599: an account of one instance is nobody at another, and unlinking holds at once", func(s *scene) {
		p := s.verified(adapters.SMS)
		s.say(p.channel, p.external, "hello")
		if role := s.role(p.channel, p.external, 1); role != "owner" {
			s.t.Fatalf("the owner is %s", role)
		}
		other, _, err := s.staff.newInstance(s.t.Context(), s.agentURL)
		s.must(err)
		lookup := fmt.Sprintf("/v1/customers/lookup/identity?channel=sms&external_id=%s&instance_id=", strings.Replace(p.external, "+", "%2B", 1))
		if status, _ := s.try("GET", lookup+other, bearer(s.staff.key), ""); status != 404 {
			s.t.Errorf("the other instance knows the account: %d", status)
		}
		if status, _ := s.try("GET", lookup+s.instance, bearer(s.staff.key), ""); status != 200 {
			s.t.Errorf("its own instance does not: %d", status)
		}
		s.must(s.staff.call(s.t.Context(), "DELETE", p.path(), nil, nil))
		s.say(p.channel, p.external, "hello again")
		if role := s.role(p.channel, p.external, 2); role != "unknown" {
			s.t.Errorf("unlinked, and still %s", role)
		}
	}},
	{"OpenClaw CVE-2026-35647: a notice respects who does not want to be written to", func(s *scene) {
		first := s.verified(adapters.SMS)
		willing := s.another(first.customer, adapters.WhatsApp)
		s.claims(willing)
		s.settle()
		s.say(adapters.SMS, first.external, "STOP")
		s.settle()
		quiet, heard := s.answered(adapters.SMS, first.external), s.answered(adapters.WhatsApp, willing.external)
		s.claims(s.another(first.customer, adapters.Telegram))
		s.settle()
		eventually(s.t, "the other account reads the notice", func() bool { return s.answered(adapters.WhatsApp, willing.external) > heard })
		if n := s.answered(adapters.SMS, first.external); n != quiet {
			s.t.Errorf("%d messages to somebody who said STOP", n-quiet)
		}
	}},
	{"MatterBot #232, DiceMaiden #96: mentions in somebody's name call nobody", func(s *scene) {
		p := s.linked(adapters.Slack)
		s.must(s.staff.call(s.t.Context(), "PATCH", p.path(), object{"display_name": "<!channel> <@U0BOT> & <https://evil.example|bank>"}, nil))
		// A mention that calls somebody would be shown as Slack shows mentions.
		answer := s.ask(p.channel, p.external, "hello", "Hello")
		if !strings.Contains(answer, "<!channel> <@U0BOT> & <https://evil.example|bank>") {
			s.t.Errorf("people read %q", answer)
		}
	}},
	{"matterbridge #310: the bot's token is in nothing that leaves", func(s *scene) {
		from := s.somebody(adapters.Telegram)
		s.people++
		s.post(s.telegramPost(fmt.Sprintf(`{"update_id":%d,"message":{"message_id":%d,"date":1700000000,"chat":{"id":%s,"type":"private"},"from":{"id":%s,"is_bot":false,"first_name":"Steve"},
			"caption":"look","photo":[{"file_id":"AgACAgIAAxkB","file_unique_id":"AQAD","file_size":4821,"width":90,"height":90}]}}`, 900_000_000+s.people, s.people, from, from)))
		s.role(adapters.Telegram, from, 1)
		s.settle()
		seen := s.hops.String()
		if !strings.Contains(seen, `"image"`) {
			s.t.Error("the agent was not told of the picture")
		}
		for _, secret := range []string{s.pretence.telegramToken, s.pretence.twilioToken, s.pretence.slackToken, s.pretence.slackSecret} {
			if strings.Contains(seen, secret) {
				s.t.Error("the agent was sent a provider's secret")
			}
		}
	}},
}
