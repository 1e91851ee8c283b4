package delivery

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"hydragate/adapters"
	"hydragate/adapters/slack"
	"hydragate/adapters/sms"
	"hydragate/adapters/telegram"
	"hydragate/gateway"
)

// FuzzResponse checks that the replies in any response can be sent, are limited in size, and go only
// to the sender of the message.
func FuzzResponse(f *testing.F) {
	for _, s := range []string{
		"", " ", "null", "[]", "<html>", strings.Repeat("[", 10_001),
		`{"replies":[{"text":"hello"}]}`, `{"replies":[{"text":""}]}`, `{"replies":[{"text":" \n "}]}`,
		`{"replies":null}`, `{"replies":[null]}`, `{"replies":[{"text":7}]}`, `{"Replies":[{"TEXT":"x"}]}`,
		`{"replies":[{"text":"a\u0000b\ud800"}]}`, `{"replies":[{"text":"x","to":"other","conversation_id":"other"}]}`,
		`{"replies":[` + strings.Repeat(`{"text":"x"},`, 30) + `{"text":"y"}]}`,
		`{"replies":[{"text":"` + strings.Repeat("😀", 5000) + `"}]}`,
	} {
		f.Add([]byte(s), "telegram")
		f.Add([]byte(s), "sms")
		f.Add([]byte(s), "slack")
	}
	all := map[adapters.Channel]adapters.Adapter{
		adapters.Telegram: &telegram.Adapter{},
		adapters.SMS:      sms.Adapter{Name: adapters.SMS},
		adapters.Slack:    &slack.Adapter{},
	}
	p := &Deliverer{Adapters: all, Log: slog.New(slog.DiscardHandler)}
	f.Fuzz(func(t *testing.T, body []byte, channel string) {
		if len(body) > maxResponse {
			return // rejected earlier
		}
		e := gateway.Event{Channel: adapters.Channel(channel)}
		e.ID, e.TenantID, e.MessageID, e.ConversationID, e.InstanceID = "e1", "t1", "m1", "c1", "i1"
		e.Message.Sender.ID, e.Message.Chat = "steve", adapters.Chat{ID: "here"}
		rows, _ := p.parseReplies(e, body)
		total, ids := 0, map[string]bool{}
		for _, r := range rows {
			total += len(r.Text)
			if r.TenantID != "t1" || r.ConversationID != "c1" || r.InstanceID != "i1" || r.Recipient != "steve" ||
				r.Chat.ID != "here" || r.MessageID != "m1" || string(r.Channel) != channel || ids[r.ID] {
				t.Fatalf("misdirected or repeated reply: %+v", r)
			}
			ids[r.ID] = true
			if !utf8.ValidString(r.Text) || strings.ContainsRune(r.Text, 0) {
				t.Errorf("cannot be stored: %q", r.Text)
			}
			if a := all[r.Channel]; a != nil &&
				(a.Limits().Measure(r.Text) > a.Limits().MaxText || strings.TrimSpace(r.Text) == "") {
				t.Errorf("cannot be sent: %d units", a.Limits().Measure(r.Text))
			}
		}
		if total > 3*maxResponse {
			t.Errorf("%d bytes of replies from a response of %d bytes", total, len(body))
		}
	})
}

// FuzzRetryAfter checks that the delay is between zero and one hour.
func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{
		"", "0", "30", "-1", "99999999999999999999", "1.5", " 5", "9223372036854775807", "\x00",
		"Wed, 21 Oct 2026 07:28:00 GMT", "Mon, 01 Jan 0001 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		if d := retryAfter(http.Header{"Retry-After": {in}}, time.Unix(1_800_000_000, 0)); d < 0 || d > time.Hour {
			t.Errorf("retryAfter(%q) = %v", in, d)
		}
	})
}
