package simulator

import (
	"encoding/json"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
)

// A telegramResponse is the response to a call of the Bot API.
type telegramResponse struct {
	OK          bool   `json:"ok"`
	Result      any    `json:"result,omitempty"`
	ErrorCode   int    `json:"error_code,omitempty"`
	Description string `json:"description,omitempty"`
	Parameters  any    `json:"parameters,omitempty"`
}

func telegramOK(result any) telegramResponse { return telegramResponse{OK: true, Result: result} }

func telegramError(code int, description string) telegramResponse {
	return telegramResponse{ErrorCode: code, Description: description}
}

func (r telegramResponse) withDescription(description string) telegramResponse {
	r.Description = description
	return r
}

func (r telegramResponse) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	if batch, ok := r.Result.([]json.RawMessage); ok { // unchanged, even if it is not valid JSON
		_, _ = w.Write([]byte(`{"ok":true,"result":[`))
		for i, u := range batch {
			if i > 0 {
				_, _ = w.Write([]byte(","))
			}
			_, _ = w.Write(u)
		}
		_, _ = w.Write([]byte("]}"))
		return
	}
	status := http.StatusOK
	if !r.OK {
		status = r.ErrorCode
	}
	writeJSON(w, status, r)
}

const (
	telegramMaxBody = 4 << 20
	telegramMaxText = 4096 // UTF-16 code units
	telegramMaxFile = 20 << 20
)

// ServeHTTP handles a call of the Bot API or the download of a file.
func (t *Telegram) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if rest, ok := strings.CutPrefix(r.URL.Path, "/file/bot"); ok {
		t.serveFile(w, rest)
		return
	}
	rest, ok := strings.CutPrefix(r.URL.Path, "/bot")
	token, method, split := strings.Cut(rest, "/")
	if !ok || !split {
		telegramError(http.StatusNotFound, "Not Found").write(w)
		return
	}
	params, err := telegramParams(r)
	if err != nil {
		telegramError(http.StatusBadRequest, "Bad Request: can't parse the request").write(w)
		return
	}
	b, username := t.findToken(token)
	fault, faulty := t.take(r, username, method)
	if faulty && !fault.afterProcessing() {
		fault.respond(w, r)
		return
	}
	if b == nil {
		telegramError(http.StatusUnauthorized, "Unauthorized").write(w)
		return
	}
	response := t.dispatch(r, b, method, params)
	if !response.OK && !faulty {
		fault, faulty = t.pop(username, method) // added by Break while a poll waited
	}
	if faulty {
		fault.respond(w, r)
		return
	}
	response.write(w)
}

// findToken returns the bot with a token and its username, or nil.
func (t *Telegram) findToken(token string) (b *telegramBot, username string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if b = t.bots[token]; b != nil {
		username = b.username
	}
	return b, username
}

// dispatch records and executes a call of a bot.
func (t *Telegram) dispatch(r *http.Request, b *telegramBot, method string, p map[string]string) telegramResponse {
	t.mu.Lock()
	b.calls[method] = append(b.calls[method], p)
	b.calls[method] = b.calls[method][max(0, len(b.calls[method])-maxCalls):]
	t.mu.Unlock()
	switch strings.ToLower(method) {
	case "getme":
		me := b.user()
		me["can_join_groups"], me["can_read_all_group_messages"], me["supports_inline_queries"] = true, true, false
		return telegramOK(me)
	case "getupdates":
		return t.getUpdates(r, b, p)
	case "setwebhook":
		return t.setWebhook(b, p)
	case "deletewebhook":
		return t.deleteWebhook(b, p)
	case "getwebhookinfo":
		return t.getWebhookInfo(b)
	case "setmycommands":
		return t.setMyCommands(b, p)
	case "sendmessage":
		return t.sendMessage(b, p)
	case "answercallbackquery":
		if p["callback_query_id"] == "" {
			return telegramError(http.StatusBadRequest,
				"Bad Request: query is too old and response timeout expired or query ID is invalid")
		}
		return telegramOK(true)
	case "getfile":
		return t.getFile(p["file_id"])
	}
	return telegramError(http.StatusNotFound, "Not Found: method not found")
}

func (t *Telegram) setMyCommands(b *telegramBot, p map[string]string) telegramResponse {
	var commands []struct {
		Command, Description string
	}
	if json.Unmarshal([]byte(p["commands"]), &commands) != nil {
		return telegramError(http.StatusBadRequest, "Bad Request: can't parse commands")
	}
	for _, c := range commands {
		valid := commandLength("/"+c.Command) == len(c.Command)+1 && c.Command == strings.ToLower(c.Command)
		if !valid || len(c.Command) > 32 {
			return telegramError(http.StatusBadRequest, "Bad Request: BOT_COMMAND_INVALID")
		}
		if c.Description == "" || len(c.Description) > 256 {
			return telegramError(http.StatusBadRequest, "Bad Request: BOT_COMMAND_DESCRIPTION_INVALID")
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	b.commands = json.RawMessage(p["commands"])
	return telegramOK(true)
}

func (t *Telegram) sendMessage(b *telegramBot, p map[string]string) telegramResponse {
	chat, err := strconv.ParseInt(p["chat_id"], 10, 64)
	if err != nil {
		return telegramError(http.StatusBadRequest, "Bad Request: chat not found")
	}
	text := strings.TrimSpace(p["text"])
	if text == "" {
		return telegramError(http.StatusBadRequest, "Bad Request: message text is empty")
	}
	if len(utf16.Encode([]rune(text))) > telegramMaxText {
		return telegramError(http.StatusBadRequest, "Bad Request: message is too long")
	}
	if p["message_thread_id"] == "1" {
		return telegramError(http.StatusBadRequest, "Bad Request: message thread not found")
	}
	if p["reply_parameters"] != "" && !t.canReply(p["chat_id"], p["reply_parameters"]) {
		return telegramError(http.StatusBadRequest, "Bad Request: message to be replied not found")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if to, ok := t.migrated[chat]; ok {
		moved := telegramError(http.StatusBadRequest, "Bad Request: group chat was upgraded to a supergroup chat")
		moved.Parameters = map[string]int64{"migrate_to_chat_id": to}
		return moved
	}
	if b.blocked[p["chat_id"]] {
		return telegramError(http.StatusForbidden, "Forbidden: bot was blocked by the user")
	}
	t.lastMessage++
	t.Add(Line{ID: strconv.FormatInt(t.lastMessage, 10), Chat: p["chat_id"], Text: text})
	kind := "private"
	if chat < 0 {
		kind = "supergroup"
	}
	return telegramOK(map[string]any{
		"message_id": t.lastMessage, "from": b.user(), "date": time.Now().Unix(), "text": text,
		"chat": map[string]any{"id": chat, "type": kind},
	})
}

// canReply reports whether the message of reply_parameters exists or does not have to.
func (t *Telegram) canReply(chat, parameters string) bool {
	var reply struct {
		ID           int64 `json:"message_id"`
		AllowMissing bool  `json:"allow_sending_without_reply"`
	}
	if json.Unmarshal([]byte(parameters), &reply) != nil {
		return false
	}
	for _, l := range t.Lines(chat) {
		if l.ID == strconv.FormatInt(reply.ID, 10) {
			return true
		}
	}
	return reply.AllowMissing
}

func (t *Telegram) getFile(id string) telegramResponse {
	t.mu.Lock()
	defer t.mu.Unlock()
	content, ok := t.files[id]
	switch {
	case !ok:
		return telegramError(http.StatusBadRequest, "Bad Request: invalid file_id")
	case len(content) > telegramMaxFile:
		return telegramError(http.StatusBadRequest, "Bad Request: file is too big")
	}
	return telegramOK(map[string]any{
		"file_id": id, "file_unique_id": "u" + id, "file_size": len(content), "file_path": "documents/" + id,
	})
}

func (t *Telegram) serveFile(w http.ResponseWriter, rest string) {
	token, path, _ := strings.Cut(rest, "/")
	id, _ := strings.CutPrefix(path, "documents/")
	t.mu.Lock()
	content, ok := t.files[id]
	known := t.bots[token] != nil
	t.mu.Unlock()
	if !ok || !known {
		telegramError(http.StatusNotFound, "Not Found").write(w)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = w.Write(content)
}

// telegramParams returns the parameters of a call from all places where the Bot API accepts them: the
// query, a form, a multipart form or a JSON body. A multipart form without parts is valid, because
// client libraries send it.
func telegramParams(r *http.Request) (map[string]string, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, telegramMaxBody))
	if err != nil {
		return nil, err
	}
	p := map[string]string{}
	kind, options, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch kind {
	case "application/json":
		p = jsonParams(body)
	case "application/x-www-form-urlencoded":
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return nil, err
		}
		copyFirstValues(p, form)
	case "multipart/form-data":
		parts := multipart.NewReader(strings.NewReader(string(body)), options["boundary"])
		for part, err := parts.NextPart(); err == nil; part, err = parts.NextPart() {
			value, err := io.ReadAll(part)
			if err != nil {
				return nil, err
			}
			p[part.FormName()] = string(value)
		}
	}
	copyFirstValues(p, r.URL.Query())
	return p, nil
}

func copyFirstValues(p map[string]string, form url.Values) {
	for k, v := range form {
		p[k] = v[0]
	}
}

func jsonParams(body []byte) map[string]string {
	var fields map[string]json.RawMessage
	_ = json.Unmarshal(body, &fields) // the method rejects missing parameters
	p := map[string]string{}
	for k, raw := range fields {
		var s string
		if json.Unmarshal(raw, &s) != nil {
			s = string(raw)
		}
		p[k] = s
	}
	return p
}
