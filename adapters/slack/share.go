package slack

import (
	"cmp"
	"encoding/json"
	"strings"
)

// maxShares is how many attachments of one message are read. People forward one message at a time.
const maxShares = 10

// A share is an attachment of a message. One that a person forwarded has IsShare set. The preview of
// a message to which they wrote a link has not.
type share struct {
	IsShare       bool            `json:"is_share"`
	IsMessage     bool            `json:"is_msg_unfurl"`
	AuthorName    string          `json:"author_name"`
	AuthorSubname string          `json:"author_subname"`
	AuthorID      string          `json:"author_id"`
	Text          string          `json:"text"`
	Fallback      string          `json:"fallback"`
	Blocks        json.RawMessage `json:"blocks"`
	MessageBlocks json.RawMessage `json:"message_blocks"`
	Files         json.RawMessage `json:"files"`

	raw json.RawMessage
}

// ownMarkup returns the words that the author of a message entered: its text, or else its blocks.
func (ev event) ownMarkup() string {
	if strings.TrimSpace(ev.Text) != "" {
		return ev.Text
	}
	return blockMarkup(ev.Blocks)
}

// shares returns the messages that a message forwards. Slack puts them in its attachments; the text
// of the message itself is the comment of the person who forwarded them. A message without words and
// files of its own consists of its attachments.
func (ev event) shares() []share {
	var entries []json.RawMessage
	if json.Unmarshal(ev.Attachments, &entries) != nil {
		return nil
	}
	alone := strings.TrimSpace(ev.ownMarkup()) == "" && len(attachments(ev.Files)) == 0
	var shares []share
	for _, entry := range entries {
		var s share
		if json.Unmarshal(entry, &s) != nil || !s.IsShare && !alone || len(shares) == maxShares {
			continue
		}
		s.raw = entry
		shares = append(shares, s)
	}
	return shares
}

// markup returns the author and the words of a forwarded message, or the words of another attachment.
func (s share) markup() string {
	words := s.Text
	if !s.IsMessage {
		words = blockMarkup(s.raw)
	}
	for _, other := range []string{blockMarkup(s.MessageBlocks), blockMarkup(s.Blocks), s.Fallback} {
		if strings.TrimSpace(words) == "" {
			words = other
		}
	}
	if strings.TrimSpace(words) == "" {
		return ""
	}
	author := cmp.Or(strings.TrimSpace(s.AuthorName), strings.TrimSpace(s.AuthorSubname))
	if author == "" && isUserID(s.AuthorID) {
		author = "<@" + s.AuthorID + ">"
	}
	if author != "" {
		return author + ": " + words
	}
	return words
}

// markup returns all words of a message: the author's own, and those of the messages forwarded, each
// in a line of its own.
func (ev event) markup() string {
	lines := []string{ev.ownMarkup()}
	for _, s := range ev.shares() {
		lines = append(lines, s.markup())
	}
	var words []string
	for _, line := range lines {
		if line = strings.TrimSpace(line); line != "" {
			words = append(words, line)
		}
	}
	return strings.Join(words, "\n")
}
