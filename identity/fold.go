package identity

import (
	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// Fold returns the form of a text in which it is compared with others: without a difference between
// upper and lower case (Unicode full case folding), and in Normalization Form C, so that it does not
// matter how an accented letter is composed. Both databases store and search folded texts, because
// their own functions differ: that of SQLite knows ASCII only, and that of PostgreSQL depends on the
// locale of the database.
func Fold(s string) string {
	return norm.NFC.String(cases.Fold().String(norm.NFC.String(s)))
}
