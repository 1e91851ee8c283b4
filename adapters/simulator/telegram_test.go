package simulator_test

import (
	"context"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hydragate/adapters/simulator"
)

const telegramToken = "424242:AAEtest-test_testtesttesttesttest123"

var telegramSteve = simulator.TelegramUser{ID: 712345678, FirstName: "Steve", Username: "steve"}

func newTelegram(t *testing.T) *simulator.Telegram {
	t.Helper()
	server := simulator.NewTelegram()
	t.Cleanup(server.Close)
	server.AddBot(telegramToken, "hydragate_bot")
	return server
}

type telegramResponse struct {
	OK          bool            `json:"ok"`
	Result      json.RawMessage `json:"result"`
	Code        int             `json:"error_code"`
	Description string          `json:"description"`
}

// callTelegram makes one call with form parameters, without a network.
func callTelegram(t *testing.T, server http.Handler, method string, params ...string) telegramResponse {
	t.Helper()
	form := url.Values{}
	for i := 0; i < len(params); i += 2 {
		form.Set(params[i], params[i+1])
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/bot"+telegramToken+"/"+method, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	server.ServeHTTP(w, r)
	var reply telegramResponse
	if err := json.Unmarshal(w.Body.Bytes(), &reply); err != nil {
		t.Errorf("%s answers %d %q", method, w.Code, w.Body)
	}
	if !reply.OK && w.Code != reply.Code {
		t.Errorf("%s: status %d and error_code %d", method, w.Code, reply.Code)
	}
	return reply
}

func updateIDs(t *testing.T, reply telegramResponse) (ids []int64) {
	t.Helper()
	var us []struct {
		ID int64 `json:"update_id"`
	}
	if err := json.Unmarshal(reply.Result, &us); err != nil {
		t.Fatalf("%s: %v", reply.Result, err)
	}
	for _, u := range us {
		ids = append(ids, u.ID)
	}
	return ids
}

// A webhookTransport plays the gateway: it fails until told otherwise and notes what came.
type webhookTransport struct {
	mu         sync.Mutex
	failures   int
	retryAfter string // the Retry-After of a failure
	body       string // of a success
	texts      []string
	secret     string
	times      []time.Time
}

func (h *webhookTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	var u struct {
		Message struct {
			Text string `json:"text"`
		} `json:"message"`
	}
	if err := json.Unmarshal(raw, &u); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.texts, h.times = append(h.texts, u.Message.Text), append(h.times, time.Now())
	h.secret = r.Header.Get("X-Telegram-Bot-Api-Secret-Token")
	w := httptest.NewRecorder()
	if h.failures > 0 {
		h.failures--
		if h.retryAfter != "" {
			w.Header().Set("Retry-After", h.retryAfter)
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		return w.Result(), nil
	}
	_, _ = w.WriteString(h.body)
	return w.Result(), nil
}

func (h *webhookTransport) receivedTexts() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.texts, " ")
}

func TestTelegram_UpdateShape(t *testing.T) {
	server := newTelegram(t)
	server.SendText("hydragate_bot", telegramSteve, "😀 /claim@hydragate_bot WDJBMJ")
	var us []struct {
		Message struct {
			ID   int64 `json:"message_id"`
			From struct {
				ID    int64
				IsBot bool   `json:"is_bot"`
				Name  string `json:"first_name"`
			}
			Chat struct {
				ID   int64
				Type string
			}
			Date     int64
			Text     string
			Entities []struct {
				Type           string
				Offset, Length int
			}
		}
	}
	if err := json.Unmarshal(callTelegram(t, server, "getUpdates").Result, &us); err != nil || len(us) != 1 {
		t.Fatal(us, err)
	}
	m := us[0].Message
	if m.ID == 0 || m.From.ID != 712345678 || m.From.IsBot || m.From.Name != "Steve" || m.Chat.ID != 712345678 || m.Chat.Type != "private" || m.Date == 0 {
		t.Errorf("%+v", m)
	}
	if len(m.Entities) != 1 || m.Entities[0].Type != "bot_command" || m.Entities[0].Offset != 3 || m.Entities[0].Length != len("/claim@hydragate_bot") {
		t.Errorf("entities %+v", m.Entities)
	}
}

func TestTelegram_Offset(t *testing.T) {
	server := newTelegram(t)
	var ids []int64
	for range 3 {
		ids = append(ids, server.SendText("hydragate_bot", telegramSteve, "hi"))
	}
	for range 2 {
		if got := updateIDs(t, callTelegram(t, server, "getUpdates")); !slices.Equal(got, ids) {
			t.Fatalf("without an offset: %v; want %v", got, ids)
		}
	}
	got := updateIDs(t, callTelegram(t, server, "getUpdates", "offset", encodeJSON(ids[1]), "limit", "1"))
	if !slices.Equal(got, ids[1:2]) || !slices.Equal(server.PendingUpdates("hydragate_bot"), ids[1:]) {
		t.Errorf("got %v, pending %v", got, server.PendingUpdates("hydragate_bot"))
	}
	if !server.Delivered(ids[0]) || server.Delivered(ids[1]) || server.Attempts(ids[0]) != 2 || server.Attempts(ids[1]) != 3 || server.Attempts(ids[2]) != 2 {
		t.Errorf("delivered and attempts are off: %d %d %d", server.Attempts(ids[0]), server.Attempts(ids[1]), server.Attempts(ids[2]))
	}
}

func encodeJSON(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

func TestTelegram_LongPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newTelegram(t)
		start := time.Now()
		if got := updateIDs(t, callTelegram(t, server, "getUpdates", "timeout", "600")); len(got) != 0 || time.Since(start) != 50*time.Second {
			t.Errorf("%v after %v; want nothing after 50 s", got, time.Since(start))
		}
		older, newer := make(chan telegramResponse, 1), make(chan telegramResponse, 1)
		go func() { older <- callTelegram(t, server, "getUpdates", "timeout", "50") }()
		synctest.Wait()
		go func() { newer <- callTelegram(t, server, "getUpdates", "timeout", "50") }()
		if r := <-older; r.Code != 409 || !strings.Contains(r.Description, "terminated by other getUpdates request") {
			t.Errorf("the older poller: %+v; want 409", r)
		}
		id := server.SendText("hydragate_bot", telegramSteve, "hi")
		if got := updateIDs(t, <-newer); !slices.Equal(got, []int64{id}) {
			t.Errorf("the newer poller got %v", got)
		}
		go func() { older <- callTelegram(t, server, "getUpdates", "timeout", "50", "offset", encodeJSON(id+1)) }()
		synctest.Wait()
		callTelegram(t, server, "setWebhook", "url", "https://gateway.example/hook")
		if r := <-older; r.Code != 409 || !strings.Contains(r.Description, "setWebhook") {
			t.Errorf("while a webhook was set: %+v; want 409", r)
		}
		if r := callTelegram(t, server, "getUpdates"); r.Code != 409 || !strings.Contains(r.Description, "webhook is active") {
			t.Errorf("with a webhook: %+v; want 409", r)
		}
	})
}

func TestTelegram_WebhookRetryOrder(t *testing.T) {
	for name, c := range map[string]struct {
		after string
		scale float64
		gaps  []time.Duration
	}{
		"Doubling":   {"", 1, []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second}},
		"RetryAfter": {"5", 1, []time.Duration{5 * time.Second, 5 * time.Second, 5 * time.Second, 5 * time.Second}},
		"Scaled":     {"", 0.01, []time.Duration{10 * time.Millisecond, 20 * time.Millisecond, 40 * time.Millisecond, 80 * time.Millisecond}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := newTelegram(t)
				hook := &webhookTransport{failures: 4, retryAfter: c.after}
				server.WebhookClient, server.RetryScale = &http.Client{Transport: hook}, c.scale
				if r := callTelegram(t, server, "setWebhook", "url", "https://gateway.example/hook", "secret_token", "s-1"); !r.OK {
					t.Fatal(r)
				}
				a := server.SendText("hydragate_bot", telegramSteve, "a")
				b := server.SendText("hydragate_bot", telegramSteve, "b")
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				for id, want := range map[int64]int{a: 5, b: 1} {
					if n, err := server.WaitDelivered(ctx, id); n != want || err != nil {
						t.Errorf("delivered after %d attempts, %v; want %d", n, err, want)
					}
				}
				if got := hook.receivedTexts(); got != "a a a a a b" || hook.secret != "s-1" {
					t.Errorf("heard %q with secret %q", got, hook.secret)
				}
				for i, want := range c.gaps {
					if gap := hook.times[i+1].Sub(hook.times[i]); gap != want {
						t.Errorf("attempt %d came after %v; want %v", i+2, gap, want)
					}
				}
			})
		})
	}
}

// One chat that fails does not hold up the others.
func TestTelegram_ChatsAreIndependent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newTelegram(t)
		hook := &webhookTransport{failures: 1, retryAfter: "3600"}
		server.WebhookClient = &http.Client{Transport: hook}
		callTelegram(t, server, "setWebhook", "url", "https://gateway.example/hook")
		stuck := server.SendText("hydragate_bot", telegramSteve, "stuck")
		synctest.Wait()
		id := server.SendGroupText("hydragate_bot", -1001, telegramSteve, "free")
		synctest.Wait()
		if !server.Delivered(id) || server.Delivered(stuck) {
			t.Errorf("heard %q", hook.receivedTexts())
		}
		callTelegram(t, server, "deleteWebhook")
		if got := updateIDs(t, callTelegram(t, server, "getUpdates")); !slices.Equal(got, []int64{stuck}) {
			t.Errorf("left for polling: %v; want %d", got, stuck)
		}
	})
}

func TestTelegram_WebhookReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newTelegram(t)
		server.WebhookClient = &http.Client{Transport: &webhookTransport{body: `{"method":"sendMessage","chat_id":712345678,"text":"echo"}`}}
		callTelegram(t, server, "setWebhook", "url", "https://gateway.example/hook")
		server.SendText("hydragate_bot", telegramSteve, "hi")
		line, err := server.WaitReply(t.Context(), "712345678", 0)
		if err != nil || line.Text != "echo" {
			t.Errorf("%+v, %v", line, err)
		}
	})
}

func TestTelegram_Errors(t *testing.T) {
	server := newTelegram(t)
	server.Block("hydragate_bot", simulator.TelegramUser{ID: 9})
	for name, c := range map[string]struct {
		method string
		params []string
		code   int
		says   string
	}{
		"Empty":         {"sendMessage", []string{"chat_id", "7", "text", "  "}, 400, "Bad Request: message text is empty"},
		"TooLong":       {"sendMessage", []string{"chat_id", "7", "text", strings.Repeat("😀", 2049)}, 400, "Bad Request: message is too long"},
		"NoChat":        {"sendMessage", []string{"text", "x"}, 400, "Bad Request: chat not found"},
		"Blocked":       {"sendMessage", []string{"chat_id", "9", "text", "x"}, 403, "Forbidden: bot was blocked by the user"},
		"GeneralTopic":  {"sendMessage", []string{"chat_id", "-1001", "text", "x", "message_thread_id", "1"}, 400, "Bad Request: message thread not found"},
		"ReplyToNone":   {"sendMessage", []string{"chat_id", "7", "text", "x", "reply_parameters", `{"message_id":99}`}, 400, "Bad Request: message to be replied not found"},
		"SecretToken":   {"setWebhook", []string{"url", "https://gateway.example/", "secret_token", "a b"}, 400, "Bad Request: secret token contains unallowed characters"},
		"NoURL":         {"setWebhook", []string{"url", "gateway"}, 400, "Bad Request: bad webhook: An HTTPS URL must be provided for webhook"},
		"UpperCommand":  {"setMyCommands", []string{"commands", `[{"command":"Claim","description":"x"}]`}, 400, "Bad Request: BOT_COMMAND_INVALID"},
		"NoFile":        {"getFile", []string{"file_id", "x"}, 400, "Bad Request: invalid file_id"},
		"UnknownMethod": {"sendSmell", nil, 404, "Not Found: method not found"},
	} {
		t.Run(name, func(t *testing.T) {
			if r := callTelegram(t, server, c.method, c.params...); r.OK || r.Code != c.code || r.Description != c.says {
				t.Errorf("%d %q; want %d %q", r.Code, r.Description, c.code, c.says)
			}
		})
	}
	if ls := server.Replies(""); len(ls) != 0 {
		t.Errorf("said %v", ls)
	}
}

func TestTelegram_UnknownToken(t *testing.T) {
	server := newTelegram(t)
	for path, code := range map[string]int{"/bot1:x/getMe": 401, "/getMe": 404, "/bot" + telegramToken: 404, "/file/bot1:x/documents/f1": 404} {
		w := httptest.NewRecorder()
		server.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, nil))
		if w.Code != code {
			t.Errorf("%s: %d; want %d", path, w.Code, code)
		}
	}
}

// Client libraries send a multipart content type with nothing in it.
func TestTelegram_ParameterEncodings(t *testing.T) {
	server := newTelegram(t)
	var parts strings.Builder
	form := multipart.NewWriter(&parts)
	for k, v := range map[string]string{"chat_id": "7", "text": "parts"} {
		if err := form.WriteField(k, v); err != nil {
			t.Fatal(err)
		}
	}
	if err := form.Close(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ path, kind, body string }{
		"EmptyMultipart": {"getMe", form.FormDataContentType(), ""},
		"Multipart":      {"sendMessage", form.FormDataContentType(), parts.String()},
		"JSON":           {"sendMessage", "application/json", `{"chat_id":7,"text":"json","link_preview_options":{"is_disabled":true}}`},
		"Query":          {"sendMessage?chat_id=7&text=query", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/bot"+telegramToken+"/"+c.path, strings.NewReader(c.body))
			r.Header.Set("Content-Type", c.kind)
			w := httptest.NewRecorder()
			server.ServeHTTP(w, r)
			if w.Code != http.StatusOK {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
	if ls := server.Replies("7"); len(ls) != 3 {
		t.Errorf("said %v; want three messages", ls)
	}
}

func TestTelegram_Faults(t *testing.T) {
	server := newTelegram(t)
	server.Arm("sendMessage", simulator.Fault{Status: 403, Body: `{"ok":false,"error_code":403,"description":"Forbidden"}`})
	if r := callTelegram(t, server, "sendMessage", "chat_id", "7", "text", "x"); r.Code != 403 || len(server.Replies("7")) != 0 {
		t.Errorf("%+v, said %v", r, server.Replies("7"))
	}
	if r := callTelegram(t, server, "sendMessage", "chat_id", "7", "text", "x"); !r.OK {
		t.Errorf("the call after: %+v", r)
	}
	server.Arm("sendMessage", simulator.Fault{Cut: true})
	func() {
		defer func() { _ = recover() }()
		callTelegram(t, server, "sendMessage", "chat_id", "7", "text", "y")
	}()
	if n := len(server.Replies("7")); n != 2 {
		t.Errorf("%d messages; want the one that was cut off to count", n)
	}
}

func TestTelegram_AllowedUpdates(t *testing.T) {
	server := newTelegram(t)
	callTelegram(t, server, "getUpdates", "allowed_updates", `["message"]`)
	if id := server.PressButton("hydragate_bot", telegramSteve, 1, "x"); id != 0 {
		t.Errorf("a press came as update %d", id)
	}
	if id := server.PushUpdate("hydragate_bot", json.RawMessage(`{"callback_query":{}}`)); id == 0 {
		t.Error("a pushed update was dropped")
	}
	if id := server.SendText("other_bot", telegramSteve, "x"); id != 0 {
		t.Errorf("said to nobody as update %d", id)
	}
}

func TestTelegram_Files(t *testing.T) {
	server := newTelegram(t)
	server.AddFile("F1", []byte("content"))
	var file struct {
		Path string `json:"file_path"`
	}
	if err := json.Unmarshal(callTelegram(t, server, "getFile", "file_id", "F1").Result, &file); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	server.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/file/bot"+telegramToken+"/"+file.Path, nil))
	if w.Code != http.StatusOK || w.Body.String() != "content" {
		t.Errorf("%d %q", w.Code, w.Body)
	}
}
