package adapters

import (
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
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

// AnyBot as the username of the bot stands for all bots, as in a private chat, in which there is only one.
const AnyBot = "*"

// maxCommandHead is the length of the longest "/name@bot", in bytes, with the marks that keyboards add.
const maxCommandHead = 512

// ParseCommand parses "/name args" and "/name@bot args". It reports false if text is not a command or
// is addressed to a bot other than botUsername. The name is returned in lower case, and the
// arguments without surrounding white space. Compatibility characters, such as a full-width slash, and
// invisible ones in front of or within the command are accepted.
func ParseCommand(text, botUsername string) (Command, bool) {
	head, args := strings.TrimLeftFunc(text, isBlank), ""
	if i := strings.IndexFunc(head, unicode.IsSpace); i >= 0 {
		head, args = head[:i], strings.TrimFunc(head[i:], isBlank)
	}
	if len(head) > maxCommandHead {
		return Command{}, false
	}
	head = strings.Map(func(r rune) rune {
		if isInvisible(r) {
			return -1
		}
		return r
	}, norm.NFKC.String(head))
	head, isCommand := strings.CutPrefix(head, "/")
	name, bot, addressed := strings.Cut(head, "@")
	if !isCommand || addressed && !isBotName(bot, botUsername) || !isCommandName(name) {
		return Command{}, false
	}
	return Command{Name: strings.ToLower(name), Args: args}, true
}

// isBotName reports whether name is that of the bot, which has none if botUsername is empty.
func isBotName(name, botUsername string) bool {
	return botUsername == AnyBot && name != "" || botUsername != "" && strings.EqualFold(name, botUsername)
}

// isInvisible reports whether r is not visible by itself, such as a joiner, a direction mark or an accent.
func isInvisible(r rune) bool {
	return unicode.In(r, unicode.Cf, unicode.M) || unicode.IsControl(r) && !unicode.IsSpace(r)
}

func isBlank(r rune) bool { return unicode.IsSpace(r) || isInvisible(r) }

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
