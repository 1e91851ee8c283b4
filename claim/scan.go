package claim

import (
	"cmp"
	"html"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// A Candidate is a part of a text that could be a code or an invite.
type Candidate struct {
	Code       string // six or twelve letters
	Start, End int    // the part is text[Start:End]
}

// Scan returns every part of text that could be a code or an invite, in order, however it is grouped
// and whatever surrounds it. It finds much that is neither: only a lookup of the letters can tell.
//
// Candidates are
//   - words of code letters and characters that look like them, in a row, with six or twelve letters
//     together and anything but letters and digits in between ("1. WDJ-BMJ", "w d j b m j")
//   - six or twelve code letters in a row, with anything but letters and digits in between, also
//     as a part of words ("claim_WDJBMJ", "codeWDJ-BMJnow")
//   - the same letters spelled in the ICAO alphabet ("Whiskey Delta Juliett, Bravo Mike Juliett")
//
// except letters that are never issued.
//
// The time that Scan takes is proportional to the length of text.
func Scan(text string) []Candidate {
	if len(text) < codeLen {
		return nil
	}
	found := scanLetters(nil, readLetters(text, reading{}))
	for _, alternative := range [...]struct {
		when bool
		reading
	}{
		{strings.ContainsAny(text, escapes), reading{escapes: true}},
		{strings.Contains(text, "|"), reading{bars: true}},
		{strings.ContainsFunc(text, func(r rune) bool { return showLetter(r) != r }), reading{emoji: true}},
	} {
		if alternative.when {
			found = scanLetters(found, readLetters(text, alternative.reading))
		}
	}
	found = slices.DeleteFunc(found, func(c Candidate) bool { return isRejected(c.Code) || isRepeatedCode(c.Code) })
	slices.SortFunc(found, func(a, b Candidate) int {
		return cmp.Or(a.Start-b.Start, a.End-b.End, strings.Compare(a.Code, b.Code))
	})
	return slices.Compact(found)
}

// withheldText replaces what could be a code.
const withheldText = "[withheld]"

// Withhold returns text with candidates of it replaced. They must be in order, as returned by Scan.
func Withhold(text string, found []Candidate) string {
	var b strings.Builder
	end := 0 // of what is replaced already
	for _, c := range found {
		if c.Start >= end {
			b.WriteString(text[end:c.Start])
			b.WriteString(withheldText)
		}
		end = max(end, c.End)
	}
	b.WriteString(text[end:])
	return b.String()
}

// A letter is a character of a text in canonical form, and its place.
type letter struct {
	r          rune
	start, end int
}

// A reading says what else than letters stands for a letter.
type reading struct {
	escapes bool // of URLs ("%20") and HTML ("&nbsp;", "<b>"), which are decoded
	bars    bool // for L
	emoji   bool // that show a letter
}

// readLetters returns the characters of text in the form of canonicalize.
func readLetters(text string, as reading) []letter {
	letters := make([]letter, 0, len(text))
	add := func(r rune, start, end int) {
		switch {
		case isInvisible(r):
			return
		case as.bars && r == '|':
			r = 'L'
		case as.emoji:
			r = showLetter(r)
		}
		letters = append(letters, letter{toLatin(unicode.ToUpper(r)), start, end})
	}
	var form []byte
	for start := 0; start < len(text); {
		r, n := cutEscape(text[start:])
		if n == 0 || !as.escapes {
			r, n = utf8.DecodeRuneInString(text[start:])
		}
		if r < utf8.RuneSelf {
			add(r, start, start+n)
		} else {
			form = norm.NFKC.AppendString(form[:0], string(r))
			for _, r := range string(form) {
				add(r, start, start+n)
			}
		}
		start += n
	}
	return letters
}

// escapes are the characters with which escapes begin.
const escapes = "%&<"

// The lengths of the longest escapes that are decoded.
const (
	maxEntityLen = 10
	maxTagLen    = 200
)

// cutEscape returns the character of an escape at the beginning of text, a space for a tag, and the
// length of the escape. The length is 0 if there is none.
func cutEscape(text string) (r rune, n int) {
	switch {
	case len(text) >= 3 && text[0] == '%':
		if b, err := strconv.ParseUint(text[1:3], 16, 8); err == nil && b < utf8.RuneSelf {
			return rune(b), 3
		}
	case text[0] == '&':
		if i := strings.IndexByte(text[:min(len(text), maxEntityLen)], ';'); i > 0 {
			if s := html.UnescapeString(text[:i+1]); s != text[:i+1] {
				r, _ := utf8.DecodeRuneInString(s)
				return r, i + 1
			}
		}
	case text[0] == '<':
		if i := strings.IndexAny(text[1:min(len(text), maxTagLen)], "<>") + 1; i > 0 && text[i] == '>' && isTag(text[1:i]) {
			return ' ', i + 1
		}
	}
	return 0, 0
}

// isTag reports whether text between angle brackets is markup of HTML or Slack, not a word of its own.
func isTag(text string) bool {
	name, _, _ := strings.Cut(strings.ToLower(strings.Trim(text, "/ ")), " ")
	switch name {
	case "a", "b", "br", "code", "del", "div", "em", "i", "ins", "p", "pre", "s", "span", "strike", "strong", "u":
		return true
	}
	return strings.HasPrefix(name, "@") || strings.HasPrefix(name, "#") || strings.HasPrefix(name, "!")
}

// showLetter returns the letter that the emoji r shows, or r.
func showLetter(r rune) rune {
	for _, first := range [...]rune{'\U0001F1E6', '\U0001F150', '\U0001F170'} { // flags, circled, squared
		if first <= r && r < first+26 {
			return 'A' + r - first
		}
	}
	return r
}

// A word is a run of letters and digits. Its code holds the code letters that it consists of, or is
// empty if it contains anything else.
type word struct {
	text, code string
	start, end int
}

// scanLetters appends the candidates in letters to found.
func scanLetters(found []Candidate, letters []letter) []Candidate {
	found = scanRuns(found, letters)
	words := splitWords(letters)
	found = scanWords(found, words)
	spelled, words := despell(words)
	if len(spelled) > 0 {
		found = scanWords(scanWords(found, words), spelled)
	}
	return found
}

// scanRuns appends every six and twelve code letters in a row that no other letter or digit interrupts.
func scanRuns(found []Candidate, letters []letter) []Candidate {
	var run []letter
	for _, l := range letters {
		switch {
		case isCodeLetter(l.r):
			run = append(run, l)
			for _, n := range [...]int{codeLen, inviteLen} {
				if len(run) >= n {
					found = append(found, newCandidate(run[len(run)-n:]))
				}
			}
		case isAlphanumeric(l.r):
			run = run[:0]
		}
	}
	return found
}

func newCandidate(letters []letter) Candidate {
	code := make([]byte, len(letters))
	for i, l := range letters {
		code[i] = byte(l.r) //nolint:gosec // letters of codes are ASCII
	}
	return Candidate{string(code), letters[0].start, letters[len(letters)-1].end}
}

// splitWords returns the words of a text. The word "claim" in front of other letters is cut off.
func splitWords(letters []letter) []word {
	var words []word
	for i := 0; i < len(letters); {
		if !isAlphanumeric(letters[i].r) {
			i++
			continue
		}
		end := i + 1
		for end < len(letters) && isAlphanumeric(letters[end].r) {
			end++
		}
		w := newWord(letters[i:end])
		if w.code == "" && strings.HasPrefix(w.text, "CLAIM") && end-i > len("CLAIM") {
			w = newWord(letters[i+len("CLAIM") : end])
		}
		words = append(words, w)
		i = end
	}
	return words
}

func newWord(letters []letter) word {
	w := word{start: letters[0].start, end: letters[len(letters)-1].end}
	if len(letters) > inviteLen+len("CLAIM") {
		return w // neither a code nor a word of the ICAO alphabet
	}
	var text strings.Builder
	code := make([]byte, 0, len(letters))
	for _, l := range letters {
		text.WriteRune(l.r)
		if r := resolveLookalike(l.r); isCodeLetter(r) {
			code = append(code, byte(r)) //nolint:gosec // letters of codes are ASCII
		}
	}
	w.text = text.String()
	if len(code) == len(letters) {
		w.code = string(code)
	}
	return w
}

// scanWords appends every sequence of words that has six or twelve code letters.
func scanWords(found []Candidate, words []word) []Candidate {
	for i, first := range words {
		code := first.code
		for next := i + 1; code != "" && len(code) <= inviteLen; next++ {
			if len(code) == codeLen || len(code) == inviteLen {
				found = append(found, Candidate{code, first.start, words[next-1].end})
			}
			if next == len(words) || words[next].code == "" {
				break
			}
			code += words[next].code
		}
	}
	return found
}

// maxSpellingGap is the number of words between two words of the ICAO alphabet that spell one code, as
// in "W as in Whiskey".
const maxSpellingGap = 3

// despell replaces words of the ICAO alphabet by the letters that they stand for. It returns these
// letters alone, and all words. The letters are separated by a word without a code where other words
// lie between them.
func despell(words []word) (spelled, all []word) {
	gap := 0
	for _, w := range words {
		letter, ok := icaoLetter(w.text)
		switch {
		case ok:
			if gap > maxSpellingGap {
				spelled = append(spelled, word{})
			}
			gap, w.code = 0, letter
			spelled = append(spelled, w)
		case w.text == "RAY": // of "X-ray", whose X is a word
			continue
		default:
			gap++
		}
		all = append(all, w)
	}
	return spelled, all
}

// icaoLetter returns the letter that a word of the ICAO alphabet stands for.
func icaoLetter(text string) (letter string, ok bool) {
	switch text {
	case "XRAY", "X":
		return "X", true
	case "JULIET", "JULIETTE":
		return "J", true
	case "WHISKY":
		return "W", true
	case "FOXTROTT":
		return "F", true
	case "VIKTOR":
		return "V", true
	}
	if len(text) < 4 || !strings.Contains(icaoCapitals, text) {
		return "", false
	}
	for name := range strings.FieldsSeq(icaoCapitals) {
		if name == text {
			return text[:1], true
		}
	}
	return "", false
}

var icaoCapitals = strings.ToUpper(icaoWords)
