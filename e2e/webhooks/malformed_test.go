package webhooks

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"hydragate/e2e/harness"
)

// maxDeliveryDelay is the limit on the delivery time of a valid message among malformed ones.
const maxDeliveryDelay = 5 * time.Second

// TestMalformedMessages_DoNotBlock posts signed but malformed or hostile messages between valid
// ones on every channel. Each malformed message must be acknowledged, so that the provider stops
// retrying, and stored as undecodable if it cannot be parsed. Each valid message must be delivered
// within five seconds, no poller may get stuck, and the gateway must not restart.
func TestMalformedMessages_DoNotBlock(t *testing.T) {
	harness.ParallelUnlessFull(t)
	s, p := harness.Start(t, harness.Options{})
	corpus := malformedInputs()
	t.Logf("%d malformed inputs", len(corpus))
	r := s.NewLoad(1)
	sendBetweenMalformed(r, corpus, malformedSenders(s, t))
	if !s.WaitIdle(30 * time.Second) {
		t.Errorf("not idle after 30 s; pending Telegram updates: %d by webhook, %d by polling\n%s",
			len(s.Telegram.PendingUpdates(harness.TelegramBot)),
			len(s.Telegram.PendingUpdates(harness.PollingBot)), s.LogTail())
	}
	v := r.RequireComplete(4*len(corpus), 0)
	var slowest time.Duration
	for _, u := range r.Sent {
		slowest = max(slowest, r.App.Received(u.Text).First.Sub(u.SentAt))
	}
	t.Logf("%d valid messages, the slowest delivered after %s", v.Sent, slowest.Round(time.Millisecond))
	if slowest > maxDeliveryDelay {
		t.Errorf("slowest delivery of a valid message = %s, want at most %s", slowest, maxDeliveryDelay)
	}
	for _, kind := range []string{"undecodable", "unsupported"} {
		if n := s.QueryInt(`select count(*) from messages where kind = $1`, kind); n == 0 {
			t.Errorf("no message is stored as %s", kind)
		} else {
			t.Logf("%d messages are stored as %s", n, kind)
		}
	}
	if n := s.QueryInt(`select count(*) from messages where state <> 'done'`); n > 0 {
		t.Errorf("messages that failed or are unprocessed = %d, want 0", n)
	}
	select {
	case <-p.Exited:
		t.Error("the gateway exited")
	default:
	}
	s.CheckLog()

	t.Run("control: undecodable updates are rejected", func(t *testing.T) {
		p.Kill()
		s.ExpireLeases(t.Context())
		s.Fault = harness.MalformedRejection
		s.Restart()
		r := s.NewLoad(1)
		s.Telegram.PushUpdate(harness.PollingBot, json.RawMessage(`{"message":{"message_id":[]}}`))
		r.Users = r.Users[1:2] // the user of the polling bot
		r.StartSending(t.Context(), 1)
		r.Senders.Wait()
		if s.WaitIdle(3 * time.Second) {
			t.Error("idle, although an undecodable update should block the updates after it")
		}
	})
}

// sendBetweenMalformed posts every malformed input on every channel and sends a valid message
// after each.
func sendBetweenMalformed(r *harness.MessageLoad, corpus []malformedInput,
	senders map[string]func(context.Context, malformedInput) error) {
	r.T.Helper()
	for i, channel := range []string{"telegram", "polled", "sms", "slack"} {
		r.Senders.Go(func() {
			for n, d := range corpus {
				if err := senders[channel](r.T.Context(), d); err != nil {
					r.T.Errorf("%s, %s: %v", channel, d.name, err)
				}
				r.Send(r.T.Context(), r.Users[i], fmt.Sprintf("%s: %s #%d", r.Name, r.Users[i].Name, n))
			}
		})
	}
	r.Senders.Wait()
}

// A malformedInput is the text of a message or a whole body. In a body, {n} stands for a unique
// number.
type malformedInput struct {
	name string
	text string // as JSON
	body string // instead of a message with a text
}

// malformedInputs returns all malformed inputs, texts first.
func malformedInputs() []malformedInput {
	texts := map[string]string{
		"NUL":                            `"a\u0000b"`,
		"only NUL":                       `"\u0000\u0000\u0000"`,
		"lone high surrogate":            `"a\ud83d"`,
		"lone low surrogate":             `"\ude00b"`,
		"reversed surrogates":            `"\ude00\ud83d"`,
		"invalid UTF-8":                  "\"a\xff\xfeb\"",
		"truncated UTF-8":                "\"a\xe2\x82\"",
		"overlong UTF-8":                 "\"\xc0\xaf\"",
		"surrogate as UTF-8":             "\"\xed\xa0\x80\"",
		"above Unicode":                  "\"\xf7\xbf\xbf\xbf\"",
		"300 kB of text":                 `"` + strings.Repeat("a", 300_000) + `"`,
		"zero width flood":               `"` + strings.Repeat(`\u200b`, 20_000) + `"`,
		"combining flood":                `"a` + strings.Repeat(`\u0301`, 20_000) + `"`,
		"right to left":                  `"\u202e\u2066\u2067abc"`,
		"byte order mark":                `"\ufefftext"`,
		"noncharacters":                  `"\ufffe\uffff"`,
		"control characters":             `"\u0001\u0002\u001b[2J\u007f\u0085"`,
		"line separators":                `"a\u2028b\u2029c\r\n\u000b\u000c"`,
		"empty":                          `""`,
		"white space":                    `"   \t\n "`,
		"SQL":                            `"'; drop table messages; --"`,
		"placeholders":                   `"$1 $2 ? %s %n \\x00 \\u0000"`,
		"backslashes":                    `"` + strings.Repeat(`\\`, 5000) + `"`,
		"template":                       `"{{.}} ${jndi:ldap://127.0.0.1/a} <script>alert(1)</script>"`,
		"a very long code":               `"/claim ` + strings.Repeat("B", 5000) + `"`,
		"a claim with zero width spaces": `"/claim\u200b \u200bBCD\u200bFGH"`,
		"a NUL command":                  `"/\u0000"`,
		"a slash":                        `"/"`,
		"a slash and an at sign":         `"/@"`,
		"a thousand commands":            `"` + strings.Repeat("/claim ", 1000) + `"`,
		"emoji families":                 `"` + strings.Repeat(`\ud83d\udc68\u200d\ud83d\udc69\u200d\ud83d\udc67`, 500) + `"`,
		"a number as text":               `12345`,
		"a boolean as text":              `true`,
		"null as text":                   `null`,
		"a list as text":                 `["a","b"]`,
		"an object as text":              `{"a":"b"}`,
		"a nested list as text":          strings.Repeat("[", 500) + strings.Repeat("]", 500),
		"a list 20,000 deep":             strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000),
		"an object 20,000 deep":          strings.Repeat(`{"a":`, 20_000) + "1" + strings.Repeat("}", 20_000),
		"a huge number as text":          "1" + strings.Repeat("0", 400),
		"a number with 1e999":            `1e999`,
	}
	bodies := map[string]string{
		"only an update ID":               `{"update_id":{n}}`,
		"null message":                    `{"update_id":{n},"message":null}`,
		"message is a list":               `{"update_id":{n},"message":[]}`,
		"message is a string":             `{"update_id":{n},"message":"hello"}`,
		"message without fields":          `{"update_id":{n},"message":{}}`,
		"ids as strings":                  `{"update_id":{n},"message":{"message_id":"{n}","chat":{"id":"5","type":"private"},"from":{"id":"5"},"text":"x"}}`,
		"ids as fractions":                `{"update_id":{n},"message":{"message_id":1.5,"chat":{"id":1.5,"type":"private"},"text":"x"}}`,
		"ids beyond 64 bits":              `{"update_id":{n},"message":{"message_id":99999999999999999999,"chat":{"id":99999999999999999999,"type":"private"},"text":"x"}}`,
		"negative ids":                    `{"update_id":{n},"message":{"message_id":-{n},"chat":{"id":-5,"type":"private"},"from":{"id":-5},"text":"x"}}`,
		"ids of zero":                     `{"update_id":{n},"message":{"message_id":0,"chat":{"id":0},"text":"x"}}`,
		"maximum date":                    `{"update_id":{n},"message":{"message_id":{n},"date":9223372036854775807,"chat":{"id":400001,"type":"private"},"from":{"id":400001},"text":"late"}}`,
		"negative date":                   `{"update_id":{n},"message":{"message_id":{n},"date":-9223372036854775808,"chat":{"id":400001,"type":"private"},"from":{"id":400001},"text":"early"}}`,
		"null sender":                     `{"update_id":{n},"message":{"message_id":{n},"date":1,"chat":{"id":400001,"type":"private"},"from":null,"text":"x"}}`,
		"null chat":                       `{"update_id":{n},"message":{"message_id":{n},"date":1,"chat":null,"from":{"id":5},"text":"x"}}`,
		"unknown chat type":               `{"update_id":{n},"message":{"message_id":{n},"date":1,"chat":{"id":400002,"type":"holodeck"},"from":{"id":400001},"text":"x"}}`,
		"unknown kind":                    `{"update_id":{n},"telepathy":{"message_id":{n}}}`,
		"unknown origin":                  `{"update_id":{n},"message":{"message_id":{n},"date":1,"chat":{"id":400001,"type":"private"},"from":{"id":400001},"forward_origin":{"type":"dream"},"text":"x"}}`,
		"unknown member":                  `{"update_id":{n},"my_chat_member":{"chat":{"id":400001,"type":"private"},"from":{"id":400001},"date":1,"new_chat_member":{"status":"ghost"}}}`,
		"null member":                     `{"update_id":{n},"my_chat_member":{"chat":{"id":400001,"type":"private"},"from":null,"date":1,"new_chat_member":null}}`,
		"an empty callback query":         `{"update_id":{n},"callback_query":{"id":"{n}"}}`,
		"a callback query without sender": `{"update_id":{n},"callback_query":{"id":"","from":null,"data":null}}`,
		"NUL in names":                    `{"update_id":{n},"message":{"message_id":{n},"date":1,"chat":{"id":400003,"type":"private"},"from":{"id":400003,"first_name":"\u0000","last_name":"\ud800","username":"\u0000"},"text":"named"}}`,
		"a name of 100 kB": `{"update_id":{n},"message":{"message_id":{n},"date":1,"chat":{"id":400004,"type":"private"},"from":{"id":400004,"first_name":"` + strings.Repeat(
			"n",
			100_000,
		) + `"},"text":"long named"}}`,
		"duplicate keys":  `{"update_id":{n},"message":{"message_id":{n},"message_id":{n},"date":1,"chat":{"id":400001,"type":"private"},"chat":{"id":400005,"type":"private"},"from":{"id":400001},"text":"one","text":"two"}}`,
		"a reply to null": `{"update_id":{n},"message":{"message_id":{n},"date":1,"chat":{"id":400001,"type":"private"},"from":{"id":400001},"reply_to_message":null,"text":"x"}}`,
		"deeply nested replies": `{"update_id":{n},"message":{"message_id":{n},"date":1,"chat":{"id":400001,"type":"private"},"from":{"id":400001},"text":"x","reply_to_message":` + strings.Repeat(
			`{"reply_to_message":`,
			9000,
		) + "null" + strings.Repeat(
			"}",
			9000,
		) + `}}`,
		"empty photos":             `{"update_id":{n},"message":{"message_id":{n},"date":1,"chat":{"id":400001,"type":"private"},"from":{"id":400001},"photo":[null,{},{"file_id":null}]}}`,
		"a document with -1 bytes": `{"update_id":{n},"message":{"message_id":{n},"date":1,"chat":{"id":400001,"type":"private"},"from":{"id":400001},"document":{"file_id":"\u0000","file_name":"../../\u0000","file_size":-1}}}`,
		"a million characters": `{"update_id":{n},"message":{"message_id":{n},"date":1,"chat":{"id":400001,"type":"private"},"from":{"id":400001},"text":"` + strings.Repeat(
			"m",
			1_000_000,
		) + `"}}`,
	}
	var all []malformedInput
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		all = append(all, malformedInput{name: name, text: texts[name]})
	}
	for _, name := range slices.Sorted(maps.Keys(bodies)) {
		all = append(all, malformedInput{name: name, body: bodies[name]})
	}
	return all
}

// malformedSenders returns a function for each channel that posts an input, signed, as the
// provider would. The function returns an error if the provider would keep retrying.
func malformedSenders(s *harness.Harness, t *testing.T) map[string]func(context.Context, malformedInput) error {
	n := 500_000_000
	post := func(bot string) func(context.Context, malformedInput) error {
		n += 100_000_000
		next := n
		return func(ctx context.Context, d malformedInput) error {
			next++
			id := strconv.Itoa(next)
			body := strings.ReplaceAll(d.body, "{n}", id)
			if d.body == "" {
				body = `{"update_id":` + id + `,"message":{"message_id":` + id + `,"date":1,` +
					`"chat":{"id":400000,"type":"private"},` +
					`"from":{"id":400000,"is_bot":false,"first_name":"Bad"},"text":` + d.text + `}}`
			}
			update := s.Telegram.PushUpdate(bot, json.RawMessage(body))
			ctx, cancel := context.WithTimeout(ctx, maxDeliveryDelay)
			defer cancel()
			if attempts, err := s.Telegram.WaitDelivered(ctx, update); err != nil || bot == harness.TelegramBot && attempts > 1 {
				return fmt.Errorf("not accepted after %d attempts: %w", attempts, err)
			}
			return nil
		}
	}
	return map[string]func(context.Context, malformedInput) error{
		"telegram": post(harness.TelegramBot), "polled": post(harness.PollingBot),
		"sms":   func(ctx context.Context, d malformedInput) error { return postMalformedSMS(ctx, s, d) },
		"slack": func(ctx context.Context, d malformedInput) error { return postMalformedSlack(ctx, s, d) },
	}
}

// postMalformedSMS posts an input as the text of an SMS message and, if it is a body, in several
// other fields of the form too.
func postMalformedSMS(ctx context.Context, s *harness.Harness, d malformedInput) error {
	value := d.text + d.body
	var plain string
	if json.Unmarshal([]byte(value), &plain) == nil {
		value = plain
	}
	value = value[:min(len(value), 15_000)] // forms are limited to 64 KiB
	sum := sha256.Sum256([]byte(d.name))
	sid := "SM" + hex.EncodeToString(sum[:16])
	form := url.Values{
		"MessageSid": {sid}, "SmsSid": {sid}, "AccountSid": {harness.TwilioAccount}, "From": {"+14155550999"},
		"To": {harness.SMSBotNumber}, "Body": {value}, "NumMedia": {"0"}, "ApiVersion": {"2010-04-01"},
	}
	if d.body != "" {
		form.Set("NumMedia", value[:min(len(value), 1000)])
		form.Set("ProfileName", value[:min(len(value), 1000)])
		form.Set("OriginalRepliedMessageSid", value[:min(len(value), 1000)])
	}
	webhook, _ := s.Twilio.Webhook(harness.SMSBotNumber)
	webhook, _, _ = strings.Cut(webhook, "#")
	return postSigned(ctx, s, webhook, form.Encode(), http.Header{
		"Content-Type": {"application/x-www-form-urlencoded"}, "X-Twilio-Signature": {
			harness.TwilioSignature(harness.TwilioToken, webhook, form),
		},
	})
}

// postMalformedSlack posts an event with the text of the input, or with the body of the input as
// the event. It ignores the error for a body that is larger than Slack sends.
func postMalformedSlack(ctx context.Context, s *harness.Harness, d malformedInput) error {
	s.Webhooks.Mu.Lock()
	ts := fmt.Sprintf("%d.%06d", time.Now().Unix(), len(s.Webhooks.Results))
	s.Webhooks.Mu.Unlock()
	event := strings.ReplaceAll(d.body, "{n}", "7")
	if d.body == "" {
		event = `{"type":"message","channel_type":"im","channel":"D0BAD","user":"U0BAD",` +
			`"ts":"` + ts + `","text":` + d.text + `}`
	} else {
		event = strings.Replace(event, "{", `{"type":"message","channel":"D0BAD","ts":"`+ts+`",`, 1)
	}
	body := fmt.Sprintf(`{"type":"event_callback","team_id":%q,"api_app_id":%q,"event_id":"Ev%s","event":%s,`+
		`"authorizations":[{"team_id":%q,"user_id":"U0BOT","is_bot":true}]}`,
		harness.SlackTeamID, harness.SlackAppID, hex.EncodeToString([]byte(d.name)), event, harness.SlackTeamID)
	now := strconv.FormatInt(time.Now().Unix(), 10)
	err := postSigned(ctx, s, s.API.URL+"/hooks/slack/"+s.InstanceID+"/events", body, http.Header{
		"Content-Type": {"application/json"}, "X-Slack-Request-Timestamp": {now}, "X-Slack-Signature": {
			harness.SlackSignature(harness.SlackSecret, now, body),
		},
	})
	if err != nil && len(body) > 512<<10 {
		return nil
	}
	return err
}

// postSigned posts body and returns an error unless the status is 200.
func postSigned(ctx context.Context, s *harness.Harness, target, body string, header http.Header) error {
	client := harness.Client{HTTP: s.API.HTTP}
	res, err := client.Do(ctx, http.MethodPost, target, header, body)
	if err == nil && res.Status != http.StatusOK {
		err = fmt.Errorf("status = %d, want 200", res.Status)
	}
	return err
}
