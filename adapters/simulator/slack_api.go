package simulator

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	slackMaxBody = 1 << 20
	slackMaxText = 40_000 // characters; longer texts are truncated
)

// A slackCall is a call of the Web API with a valid token.
type slackCall struct {
	app  SlackApp
	form url.Values
}

type slackFields map[string]any

func slackError(code string) slackFields { return slackFields{"ok": false, "error": code} }

// ServeHTTP handles a call of the Web API, a request to a response URL or a Socket Mode connection.
func (s *Slack) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if id, ok := strings.CutPrefix(r.URL.Path, "/response/"); ok {
		s.serveResponseURL(w, r, id)
		return
	}
	if r.URL.Path == "/link/" {
		s.serveSocket(w, r)
		return
	}
	method, ok := strings.CutPrefix(r.URL.Path, "/api/")
	if !ok {
		http.NotFound(w, r)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, slackMaxBody)
	if err := r.ParseForm(); err != nil {
		writeSlackJSON(w, slackError("invalid_form_data"))
		return
	}
	fault, faulty := s.take(r, s.appOfToken(r), method)
	if faulty && !fault.afterProcessing() {
		fault.respond(w, r)
		return
	}
	response := s.authorizeCall(w, method, r)
	if faulty {
		fault.respond(w, r)
		return
	}
	writeSlackJSON(w, response)
}

// appOfToken returns the ID of the app whose token a call has, or "" if there is none.
func (s *Slack) appOfToken(r *http.Request) string {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		token = r.PostForm.Get("token")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, app := range s.apps {
		if token != "" && (token == app.Token || token == app.AppToken) {
			return app.AppID
		}
	}
	return ""
}

func writeSlackJSON(w http.ResponseWriter, response slackFields) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	writeJSON(w, http.StatusOK, response)
}

// authorizeCall checks the token of a call and executes it.
func (s *Slack) authorizeCall(w http.ResponseWriter, method string, r *http.Request) slackFields {
	s.mu.Lock()
	defer s.mu.Unlock()
	if method == "apps.connections.open" {
		return s.connectionsOpen(r)
	}
	token := r.PostForm.Get("token")
	if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		token = bearer
	}
	if token == "" {
		return slackError("not_authed")
	}
	for _, app := range s.apps {
		if app.Token == token && app.TokenError != "" {
			return slackError(app.TokenError)
		}
		if app.Token == token {
			if len(app.Scopes) > 0 {
				w.Header().Set("X-Oauth-Scopes", strings.Join(app.Scopes, ","))
			}
			return s.dispatch(method, slackCall{app: app, form: r.Form})
		}
	}
	return slackError("invalid_auth")
}

func (s *Slack) dispatch(method string, c slackCall) slackFields {
	switch method {
	case "auth.test":
		return slackFields{
			"ok": true, "url": "https://example.slack.com/", "team": c.app.TeamName, "user": "bot",
			"team_id": c.app.TeamID, "user_id": c.app.BotUserID, "bot_id": c.app.BotID, "is_enterprise_install": false,
		}
	case "bots.info":
		return s.botsInfo(c)
	case "users.info":
		return s.usersInfo(c)
	case "conversations.open":
		return s.conversationsOpen(c)
	case "conversations.history":
		return s.history(c, "")
	case "conversations.replies":
		return s.history(c, c.form.Get("ts"))
	case "chat.postMessage":
		return s.postMessage(c)
	case "chat.postEphemeral":
		return s.postEphemeral(c)
	}
	return slackError("unknown_method")
}

func (s *Slack) botsInfo(c slackCall) slackFields {
	if c.form.Get("bot") != c.app.BotID {
		return slackError("bot_not_found")
	}
	return slackFields{"ok": true, "bot": slackFields{
		"id": c.app.BotID, "app_id": c.app.AppID, "user_id": c.app.BotUserID, "name": "bot", "deleted": false,
	}}
}

func (s *Slack) usersInfo(c slackCall) slackFields {
	u, ok := s.findUser(c.app, c.form.Get("user"))
	if !ok {
		return slackError("user_not_found")
	}
	return slackFields{"ok": true, "user": slackFields{
		"id": u.ID, "team_id": u.Team, "name": strings.ToLower(u.Name), "real_name": u.Name,
		"deleted": false, "is_bot": false, "is_stranger": u.Team != c.app.TeamID,
		"profile": slackFields{"real_name": u.Name, "display_name": u.Name, "team": u.Team},
	}}
}

// findUser returns the person with a user ID, preferably in the workspace of the app.
func (s *Slack) findUser(app SlackApp, id string) (SlackUser, bool) {
	if u, ok := s.users[app.TeamID+":"+id]; ok {
		return u, true
	}
	for _, u := range s.users {
		if u.ID == id {
			return u, true
		}
	}
	return SlackUser{}, false
}

func (s *Slack) conversationsOpen(c slackCall) slackFields {
	u, ok := s.findUser(c.app, c.form.Get("users"))
	if !ok {
		return slackError("user_not_found")
	}
	return slackFields{"ok": true, "channel": slackFields{"id": s.openDirect(c.app.AppID, u)}}
}

// resolveChannel returns the channel to which an app posts. If the parameter is a user ID, it is the
// direct conversation. code is Slack's error code if the app cannot post there.
func (s *Slack) resolveChannel(c slackCall) (channel, code string) {
	channel = c.form.Get("channel")
	if strings.HasPrefix(channel, "U") || strings.HasPrefix(channel, "W") {
		if u, ok := s.findUser(c.app, channel); ok {
			return s.openDirect(c.app.AppID, u), ""
		}
		return "", "channel_not_found"
	}
	if d, ok := s.directs[channel]; ok && d.app == c.app.AppID {
		return channel, ""
	}
	room, ok := s.rooms[channel]
	switch {
	case !ok:
		return "", "channel_not_found"
	case room.archived:
		return "", "is_archived"
	}
	return channel, ""
}

func (s *Slack) postMessage(c slackCall) slackFields {
	channel, code := s.resolveChannel(c)
	text := truncateSlackText(c.form.Get("text"))
	switch {
	case code != "":
		return slackError(code)
	case strings.TrimSpace(text) == "":
		return slackError("no_text")
	}
	p := slackPost{
		channel: channel, ts: s.nextTimestamp(), thread: c.form.Get("thread_ts"), text: text,
		user: c.app.BotUserID, botID: c.app.BotID, metadata: c.form.Get("metadata"),
	}
	s.posts = append(s.posts, p)
	s.Add(Line{ID: p.ts, Chat: s.transcriptChat(channel), Text: renderSlackText(text)})
	return slackFields{"ok": true, "channel": channel, "ts": p.ts, "message": p.fields(false)}
}

func (s *Slack) postEphemeral(c slackCall) slackFields {
	_, code := s.resolveChannel(c)
	u, ok := s.findUser(c.app, c.form.Get("user"))
	text := truncateSlackText(c.form.Get("text"))
	switch {
	case code != "":
		return slackError(code)
	case !ok:
		return slackError("user_not_in_channel")
	case strings.TrimSpace(text) == "":
		return slackError("no_text")
	}
	ts := s.nextTimestamp()
	s.Add(Line{ID: ts, Chat: u.Chat(), Text: renderSlackText(text), Private: true})
	return slackFields{"ok": true, "message_ts": ts}
}

// history returns the messages of a conversation, newest first, or those of a thread, oldest first.
// They include metadata only if the call asks for it.
func (s *Slack) history(c slackCall, thread string) slackFields {
	channel, code := s.resolveChannel(c)
	if code != "" {
		return slackError(code)
	}
	metadata := c.form.Get("include_all_metadata")
	messages := []slackFields{}
	for _, p := range s.posts {
		listed := p.thread == thread || thread != "" && p.ts == thread
		if p.channel == channel && listed && p.ts > c.form.Get("oldest") {
			messages = append(messages, p.fields(metadata == "1" || metadata == "true"))
		}
	}
	if thread == "" {
		slices.Reverse(messages)
	}
	return slackFields{"ok": true, "messages": messages, "has_more": false}
}

func (p slackPost) fields(metadata bool) slackFields {
	m := slackFields{"type": "message", "user": p.user, "text": p.text, "ts": p.ts}
	if p.botID != "" {
		m["bot_id"] = p.botID
	}
	if p.thread != "" {
		m["thread_ts"] = p.thread
	}
	if metadata && p.metadata != "" {
		m["metadata"] = json.RawMessage(p.metadata)
	}
	return m
}

func truncateSlackText(text string) string {
	if utf8.RuneCountInString(text) <= slackMaxText {
		return text
	}
	return string([]rune(text)[:slackMaxText])
}
