package claim

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// slashes are the characters that keyboards produce for a slash.
const slashes = "/\u2044\u2215"

// atSigns are the at sign and the characters whose canonical form it is.
const atSigns = "@\ufe6b\uff20"

// canonicalize returns text in the form in which it is parsed: compatibility characters (NFKC)
// resolved, in capitals, with Latin letters for Cyrillic and Greek letters of the same shape, and
// without invisible characters.
func canonicalize(text string) string {
	return strings.Map(func(r rune) rune {
		if isInvisible(r) {
			return -1
		}
		return toLatin(unicode.ToUpper(r))
	}, norm.NFKC.String(text))
}

// isAlphanumeric reports whether r is a letter or digit. All other characters are ignored in
// codes.
func isAlphanumeric(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsNumber(r)
}

// isCodeLetter reports whether r occurs in codes.
func isCodeLetter(r rune) bool {
	return strings.ContainsRune(alphabet, r)
}

// isInvisible reports whether r is not visible by itself: format characters such as joiners and
// direction marks, combining marks, and fillers.
func isInvisible(r rune) bool {
	switch r {
	case '\u115F', '\u1160': // Hangul fillers, letters by category
		return true
	}
	return unicode.In(r, unicode.Cf, unicode.M) || unicode.IsControl(r) && !unicode.IsSpace(r)
}

// isBlank reports whether r is white space or invisible.
func isBlank(r rune) bool {
	return unicode.IsSpace(r) || isInvisible(r)
}

// resolveLookalike returns the code letter that r looks like, or r. No two code letters look
// alike, so the result is unambiguous.
func resolveLookalike(r rune) rune {
	switch r {
	case '1', 'I', '|':
		return 'L'
	case '2':
		return 'Z'
	case '5':
		return 'S'
	case '6':
		return 'G'
	case '8':
		return 'B'
	case 'U':
		return 'V'
	}
	return r
}

// toLatin returns the Latin capital for a Cyrillic, Greek or Turkish capital of the same shape and for
// a small capital, or r.
func toLatin(r rune) rune {
	switch r {
	case 'А', 'Α':
		return 'A'
	case 'В', 'Β', 'ʙ':
		return 'B'
	case 'С', 'Ϲ', 'ᴄ':
		return 'C'
	case 'Ԁ', 'ᴅ':
		return 'D'
	case 'Е', 'Ε':
		return 'E'
	case 'Ғ', 'ꜰ':
		return 'F'
	case 'Ԍ', 'ɢ':
		return 'G'
	case 'Н', 'Η', 'ʜ':
		return 'H'
	case 'І', 'Ӏ', 'Ι', 'İ':
		return 'I'
	case 'Ј', 'Ϳ', 'ᴊ':
		return 'J'
	case 'К', 'Κ', 'ᴋ':
		return 'K'
	case 'М', 'Μ', 'ᴍ':
		return 'M'
	case 'Ν', 'ɴ':
		return 'N'
	case 'О', 'Ο':
		return 'O'
	case 'Р', 'Ρ', 'ᴘ':
		return 'P'
	case 'Ԛ', 'ꞯ':
		return 'Q'
	case 'Ѕ', 'ꜱ':
		return 'S'
	case 'Т', 'Τ', 'ᴛ':
		return 'T'
	case 'Ѵ', 'ᴠ':
		return 'V'
	case 'Ԝ', 'ᴡ':
		return 'W'
	case 'Х', 'Χ':
		return 'X'
	case 'Ζ', 'ᴢ':
		return 'Z'
	case 'ʟ':
		return 'L'
	case 'ʀ':
		return 'R'
	}
	return r
}
