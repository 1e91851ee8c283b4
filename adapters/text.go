package adapters

import (
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// MaxInboundText is the longest text that is kept of one inbound message, in
// bytes; more is cut. It is above the largest text any of the channels delivers.
const MaxInboundText = 64 << 10

// Sanitize makes a text from outside safe to store: invalid UTF-8 and NUL become
// U+FFFD, and it is cut to max bytes without splitting a character.
func Sanitize(s string, max int) string {
	if len(s) > max {
		cut := max
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut]
	}
	s = strings.ToValidUTF8(s, "\uFFFD")
	return strings.ReplaceAll(s, "\x00", "\uFFFD")
}

// ParseCommand reads "/name args" and "/name@bot args". me is the bot's own
// username; a command addressed to another bot is none of ours. The name comes in
// lower case, the arguments trimmed.
func ParseCommand(text, me string) (Command, bool) {
	if !strings.HasPrefix(text, "/") {
		return Command{}, false
	}
	head, args := text[1:], ""
	if i := strings.IndexFunc(head, unicode.IsSpace); i >= 0 {
		head, args = head[:i], strings.TrimSpace(head[i:])
	}
	name, at, addressed := strings.Cut(head, "@")
	if addressed && (me == "" || !strings.EqualFold(at, me)) {
		return Command{}, false
	}
	if !isCommandName(name) {
		return Command{}, false
	}
	return Command{Name: strings.ToLower(name), Args: args}, true
}

func isCommandName(s string) bool {
	if s == "" || len(s) > 32 {
		return false
	}
	for _, r := range s {
		if r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
			return false
		}
	}
	return true
}

// UTF16Len counts a text in UTF-16 units, the safe reading of Telegram's limit.
func UTF16Len(s string) int {
	n := 0
	for _, r := range s {
		n += max(1, utf16.RuneLen(r))
	}
	return n
}

// Split cuts a text into parts of at most l.MaxText units, at the last newline or
// blank in the second half of a part when there is one, never within a character.
// Parts are trimmed, and an empty text gives none.
func (l Limits) Split(text string) []string {
	var parts []string
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		part := l.firstPart(text)
		parts = append(parts, strings.TrimSpace(part))
		text = text[len(part):]
	}
	return parts
}

func (l Limits) firstPart(text string) string {
	used, soft := 0, -1
	for i, r := range text {
		used += l.Measure(string(r))
		if used > l.MaxText && i > 0 {
			if soft > i/2 {
				return text[:soft]
			}
			return text[:i]
		}
		if r == '\n' || r == ' ' {
			soft = i + 1
		}
	}
	return text
}
