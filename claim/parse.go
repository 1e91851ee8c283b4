package claim

import (
	"net/url"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxTextLen is the length, in bytes, of the longest text that is searched for a code.
const MaxTextLen = 512

// A ParsedText is the result of parsing a text that concerns claims.
type ParsedText struct {
	// Code is the code in six capital letters, or that of an invite in twelve. It is empty if a
	// command contained no well-formed code. A text never yields more than one candidate.
	Code string

	// Command reports whether the text is a claim command. A code without a command may be an
	// ordinary word; it is a claim only if its sender has a live code.
	Command bool

	// Misread reports whether the code was typed without a command, and with a character that only
	// looks like a code letter.
	Misread bool
}

// Redacted returns the form of the text that may be stored.
func (t ParsedText) Redacted() string {
	if t.Command {
		return "/claim ******"
	}
	return "******"
}

// Parse parses a text that may be a claim. It returns false if the text is about something else.
// botName is the bot's own username, or empty if it has none; a command addressed to another bot
// is not a claim.
//
// Commands are "/claim CODE", "/claim@botName CODE", "claim CODE" and the deep link "/start
// claim_CODE", in any case and with whatever keyboards, autocorrection and quoting leave around
// them. "/claim" is a command whatever follows it. Without the slash "claim" is also an ordinary
// word, and a command only if it stands alone or what follows looks like an attempt at a code. A pasted
// deep link ("https://t.me/botName?start=claim_CODE", "tg://resolve?domain=botName&start=claim_CODE")
// is the command that it sends.
//
// A code without a command must be the whole text, in one piece, as 3-3 or as 2-2-2, with at most
// one misread character. That of an invite must be in one piece, as 4-4-4 or as 3-3-3-3. Two words
// of six letters are two codes, and therefore not a claim.
//
// A signature does not hide a code: if lines follow the one that ends with a code, only the lines up to it
// count. They must not be codes themselves.
func Parse(text, botName string) (ParsedText, bool) {
	botName = canonicalize(strings.TrimPrefix(botName, "@"))
	return parse(text, func(name string) bool { return botName != "" && name == botName })
}

// ParsePrivate is like Parse for a text in a private chat with the bot, in which there is no other bot: a
// command is a claim whatever bot it names.
func ParsePrivate(text string) (ParsedText, bool) {
	return parse(text, func(string) bool { return true })
}

func parse(text string, isOurs func(name string) bool) (ParsedText, bool) {
	part, whole := truncate(text)
	t, ok := parsePart(part, isOurs)
	if t.Code != "" && whole {
		return t, ok
	}
	for lines, end := 1, 0; lines <= maxClaimLines; lines++ {
		n := strings.IndexByte(part[end:], '\n')
		if n < 0 {
			break
		}
		end += n + 1
		if first, ok := parsePart(part[:end], isOurs); ok && first.Code != "" && isSignature(part[end:]) {
			return first, true
		}
	}
	if whole {
		return t, ok
	}
	return ParsedText{Command: t.Command}, t.Command
}

// maxClaimLines is the number of lines into which a command and its code may be broken.
const maxClaimLines = 2

// isSignature reports whether text can follow a code: it has other words than codes, and no line that is
// one.
func isSignature(text string) bool {
	for line := range strings.Lines(text) {
		if _, ok := parseBareCode(canonicalize(line)); ok {
			return false
		}
	}
	return strings.ContainsFunc(canonicalize(text), func(r rune) bool {
		return isAlphanumeric(r) && !isCodeLetter(resolveLookalike(r))
	})
}

// parsePart parses a text without regard to its length.
func parsePart(text string, isOurs func(name string) bool) (ParsedText, bool) {
	text = strings.TrimFunc(text, isBlank)
	if command, ok := parseLink(text); ok {
		text = command
	}
	canonical := canonicalize(text)
	body, slash := trimDecoration(canonical)
	t, ok := parseCommand(body, slash, isOurs)
	if !ok {
		t.Code, ok = parseBareCode(canonical)
		t.Misread = ok && strings.ContainsFunc(canonical, func(r rune) bool { return isAlphanumeric(r) && !isCodeLetter(r) })
	}
	return t, ok
}

// parseLink returns the command that a deep link sends. It returns false if text is not such a link.
func parseLink(text string) (command string, ok bool) {
	text = strings.Trim(text, "<>()[]\"'`*_~.,!")
	if !strings.Contains(text, "start=") {
		return "", false
	}
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return "", false
	}
	bot := strings.Trim(u.Path, "/")
	switch strings.ToLower(u.Scheme + "://" + strings.TrimPrefix(u.Host, "www.")) {
	case "https://t.me", "http://t.me", "https://telegram.me", "http://telegram.me", "https://telegram.dog":
	case "tg://resolve":
		bot = u.Query().Get("domain")
	default:
		return "", false
	}
	return "/start@" + bot + " " + u.Query().Get("start"), true
}

// IsAddressedToBot reports whether text is a claim addressed to a bot by name, whichever bot that
// is: "/claim@name …" or the deep link "/start@name claim_CODE". If Parse does not return it as a
// claim, it is for another bot.
func IsAddressedToBot(text string) bool {
	if !strings.ContainsAny(text, atSigns) {
		return false
	}
	part, _ := truncate(text)
	body, slash := trimDecoration(canonicalize(part))
	named := false
	_, ok := parseCommand(body, slash, func(string) bool { named = true; return true })
	return slash && ok && named
}

// trimDecoration returns canonical text from the first letter or digit on, and whether a slash
// precedes it.
func trimDecoration(text string) (body string, slash bool) {
	body = strings.TrimLeftFunc(text, negate(isAlphanumeric))
	return body, strings.ContainsAny(text[:len(text)-len(body)], slashes)
}

// truncate returns the part of text that is parsed, without surrounding blanks, and whether that
// is all of it.
func truncate(text string) (part string, whole bool) {
	text = strings.TrimFunc(text, isBlank)
	if len(text) <= MaxTextLen {
		return text, true
	}
	cut := MaxTextLen
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut], false
}

// parseCommand parses a command. body is canonical text from the first letter on, slash reports
// whether a slash precedes it, and isOurs whether a name is that of this bot.
func parseCommand(body string, slash bool, isOurs func(name string) bool) (ParsedText, bool) {
	if rest, ok := strings.CutPrefix(body, "CLAIM"); ok {
		return parseClaim(rest, slash, isOurs)
	}
	if rest, ok := strings.CutPrefix(body, "START"); ok && slash && !continuesWord(rest) {
		return parseStart(rest, isOurs)
	}
	return ParsedText{}, false
}

// parseClaim parses what follows the word "claim".
func parseClaim(rest string, slash bool, isOurs func(name string) bool) (ParsedText, bool) {
	if continuesWord(rest) {
		return parseJoinedWord(rest)
	}
	rest, ours := cutBotName(rest, isOurs)
	if !ours {
		return ParsedText{}, false
	}
	for _, part := range []string{rest, cutSignature(rest)} {
		if code, ok := parseCode(part); ok {
			return ParsedText{Code: code, Command: true}, true
		}
	}
	if slash || isCodeAttempt(rest) {
		return ParsedText{Command: true}, true
	}
	return ParsedText{}, false
}

// shortcode matches an emoji in the form in which some channels write it, such as ":+1:".
var shortcode = regexp.MustCompile(`:[A-Z0-9_+'-]+:`)

// cutSignature returns the first line with letters or digits of text that follows a command, without the
// names of emoji. What follows it is a signature, unless it could be a code as well.
func cutSignature(text string) string {
	text = strings.TrimLeftFunc(shortcode.ReplaceAllString(text, " "), negate(isAlphanumeric))
	line, signature, _ := strings.Cut(text, "\n")
	if containsNearCode(signature) {
		return text
	}
	return line
}

// parseJoinedWord parses what follows "claim" without a gap: a code, or the rest of another word
// ("claimed", "claims").
func parseJoinedWord(rest string) (ParsedText, bool) {
	if code, ok := parseBareCode(rest); ok {
		return ParsedText{Code: code, Command: true}, true
	}
	if containsNearCode(rest) {
		return ParsedText{Command: true}, true
	}
	return ParsedText{}, false
}

// parseStart parses the payload of a deep link. A link with another payload is not a claim, also if it
// has the form of a code: the application makes such links too. Nor is "/start" alone, which opens every
// conversation.
func parseStart(rest string, isOurs func(name string) bool) (ParsedText, bool) {
	rest, ours := cutBotName(rest, isOurs)
	if !ours {
		return ParsedText{}, false
	}
	payload := strings.TrimLeftFunc(rest, negate(isAlphanumeric))
	if after, ok := strings.CutPrefix(payload, "CLAIM"); ok {
		return parseClaim(after, true, isOurs)
	}
	return ParsedText{}, false
}

// cutBotName removes "@name" from what follows a command, and reports whether the command is for
// this bot.
func cutBotName(rest string, isOurs func(name string) bool) (after string, ours bool) {
	name, found := strings.CutPrefix(strings.TrimLeftFunc(rest, unicode.IsSpace), "@")
	if !found {
		return rest, true
	}
	end := strings.IndexFunc(name, func(r rune) bool { return !isAlphanumeric(r) && r != '_' })
	if end < 0 {
		end = len(name)
	}
	return name[end:], isOurs(name[:end])
}

// parseCode parses all letters and digits of canonical text as a code. Their number decides
// whether it is that of an identity or of an invite.
func parseCode(text string) (string, bool) {
	var letters [inviteLen]byte
	n := 0
	for _, r := range text {
		if !isAlphanumeric(r) && r != '|' {
			continue
		}
		letter := resolveLookalike(r)
		if !isCodeLetter(letter) || n == inviteLen {
			return "", false
		}
		letters[n] = byte(letter) //nolint:gosec // letters of codes are ASCII
		n++
	}
	code := string(letters[:n])
	return code, n == codeLen || n == inviteLen && !isRepeatedCode(code) && !isTwoWords(text)
}

// isTwoWords reports whether text consists of two words of equal length. Twelve letters are then
// two codes, not an invite.
func isTwoWords(text string) bool {
	var lengths []int
	for word := range strings.FieldsSeq(text) {
		n := 0
		for _, r := range word {
			if isAlphanumeric(r) || r == '|' {
				n++
			}
		}
		if n > 0 {
			lengths = append(lengths, n)
		}
	}
	return len(lengths) == 2 && lengths[0] == lengths[1]
}

// parseBareCode parses canonical text as a code without a command. It rejects ordinary words,
// numbers, names, topics and other commands.
func parseBareCode(text string) (string, bool) {
	if strings.ContainsAny(text, slashes+"@#") {
		return "", false
	}
	groups := strings.FieldsFunc(text, negate(isAlphanumeric))
	size, ok := groupSize(groups)
	if !ok {
		return "", false
	}
	misread := 0
	for _, group := range groups {
		if len(group) != size {
			return "", false
		}
		for _, r := range group {
			if !isCodeLetter(r) {
				misread++
			}
		}
	}
	letters, ok := parseCode(text)
	if !ok || misread > 1 || hasLongRun(letters) {
		return "", false
	}
	return letters, true
}

// groupSize returns the length that each group must have for all of them to be a code. It returns
// false if there is none.
func groupSize(groups []string) (size int, ok bool) {
	if len(groups) == 0 {
		return 0, false
	}
	size = len(groups[0])
	switch n := len(groups); n * size {
	case codeLen:
		return size, n <= 3
	case inviteLen:
		return size, n == 1 || n == 3 || n == 4
	}
	return 0, false
}

// isCodeAttempt reports whether text that follows the ordinary word "claim" is an attempt to type
// a code: no text, text that is nearly a code, or a sentence that contains such text.
func isCodeAttempt(rest string) bool {
	return strings.IndexFunc(rest, isAlphanumeric) < 0 || isNearCode(rest, 1) || containsNearCode(rest)
}

// containsNearCode reports whether a word of text could be a mistyped code.
func containsNearCode(rest string) bool {
	for word := range strings.FieldsSeq(rest) {
		if isNearCode(word, 0) {
			return true
		}
	}
	return false
}

// isNearCode reports whether text could be a mistyped code: it has at most one letter too few, is
// not a number, and contains at most maxOther letters that do not occur in codes.
func isNearCode(text string, maxOther int) bool {
	n, digits, others := 0, 0, 0
	for _, r := range text {
		switch {
		case !isAlphanumeric(r):
			continue
		case unicode.IsNumber(r):
			digits++
		case !isCodeLetter(r):
			others++
		}
		n++
	}
	return n >= codeLen-1 && digits < n && others <= maxOther
}

// continuesWord reports whether rest begins with a letter or digit.
func continuesWord(rest string) bool {
	r, _ := utf8.DecodeRuneInString(rest)
	return rest != "" && isAlphanumeric(r)
}

func negate(is func(rune) bool) func(rune) bool {
	return func(r rune) bool { return !is(r) }
}
