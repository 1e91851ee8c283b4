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

// TestIncidents_OpenClawCVE202628465 replays OpenClaw CVE-2026-28465. It checks that forwarding
// headers do not change the URL that Twilio's signature is verified against.
func TestIncidents_OpenClawCVE202628465(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		at, err := url.Parse(s.smsURL())
		s.noError(err)
		evil := "https://evil.example" + at.Path
		for _, spoofed := range []http.Header{
			{"X-Forwarded-Host": {"evil.example"}, "X-Forwarded-Proto": {"https"}},
			{"Forwarded": {"host=evil.example;proto=https"}},
			{"Host": {"evil.example"}},
			{"X-Original-Url": {evil}},
			{"X-Forwarded-Port": {"443"}, "X-Forwarded-Host": {"evil.example:443"}},
			{"X-Rewrite-Url": {at.Path}, "X-Host": {"evil.example"}},
		} {
			before := s.stateDump()
			forged := s.twilioRequest(evil, s.smsForm(s.newExternalID(adapters.SMS), "hello"))
			genuine := s.twilioRequest(s.smsURL(), s.smsForm(s.newExternalID(adapters.SMS), "hello"))
			for k, v := range spoofed {
				forged.header[k], genuine.header[k] = v, v
			}
			if status := s.post(forged); !isRejected(status) || s.stateDump() != before {
				s.t.Errorf("POST signed for another host with headers %v = %d, want it rejected and not stored", spoofed, status)
			}
			if status := s.post(genuine); status != 200 {
				s.t.Errorf("POST with a valid signature and headers %v = %d, want 200", spoofed, status)
			}
		}
	})
}

// TestIncidents_OpenClawCVE202632053 replays OpenClaw CVE-2026-32053. It checks that a redelivered
// webhook is deduplicated.
func TestIncidents_OpenClawCVE202632053(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		from := s.newExternalID(adapters.Telegram)
		update := s.telegramRequest(s.telegramUpdate(from, "x", "once"))
		text := s.twilioRequest(s.smsURL(), s.smsForm(s.newExternalID(adapters.SMS), "once"))
		event := s.slackRequest("events", jsonBody, s.slackDirectMessage(s.newExternalID(adapters.Slack), "once"))
		for range 3 {
			for _, r := range []signedRequest{update, text, event} {
				if status := s.post(r); status != 200 {
					s.t.Errorf("POST %s = %d, want 200", r.url, status)
				}
			}
		}
		s.waitIdle()
		if n := strings.Count(s.appRequests.String(), `"text":"once"`); n != 3 {
			s.t.Errorf("events for three messages, each posted three times = %d, want 3", n)
		}
	})
}

// TestIncidents_OpenClawTelnyxReplay replays the OpenClaw Telnyx replay incident. It checks that a
// redelivery with a differently encoded signature is not processed again.
func TestIncidents_OpenClawTelnyxReplay(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		event := s.slackRequest("events", jsonBody, s.slackDirectMessage(s.newExternalID(adapters.Slack), "once more"))
		s.post(event)
		before := s.stateDump()
		signature := event.header.Get("X-Slack-Signature")
		for _, other := range []string{
			"v0=" + strings.ToUpper(signature[3:]), signature + "=", " " + signature, strings.ToUpper(signature),
		} {
			event.header.Set("X-Slack-Signature", other)
			s.post(event)
		}
		text := s.twilioRequest(s.smsURL(), s.smsForm(s.newExternalID(adapters.SMS), "hello"))
		s.post(text)
		after := s.stateDump()
		if before == after {
			s.t.Error("the genuine message was not stored")
		}
		unpadded := strings.TrimRight(text.header.Get("X-Twilio-Signature"), "=")
		text.header.Set("X-Twilio-Signature", unpadded)
		s.post(text)
		if s.stateDump() != after {
			s.t.Error("a redelivery with a differently encoded signature changed the database")
		}
	})
}

// TestIncidents_OpenClawReplayedTwilioWebhook replays the OpenClaw replayed Twilio webhook
// incident. It checks that a duplicate has no side effect.
func TestIncidents_OpenClawReplayedTwilioWebhook(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		p := s.createLinked(adapters.SMS)
		claim := s.twilioRequest(s.smsURL(), s.smsForm(p.externalID, "claim "+s.issueCode(p)))
		s.post(claim)
		before := s.stateDump()
		if !s.isVerified(p) {
			s.t.Fatal("the code was not redeemed")
		}
		replies := s.replyCount(adapters.SMS, p.externalID)
		for range 3 {
			if status := s.post(claim); status != 200 {
				s.t.Errorf("POST of a duplicate = %d, want 200", status)
			}
		}
		if after := s.stateDump(); after != before || s.replyCount(adapters.SMS, p.externalID) != replies {
			s.t.Errorf("state after the duplicates = %s, want %s and no new reply", after, before)
		}
	})
}

// TestIncidents_OpenClawCVE202632980 replays OpenClaw CVE-2026-32980. It checks that a request
// with a wrong secret is rejected before its body is read.
func TestIncidents_OpenClawCVE202632980(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		genuine := s.telegramRequest(s.telegramUpdate(s.newExternalID(adapters.Telegram), "x", "hello"))
		at, err := url.Parse(genuine.url)
		s.noError(err)
		conn, err := net.Dial("tcp", at.Host)
		s.noError(err)
		defer func() { _ = conn.Close() }()
		s.noError(conn.SetDeadline(time.Now().Add(3 * time.Second))) // less than the read timeout of a request
		// The header announces a megabyte of which no byte is sent.
		_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n"+
			"Content-Length: 1048576\r\nX-Telegram-Bot-Api-Secret-Token: wrong\r\n\r\n", at.Path, at.Host)
		s.noError(err)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		s.noError(err)
		_ = resp.Body.Close()
		if !isRejected(resp.StatusCode) {
			s.t.Errorf("POST with a wrong secret = %d, want it rejected", resp.StatusCode)
		}
		if status := s.post(genuine); status != 200 {
			s.t.Errorf("POST with the secret = %d, want 200", status)
		}
	})
}

// TestIncidents_Chatwoot13619 replays Chatwoot #13619 and #14125. It checks that an unsigned SMS
// message is rejected and that a signed one of a messaging service is accepted.
func TestIncidents_Chatwoot13619(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		before := s.stateDump()
		unsigned := s.twilioRequest(s.smsURL(), s.smsForm(s.newExternalID(adapters.SMS), "unsigned"))
		unsigned.header.Del("X-Twilio-Signature")
		if status := s.post(unsigned); !isRejected(status) || s.stateDump() != before {
			s.t.Errorf("POST without a signature = %d, want it rejected and not stored", status)
		}
		form := s.smsForm(s.newExternalID(adapters.SMS), "from a pool")
		form.Set("MessagingServiceSid", "MG"+strings.Repeat("0a", 16))
		form.Set("ToCountry", "US")
		form.Set("OptOutType", "")
		if status := s.post(s.twilioRequest(s.smsURL(), form)); status != 200 || s.stateDump() == before {
			s.t.Errorf("POST from a messaging service = %d, want 200 and a stored message", status)
		}
	})
}

// TestIncidents_HermesAgent3187 replays hermes-agent #3187 and #3192. It checks that a missing or
// empty authentication header is rejected.
func TestIncidents_HermesAgent3187(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		for _, r := range s.requestPerChannel() {
			for name := range r.header {
				if name == "Content-Type" {
					continue
				}
				before := s.stateDump()
				missing, empty := r, r
				missing.header, empty.header = r.header.Clone(), r.header.Clone()
				missing.header.Del(name)
				empty.header.Set(name, "")
				a, b := s.post(missing), s.post(empty)
				if !isRejected(a) || !isRejected(b) || s.stateDump() != before {
					s.t.Errorf("POST %s without %s = %d, with an empty one = %d, want both rejected and not stored",
						r.url, name, a, b)
				}
			}
			if status := s.post(r); status != 200 {
				s.t.Errorf("POST %s with every header = %d, want 200", r.url, status)
			}
		}
	})
}

// TestIncidents_TypeBotCVE202639969 replays TypeBot CVE-2026-39969. It checks that every webhook
// path rejects unsigned requests.
func TestIncidents_TypeBotCVE202639969(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		before := s.stateDump()
		suffixes := []string{"", "/status", "/events", "/commands", "/interactivity", "/fallback"}
		for _, channel := range []string{"telegram", "sms", "whatsapp", "slack"} {
			for _, suffix := range suffixes {
				at := s.API.URL + "/hooks/" + channel + "/" + s.InstanceID + suffix
				for _, body := range []string{`{"update_id":1}`, "From=%2B12025550123&Body=hello", ""} {
					status := s.post(signedRequest{at, http.Header{"Content-Type": {jsonBody}}, body})
					if status/100 == 2 {
						s.t.Errorf("unsigned POST %s = %d, want an error", at, status)
					}
				}
			}
		}
		if s.stateDump() != before {
			s.t.Error("an unsigned request changed the database")
		}
	})
}

// TestIncidents_SlackGo031035 replays slack-go 0.31 and 0.35. It checks that a payload is read
// only from the signed body, and that no response contains a valid signature.
func TestIncidents_SlackGo031035(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
		payload := `{"type":"block_actions","team":{"id":"` + simulator.DemoTeam + `"},` +
			`"api_app_id":"` + simulator.DemoApp + `","user":{"id":"U1","team_id":"` + simulator.DemoTeam + `"},` +
			`"channel":{"id":"D1"},"trigger_id":"t1","actions":[{"action_id":"a","value":"yes","type":"button"}]}`
		form := "payload=" + url.QueryEscape(payload)
		before := s.stateDump()
		inQuery := s.slackRequest("interactivity", formBody, "")
		inQuery.url += "?" + form
		if status := s.post(inQuery); status/100 == 2 || s.stateDump() != before {
			s.t.Errorf("POST with the payload in the query = %d, want an error and nothing stored", status)
		}
		wrong := s.slackRequest("interactivity", formBody, form)
		valid := wrong.header.Get("X-Slack-Signature")
		wrong.header.Set("X-Slack-Signature", "v0="+strings.Repeat("0", 64))
		if body := s.responseBody(wrong); strings.Contains(body, valid[3:]) || len(body) > 64 {
			s.t.Errorf("response to a wrong signature = %q, want at most 64 bytes without the valid signature", body)
		}
		status := s.post(s.slackRequest("interactivity", formBody, form))
		if status != 200 || s.stateDump() == before {
			s.t.Errorf("POST with a valid signature = %d, want 200 and a stored message", status)
		}
	})
}

// TestIncidents_OpenClawPR57647 replays OpenClaw PR #57647. It checks that an additional
// credential does not disable the limit on failed webhook authentication.
func TestIncidents_OpenClawPR57647(t *testing.T) {
	replayIncident(t, func(s *incidentFixture) {
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
			s.t.Errorf("statuses of 40 requests with a wrong secret = %v, want only 403 and at least 15 times 429", statuses)
		}
		genuine := s.telegramRequest(s.telegramUpdate(s.newExternalID(adapters.Telegram), "x", "hello"))
		if status := s.post(genuine); status != 200 {
			s.t.Errorf("POST with the secret from the same address = %d, want 200", status)
		}
	})
}

// requestPerChannel returns a genuine request of each provider.
func (s *incidentFixture) requestPerChannel() []signedRequest {
	return []signedRequest{
		s.telegramRequest(s.telegramUpdate(s.newExternalID(adapters.Telegram), "x", "hello")),
		s.twilioRequest(s.smsURL(), s.smsForm(s.newExternalID(adapters.SMS), "hello")),
		s.slackRequest("events", jsonBody, s.slackDirectMessage(s.newExternalID(adapters.Slack), "hello")),
	}
}

// responseBody sends r and returns the body of the response.
func (s *incidentFixture) responseBody(r signedRequest) string {
	s.t.Helper()
	return s.do(http.MethodPost, r.url, r.header, r.body).Body
}

// isRejected reports whether a request with this status failed authentication. 429 counts, because
// earlier failures may have used up the limit.
func isRejected(status int) bool {
	return status == http.StatusForbidden || status == http.StatusTooManyRequests
}
