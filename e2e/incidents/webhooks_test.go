package incidents

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/adapters/simulator"
)

const formBody, jsonBody = "application/x-www-form-urlencoded", "application/json"

// TestIncidents_OpenClawCVE202628465 replays OpenClaw CVE-2026-28465: headers of a proxy do not
// choose the URL that is signed.
func TestIncidents_OpenClawCVE202628465(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		at, err := url.Parse(s.smsURL())
		s.noError(err)
		evil := "https://evil.example" + at.Path
		tricks := []http.Header{
			{"X-Forwarded-Host": {"evil.example"}, "X-Forwarded-Proto": {"https"}}, {"Forwarded": {"host=evil.example;proto=https"}}, {"Host": {"evil.example"}},
			{"X-Original-Url": {evil}}, {"X-Forwarded-Port": {"443"}, "X-Forwarded-Host": {"evil.example:443"}}, {"X-Rewrite-Url": {at.Path}, "X-Host": {"evil.example"}},
		}
		for i, trick := range tricks {
			before := s.stateDump()
			forged := s.twilioRequest(evil, s.smsForm(s.newExternalID(adapters.SMS), "hello"))
			genuine := s.twilioRequest(s.smsURL(), s.smsForm(s.newExternalID(adapters.SMS), "hello"))
			for k, v := range trick {
				forged.header[k], genuine.header[k] = v, v
			}
			if status := s.post(forged); !isRejected(status) || s.stateDump() != before {
				s.t.Errorf("trick %d: signed for another host, answered %d", i, status)
			}
			if status := s.post(genuine); status != 200 {
				s.t.Errorf("trick %d: signed rightly, answered %d", i, status)
			}
		}
	})
}

// TestIncidents_OpenClawCVE202632053 replays OpenClaw CVE-2026-32053: a replay has the id it had.
func TestIncidents_OpenClawCVE202632053(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		from := s.newExternalID(adapters.Telegram)
		update := s.telegramRequest(s.telegramUpdate(from, "x", "once"))
		text := s.twilioRequest(s.smsURL(), s.smsForm(s.newExternalID(adapters.SMS), "once"))
		event := s.slackRequest("events", jsonBody, s.slackDirectMessage(s.newExternalID(adapters.Slack), "once"))
		for range 3 {
			for _, r := range []signedRequest{update, text, event} {
				if status := s.post(r); status != 200 {
					s.t.Errorf("%s answers %d", r.url, status)
				}
			}
		}
		s.waitIdle()
		if n := strings.Count(s.appRequests.String(), `"text":"once"`); n != 3 {
			s.t.Errorf("three messages, each delivered three times: %d events", n)
		}
	})
}

// TestIncidents_OpenClawTelnyxReplay replays OpenClaw Telnyx replay: a signature written
// differently is the same message.
func TestIncidents_OpenClawTelnyxReplay(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		event := s.slackRequest("events", jsonBody, s.slackDirectMessage(s.newExternalID(adapters.Slack), "once more"))
		s.post(event)
		before := s.stateDump()
		sign := event.header.Get("X-Slack-Signature")
		for _, other := range []string{"v0=" + strings.ToUpper(sign[3:]), sign + "=", " " + sign, strings.ToUpper(sign)} {
			event.header.Set("X-Slack-Signature", other)
			s.post(event)
		}
		text := s.twilioRequest(s.smsURL(), s.smsForm(s.newExternalID(adapters.SMS), "hello"))
		s.post(text)
		after := s.stateDump()
		if before == after {
			s.t.Error("the genuine text left nothing")
		}
		text.header.Set("X-Twilio-Signature", strings.TrimRight(text.header.Get("X-Twilio-Signature"), "="))
		s.post(text)
		if s.stateDump() != after {
			s.t.Error("a signature written differently made something happen again")
		}
	})
}

// TestIncidents_OpenClawReplayedTwilioWebhook replays OpenClaw replayed Twilio webhook: a
// duplicate has no side effect at all.
func TestIncidents_OpenClawReplayedTwilioWebhook(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		p := s.createLinked(adapters.SMS)
		claim := s.twilioRequest(s.smsURL(), s.smsForm(p.externalID, "claim "+s.issueCode(p)))
		s.post(claim)
		before := s.stateDump()
		if !s.isVerified(p) {
			s.t.Fatal("the claim is not redeemed")
		}
		said := s.replyCount(adapters.SMS, p.externalID)
		for range 3 {
			if status := s.post(claim); status != 200 {
				s.t.Errorf("the duplicate is answered %d", status)
			}
		}
		if after := s.stateDump(); after != before || s.replyCount(adapters.SMS, p.externalID) != said {
			s.t.Errorf("before %s after %s", before, after)
		}
	})
}

// TestIncidents_OpenClawCVE202632980 replays OpenClaw CVE-2026-32980: a wrong secret is refused
// before the body is read.
func TestIncidents_OpenClawCVE202632980(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		genuine := s.telegramRequest(s.telegramUpdate(s.newExternalID(adapters.Telegram), "x", "hello"))
		at, err := url.Parse(genuine.url)
		s.noError(err)
		conn, err := net.Dial("tcp", at.Host)
		s.noError(err)
		defer func() { _ = conn.Close() }()
		s.noError(conn.SetDeadline(time.Now().Add(3 * time.Second))) // below the time a whole request may take
		// A megabyte is announced and not one byte of it comes.
		_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: 1048576\r\nX-Telegram-Bot-Api-Secret-Token: wrong\r\n\r\n", at.Path, at.Host)
		s.noError(err)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		s.noError(err)
		_ = resp.Body.Close()
		if !isRejected(resp.StatusCode) {
			s.t.Errorf("answered %d", resp.StatusCode)
		}
		if status := s.post(genuine); status != 200 {
			s.t.Errorf("with the secret: %d", status)
		}
	})
}

// TestIncidents_Chatwoot13619 replays Chatwoot #13619 and #14125: no text is believed unsigned,
// and a number of a pool is believed.
func TestIncidents_Chatwoot13619(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		before := s.stateDump()
		unsigned := s.twilioRequest(s.smsURL(), s.smsForm(s.newExternalID(adapters.SMS), "unsigned"))
		unsigned.header.Del("X-Twilio-Signature")
		if status := s.post(unsigned); !isRejected(status) || s.stateDump() != before {
			s.t.Errorf("unsigned: %d", status)
		}
		form := s.smsForm(s.newExternalID(adapters.SMS), "from a pool")
		form.Set("MessagingServiceSid", "MG"+strings.Repeat("0a", 16))
		form.Set("ToCountry", "US")
		form.Set("OptOutType", "")
		if status := s.post(s.twilioRequest(s.smsURL(), form)); status != 200 || s.stateDump() == before {
			s.t.Errorf("with a messaging service: %d", status)
		}
	})
}

// TestIncidents_HermesAgent3187 replays hermes-agent #3187, #3192: an absent or empty header is a
// wrong one.
func TestIncidents_HermesAgent3187(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		for _, r := range s.requestPerChannel() {
			for name := range r.header {
				if name == "Content-Type" {
					continue
				}
				before := s.stateDump()
				bare, empty := r, r
				bare.header, empty.header = r.header.Clone(), r.header.Clone()
				bare.header.Del(name)
				empty.header.Set(name, "")
				if a, b := s.post(bare), s.post(empty); !isRejected(a) || !isRejected(b) || s.stateDump() != before {
					s.t.Errorf("%s without %s: %d, empty: %d", r.url, name, a, b)
				}
			}
			if status := s.post(r); status != 200 {
				s.t.Errorf("%s whole: %d", r.url, status)
			}
		}
	})
}

// TestIncidents_TypeBotCVE202639969 replays TypeBot CVE-2026-39969: no hook takes an unsigned
// post.
func TestIncidents_TypeBotCVE202639969(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		before := s.stateDump()
		hooks := []string{"", "/status", "/events", "/commands", "/interactivity", "/fallback"}
		for _, channel := range []string{"telegram", "sms", "whatsapp", "slack"} {
			for _, hook := range hooks {
				at := s.API.URL + "/hooks/" + channel + "/" + s.InstanceID + hook
				for _, body := range []string{`{"update_id":1}`, "From=%2B12025550123&Body=hello", ""} {
					if status := s.post(signedRequest{at, http.Header{"Content-Type": {jsonBody}}, body}); status/100 == 2 {
						s.t.Errorf("%s answers %d", at, status)
					}
				}
			}
		}
		if s.stateDump() != before {
			s.t.Error("something was kept")
		}
	})
}

// TestIncidents_SlackGo031035 replays slack-go 0.31, 0.35: a payload counts only from the signed
// body, and no answer holds a signature.
func TestIncidents_SlackGo031035(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		payload := `{"type":"block_actions","team":{"id":"` + simulator.DemoTeam + `"},"api_app_id":"` + simulator.DemoApp + `","user":{"id":"U1","team_id":"` + simulator.DemoTeam + `"},"channel":{"id":"D1"},"trigger_id":"t1","actions":[{"action_id":"a","value":"yes","type":"button"}]}`
		before := s.stateDump()
		smuggled := s.slackRequest("interactivity", formBody, "")
		smuggled.url += "?payload=" + url.QueryEscape(payload)
		if status := s.post(smuggled); status/100 == 2 || s.stateDump() != before {
			s.t.Errorf("a payload in the query: %d", status)
		}
		wrong := s.slackRequest("interactivity", formBody, "payload="+url.QueryEscape(payload))
		good := wrong.header.Get("X-Slack-Signature")
		wrong.header.Set("X-Slack-Signature", "v0="+strings.Repeat("0", 64))
		if body := s.responseBody(wrong); strings.Contains(body, good[3:]) || len(body) > 64 {
			s.t.Errorf("the answer to a wrong signature is %q", body)
		}
		if status := s.post(s.slackRequest("interactivity", formBody, "payload="+url.QueryEscape(payload))); status != 200 || s.stateDump() == before {
			s.t.Errorf("a genuine one: %d", status)
		}
	})
}

// TestIncidents_OpenClawPR57647 replays OpenClaw PR #57647: no second credential switches the
// limit off.
func TestIncidents_OpenClawPR57647(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		s.requestPerChannel() // the endpoints are known
		statuses := map[int]int{}
		for i := range 40 {
			forged := s.telegramRequest(s.telegramUpdate(s.newExternalID(adapters.Telegram), "x", "hello"))
			forged.header.Set("X-Telegram-Bot-Api-Secret-Token", fmt.Sprint("wrong", i))
			switch i % 4 {
			case 1:
				forged.header.Set("Authorization", "Bearer "+s.API.Key)
			case 2:
				forged.header.Set("X-Api-Key", s.API.Key)
				forged.header.Set("X-Forwarded-For", fmt.Sprintf("8.8.8.%d", i))
			case 3:
				forged.header.Set("X-Slack-Signature", "v0=00")
				forged.header.Set("X-Real-Ip", fmt.Sprintf("9.9.9.%d", i))
			}
			statuses[s.post(forged)]++
		}
		if statuses[429] < 15 || statuses[403]+statuses[429] != 40 {
			s.t.Errorf("40 wrong secrets: %v", statuses)
		}
		if status := s.post(s.telegramRequest(s.telegramUpdate(s.newExternalID(adapters.Telegram), "x", "hello"))); status != 200 {
			s.t.Errorf("a genuine one from the same address: %d", status)
		}
	})
}

// requestPerChannel gives a genuine request for each channel.
func (s *incidentFixture) requestPerChannel() []signedRequest {
	return []signedRequest{
		s.telegramRequest(s.telegramUpdate(s.newExternalID(adapters.Telegram), "x", "hello")),
		s.twilioRequest(s.smsURL(), s.smsForm(s.newExternalID(adapters.SMS), "hello")),
		s.slackRequest("events", jsonBody, s.slackDirectMessage(s.newExternalID(adapters.Slack), "hello")),
	}
}

// responseBody posts a request and gives the body of the answer.
func (s *incidentFixture) responseBody(r signedRequest) string {
	s.t.Helper()
	return s.do(http.MethodPost, r.url, r.header, r.body).Body
}

// isRejected says of a status that a request was not believed: by the limit on wrong ones,
// too, which the replays before may have met.
func isRejected(status int) bool {
	return status == http.StatusForbidden || status == http.StatusTooManyRequests
}
