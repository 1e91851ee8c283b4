package claim

import (
	"crypto/rand"
	"strings"
)

// alphabet are the letters of a code: RFC 8628's twenty consonants. They spell no
// words, need no keyboard switch on a phone, and have no look-alikes among
// themselves.
const alphabet = "BCDFGHJKLMNPQRSTVWXZ"

// codeLen is how many letters a code has, inviteLen how many an invite's has.
const (
	codeLen   = 6
	inviteLen = 2 * codeLen
)

// maxRun is how often a letter comes in a row at most. Drawn-out sounds ("hmmmmm",
// "grrrrr") are thereby no codes, and a code is easier to read aloud.
const maxRun = 3

// abusiveWords are the consonants that people read as abuse, wherever they stand.
const abusiveWords = "BTCH CNT CVNT DCK FCK FGT FKN FVCK FVK HTLR KKK MFKR NGGR NGR NZS PHCK PRCK RPST SHT SLT STFV TWT WHR WTF"

// icaoWords spells the letters of the alphabet, in its order.
const icaoWords = "Bravo Charlie Delta Foxtrot Golf Hotel Juliett Kilo Lima Mike November Papa Quebec Romeo Sierra Tango Victor Whiskey X-ray Zulu"

// NewCode draws a code: six letters, all equally likely, from the system's source
// of secrets. Codes that read as abuse are drawn again.
func NewCode() string {
	for {
		if code := randomLetters(codeLen); !isRejected(code) {
			return code
		}
	}
}

// NewInviteCode draws the code of an invite: twelve letters, drawn as those of NewCode
// are. It never reads as the same six letters twice.
//
// An invite opens for whoever types it, so that its letters alone must be beyond
// guessing. There are 20^12 = 4.096e15 codes, of which 1.9 % are refused. A sender has
// 15 wrong tries a day: with a thousand invites of one bot live that is a chance of
// 15 * 1000 / 4.02e15 = 3.7e-12 a day. For odds of one in a million it takes four
// million tries in a day, which are 268,000 senders.
func NewInviteCode() string {
	for {
		if code := randomLetters(inviteLen); !isRejected(code) && !isRepeatedCode(code) {
			return code
		}
	}
}

// isRepeatedCode reports whether the letters are a code and the same code again.
func isRepeatedCode(letters string) bool {
	return len(letters) == inviteLen && letters[:codeLen] == letters[codeLen:]
}

// IsInviteCode reports whether the letters are those of an invite, by their number.
func IsInviteCode(code string) bool { return len(code) == inviteLen }

// randomLetters gives n letters that are independent and equally likely: a byte that would
// favour some letters is thrown away.
func randomLetters(n int) string {
	const fair = 256 - 256%len(alphabet)
	letters := make([]byte, 0, n)
	for len(letters) < n {
		var random [16]byte
		rand.Read(random[:])
		for _, b := range random {
			if int(b) < fair && len(letters) < n {
				letters = append(letters, alphabet[int(b)%len(alphabet)])
			}
		}
	}
	return string(letters)
}

// isRejected reports whether nobody should have to read code to a customer.
func isRejected(code string) bool {
	for word := range strings.FieldsSeq(abusiveWords) {
		if strings.Contains(code, word) {
			return true
		}
	}
	return hasLongRun(code)
}

// hasLongRun reports whether a letter comes more than maxRun times in a row.
func hasLongRun(code string) bool {
	run := 0
	for i := range len(code) {
		if i > 0 && code[i] != code[i-1] {
			run = 0
		}
		run++
		if run > maxRun {
			return true
		}
	}
	return false
}

// Group writes a code as people read it: "WDJ-BMJ", and that of an invite
// "WDJB-MJKL-NPQR".
func Group(code string) string {
	return strings.Join(splitGroups(code), "-")
}

// Spell writes a code as it is read aloud, in the words of the ICAO alphabet:
// "Whiskey Delta Juliett, Bravo Mike Juliett".
func Spell(code string) string {
	words := strings.Fields(icaoWords)
	groups := splitGroups(code)
	for i, group := range groups {
		spelt := make([]string, len(group))
		for j := range len(group) {
			spelt[j] = group[j : j+1]
			if at := strings.IndexByte(alphabet, group[j]); at >= 0 {
				spelt[j] = words[at]
			}
		}
		groups[i] = strings.Join(spelt, " ")
	}
	return strings.Join(groups, ", ")
}

func splitGroups(code string) []string {
	size := 3
	if IsInviteCode(code) {
		size = 4
	}
	var groups []string
	for ; len(code) > size; code = code[size:] {
		groups = append(groups, code[:size])
	}
	return append(groups, code)
}
