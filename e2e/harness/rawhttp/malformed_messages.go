//go:build unix

package rawhttp

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"hydragate/e2e/harness"
)

// A MalformedInput is malformed or hostile content of a message that is signed correctly. It is the text
// of a message or a whole body.
type MalformedInput struct {
	Name string
	text string // as JSON
	body string // an update of Telegram, instead of a message with text; {n} stands for a unique number
}

// MalformedInputs returns all malformed inputs, texts first.
func MalformedInputs() (all []MalformedInput) {
	texts, bodies := malformedTexts(), malformedBodies()
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		all = append(all, MalformedInput{Name: name, text: texts[name]})
	}
	for _, name := range slices.Sorted(maps.Keys(bodies)) {
		all = append(all, MalformedInput{Name: name, body: bodies[name]})
	}
	return all
}

// malformedTexts returns values of the text of a message by name.
func malformedTexts() map[string]string {
	return map[string]string{
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
		"emoji families":                 `"` + strings.Repeat(`\ud83d\udc68\u200d\ud83d\udc69`, 700) + `"`,
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
}

// malformedBodies returns updates of Telegram by name.
func malformedBodies() map[string]string {
	// update returns an update with a field, and message one with a message that has further fields.
	update := func(fields string) string { return `{"update_id":{n},` + fields + `}` }
	message := func(fields string) string {
		return update(`"message":{"message_id":{n},"date":1,` +
			`"chat":{"id":400001,"type":"private"},"from":{"id":400001},` + fields + `}`)
	}
	return map[string]string{
		"only an update ID":      `{"update_id":{n}}`,
		"null message":           update(`"message":null`),
		"message is a list":      update(`"message":[]`),
		"message is a string":    update(`"message":"hello"`),
		"message without fields": update(`"message":{}`),
		"ids as strings": update(`"message":{"message_id":"{n}","chat":{"id":"5","type":"private"},` +
			`"from":{"id":"5"},"text":"x"}`),
		"ids as fractions": update(`"message":{"message_id":1.5,"chat":{"id":1.5,"type":"private"},"text":"x"}`),
		"ids beyond 64 bits": update(`"message":{"message_id":99999999999999999999,` +
			`"chat":{"id":99999999999999999999,"type":"private"},"text":"x"}`),
		"negative ids": update(`"message":{"message_id":-{n},"chat":{"id":-5,"type":"private"},` +
			`"from":{"id":-5},"text":"x"}`),
		"ids of zero": update(`"message":{"message_id":0,"chat":{"id":0},"text":"x"}`),
		"maximum date": update(`"message":{"message_id":{n},"date":9223372036854775807,` +
			`"chat":{"id":400001,"type":"private"},"from":{"id":400001},"text":"late"}`),
		"negative date": update(`"message":{"message_id":{n},"date":-9223372036854775808,` +
			`"chat":{"id":400001,"type":"private"},"from":{"id":400001},"text":"early"}`),
		"null sender": update(`"message":{"message_id":{n},"date":1,` +
			`"chat":{"id":400001,"type":"private"},"from":null,"text":"x"}`),
		"null chat": update(`"message":{"message_id":{n},"date":1,"chat":null,"from":{"id":5},"text":"x"}`),
		"unknown chat type": update(`"message":{"message_id":{n},"date":1,` +
			`"chat":{"id":400002,"type":"holodeck"},"from":{"id":400001},"text":"x"}`),
		"unknown kind":   update(`"telepathy":{"message_id":{n}}`),
		"unknown origin": message(`"forward_origin":{"type":"dream"},"text":"x"`),
		"unknown member": update(`"my_chat_member":{"chat":{"id":400001,"type":"private"},` +
			`"from":{"id":400001},"date":1,"new_chat_member":{"status":"ghost"}}`),
		"null member": update(`"my_chat_member":{"chat":{"id":400001,"type":"private"},` +
			`"from":null,"date":1,"new_chat_member":null}`),
		"an empty callback query":         update(`"callback_query":{"id":"{n}"}`),
		"a callback query without sender": update(`"callback_query":{"id":"","from":null,"data":null}`),
		"NUL in names": update(`"message":{"message_id":{n},"date":1,"chat":{"id":400003,"type":"private"},` +
			`"from":{"id":400003,"first_name":"\u0000","last_name":"\ud800","username":"\u0000"},"text":"named"}`),
		"a name of 100 kB": update(`"message":{"message_id":{n},"date":1,"chat":{"id":400004,"type":"private"},` +
			`"from":{"id":400004,"first_name":"` + strings.Repeat("n", 100_000) + `"},"text":"long named"}`),
		"duplicate keys": update(`"message":{"message_id":{n},"message_id":{n},"date":1,` +
			`"chat":{"id":400001,"type":"private"},"chat":{"id":400005,"type":"private"},` +
			`"from":{"id":400001},"text":"one","text":"two"}`),
		"a reply to null": message(`"reply_to_message":null,"text":"x"`),
		"deeply nested replies": message(`"text":"x","reply_to_message":` +
			strings.Repeat(`{"reply_to_message":`, 9000) + "null" + strings.Repeat("}", 9000)),
		"empty photos": message(`"photo":[null,{},{"file_id":null}]`),
		"a document with -1 bytes": message(`"document":{"file_id":"\u0000","file_name":"../../\u0000",` +
			`"file_size":-1}`),
		"a million characters": message(`"text":"` + strings.Repeat("m", 1_000_000) + `"`),
	}
}

// A MalformedSender posts an input, signed, as the provider would. It returns an error if the provider
// would keep retrying.
type MalformedSender func(context.Context, MalformedInput) error

// MalformedSenders returns a sender for each of "telegram", "polled", "sms" and "slack".
func MalformedSenders(s *harness.Harness) map[string]MalformedSender {
	return map[string]MalformedSender{
		"telegram": telegramSender(s, harness.TelegramBot, 600_000_000),
		"polled":   telegramSender(s, harness.PollingBot, 700_000_000),
		"sms":      smsSender(s),
		"slack":    slackSender(s),
	}
}

// telegramSender sends updates of a bot with numbers after first.
func telegramSender(s *harness.Harness, bot string, first int) MalformedSender {
	next := first
	return func(ctx context.Context, d MalformedInput) error {
		next++
		id := strconv.Itoa(next)
		body := strings.ReplaceAll(d.body, "{n}", id)
		if d.body == "" {
			body = `{"update_id":` + id + `,"message":{"message_id":` + id + `,"date":1,` +
				`"chat":{"id":400000,"type":"private"},` +
				`"from":{"id":400000,"is_bot":false,"first_name":"Bad"},"text":` + d.text + `}}`
		}
		update := s.Telegram.PushUpdate(bot, json.RawMessage(body))
		ctx, cancel := context.WithTimeout(ctx, harness.EventTimeout)
		defer cancel()
		if attempts, err := s.Telegram.WaitDelivered(ctx, update); err != nil {
			return fmt.Errorf("not accepted after %d attempts: %w", attempts, err)
		}
		return nil
	}
}

// smsSender sends the input as the text of an SMS message and, if it is a body, in several other fields
// of the form too.
func smsSender(s *harness.Harness) MalformedSender {
	return func(ctx context.Context, d MalformedInput) error {
		value := d.text + d.body
		var plain string
		if json.Unmarshal([]byte(value), &plain) == nil {
			value = plain
		}
		value = value[:min(len(value), 15_000)] // forms are limited to 64 KiB
		sum := sha256.Sum256([]byte(d.Name))
		sid := "SM" + hex.EncodeToString(sum[:16])
		form := formValues(
			"MessageSid", sid, "SmsSid", sid, "AccountSid", harness.TwilioAccount, "From", "+14155550999",
			"To", harness.SMSBotNumber, "Body", value, "NumMedia", "0", "ApiVersion", "2010-04-01",
		)
		if d.body != "" {
			form.Set("NumMedia", value[:min(len(value), 1000)])
			form.Set("ProfileName", value[:min(len(value), 1000)])
			form.Set("OriginalRepliedMessageSid", value[:min(len(value), 1000)])
		}
		webhook, _ := s.Twilio.Webhook(harness.SMSBotNumber)
		webhook, _, _ = strings.Cut(webhook, "#")
		return postSigned(ctx, s, webhook, form.Encode(), http.Header{
			"Content-Type":        {"application/x-www-form-urlencoded"},
			TwilioSignatureHeader: {harness.TwilioSignature(harness.TwilioToken, webhook, form)},
		})
	}
}

// slackSender sends an event with the text of the input, or with the body of the input as the event. It
// ignores the error for a body that is larger than Slack sends.
func slackSender(s *harness.Harness) MalformedSender {
	var count atomic.Int64
	return func(ctx context.Context, d MalformedInput) error {
		ts := fmt.Sprintf("%d.%06d", time.Now().Unix(), count.Add(1))
		event := strings.ReplaceAll(d.body, "{n}", "7")
		if d.body == "" {
			event = `{"type":"message","channel_type":"im","channel":"D0BAD","user":"U0BAD",` +
				`"ts":"` + ts + `","text":` + d.text + `}`
		} else {
			event = strings.Replace(event, "{", `{"type":"message","channel":"D0BAD","ts":"`+ts+`",`, 1)
		}
		body := fmt.Sprintf(`{"type":"event_callback","team_id":%q,"api_app_id":%q,"event_id":"Ev%s","event":%s,`+
			`"authorizations":[{"team_id":%[1]q,"user_id":"U0BOT","is_bot":true}]}`,
			harness.SlackTeamID, harness.SlackAppID, hex.EncodeToString([]byte(d.Name)), event)
		now := strconv.FormatInt(time.Now().Unix(), 10)
		err := postSigned(ctx, s, s.API.URL+"/hooks/slack/"+s.InstanceID+"/events", body, http.Header{
			"Content-Type":       {"application/json"},
			SlackTimestampHeader: {now},
			SlackSignatureHeader: {harness.SlackSignature(harness.SlackSecret, now, body)},
		})
		if err != nil && len(body) > 512<<10 {
			return nil
		}
		return err
	}
}

// postSigned posts body and returns an error unless the status is 200. It repeats the request while the
// gateway is overloaded.
func postSigned(ctx context.Context, s *harness.Harness, target, body string, header http.Header) error {
	client := harness.Client{HTTP: s.API.HTTP}
	res, err := client.Do(ctx, http.MethodPost, target, header, body)
	for try := 0; try < 20 && err == nil && res.Status == http.StatusServiceUnavailable; try++ {
		s.Sleep(100 * time.Millisecond)
		res, err = client.Do(ctx, http.MethodPost, target, header, body)
	}
	if err == nil && res.Status != http.StatusOK {
		err = fmt.Errorf("status = %d, want 200", res.Status)
	}
	return err
}
