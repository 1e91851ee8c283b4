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
//   - six or twelve code letters, and digits that look like them, in a row, with anything but other
//     letters and digits in between, also as a part of words ("claim_WDJBMJ", "codeWDJ-8MJnow")
//   - the same letters spelled in the ICAO alphabet ("Whiskey Delta Juliett, Bravo Mike Juliett"), also
//     at the beginning or the end of words ("codeWhiskeyDelta … Juliettnow")
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
		{strings.ContainsAny(text, listMarks), reading{lists: true}},
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
	lists   bool // nothing: the numbers of a list ("1.", "2)") are spaces
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
		r, n := rune(0), 0
		switch {
		case as.escapes:
			r, n = cutEscape(text[start:])
		case as.lists && (len(letters) == 0 || unicode.IsSpace(letters[len(letters)-1].r)):
			newLine := len(letters) == 0 || letters[len(letters)-1].r == '\n'
			r, n = ' ', listMarkLen(text[start:], newLine)
		}
		if n == 0 {
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

// listMarks are the characters that follow the numbers of a list.
const listMarks = ".):\ufe0f\u20e3"

// listMarkLen returns the length of the number of a list at the beginning of text, or at the beginning of
// a line of the letter. It is 0 if there is none.
func listMarkLen(text string, newLine bool) int {
	n := 0
	for n < len(text) && n < 3 && '0' <= text[n] && text[n] <= '9' {
		n++
	}
	r, size := utf8.DecodeRuneInString(text[n:])
	switch {
	case n > 0 && size > 0 && strings.ContainsRune(listMarks, r):
		return n + size
	case newLine && n == 0 && len(text) > 1 && text[1] == ')' && isAlphanumeric(r):
		return len("a)")
	}
	return 0
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
	letters    []letter
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
// Vowels that look like code letters interrupt a run, because most words contain them.
func scanRuns(found []Candidate, letters []letter) []Candidate {
	var run []letter
	for _, l := range letters {
		if unicode.IsDigit(l.r) {
			l.r = resolveLookalike(l.r)
		}
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
	w := word{start: letters[0].start, end: letters[len(letters)-1].end, letters: letters}
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
		names := cutNames(w)
		switch {
		case len(names) > 0:
			if gap > maxSpellingGap {
				spelled = append(spelled, word{})
			}
			gap = 0
			spelled, all = append(spelled, names...), append(all, names...)
			continue
		case w.text == "RAY": // of "X-ray", whose X is a word
			continue
		}
		gap++
		all = append(all, w)
	}
	return spelled, all
}

// cutNames returns the letters for which the words of the ICAO alphabet stand that w consists of, begins
// with and ends with.
func cutNames(w word) []word {
	if w.text == "X" {
		w.code = w.text
		return []word{w}
	}
	var first, last []word
	rest := w
	cut := func(prefix bool) (name word, ok bool) {
		letter, n, ok := cutName(rest.text, prefix)
		if !ok {
			return word{}, false
		}
		text, letters := rest.text, rest.letters
		if prefix {
			rest.text, rest.letters, letters = text[n:], letters[n:], letters[:n]
		} else {
			at := len(letters) - n
			rest.text, rest.letters, letters = text[:len(text)-n], letters[:at], letters[at:]
		}
		return word{code: letter, start: letters[0].start, end: letters[n-1].end}, true
	}
	for name, ok := cut(true); ok; name, ok = cut(true) {
		first = append(first, name)
	}
	for name, ok := cut(false); ok; name, ok = cut(false) {
		last = append(last, name)
	}
	slices.Reverse(last)
	return append(first, last...)
}

// cutName returns the letter for which the longest word of the ICAO alphabet stands with which text begins
// or ends, and the length of that word.
func cutName(text string, prefix bool) (letter string, n int, ok bool) {
	for _, name := range icaoNames {
		found := prefix && strings.HasPrefix(text, name) || !prefix && strings.HasSuffix(text, name)
		if found && len(name) > n {
			letter, n, ok = name[:1], len(name), true
		}
	}
	return letter, n, ok
}

// icaoNames are the words of the ICAO alphabet as people write them.
var icaoNames = strings.Fields(strings.ToUpper(icaoWords) + " XRAY JULIET JULIETTE WHISKY FOXTROTT VIKTOR")
