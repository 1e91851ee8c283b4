package simulator_test

import (
	"encoding/json"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
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

// callTelegram calls a method with form parameters, without a network.
func callTelegram(t *testing.T, server http.Handler, method string, params ...string) telegramResponse {
	t.Helper()
	form := url.Values{}
	for i := 0; i < len(params); i += 2 {
		form.Set(params[i], params[i+1])
	}
	path := "/bot" + telegramToken + "/" + method
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	server.ServeHTTP(w, r)
	var response telegramResponse
	if err := json.Unmarshal(w.Body.Bytes(), &response); err != nil {
		t.Errorf("%s: response %d %q is not JSON", method, w.Code, w.Body)
	}
	if !response.OK && w.Code != response.Code {
		t.Errorf("%s: status %d differs from error_code %d", method, w.Code, response.Code)
	}
	return response
}

// updateIDs returns the IDs of the updates in a response of getUpdates.
func updateIDs(t *testing.T, response telegramResponse) (ids []int64) {
	t.Helper()
	var updates []struct {
		ID int64 `json:"update_id"`
	}
	if err := json.Unmarshal(response.Result, &updates); err != nil {
		t.Fatalf("decode updates %s: %v", response.Result, err)
	}
	for _, u := range updates {
		ids = append(ids, u.ID)
	}
	return ids
}

func TestTelegram_UpdateShape(t *testing.T) {
	server := newTelegram(t)
	server.SendText("hydragate_bot", telegramSteve, "😀 /claim@hydragate_bot WDJBMJ")
	var updates []struct {
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
	err := json.Unmarshal(callTelegram(t, server, "getUpdates").Result, &updates)
	if err != nil || len(updates) != 1 {
		t.Fatalf("getUpdates = %+v, %v, want one update", updates, err)
	}
	m := updates[0].Message
	if m.ID == 0 || m.Date == 0 {
		t.Errorf("message = %+v, want an ID and a date", m)
	}
	if m.From.ID != 712345678 || m.From.IsBot || m.From.Name != "Steve" {
		t.Errorf("from = %+v, want Steve", m.From)
	}
	if m.Chat.ID != 712345678 || m.Chat.Type != "private" {
		t.Errorf("chat = %+v, want the private one of Steve", m.Chat)
	}
	if len(m.Entities) != 1 {
		t.Fatalf("entities = %+v, want one", m.Entities)
	}
	e := m.Entities[0]
	if e.Type != "bot_command" || e.Offset != 3 || e.Length != len("/claim@hydragate_bot") {
		t.Errorf("entity = %+v, want the command at 3", e)
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
			t.Fatalf("getUpdates without an offset = %v, want %v", got, ids)
		}
	}
	got := updateIDs(t, callTelegram(t, server, "getUpdates", "offset", encodeJSON(ids[1]), "limit", "1"))
	if !slices.Equal(got, ids[1:2]) || !slices.Equal(server.PendingUpdates("hydragate_bot"), ids[1:]) {
		t.Errorf("getUpdates = %v, pending %v, want %v, %v",
			got, server.PendingUpdates("hydragate_bot"), ids[1:2], ids[1:])
	}
	for i, want := range []struct {
		delivered bool
		attempts  int
	}{{true, 2}, {false, 3}, {false, 2}} {
		if d, n := server.Delivered(ids[i]), server.Attempts(ids[i]); d != want.delivered || n != want.attempts {
			t.Errorf("update %d: Delivered = %v, Attempts = %d, want %v, %d", i, d, n, want.delivered, want.attempts)
		}
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
		got := updateIDs(t, callTelegram(t, server, "getUpdates", "timeout", "600"))
		if took := time.Since(start); len(got) != 0 || took != 50*time.Second {
			t.Errorf("getUpdates = %v after %v, want nothing after 50 s", got, took)
		}
		older, newer := make(chan telegramResponse, 1), make(chan telegramResponse, 1)
		go func() { older <- callTelegram(t, server, "getUpdates", "timeout", "50") }()
		synctest.Wait()
		go func() { newer <- callTelegram(t, server, "getUpdates", "timeout", "50") }()
		if r := <-older; r.Code != 409 || !strings.Contains(r.Description, "terminated by other getUpdates request") {
			t.Errorf("older getUpdates = %+v, want 409", r)
		}
		id := server.SendText("hydragate_bot", telegramSteve, "hi")
		if got := updateIDs(t, <-newer); !slices.Equal(got, []int64{id}) {
			t.Errorf("newer getUpdates = %v, want %d", got, id)
		}
		go func() { older <- callTelegram(t, server, "getUpdates", "timeout", "50", "offset", encodeJSON(id+1)) }()
		synctest.Wait()
		callTelegram(t, server, "setWebhook", "url", "https://gateway.example/hook")
		if r := <-older; r.Code != 409 || !strings.Contains(r.Description, "setWebhook") {
			t.Errorf("getUpdates during setWebhook = %+v, want 409", r)
		}
		r := callTelegram(t, server, "getUpdates")
		if r.Code != 409 || !strings.Contains(r.Description, "webhook is active") {
			t.Errorf("getUpdates with a webhook = %+v, want 409", r)
		}
	})
}

func TestTelegram_Errors(t *testing.T) {
	server := newTelegram(t)
	server.Block("hydragate_bot", simulator.TelegramUser{ID: 9})
	message := func(chat, text string, more ...string) []string {
		return append([]string{"chat_id", chat, "text", text}, more...)
	}
	webhook := func(url, secret string) []string { return []string{"url", url, "secret_token", secret} }
	const (
		missingReply  = `{"message_id":99}`
		upperCommand  = `[{"command":"Claim","description":"x"}]`
		wrongSecret   = "Bad Request: secret token contains unallowed characters"
		wrongURL      = "Bad Request: bad webhook: An HTTPS URL must be provided for webhook"
		tooLong       = "Bad Request: message is too long"
		noThread      = "Bad Request: message thread not found"
		noReplyTarget = "Bad Request: message to be replied not found"
	)
	for name, c := range map[string]struct {
		method          string
		params          []string
		wantCode        int
		wantDescription string
	}{
		"empty text":     {"sendMessage", message("7", "  "), 400, "Bad Request: message text is empty"},
		"text too long":  {"sendMessage", message("7", strings.Repeat("😀", 2049)), 400, tooLong},
		"no chat":        {"sendMessage", []string{"text", "x"}, 400, "Bad Request: chat not found"},
		"blocked":        {"sendMessage", message("9", "x"), 403, "Forbidden: bot was blocked by the user"},
		"general topic":  {"sendMessage", message("-1001", "x", "message_thread_id", "1"), 400, noThread},
		"missing reply":  {"sendMessage", message("7", "x", "reply_parameters", missingReply), 400, noReplyTarget},
		"secret token":   {"setWebhook", webhook("https://gateway.example/", "a b"), 400, wrongSecret},
		"invalid URL":    {"setWebhook", webhook("gateway", ""), 400, wrongURL},
		"upper case":     {"setMyCommands", []string{"commands", upperCommand}, 400, "Bad Request: BOT_COMMAND_INVALID"},
		"unknown file":   {"getFile", []string{"file_id", "x"}, 400, "Bad Request: invalid file_id"},
		"unknown method": {"sendSmell", nil, 404, "Not Found: method not found"},
	} {
		t.Run(name, func(t *testing.T) {
			r := callTelegram(t, server, c.method, c.params...)
			if r.OK || r.Code != c.wantCode || r.Description != c.wantDescription {
				t.Errorf("%s = %d %q, want %d %q", c.method, r.Code, r.Description, c.wantCode, c.wantDescription)
			}
		})
	}
	if lines := server.Replies(""); len(lines) != 0 {
		t.Errorf("Replies = %v, want none", lines)
	}
}

func TestTelegram_UnknownToken(t *testing.T) {
	server := newTelegram(t)
	for path, want := range map[string]int{
		"/bot1:x/getMe": 401, "/getMe": 404, "/bot" + telegramToken: 404, "/file/bot1:x/documents/f1": 404,
	} {
		w := httptest.NewRecorder()
		server.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, http.NoBody))
		if w.Code != want {
			t.Errorf("status of %s = %d, want %d", path, w.Code, want)
		}
	}
}

// Client libraries send multipart forms without parts.
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
	const jsonBody = `{"chat_id":7,"text":"json","link_preview_options":{"is_disabled":true}}`
	for name, c := range map[string]struct{ path, contentType, body string }{
		"empty multipart": {"getMe", form.FormDataContentType(), ""},
		"multipart":       {"sendMessage", form.FormDataContentType(), parts.String()},
		"JSON":            {"sendMessage", "application/json", jsonBody},
		"query":           {"sendMessage?chat_id=7&text=query", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/bot"+telegramToken+"/"+c.path, strings.NewReader(c.body))
			r.Header.Set("Content-Type", c.contentType)
			w := httptest.NewRecorder()
			server.ServeHTTP(w, r)
			if w.Code != http.StatusOK {
				t.Errorf("response = %d %s, want 200", w.Code, w.Body)
			}
		})
	}
	if lines := server.Replies("7"); len(lines) != 3 {
		t.Errorf("Replies = %v, want 3", lines)
	}
}

func TestTelegram_Faults(t *testing.T) {
	server := newTelegram(t)
	const forbidden = `{"ok":false,"error_code":403,"description":"Forbidden"}`
	server.Arm("sendMessage", simulator.Fault{Status: 403, Body: forbidden})
	r := callTelegram(t, server, "sendMessage", "chat_id", "7", "text", "x")
	if r.Code != 403 || len(server.Replies("7")) != 0 {
		t.Errorf("sendMessage = %+v with replies %v, want 403 without", r, server.Replies("7"))
	}
	if r := callTelegram(t, server, "sendMessage", "chat_id", "7", "text", "x"); !r.OK {
		t.Errorf("next sendMessage = %+v, want ok", r)
	}
	server.Arm("sendMessage", simulator.Fault{Cut: true})
	func() {
		defer func() { _ = recover() }()
		callTelegram(t, server, "sendMessage", "chat_id", "7", "text", "y")
	}()
	if n := len(server.Replies("7")); n != 2 {
		t.Errorf("%d replies, want 2 including that of the cut connection", n)
	}
}

func TestTelegram_AllowedUpdates(t *testing.T) {
	server := newTelegram(t)
	callTelegram(t, server, "getUpdates", "allowed_updates", `["message"]`)
	if id := server.PressButton("hydragate_bot", telegramSteve, 1, "x"); id != 0 {
		t.Errorf("PressButton = %d, want 0 because callback_query is not allowed", id)
	}
	if id := server.PushUpdate("hydragate_bot", json.RawMessage(`{"callback_query":{}}`)); id == 0 {
		t.Error("PushUpdate = 0, want an ID")
	}
	if id := server.SendText("other_bot", telegramSteve, "x"); id != 0 {
		t.Errorf("SendText to an unknown bot = %d, want 0", id)
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
	server.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/file/bot"+telegramToken+"/"+file.Path, http.NoBody))
	if w.Code != http.StatusOK || w.Body.String() != "content" {
		t.Errorf("download = %d %q, want 200 and the content", w.Code, w.Body)
	}
}

// TestTelegram_MigrateGroup checks the service messages of a group that becomes a supergroup, and that the bot can
// send to the supergroup only.
func TestTelegram_MigrateGroup(t *testing.T) {
	server := newTelegram(t)
	ids := server.MigrateGroup("hydragate_bot", telegramSteve, -45, -10045)
	r := callTelegram(t, server, "getUpdates")
	if got := updateIDs(t, r); !slices.Equal(got, ids) || len(ids) != 2 {
		t.Errorf("getUpdates = %v, want %v", got, ids)
	}
	for _, want := range []string{`"migrate_to_chat_id":-10045`, `"migrate_from_chat_id":-45`} {
		if !strings.Contains(string(r.Result), want) {
			t.Errorf("updates = %s, want %s in them", r.Result, want)
		}
	}
	if r := callTelegram(t, server, "sendMessage", "chat_id", "-45", "text", "x"); r.Code != 400 {
		t.Errorf("sendMessage to the group = %+v, want 400", r)
	}
	if r := callTelegram(t, server, "sendMessage", "chat_id", "-10045", "text", "x"); !r.OK {
		t.Errorf("sendMessage to the supergroup = %+v, want ok", r)
	}
}
