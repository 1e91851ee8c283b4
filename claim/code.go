package claim

import (
	"crypto/rand"
	"strings"
)

// alphabet contains the letters of codes: RFC 8628's twenty consonants. They spell no words, need
// no keyboard switch on a phone, and do not look alike.
const alphabet = "BCDFGHJKLMNPQRSTVWXZ"

// The lengths of claim codes and invite codes, in letters.
const (
	codeLen   = 6
	inviteLen = 2 * codeLen
)

// maxRun is the maximum number of equal letters in a row. It excludes drawn-out sounds ("hmmmmm",
// "grrrrr") and makes codes easier to read aloud.
const maxRun = 3

// abusiveWords are sequences that people read as abuse. They must not occur anywhere in a code.
var abusiveWords = [...]string{
	"BTCH", "CNT", "CVNT", "DCK", "FCK", "FGT", "FKN", "FVCK", "FVK", "HTLR", "KKK", "MFKR",
	"NGGR", "NGR", "NZS", "PHCK", "PRCK", "RPST", "SHT", "SLT", "STFV", "TWT", "WHR", "WTF",
}

// icaoWords spells the letters of alphabet, in the same order.
const icaoWords = "Bravo Charlie Delta Foxtrot Golf Hotel Juliett Kilo Lima Mike " +
	"November Papa Quebec Romeo Sierra Tango Victor Whiskey X-ray Zulu"

// NewCode returns a random code of six letters. All codes are equally likely, except that those
// that read as abuse are excluded.
func NewCode() string {
	for {
		if code := randomLetters(codeLen); !isRejected(code) {
			return code
		}
	}
}

// wordLen is the length of confirmation words, in letters. It is not the length of a code.
const wordLen = 5

// NewConfirmationWord returns a random word of five letters. A person who repeats it has read the
// message that contained it, which proves more than the number of a sender. There are 20^5 =
// 3,200,000 words, so a word must be combined with a limit on wrong ones.
func NewConfirmationWord() string {
	for {
		if word := randomLetters(wordLen); !isRejected(word) {
			return word
		}
	}
}

// NewInviteCode returns the random code of an invite: twelve letters, chosen like those of
// NewCode. The first six letters never equal the last six.
//
// An invite can be redeemed by anyone who types it, so it must be infeasible to guess. There are
// 20^12 = 4.096e15 codes, of which 1.9 % are excluded. A sender has 15 wrong tries a day. If one
// bot has a thousand live invites, the chance is 15 * 1000 / 4.02e15 = 3.7e-12 a day. Odds of one
// in a million take four million tries in a day, which takes 268,000 senders.
func NewInviteCode() string {
	for {
		if code := randomLetters(inviteLen); !isRejected(code) && !isRepeatedCode(code) {
			return code
		}
	}
}

// isRepeatedCode reports whether letters consist of the same code twice.
func isRepeatedCode(letters string) bool {
	return len(letters) == inviteLen && letters[:codeLen] == letters[codeLen:]
}

// IsInviteCode reports whether code has the length of an invite's code.
func IsInviteCode(code string) bool { return len(code) == inviteLen }

// randomLetters returns n independent, equally likely letters. It discards bytes that would favor
// some letters.
func randomLetters(n int) string {
	const limit = 256 - 256%len(alphabet)
	letters := make([]byte, 0, n)
	for len(letters) < n {
		var random [16]byte
		rand.Read(random[:])
		for _, b := range random {
			if int(b) < limit && len(letters) < n {
				letters = append(letters, alphabet[int(b)%len(alphabet)])
			}
		}
	}
	return string(letters)
}

// isRejected reports whether code must not be issued, because it reads as abuse or has a long run
// of one letter.
func isRejected(code string) bool {
	for _, word := range abusiveWords {
		if strings.Contains(code, word) {
			return true
		}
	}
	return hasLongRun(code)
}

// hasLongRun reports whether a letter occurs more than maxRun times in a row.
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

// Group returns a code in groups of letters for display, such as "WDJ-BMJ", or "WDJB-MJKL-NPQR"
// for an invite.
func Group(code string) string {
	return strings.Join(splitGroups(code), "-")
}

// Spell returns a code in the words of the ICAO alphabet for reading aloud, such as "Whiskey Delta
// Juliett, Bravo Mike Juliett".
func Spell(code string) string {
	words := strings.Fields(icaoWords)
	groups := splitGroups(code)
	for i, group := range groups {
		spelled := make([]string, len(group))
		for j := range len(group) {
			spelled[j] = group[j : j+1]
			if k := strings.IndexByte(alphabet, group[j]); k >= 0 {
				spelled[j] = words[k]
			}
		}
		groups[i] = strings.Join(spelled, " ")
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
