package claim

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxTextLen is the longest text, in bytes, that a code is looked for in.
const MaxTextLen = 512

// A ParsedText is what somebody typed that concerns claims.
type ParsedText struct {
	// Code is the code in its six capital letters, or that of an invite in its twelve;
	// empty when a command came without a well-formed one. One text gives one candidate
	// at most: nothing is guessed.
	Code string

	// Command says that the text asks for a claim. A code without it stands alone:
	// whether it is a claim depends on whether its sender has a live code.
	Command bool
}

// Redacted is what may be stored of the text.
func (t ParsedText) Redacted() string {
	if t.Command {
		return "/claim ******"
	}
	return "******"
}

// Parse reads a text for a claim; false says that it is about something else. me is
// the bot's own username, if it has one: a command for another bot is none of ours.
//
// Commands are "/claim CODE", "/claim@me CODE", "claim CODE" and the deep link
// "/start claim_CODE", in any case and with whatever keyboards, autocorrection and
// quoting leave around. "/claim" is a command whatever follows. Without the slash
// "claim" is a plain word too, and only a command when it stands alone or what
// follows looks like a try at a code.
//
// A code alone must be the whole text, in one piece, as 3-3 or as 2-2-2, with at
// most one sign misread; that of an invite in one piece, as 4-4-4 or as 3-3-3-3. Two
// words of six letters are two codes, and thereby none.
func Parse(text, me string) (ParsedText, bool) {
	text, whole := truncate(text)
	signs := canonicalize(text)
	body, slash := trimDecoration(signs)

	me = canonicalize(strings.TrimPrefix(me, "@"))
	t, ok := parseCommand(body, slash, func(name string) bool { return me != "" && name == me })
	if !ok {
		t.Code, ok = parseBareCode(signs)
	}
	if whole {
		return t, ok
	}
	return ParsedText{Command: t.Command}, t.Command
}

// IsAddressedToBot reports whether a text is a claim addressed to a bot by name, whichever
// that is: "/claim@name …" or the deep link "/start@name claim_CODE". What Read does not
// take for a claim and this does is for another bot.
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

// trimDecoration gives canonical signs from the first letter on, and whether a slash stood
// before it.
func trimDecoration(signs string) (body string, slash bool) {
	body = strings.TrimLeftFunc(signs, negate(isAlphanumeric))
	return body, strings.ContainsAny(signs[:len(signs)-len(body)], slashes)
}

// truncate gives the part of a text that is looked at, and whether that is all of it.
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

// parseCommand reads a command: the canonical signs from the first letter on, whether a slash
// stood before it, and by which names it is ours.
func parseCommand(body string, slash bool, me func(name string) bool) (ParsedText, bool) {
	if rest, ok := strings.CutPrefix(body, "CLAIM"); ok {
		return parseClaim(rest, slash, me)
	}
	if rest, ok := strings.CutPrefix(body, "START"); ok && slash && !continuesWord(rest) {
		return parseStart(rest, me)
	}
	return ParsedText{}, false
}

func parseClaim(rest string, slash bool, me func(name string) bool) (ParsedText, bool) {
	if continuesWord(rest) {
		return parseJoinedWord(rest)
	}
	rest, ours := cutBotName(rest, me)
	if !ours {
		return ParsedText{}, false
	}
	if code, ok := parseCode(rest); ok {
		return ParsedText{Code: code, Command: true}, true
	}
	if slash || isCodeAttempt(rest) {
		return ParsedText{Command: true}, true
	}
	return ParsedText{}, false
}

// parseJoinedWord reads what follows "claim" without a gap: a code, or the rest of
// another word ("claimed", "claims").
func parseJoinedWord(rest string) (ParsedText, bool) {
	if code, ok := parseBareCode(rest); ok {
		return ParsedText{Code: code, Command: true}, true
	}
	if containsNearCode(rest) {
		return ParsedText{Command: true}, true
	}
	return ParsedText{}, false
}

// parseStart reads the payload of a deep link. Links have other uses, and "/start"
// alone opens every conversation: neither is a claim.
func parseStart(rest string, me func(name string) bool) (ParsedText, bool) {
	rest, ours := cutBotName(rest, me)
	if !ours {
		return ParsedText{}, false
	}
	payload := strings.TrimLeftFunc(rest, negate(isAlphanumeric))
	if of, ok := strings.CutPrefix(payload, "CLAIM"); ok {
		return parseClaim(of, true, me)
	}
	code, ok := parseBareCode(payload)
	return ParsedText{Code: code, Command: ok}, ok
}

// cutBotName takes "@name" off what follows a command, and reports whether the
// command is for us.
func cutBotName(rest string, me func(name string) bool) (after string, ours bool) {
	name, at := strings.CutPrefix(strings.TrimLeftFunc(rest, unicode.IsSpace), "@")
	if !at {
		return rest, true
	}
	end := strings.IndexFunc(name, func(r rune) bool { return !isAlphanumeric(r) && r != '_' })
	if end < 0 {
		end = len(name)
	}
	return name[end:], me(name[:end])
}

// parseCode reads all letters and digits of canonical signs as a code, by their number
// that of an identity or of an invite.
func parseCode(signs string) (string, bool) {
	var letters [inviteLen]byte
	n := 0
	for _, r := range signs {
		if !isAlphanumeric(r) && r != '|' {
			continue
		}
		letter := resolveLookalike(r)
		if !isCodeLetter(letter) || n == inviteLen {
			return "", false
		}
		letters[n] = byte(letter)
		n++
	}
	read := string(letters[:n])
	return read, n == codeLen || n == inviteLen && !isRepeatedCode(read) && !isTwoWords(signs)
}

// isTwoWords reports whether signs with the letters of an invite are two words of one
// length: then somebody sent two codes.
func isTwoWords(signs string) bool {
	var of []int
	for word := range strings.FieldsSeq(signs) {
		n := 0
		for _, r := range word {
			if isAlphanumeric(r) || r == '|' {
				n++
			}
		}
		if n > 0 {
			of = append(of, n)
		}
	}
	return len(of) == 2 && of[0] == of[1]
}

// parseBareCode reads signs as a code without a command. It is choosy: ordinary words,
// numbers, names of people, topics and other commands are none.
func parseBareCode(signs string) (string, bool) {
	if strings.ContainsAny(signs, slashes+"@#") {
		return "", false
	}
	groups := strings.FieldsFunc(signs, negate(isAlphanumeric))
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
	letters, ok := parseCode(signs)
	if !ok || misread > 1 || hasLongRun(letters) {
		return "", false
	}
	return letters, true
}

// groupSize gives how long each group must be for all of them to be a code.
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

// isCodeAttempt reports whether somebody who wrote this after the plain word "claim"
// meant to type a code: nothing at all, one thing that is nearly a code, or a
// sentence with something like a code in it.
func isCodeAttempt(rest string) bool {
	return strings.IndexFunc(rest, isAlphanumeric) < 0 || isNearCode(rest, 1) || containsNearCode(rest)
}

func containsNearCode(rest string) bool {
	for word := range strings.FieldsSeq(rest) {
		if isNearCode(word, 0) {
			return true
		}
	}
	return false
}

// isNearCode reports whether signs could be a mistyped code: at most one too few, not a
// number, and at most foreign letters that codes don't have.
func isNearCode(signs string, foreign int) bool {
	n, digits, others := 0, 0, 0
	for _, r := range signs {
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
	return n >= codeLen-1 && digits < n && others <= foreign
}

// continuesWord reports whether a word goes on.
func continuesWord(rest string) bool {
	r, _ := utf8.DecodeRuneInString(rest)
	return rest != "" && isAlphanumeric(r)
}

func negate(is func(rune) bool) func(rune) bool {
	return func(r rune) bool { return !is(r) }
}
