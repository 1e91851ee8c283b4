package simulator

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"
)

// Limits of a response URL.
const (
	slackResponseLimit    = 5
	slackResponseLifetime = 30 * time.Minute
)

// NewResponseURL returns a new response URL for u in a channel, as a slash command or an interaction
// has one.
func (s *Slack) NewResponseURL(u SlackUser, channel string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newResponseURL(u, channel)
}

// newResponseURL returns a new response URL for u in a channel. The caller must hold s.mu.
func (s *Slack) newResponseURL(u SlackUser, channel string) string {
	id := s.nextID("R")
	s.responseURLs[id] = &slackResponseURL{
		user: u, channel: channel, expires: s.Now().Add(slackResponseLifetime), remaining: slackResponseLimit,
	}
	return s.baseURL + "/response/" + id
}

func (s *Slack) serveResponseURL(w http.ResponseWriter, r *http.Request, id string) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, slackMaxBody))
	if err != nil || r.Method != http.MethodPost {
		http.Error(w, "invalid_payload", http.StatusBadRequest)
		return
	}
	fault, faulty := s.pop("", "response_url")
	if faulty && !fault.afterProcessing() {
		fault.respond(w, r)
		return
	}
	status, result := s.postResponse(id, body)
	if faulty {
		fault.respond(w, r)
		return
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, result)
}

// postResponse posts a message to a response URL. It returns the status and the body of the response.
func (s *Slack) postResponse(id string, body []byte) (status int, result string) {
	var m struct {
		Text         string `json:"text"`
		ResponseType string `json:"response_type"`
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	target := s.responseURLs[id]
	switch {
	case target == nil, s.Now().After(target.expires):
		return http.StatusNotFound, "expired_url"
	case target.remaining == 0:
		return http.StatusNotFound, "used_url"
	case json.Unmarshal(body, &m) != nil:
		return http.StatusBadRequest, "invalid_payload"
	case strings.TrimSpace(m.Text) == "":
		return http.StatusBadRequest, "no_text"
	}
	target.remaining--
	text := renderSlackText(truncateSlackText(m.Text))
	line := Line{ID: s.nextTimestamp(), Chat: target.user.Chat(), Text: text, Private: true}
	if m.ResponseType == "in_channel" {
		line.Chat, line.Private = s.transcriptChat(target.channel), false
	}
	s.Add(line)
	return http.StatusOK, "ok"
}
