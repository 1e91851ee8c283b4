package adapters

import (
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// MaxInboundText is the maximum length of the text of an inbound message, in bytes. Longer texts are
// truncated. It exceeds what any of the channels delivers: a message of Slack has up to 40,000
// characters of up to four bytes, and may forward another.
const MaxInboundText = 320 << 10

// Sanitize makes external text safe to store. It truncates s to limit bytes without splitting a
// character, and then replaces invalid UTF-8 and NUL by U+FFFD.
func Sanitize(s string, limit int) string {
	if len(s) > limit {
		cut := limit
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut]
	}
	s = strings.ToValidUTF8(s, "\uFFFD")
	return strings.ReplaceAll(s, "\x00", "\uFFFD")
}

// Printable returns s on one line, without the characters that could change how a terminal or a page
// shows what surrounds it: control characters, and format characters such as those that reverse the
// direction of writing. Joiners are retained, because emoji and some scripts need them.
func Printable(s string) string {
	return strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r), r == zeroWidthNonJoiner, r == zeroWidthJoiner:
			return r
		case unicode.In(r, unicode.Cc, unicode.Cf):
			return -1
		}
		return r
	}, s)), " ")
}

const (
	zeroWidthNonJoiner = '\u200C'
	zeroWidthJoiner    = '\u200D'
)

// ParseCommand parses "/name args" and "/name@bot args". It reports false if text is not a command or
// is addressed to a bot other than botUsername. The name is returned in lower case, and the
// arguments without surrounding white space.
func ParseCommand(text, botUsername string) (Command, bool) {
	if !strings.HasPrefix(text, "/") {
		return Command{}, false
	}
	head, args := text[1:], ""
	if i := strings.IndexFunc(head, unicode.IsSpace); i >= 0 {
		head, args = head[:i], strings.TrimSpace(head[i:])
	}
	name, bot, addressed := strings.Cut(head, "@")
	if addressed && (botUsername == "" || !strings.EqualFold(bot, botUsername)) {
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

// UTF16Len returns the length of a text in UTF-16 code units.
func UTF16Len(s string) int {
	n := 0
	for _, r := range s {
		n += max(1, utf16.RuneLen(r))
	}
	return n
}

// Split divides a text into parts of at most l.MaxText units. It splits after the last newline or
// space in the second half of a part, or else between two characters. The parts have no surrounding
// white space. Split returns nil if there is no other text.
func (l Limits) Split(text string) []string {
	var parts []string
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		part := l.firstPart(text)
		parts = append(parts, strings.TrimSpace(part))
		text = text[len(part):]
	}
	return parts
}

// firstPart returns the longest prefix of text that is one part, with trailing white space.
func (l Limits) firstPart(text string) string {
	used, lastBreak := 0, -1
	for i, r := range text {
		used += l.Measure(string(r))
		if used > l.MaxText && i > 0 {
			if lastBreak > i/2 {
				return text[:lastBreak]
			}
			return text[:i]
		}
		if r == '\n' || r == ' ' {
			lastBreak = i + 1
		}
	}
	return text
}
