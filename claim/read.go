package claim

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxTyped is the longest text, in bytes, that a code is looked for in.
const MaxTyped = 512

// A Typed is what somebody typed that concerns claims.
type Typed struct {
	// Code is the code in its six capital letters, or that of an invite in its twelve;
	// empty when a command came without a well-formed one. One text gives one candidate
	// at most: nothing is guessed.
	Code string

	// Command says that the text asks for a claim. A code without it stands alone:
	// whether it is a claim depends on whether its sender has a live code.
	Command bool
}

// Redacted is what may be stored of the text.
func (t Typed) Redacted() string {
	if t.Command {
		return "/claim ******"
	}
	return "******"
}

// Read reads a text for a claim; false says that it is about something else. me is
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
func Read(text, me string) (Typed, bool) {
	text, whole := start(text)
	signs := canonical(text)
	body, slash := begin(signs)

	me = canonical(strings.TrimPrefix(me, "@"))
	t, ok := read(body, slash, func(name string) bool { return me != "" && name == me })
	if !ok {
		t.Code, ok = alone(signs)
	}
	if whole {
		return t, ok
	}
	return Typed{Command: t.Command}, t.Command
}

// Addressed reports whether a text is a claim addressed to a bot by name, whichever
// that is: "/claim@name …" or the deep link "/start@name claim_CODE". What Read does not
// take for a claim and this does is for another bot.
func Addressed(text string) bool {
	if !strings.ContainsAny(text, ats) {
		return false
	}
	part, _ := start(text)
	body, slash := begin(canonical(part))
	named := false
	_, ok := read(body, slash, func(string) bool { named = true; return true })
	return slash && ok && named
}

// begin gives canonical signs from the first letter on, and whether a slash stood
// before it.
func begin(signs string) (body string, slash bool) {
	body = strings.TrimLeftFunc(signs, not(isSign))
	return body, strings.ContainsAny(signs[:len(signs)-len(body)], slashes)
}

// start gives the part of a text that is looked at, and whether that is all of it.
func start(text string) (part string, whole bool) {
	text = strings.TrimFunc(text, isBlank)
	if len(text) <= MaxTyped {
		return text, true
	}
	cut := MaxTyped
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut], false
}

// read reads a command: the canonical signs from the first letter on, whether a slash
// stood before it, and by which names it is ours.
func read(body string, slash bool, me func(name string) bool) (Typed, bool) {
	if rest, ok := strings.CutPrefix(body, "CLAIM"); ok {
		return readClaim(rest, slash, me)
	}
	if rest, ok := strings.CutPrefix(body, "START"); ok && slash && !glued(rest) {
		return readStart(rest, me)
	}
	return Typed{}, false
}

func readClaim(rest string, slash bool, me func(name string) bool) (Typed, bool) {
	if glued(rest) {
		return readGlued(rest)
	}
	rest, ours := addressed(rest, me)
	if !ours {
		return Typed{}, false
	}
	if code, ok := code(rest); ok {
		return Typed{Code: code, Command: true}, true
	}
	if slash || attempted(rest) {
		return Typed{Command: true}, true
	}
	return Typed{}, false
}

// readGlued reads what follows "claim" without a gap: a code, or the rest of
// another word ("claimed", "claims").
func readGlued(rest string) (Typed, bool) {
	if code, ok := alone(rest); ok {
		return Typed{Code: code, Command: true}, true
	}
	if attemptedWord(rest) {
		return Typed{Command: true}, true
	}
	return Typed{}, false
}

// readStart reads the payload of a deep link. Links have other uses, and "/start"
// alone opens every conversation: neither is a claim.
func readStart(rest string, me func(name string) bool) (Typed, bool) {
	rest, ours := addressed(rest, me)
	if !ours {
		return Typed{}, false
	}
	payload := strings.TrimLeftFunc(rest, not(isSign))
	if of, ok := strings.CutPrefix(payload, "CLAIM"); ok {
		return readClaim(of, true, me)
	}
	code, ok := alone(payload)
	return Typed{Code: code, Command: ok}, ok
}

// addressed takes "@name" off what follows a command, and reports whether the
// command is for us.
func addressed(rest string, me func(name string) bool) (after string, ours bool) {
	name, at := strings.CutPrefix(strings.TrimLeftFunc(rest, unicode.IsSpace), "@")
	if !at {
		return rest, true
	}
	end := strings.IndexFunc(name, func(r rune) bool { return !isSign(r) && r != '_' })
	if end < 0 {
		end = len(name)
	}
	return name[end:], me(name[:end])
}

// code reads all letters and digits of canonical signs as a code, by their number
// that of an identity or of an invite.
func code(signs string) (string, bool) {
	var letters [inviteLen]byte
	n := 0
	for _, r := range signs {
		if !isSign(r) && r != '|' {
			continue
		}
		letter := meant(r)
		if !isLetter(letter) || n == inviteLen {
			return "", false
		}
		letters[n] = byte(letter)
		n++
	}
	read := string(letters[:n])
	return read, n == codeLen || n == inviteLen && !doubled(read) && !twoWords(signs)
}

// twoWords reports whether signs with the letters of an invite are two words of one
// length: then somebody sent two codes.
func twoWords(signs string) bool {
	var of []int
	for word := range strings.FieldsSeq(signs) {
		n := 0
		for _, r := range word {
			if isSign(r) || r == '|' {
				n++
			}
		}
		if n > 0 {
			of = append(of, n)
		}
	}
	return len(of) == 2 && of[0] == of[1]
}

// alone reads signs as a code without a command. It is choosy: ordinary words,
// numbers, names of people, topics and other commands are none.
func alone(signs string) (string, bool) {
	if strings.ContainsAny(signs, slashes+"@#") {
		return "", false
	}
	groups := strings.FieldsFunc(signs, not(isSign))
	size, ok := even(groups)
	if !ok {
		return "", false
	}
	misread := 0
	for _, group := range groups {
		if len(group) != size {
			return "", false
		}
		for _, r := range group {
			if !isLetter(r) {
				misread++
			}
		}
	}
	letters, ok := code(signs)
	if !ok || misread > 1 || drawnOut(letters) {
		return "", false
	}
	return letters, true
}

// even gives how long each group must be for all of them to be a code.
func even(groups []string) (size int, ok bool) {
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

// attempted reports whether somebody who wrote this after the plain word "claim"
// meant to type a code: nothing at all, one thing that is nearly a code, or a
// sentence with something like a code in it.
func attempted(rest string) bool {
	return strings.IndexFunc(rest, isSign) < 0 || near(rest, 1) || attemptedWord(rest)
}

func attemptedWord(rest string) bool {
	for word := range strings.FieldsSeq(rest) {
		if near(word, 0) {
			return true
		}
	}
	return false
}

// near reports whether signs could be a mistyped code: at most one too few, not a
// number, and at most foreign letters that codes don't have.
func near(signs string, foreign int) bool {
	n, digits, others := 0, 0, 0
	for _, r := range signs {
		switch {
		case !isSign(r):
			continue
		case unicode.IsNumber(r):
			digits++
		case !isLetter(r):
			others++
		}
		n++
	}
	return n >= codeLen-1 && digits < n && others <= foreign
}

// glued reports whether a word goes on.
func glued(rest string) bool {
	r, _ := utf8.DecodeRuneInString(rest)
	return rest != "" && isSign(r)
}

func not(is func(rune) bool) func(rune) bool {
	return func(r rune) bool { return !is(r) }
}
