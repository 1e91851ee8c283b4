package identity

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// MaskedName returns the name of the customer for a person who may be someone else: its first and
// last letter, such as "S…e" for Steve. The name is the first name or, if that has no letters or
// digits, the last name or the company name. A name that contains an e-mail address is skipped.
// MaskedName returns "" if there is no name.
func (c Customer) MaskedName() string {
	for _, name := range []string{c.FirstName, c.LastName, c.CompanyName} {
		if masked := maskName(name); masked != "" {
			return masked
		}
	}
	return ""
}

// maskName returns the first and the last letter of name with an ellipsis between them. The only
// letter of a name is followed by the ellipsis. Digits count as letters; emoji, punctuation and
// spaces do not. Marks stay with their letter.
func maskName(name string) string {
	if strings.ContainsAny(name, "@＠") {
		return ""
	}
	var letters []string
	attached := false // the previous rune belongs to the last letter
	for _, r := range norm.NFC.String(name) {
		switch {
		case unicode.IsLetter(r), unicode.IsDigit(r):
			letters, attached = append(letters, string(r)), true
		case unicode.IsMark(r) && attached && utf8.RuneCountInString(letters[len(letters)-1]) <= maxMarks:
			letters[len(letters)-1] += string(r)
		case !unicode.IsMark(r):
			attached = false
		}
	}
	switch len(letters) {
	case 0:
		return ""
	case 1:
		return letters[0] + "…"
	}
	return letters[0] + "…" + letters[len(letters)-1]
}

// maxMarks limits the marks of a letter, which may be any number in a name that is meant to
// disrupt.
const maxMarks = 4

// FullName returns the name of the customer as staff know it: first and last name, otherwise the
// company name. It is empty if the customer has none of them.
func (c Customer) FullName() string {
	if name := strings.TrimSpace(c.FirstName + " " + c.LastName); name != "" {
		return name
	}
	return c.CompanyName
}

// MaskEmail returns an e-mail address without its local part except for the first letter, such as
// "s…@example.com". It returns "" for what is no address.
func MaskEmail(address string) string {
	at := strings.LastIndexByte(address, '@')
	if at < 1 {
		return ""
	}
	first, _ := utf8.DecodeRuneInString(address)
	return string(first) + "…" + address[at:]
}
