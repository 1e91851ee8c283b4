package simulator

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"
)

// An address for answers takes five, within half an hour.
const (
	slackResponseLimit    = 5
	slackResponseLifetime = 30 * time.Minute
)

// newResponseURL gives a new address for answers to u. The caller holds s.mu.
func (s *Slack) newResponseURL(u SlackUser, channel string) string {
	id := s.nextID("R")
	s.responseURLs[id] = &slackResponseURL{user: u, channel: channel, expires: s.Now().Add(slackResponseLifetime), remaining: slackResponseLimit}
	return s.baseURL + "/response/" + id
}

func (s *Slack) serveResponseURL(w http.ResponseWriter, r *http.Request, id string) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, slackMaxBody))
	if err != nil || r.Method != http.MethodPost {
		http.Error(w, "invalid_payload", http.StatusBadRequest)
		return
	}
	fault, faulty := s.pop("response_url")
	if faulty && !fault.afterProcessing() {
		fault.respond(w, r)
		return
	}
	status, said := s.postResponse(id, body)
	if faulty {
		fault.respond(w, r)
		return
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, said)
}

func (s *Slack) postResponse(id string, body []byte) (status int, said string) {
	var m struct {
		Text         string `json:"text"`
		ResponseType string `json:"response_type"`
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.responseURLs[id]
	switch {
	case a == nil, s.Now().After(a.expires):
		return http.StatusNotFound, "expired_url"
	case a.remaining == 0:
		return http.StatusNotFound, "used_url"
	case json.Unmarshal(body, &m) != nil:
		return http.StatusBadRequest, "invalid_payload"
	case strings.TrimSpace(m.Text) == "":
		return http.StatusBadRequest, "no_text"
	}
	a.remaining--
	line := Line{ID: s.nextTimestamp(), Chat: a.user.Chat(), Text: renderSlackText(truncateSlackText(m.Text)), Private: true}
	if m.ResponseType == "in_channel" {
		line.Chat, line.Private = s.transcriptChat(a.channel), false
	}
	s.Add(line)
	return http.StatusOK, "ok"
}
