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
	"hydragate/e2e/harness"
)

const (
	formBody = "application/x-www-form-urlencoded"
	hello    = `"text":"hello"`
)

// isRejected reports whether a request with this status failed authentication. 429 counts, because
// earlier failures may have used up the limit.
func isRejected(status int) bool {
	return status == http.StatusForbidden || status == http.StatusTooManyRequests
}

// TestIncidents_Signatures replays incidents of webhooks whose signature was not verified, or
// against the wrong URL.
func TestIncidents_Signatures(t *testing.T) {
	replay(t, []incident{
		{"OpenClaw CVE-2026-28465: forwarding headers do not change the URL that is signed", func(s *fixture) {
			at, err := url.Parse(s.smsURL())
			if err != nil {
				s.T.Fatal(err)
			}
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
				forged := s.smsRequest(evil, s.smsForm(s.newExternalID(adapters.SMS), "hello"))
				genuine := s.smsRequest(s.smsURL(), s.smsForm(s.newExternalID(adapters.SMS), "hello"))
				for k, v := range spoofed {
					forged.header[k], genuine.header[k] = v, v
				}
				if status := s.post(forged); !isRejected(status) || s.stateDump() != before {
					s.T.Errorf("POST signed for another host with headers %v = %d, want it rejected and not stored",
						spoofed, status)
				}
				if status := s.post(genuine); status != 200 {
					s.T.Errorf("POST with a valid signature and headers %v = %d, want 200", spoofed, status)
				}
			}
		}},
		{"OpenClaw CVE-2026-32980: a wrong secret is rejected before the body is read", func(s *fixture) {
			genuine := s.telegramMessage(s.newExternalID(adapters.Telegram), "x", hello)
			at, err := url.Parse(genuine.url)
			if err != nil {
				s.T.Fatal(err)
			}
			// The header announces a megabyte of which no byte is sent. The response must come before the read
			// timeout of a request ends, in one of a few tries.
			rejected := func() (status int) {
				conn, err := net.Dial("tcp", at.Host)
				if err != nil {
					s.T.Fatal(err)
				}
				defer func() { _ = conn.Close() }()
				_ = conn.SetDeadline(time.Now().Add(3 * time.Second))
				_, _ = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n"+
					"Content-Length: 1048576\r\nX-Telegram-Bot-Api-Secret-Token: wrong\r\n\r\n", at.Path, at.Host)
				resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					return 0
				}
				_ = resp.Body.Close()
				return resp.StatusCode
			}
			status := rejected()
			for try := 1; status == 0 && try < 5; try++ {
				status = rejected()
			}
			if !isRejected(status) {
				s.T.Errorf("POST with a wrong secret = %d, want it rejected", status)
			}
			if status := s.post(genuine); status != 200 {
				s.T.Errorf("POST with the secret = %d, want 200", status)
			}
		}},
		{"hermes-agent #3187 and #3192: a missing or empty authentication header is rejected", func(s *fixture) {
			for _, r := range []signedRequest{
				s.telegramMessage(s.newExternalID(adapters.Telegram), "x", hello),
				s.smsRequest(s.smsURL(), s.smsForm(s.newExternalID(adapters.SMS), "hello")),
				s.slackMessage(s.newExternalID(adapters.Slack), "hello"),
			} {
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
						s.T.Errorf("POST %s without %s = %d, with an empty one = %d, want both rejected and not stored",
							r.url, name, a, b)
					}
				}
				if status := s.post(r); status != 200 {
					s.T.Errorf("POST %s with every header = %d, want 200", r.url, status)
				}
			}
		}},
	})
}

// TestIncidents_Redeliveries replays incidents of webhooks that had their effect twice.
func TestIncidents_Redeliveries(t *testing.T) {
	replay(t, []incident{
		{"OpenClaw CVE-2026-32053: a redelivered webhook is deduplicated", func(s *fixture) {
			update := s.telegramMessage(s.newExternalID(adapters.Telegram), "x", `"text":"once"`)
			text := s.smsRequest(s.smsURL(), s.smsForm(s.newExternalID(adapters.SMS), "once"))
			event := s.slackMessage(s.newExternalID(adapters.Slack), "once")
			for range 3 {
				for _, r := range []signedRequest{update, text, event} {
					if status := s.post(r); status != 200 {
						s.T.Errorf("POST %s = %d, want 200", r.url, status)
					}
				}
			}
			s.waitIdle()
			if n := s.App.Received("once").Calls; n != 3 {
				s.T.Errorf("events for three messages, each posted three times = %d, want 3", n)
			}
		}},
		{"OpenClaw Telnyx replay: a differently encoded signature does not repeat a message", func(s *fixture) {
			event := s.slackMessage(s.newExternalID(adapters.Slack), "once more")
			s.post(event)
			before := s.stateDump()
			signature := event.header.Get("X-Slack-Signature")
			for _, other := range []string{
				"v0=" + strings.ToUpper(signature[3:]), signature + "=", " " + signature, strings.ToUpper(signature),
			} {
				event.header.Set("X-Slack-Signature", other)
				s.post(event)
			}
			if s.stateDump() != before {
				s.T.Error("a redelivery to Slack with a differently encoded signature changed the database")
			}
			text := s.smsRequest(s.smsURL(), s.smsForm(s.newExternalID(adapters.SMS), "hello"))
			s.post(text)
			after := s.stateDump()
			if before == after {
				s.T.Error("the genuine message was not stored")
			}
			text.header.Set("X-Twilio-Signature", strings.TrimRight(text.header.Get("X-Twilio-Signature"), "="))
			s.post(text)
			if s.stateDump() != after {
				s.T.Error("a redelivery with a differently encoded signature changed the database")
			}
		}},
		{"OpenClaw replayed Twilio webhook: a duplicate has no side effect", func(s *fixture) {
			p := s.createLinked(adapters.SMS)
			claim := s.smsRequest(s.smsURL(), s.smsForm(p.externalID, "claim "+s.issueCode(p)))
			s.post(claim)
			before := s.stateDump()
			if !s.isVerified(p) {
				s.T.Fatal("the code was not redeemed")
			}
			replies := len(s.replies(adapters.SMS, p.externalID))
			for range 3 {
				if status := s.post(claim); status != 200 {
					s.T.Errorf("POST of a duplicate = %d, want 200", status)
				}
			}
			if after := s.stateDump(); after != before || len(s.replies(adapters.SMS, p.externalID)) != replies {
				s.T.Errorf("state after the duplicates = %s, want %s and no new reply", after, before)
			}
		}},
	})
}

// TestIncidents_UnsignedWebhooks replays incidents of unsigned webhooks, and of guessing. The last
// one uses up the limit on failures.
func TestIncidents_UnsignedWebhooks(t *testing.T) {
	replay(t, []incident{
		{"slack-go 0.31 and 0.35: a payload is read only from the signed body, and no response is signed", func(s *fixture) {
			payload := fmt.Sprintf(`{"type":"block_actions","team":{"id":%q},"api_app_id":%q,
				"user":{"id":"U1","team_id":%[1]q},"channel":{"id":"D1"},"trigger_id":"t1",
				"actions":[{"action_id":"a","value":"yes","type":"button"}]}`, harness.SlackTeamID, harness.SlackAppID)
			form := "payload=" + url.QueryEscape(payload)
			before := s.stateDump()
			inQuery := s.slackRequest("interactivity", formBody, "")
			inQuery.url += "?" + form
			if status := s.post(inQuery); status/100 == 2 || s.stateDump() != before {
				s.T.Errorf("POST with the payload in the query = %d, want an error and nothing stored", status)
			}
			wrong := s.slackRequest("interactivity", formBody, form)
			valid := wrong.header.Get("X-Slack-Signature")
			wrong.header.Set("X-Slack-Signature", "v0="+strings.Repeat("0", 64))
			body := s.request("POST", wrong.url, wrong.header, wrong.body).Body
			if strings.Contains(body, valid[3:]) || len(body) > 64 {
				s.T.Errorf("response to a wrong signature = %q, want at most 64 bytes without the valid signature", body)
			}
			if status := s.post(s.slackRequest("interactivity", formBody, form)); status != 200 || s.stateDump() == before {
				s.T.Errorf("POST with a valid signature = %d, want 200 and a stored message", status)
			}
		}},
		{"Chatwoot #13619 and #14125: an SMS must be signed, and may come from a messaging service", func(s *fixture) {
			before := s.stateDump()
			unsigned := s.smsRequest(s.smsURL(), s.smsForm(s.newExternalID(adapters.SMS), "unsigned"))
			unsigned.header.Del("X-Twilio-Signature")
			if status := s.post(unsigned); !isRejected(status) || s.stateDump() != before {
				s.T.Errorf("POST without a signature = %d, want it rejected and not stored", status)
			}
			form := s.smsForm(s.newExternalID(adapters.SMS), "from a pool")
			form.Set("MessagingServiceSid", "MG"+strings.Repeat("0a", 16))
			form.Set("ToCountry", "US")
			form.Set("OptOutType", "")
			if status := s.post(s.smsRequest(s.smsURL(), form)); status != 200 || s.stateDump() == before {
				s.T.Errorf("POST from a messaging service = %d, want 200 and a stored message", status)
			}
		}},
		{"TypeBot CVE-2026-39969: every webhook path rejects unsigned requests", func(s *fixture) {
			before := s.stateDump()
			suffixes := []string{"", "/status", "/events", "/commands", "/interactivity", "/fallback"}
			for _, channel := range []string{"telegram", "sms", "whatsapp", "slack"} {
				for _, suffix := range suffixes {
					at := s.API.URL + "/hooks/" + channel + "/" + s.InstanceID + suffix
					for _, body := range []string{`{"update_id":1}`, "From=%2B12025550123&Body=hello", ""} {
						status := s.post(signedRequest{at, http.Header{"Content-Type": {"application/json"}}, body})
						if status/100 == 2 {
							s.T.Errorf("unsigned POST %s = %d, want an error", at, status)
						}
					}
				}
			}
			if s.stateDump() != before {
				s.T.Error("an unsigned request changed the database")
			}
		}},
		{"OpenClaw PR #57647: another credential does not disable the limit on failures", func(s *fixture) {
			statuses := map[int]int{}
			for i := range 40 {
				forged := s.telegramMessage(s.newExternalID(adapters.Telegram), "x", hello)
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
				s.T.Errorf("statuses of 40 requests with a wrong secret = %v, want 403 and at least 15 times 429", statuses)
			}
			genuine := s.telegramMessage(s.newExternalID(adapters.Telegram), "x", hello)
			if status := s.post(genuine); status != 200 {
				s.T.Errorf("POST with the secret from the same address = %d, want 200", status)
			}
		}},
	})
}
