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
	slackAnswerLimit = 5
	slackAnswerTime  = 30 * time.Minute
)

// answerURL gives a new address for answers to u. The caller holds s.mu.
func (s *Slack) answerURL(u SlackUser, channel string) string {
	id := s.id("R")
	s.answers[id] = &slackAnswers{user: u, channel: channel, until: s.Now().Add(slackAnswerTime), left: slackAnswerLimit}
	return s.base + "/response/" + id
}

func (s *Slack) serveAnswer(w http.ResponseWriter, r *http.Request, id string) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, slackLargestCall))
	if err != nil || r.Method != http.MethodPost {
		http.Error(w, "invalid_payload", http.StatusBadRequest)
		return
	}
	fault, faulty := s.take("response_url")
	if faulty && !fault.lossy() {
		fault.play(w, r)
		return
	}
	status, said := s.answer(id, body)
	if faulty {
		fault.play(w, r)
		return
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, said)
}

func (s *Slack) answer(id string, body []byte) (status int, said string) {
	var m struct {
		Text         string `json:"text"`
		ResponseType string `json:"response_type"`
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.answers[id]
	switch {
	case a == nil, s.Now().After(a.until):
		return http.StatusNotFound, "expired_url"
	case a.left == 0:
		return http.StatusNotFound, "used_url"
	case json.Unmarshal(body, &m) != nil:
		return http.StatusBadRequest, "invalid_payload"
	case strings.TrimSpace(m.Text) == "":
		return http.StatusBadRequest, "no_text"
	}
	a.left--
	line := Line{ID: s.stamp(), Chat: a.user.Chat(), Text: slackShown(slackCut(m.Text)), Private: true}
	if m.ResponseType == "in_channel" {
		line.Chat, line.Private = s.chat(a.channel), false
	}
	s.Add(line)
	return http.StatusOK, "ok"
}
