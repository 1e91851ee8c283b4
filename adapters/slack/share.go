package slack

import (
	"encoding/json"
	"strings"
)

// maxShares is how many forwarded messages of one message are read. People forward one at a time.
const maxShares = 10

// A share is an attachment of a message. One that a person forwarded has IsShare set. The preview of
// a message to which they wrote a link has not.
type share struct {
	IsShare  bool   `json:"is_share"`
	Text     string `json:"text"`
	Fallback string `json:"fallback"`
}

// sharedTexts returns the texts of the messages that a message forwards. Slack puts them in its
// attachments; the text of the message itself is the comment of the person who forwarded them.
func sharedTexts(attachments json.RawMessage) []string {
	var entries []json.RawMessage
	if json.Unmarshal(attachments, &entries) != nil {
		return nil
	}
	var texts []string
	for _, entry := range entries {
		var s share
		if json.Unmarshal(entry, &s) != nil || !s.IsShare || len(texts) == maxShares {
			continue
		}
		if strings.TrimSpace(s.Text) == "" {
			s.Text = s.Fallback
		}
		texts = append(texts, s.Text)
	}
	return texts
}

// joinTexts returns a comment and the texts that follow it, each in a line of its own.
func joinTexts(comment string, texts []string) string {
	var lines []string
	for _, text := range append([]string{comment}, texts...) {
		if text = strings.TrimSpace(text); text != "" {
			lines = append(lines, text)
		}
	}
	return strings.Join(lines, "\n")
}
