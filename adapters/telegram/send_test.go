package telegram_test

import (
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hydragate/adapters"
	"hydragate/adapters/simulator"
	"hydragate/adapters/telegram"
)

func asSendError(t *testing.T, err error) *adapters.SendError {
	t.Helper()
	var se *adapters.SendError
	if !errors.As(err, &se) {
		t.Fatalf("%v (%T); want a *SendError", err, err)
	}
	return se
}

func TestSend_Parameters(t *testing.T) {
	for name, c := range map[string]struct {
		reply adapters.Reply
		want  map[string]string
	}{
		"Plain":        {adapters.Reply{Chat: adapters.Chat{ID: "712345678"}}, map[string]string{"chat_id": "712345678", "message_thread_id": "", "reply_parameters": ""}},
		"ToThePerson":  {adapters.Reply{To: "712345678"}, map[string]string{"chat_id": "712345678"}},
		"Group":        {adapters.Reply{To: "712345678", Chat: adapters.Chat{ID: "-1001987654321", Group: true}}, map[string]string{"chat_id": "-1001987654321"}},
		"GiantID":      {adapters.Reply{Chat: adapters.Chat{ID: "4503599627370495"}}, map[string]string{"chat_id": "4503599627370495"}},
		"Topic":        {adapters.Reply{Chat: adapters.Chat{ID: "-1001987650000", Group: true, Thread: "77"}}, map[string]string{"message_thread_id": "77"}},
		"GeneralTopic": {adapters.Reply{Chat: adapters.Chat{ID: "-1001987650000", Group: true, Thread: "1"}}, map[string]string{"message_thread_id": ""}},
		"Answer":       {adapters.Reply{Chat: adapters.Chat{ID: "712345678"}, ReplyTo: "1100"}, map[string]string{"reply_parameters": `{"message_id":1100,"allow_sending_without_reply":true}`}},
		"OddAnswer":    {adapters.Reply{Chat: adapters.Chat{ID: "712345678"}, ReplyTo: "SM123"}, map[string]string{"reply_parameters": ""}},
	} {
		t.Run(name, func(t *testing.T) {
			server, a := newSimulator(t)
			c.reply.Text = "1 < 2 & *bold* _x_ \\. 😀"
			id, err := a.Send(t.Context(), endpoint(), c.reply)
			if err != nil {
				t.Fatal(err)
			}
			call := server.Calls(botUsername, "sendMessage")[0]
			c.want["text"], c.want["parse_mode"], c.want["link_preview_options"] = c.reply.Text, "", `{"is_disabled":true}`
			for k, want := range c.want {
				if call[k] != want {
					t.Errorf("%s is %q; want %q", k, call[k], want)
				}
			}
			if ls := server.Replies(""); len(ls) != 1 || ls[0].ID != id || ls[0].Text != c.reply.Text {
				t.Errorf("said %+v, told id %q", ls, id)
			}
		})
	}
}

func TestSend_AnswersCallbackQuery(t *testing.T) {
	place := adapters.Chat{ID: "712345678", ReplyToken: "3059508764521987001"}
	for name, fault := range map[string]*simulator.Fault{
		"Good":     nil,
		"TooOld":   {Status: 400, Body: `{"ok":false,"error_code":400,"description":"Bad Request: query is too old and response timeout expired or query ID is invalid"}`},
		"NoAnswer": {Hang: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, a := newSimulator(t)
				if fault != nil {
					server.Arm("answerCallbackQuery", *fault)
				}
				ep := endpoint()
				if _, err := a.Send(t.Context(), ep, adapters.Reply{Chat: place, Text: "Unlinked."}); err != nil {
					t.Fatal(err)
				}
				if len(server.Replies("712345678")) != 1 {
					t.Error("the reply was not said")
				}
				if calls := server.Calls(botUsername, "answerCallbackQuery"); fault == nil && (len(calls) != 1 || calls[0]["callback_query_id"] != place.ReplyToken) {
					t.Errorf("answered %v", calls)
				}
			})
		})
	}
}

func TestSend_GroupMigrated(t *testing.T) {
	server, a := newSimulator(t)
	server.Arm("sendMessage", simulator.Fault{Status: 400, Body: `{"ok":false,"error_code":400,"description":"Bad Request: group chat was upgraded to a supergroup chat","parameters":{"migrate_to_chat_id":-1004503599627370}}`})
	_, err := a.Send(t.Context(), endpoint(), adapters.Reply{Chat: adapters.Chat{ID: "-4012345", Group: true}, Text: "hi"})
	se := asSendError(t, err)
	if se.Reason != adapters.Moved || se.NewChatID != "-1004503599627370" || !se.Retryable() {
		t.Fatalf("%v to %q; want moved", se, se.NewChatID)
	}
	if _, err := a.Send(t.Context(), endpoint(), adapters.Reply{Chat: adapters.Chat{ID: se.NewChatID, Group: true}, Text: "hi"}); err != nil {
		t.Error(err)
	}
}

func TestSend_Rejected(t *testing.T) {
	server, a := newSimulator(t)
	server.Block(botUsername, steve)
	for name, c := range map[string]struct {
		reply  adapters.Reply
		reason adapters.Reason
	}{
		"Blocked":   {adapters.Reply{To: "712345678", Text: "hi"}, adapters.Blocked},
		"TooLong":   {adapters.Reply{To: "7", Text: strings.Repeat("😀", 2049)}, adapters.Refused},
		"Blank":     {adapters.Reply{To: "7", Text: " \n"}, adapters.Refused},
		"NotAChat":  {adapters.Reply{To: "+61400111222", Text: "hi"}, adapters.Refused},
		"Elsewhere": {adapters.Reply{To: "7", Chat: adapters.Chat{ID: "business:bZ:7"}, Text: "hi"}, adapters.Refused},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := a.Send(t.Context(), endpoint(), c.reply)
			if se := asSendError(t, err); se.Reason != c.reason || se.Retryable() {
				t.Errorf("%v; want %s", err, c.reason)
			}
		})
	}
	server.Unblock(botUsername, steve)
	if _, err := a.Send(t.Context(), endpoint(), adapters.Reply{To: "712345678", Text: "welcome back"}); err != nil {
		t.Error(err)
	}
}

// What never left is safe to send again, and the error says so.
func TestSend_Unreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for name, a := range map[string]*telegram.Adapter{
		"ConnectionRefused": {APIURL: "http://" + address},
		"MalformedAddress":  {APIURL: "http://[::1"},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, err := a.Send(t.Context(), endpoint(), adapters.Reply{To: "7", Text: "hello"})
			if se := asSendError(t, err); se.Reason != adapters.Unreachable || strings.Contains(err.Error(), token) || strings.Contains(err.Error(), "://") {
				t.Errorf("%v after %v; want unreachable", err, time.Since(start))
			}
		})
	}
}

func TestSend_NoToken(t *testing.T) {
	server, a := newSimulator(t)
	ep := endpoint()
	ep.Credentials = nil
	_, err := a.Send(t.Context(), ep, adapters.Reply{To: "7", Text: "hello"})
	if se := asSendError(t, err); se.Reason != adapters.BadSecret || len(server.Replies("")) != 0 {
		t.Errorf("%v; want bad_secret", err)
	}
}
