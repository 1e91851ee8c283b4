package claim

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// slashes are what keyboards make of a slash.
const slashes = "/\u2044\u2215"

// atSigns are what becomes an at sign in canonical form, and the sign itself.
const atSigns = "@\ufe6b\uff20"

// canonicalize brings a text into the form in which it is read: compatibility forms
// resolved, capitals, Latin letters for Cyrillic and Greek ones of the same shape,
// and nothing that cannot be seen.
func canonicalize(text string) string {
	return strings.Map(func(r rune) rune {
		if isInvisible(r) {
			return -1
		}
		return toLatin(unicode.ToUpper(r))
	}, norm.NFKC.String(text))
}

// isAlphanumeric reports whether r counts: a letter or digit. Everything else is decoration.
func isAlphanumeric(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsNumber(r)
}

// isCodeLetter reports whether r is a letter of codes.
func isCodeLetter(r rune) bool {
	return strings.ContainsRune(alphabet, r)
}

// isInvisible reports whether r leaves no mark of its own: format characters such as
// joiners and direction marks, marks on other characters, and fillers.
func isInvisible(r rune) bool {
	switch r {
	case '\u115F', '\u1160': // Hangul fillers, letters by category
		return true
	}
	return unicode.In(r, unicode.Cf, unicode.M) || unicode.IsControl(r) && !unicode.IsSpace(r)
}

func isBlank(r rune) bool {
	return unicode.IsSpace(r) || isInvisible(r)
}

// resolveLookalike gives the letter of codes that is meant by a sign that looks like it. No
// letter of codes looks like another, so this takes no guessing.
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

// toLatin gives the Latin capital for a Cyrillic, Greek or Turkish one of the same
// shape.
func toLatin(r rune) rune {
	switch r {
	case 'А', 'Α':
		return 'A'
	case 'В', 'Β':
		return 'B'
	case 'С', 'Ϲ':
		return 'C'
	case 'Ԁ':
		return 'D'
	case 'Е', 'Ε':
		return 'E'
	case 'Ғ':
		return 'F'
	case 'Ԍ':
		return 'G'
	case 'Н', 'Η':
		return 'H'
	case 'І', 'Ӏ', 'Ι', 'İ':
		return 'I'
	case 'Ј', 'Ϳ':
		return 'J'
	case 'К', 'Κ':
		return 'K'
	case 'М', 'Μ':
		return 'M'
	case 'Ν':
		return 'N'
	case 'О', 'Ο':
		return 'O'
	case 'Р', 'Ρ':
		return 'P'
	case 'Ԛ':
		return 'Q'
	case 'Ѕ':
		return 'S'
	case 'Т', 'Τ':
		return 'T'
	case 'Ѵ':
		return 'V'
	case 'Ԝ':
		return 'W'
	case 'Х', 'Χ':
		return 'X'
	case 'Ζ':
		return 'Z'
	}
	return r
}
