package identity

import (
	"regexp"
	"strconv"

	"github.com/nyaruka/phonenumbers"
)

// A numberForm is a way in which the national numbers of a country are still written that differs from
// the one under which they are stored. WhatsApp identifies accounts by the number that was valid when
// they were created, so it sends numbers that no one can dial anymore.
type numberForm struct {
	country int // country calling code

	// Numbers of the other form are stored as stored, and the reverse. Both are templates of
	// regexp.Regexp.Expand.
	other  *regexp.Regexp
	stored string

	current *regexp.Regexp
	former  string
}

// numberForms lists the countries whose mobile numbers are written in two ways, with the reason. No two
// people have numbers that differ in the form alone.
//
// The forms of Argentina and Mexico are those of libphonenumber's mobile tokens, which it removed for
// Mexico in 2019. Those of the other countries are in their numbering plans, which the ITU publishes.
var numberForms = []numberForm{
	// Argentina: calls from abroad to mobile numbers have a 9 after the country code.
	newNumberForm(54, `9([1-9]\d{9})`, `$1`, `([1-9]\d{9})`, `9$1`),
	// Benin: all numbers have had ten digits since 2024; the former ones follow 01.
	newNumberForm(229, `([2-9]\d{7})`, `01$1`, `01([2-9]\d{7})`, `$1`),
	// Brazil: mobile numbers have had a ninth digit, 9, since 2016. Those of landlines begin with 2 to 5,
	// and those of trunked radio with 7.
	newNumberForm(55, `([1-9]{2})([689]\d{7})`, `${1}9$2`, `([1-9]{2})9([689]\d{7})`, `$1$2`),
	// Côte d'Ivoire: mobile numbers have had ten digits since 2021; the operator determines the first two.
	newNumberForm(225, `([014-9][0-3]\d{6})`, `01$1`, `01([014-9][0-3]\d{6})`, `$1`),
	newNumberForm(225, `([014-9][4-6]\d{6})`, `05$1`, `05([014-9][4-6]\d{6})`, `$1`),
	newNumberForm(225, `([014-9][7-9]\d{6})`, `07$1`, `07([014-9][7-9]\d{6})`, `$1`),
	// Mexico: mobile numbers had a 1 after the country code until 2019.
	newNumberForm(52, `1([1-9]\d{9})`, `$1`, `([1-9]\d{9})`, `1$1`),
}

func newNumberForm(country int, other, stored, current, former string) numberForm {
	return numberForm{
		country: country,
		other:   regexp.MustCompile(`^` + other + `$`), stored: stored,
		current: regexp.MustCompile(`^` + current + `$`), former: former,
	}
}

// storedForm returns n in E.164, in the form under which the numbers of its country are stored.
func storedForm(n *phonenumbers.PhoneNumber) string {
	national := phonenumbers.GetNationalSignificantNumber(n)
	for _, f := range numberForms {
		if f.country == int(n.GetCountryCode()) && f.other.MatchString(national) {
			return "+" + strconv.Itoa(f.country) + f.other.ReplaceAllString(national, f.stored)
		}
	}
	return phonenumbers.Format(n, phonenumbers.E164)
}

// otherForm returns the other form of a stored number, or number itself if there is none.
func otherForm(number string) string {
	n, err := phonenumbers.Parse(number, "ZZ")
	if err != nil {
		return number
	}
	national := phonenumbers.GetNationalSignificantNumber(n)
	for _, f := range numberForms {
		if f.country == int(n.GetCountryCode()) && f.current.MatchString(national) {
			return "+" + strconv.Itoa(f.country) + f.current.ReplaceAllString(national, f.former)
		}
	}
	return number
}
