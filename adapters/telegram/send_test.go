package telegram_test

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-telegram/bot"
	"github.com/go-telegram/bot/models"

	"hydragate/adapters"
	"hydragate/adapters/simulator"
	"hydragate/adapters/telegram"
)

func asSendError(t *testing.T, err error) *adapters.SendError {
	t.Helper()
	var se *adapters.SendError
	if !errors.As(err, &se) {
		t.Fatalf("error = %v (%T), want a *SendError", err, err)
	}
	return se
}

func TestSend_Parameters(t *testing.T) {
	for name, c := range map[string]struct {
		reply adapters.Reply
		want  map[string]string
	}{
		"plain": {
			adapters.Reply{Chat: adapters.Chat{ID: "712345678"}},
			map[string]string{"chat_id": "712345678", "message_thread_id": "", "reply_parameters": ""},
		},
		"to the person": {adapters.Reply{To: "712345678"}, map[string]string{"chat_id": "712345678"}},
		"group": {
			adapters.Reply{To: "712345678", Chat: adapters.Chat{ID: "-1001987654321", Group: true}},
			map[string]string{"chat_id": "-1001987654321"},
		},
		"giant ID": {
			adapters.Reply{Chat: adapters.Chat{ID: "4503599627370495"}}, map[string]string{"chat_id": "4503599627370495"},
		},
		"topic": {
			adapters.Reply{Chat: adapters.Chat{ID: "-1001987650000", Group: true, Thread: "77"}},
			map[string]string{"message_thread_id": "77"},
		},
		"general topic": {
			adapters.Reply{Chat: adapters.Chat{ID: "-1001987650000", Group: true, Thread: "1"}},
			map[string]string{"message_thread_id": ""},
		},
		"answer": {
			adapters.Reply{Chat: adapters.Chat{ID: "712345678"}, ReplyTo: "1100"},
			map[string]string{"reply_parameters": `{"message_id":1100,"allow_sending_without_reply":true}`},
		},
		"odd answer": {
			adapters.Reply{Chat: adapters.Chat{ID: "712345678"}, ReplyTo: "SM123"}, map[string]string{"reply_parameters": ""},
		},
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
					t.Errorf("%s = %q, want %q", k, call[k], want)
				}
			}
			if ls := server.Replies(""); len(ls) != 1 || ls[0].ID != id || ls[0].Text != c.reply.Text {
				t.Errorf("replies = %+v, want one with the ID %q", ls, id)
			}
		})
	}
}

func TestAcknowledge(t *testing.T) {
	for name, c := range map[string]struct {
		fault *simulator.Fault
		token string
		calls int
	}{
		"button":  {nil, "3059508764521987001", 1},
		"message": {nil, "", 0},
		"too old": {new(botAPIError(400,
			"Bad Request: query is too old and response timeout expired or query ID is invalid", "")), "3059508764521987001", 0},
	} {
		t.Run(name, func(t *testing.T) {
			server, a := newSimulator(t)
			if c.fault != nil {
				server.Arm("answerCallbackQuery", *c.fault)
			}
			err := a.Acknowledge(t.Context(), endpoint(), adapters.Message{Chat: adapters.Chat{ID: "7", ReplyToken: c.token}})
			calls := server.Calls(botUsername, "answerCallbackQuery")
			if (err != nil) != (c.fault != nil) || len(calls) != c.calls {
				t.Fatalf("Acknowledge() = %v with calls %v, want %d", err, calls, c.calls)
			}
			if c.calls == 1 && calls[0]["callback_query_id"] != c.token {
				t.Errorf("answerCallbackQuery of %v, want %s", calls[0], c.token)
			}
		})
	}
}

// TestSend_ThreadGone checks that a reply to a topic that no longer accepts it is sent to the chat.
func TestSend_ThreadGone(t *testing.T) {
	topic := adapters.Reply{Chat: adapters.Chat{ID: "-1001987650000", Group: true, Thread: "77"}, Text: "hi", ReplyTo: "5"}
	for description, sent := range map[string]bool{
		"Bad Request: message thread not found": true,
		"Bad Request: TOPIC_CLOSED":             true,
		"Bad Request: TOPIC_DELETED":            true,
		"Bad Request: chat not found":           false,
	} {
		server, a := newSimulator(t)
		server.Arm("sendMessage", botAPIError(400, description, ""))
		_, err := a.Send(t.Context(), endpoint(), topic)
		calls := server.Calls(botUsername, "sendMessage")
		if (err == nil) != sent ||
			sent && (len(calls) != 1 || calls[0]["message_thread_id"] != "" || calls[0]["text"] != "hi") {
			t.Errorf("Send() after %q = %v with calls %v, want sent without the topic: %v", description, err, calls, sent)
		}
	}
	server, a := newSimulator(t)
	server.Arm("sendMessage", botAPIError(400, "Bad Request: TOPIC_CLOSED", ""))
	topic.Chat.Thread = ""
	if _, err := a.Send(t.Context(), endpoint(), topic); err == nil {
		t.Error("Send() to a closed chat = nil, want an error")
	}
}

func TestSend_GroupMigrated(t *testing.T) {
	server, a := newSimulator(t)
	server.Arm("sendMessage", botAPIError(400, "Bad Request: group chat was upgraded to a supergroup chat",
		`{"migrate_to_chat_id":-1004503599627370}`))
	_, err := a.Send(t.Context(), endpoint(), adapters.Reply{Chat: adapters.Chat{ID: "-4012345", Group: true}, Text: "hi"})
	se := asSendError(t, err)
	if se.Reason != adapters.Moved || se.NewChatID != "-1004503599627370" || !se.Retryable() {
		t.Fatalf("Send = %v, new chat %q, want moved", se, se.NewChatID)
	}
	place := adapters.Chat{ID: se.NewChatID, Group: true}
	if _, err := a.Send(t.Context(), endpoint(), adapters.Reply{Chat: place, Text: "hi"}); err != nil {
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
		"blocked":    {adapters.Reply{To: "712345678", Text: "hi"}, adapters.Blocked},
		"too long":   {adapters.Reply{To: "7", Text: strings.Repeat("😀", 2049)}, adapters.TooLong},
		"blank":      {adapters.Reply{To: "7", Text: " \n"}, adapters.Refused},
		"not a chat": {adapters.Reply{To: "+61400111222", Text: "hi"}, adapters.Refused},
		"elsewhere":  {adapters.Reply{To: "7", Chat: adapters.Chat{ID: "business:bZ:7"}, Text: "hi"}, adapters.Refused},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := a.Send(t.Context(), endpoint(), c.reply)
			if se := asSendError(t, err); se.Reason != c.reason || se.Retryable() {
				t.Errorf("Send = %v, want %s", err, c.reason)
			}
		})
	}
	server.Unblock(botUsername, steve)
	if _, err := a.Send(t.Context(), endpoint(), adapters.Reply{To: "712345678", Text: "welcome back"}); err != nil {
		t.Error(err)
	}
}

// TestSend_Unreachable checks the reason of a request that was never sent, which is safe to
// repeat.
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
		"connection refused": {APIURL: "http://" + address},
		"malformed address":  {APIURL: "http://[::1"},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, err := a.Send(t.Context(), endpoint(), adapters.Reply{To: "7", Text: "hello"})
			se := asSendError(t, err)
			if se.Reason != adapters.Unreachable || strings.Contains(err.Error(), token) ||
				strings.Contains(err.Error(), "://") {
				t.Errorf("Send = %v after %v, want unreachable", err, time.Since(start))
			}
		})
	}
}

// TestSend_UndecodableBySDK checks that a message whose response the SDK cannot decode counts as sent.
func TestSend_UndecodableBySDK(t *testing.T) {
	const result = `{"message_id":77,"date":"today","chat":{"id":"7"}}`
	if err := json.Unmarshal([]byte(result), &models.Message{}); err == nil {
		t.Fatal("the SDK decodes the response")
	}
	server, a := newSimulator(t)
	server.Arm("sendMessage", simulator.Fault{Status: 200, Body: `{"ok":true,"result":` + result + `}`})
	id, err := a.Send(t.Context(), endpoint(), adapters.Reply{To: "7", Text: "hello"})
	if err != nil || id != "77" {
		t.Errorf("Send = %q, %v, want 77", id, err)
	}
}

// TestSDK_ErrorsUnusable shows why the adapter does not use the errors of the SDK: they quote what the
// server sent, and are the same for a request that was never sent and for a lost response.
func TestSDK_ErrorsUnusable(t *testing.T) {
	lost := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer lost.Close()
	quoting := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "<html>"+token+"</html>")
	}))
	defer quoting.Close()
	send := func(url string) error {
		b, err := bot.New(token, bot.WithSkipGetMe(), bot.WithServerURL(url))
		if err != nil {
			t.Fatal(err)
		}
		_, err = b.SendMessage(t.Context(), &bot.SendMessageParams{ChatID: 7, Text: "hello"})
		return err
	}
	if err := send(quoting.URL); err == nil || !strings.Contains(err.Error(), token) {
		t.Errorf("SendMessage = %v, want an error that quotes the response", err)
	}
	var op *net.OpError
	if err := send(lost.URL); err == nil || errors.As(err, &op) {
		t.Errorf("SendMessage = %v, want an error without the cause", err)
	}
	a := &telegram.Adapter{APIURL: quoting.URL}
	_, err := a.Send(t.Context(), endpoint(), adapters.Reply{To: "7", Text: "hello"})
	if err == nil || strings.Contains(err.Error(), token) {
		t.Errorf("Send = %v, want an error without the response", err)
	}
	a = &telegram.Adapter{APIURL: lost.URL}
	_, err = a.Send(t.Context(), endpoint(), adapters.Reply{To: "7", Text: "hello"})
	if se := asSendError(t, err); se.Reason != adapters.Ambiguous {
		t.Errorf("Send = %v, want %s", err, adapters.Ambiguous)
	}
}

func TestSend_NoToken(t *testing.T) {
	server, a := newSimulator(t)
	ep := endpoint()
	ep.Credentials = nil
	_, err := a.Send(t.Context(), ep, adapters.Reply{To: "7", Text: "hello"})
	if se := asSendError(t, err); se.Reason != adapters.BadSecret || len(server.Replies("")) != 0 {
		t.Errorf("Send = %v, want bad_secret", err)
	}
}
