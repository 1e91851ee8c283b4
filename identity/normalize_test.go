package identity

import (
	"strings"
	"testing"
)

func TestNormalize(t *testing.T) {
	for _, c := range []struct {
		format   Format
		in, want string
	}{
		{PhoneFormat, "+61 400 111 222", "+61400111222"},
		{PhoneFormat, "+1 (415) 555-2671", "+14155552671"},
		{PhoneFormat, "tel:+1-415-555-2671", "+14155552671"},
		{PhoneFormat, "whatsapp:+14155552671", "+14155552671"},
		{PhoneFormat, "\u202a+1\u00a0415\u2009555\u202f2671\u202c", "+14155552671"},
		{PhoneFormat, "\u2066+1 415\u2011555\u20132671\u2069\ufeff", "+14155552671"},
		{PhoneFormat, "＋１４１５５５５２６７１", "+14155552671"},
		{PhoneFormat, "+44 (0)7911 123456", "+447911123456"},
		{PhoneFormat, "+49 1520 123456789", "+491520123456789"}, // as long as E.164 allows
		{PhoneFormat, "+49 1520 1234567890", ""},
		{PhoneFormat, "0400", ""},
		{PhoneFormat, "STEVE", ""},
		{PhoneFormat, "+1 415 555", ""},
		{PhoneFormat, "US.13491208655302741918", ""},
		{PhoneOrUserFormat, "US.13491208655302741918", "US.13491208655302741918"},
		{PhoneOrUserFormat, " whatsapp:us.ENT.1181579921288", "US.ENT.1181579921288"},
		{PhoneOrUserFormat, "+14155552671", "+14155552671"},
		{PhoneOrUserFormat, "USA.1349120865", ""},
		{PhoneOrUserFormat, "US.", ""},
		{NumericFormat, "12345", "12345"},
		{NumericFormat, " 4503599627370495 ", "4503599627370495"},
		{NumericFormat, "0", ""},
		{NumericFormat, "-100123", ""},
		{NumericFormat, "@steve", ""},
		{NumericFormat, "012", ""},
		{TeamUserFormat, "T024BE7LD:U023BECGF", "T024BE7LD:U023BECGF"},
		{TeamUserFormat, "t024be7ld:w023becgf", "T024BE7LD:W023BECGF"},
		{TeamUserFormat, "U023BECGF", ""},
		{"", " steve@example.com ", "steve@example.com"},
		{"", "a\nb", ""},
		{"", "steve@example.com\u200B", ""},
		{"", "\u202Eevets", ""},
		{"", "\x1b[31m", ""},
		{"", "José 李 user", "José 李 user"},
	} {
		got, err := Normalize(c.format, c.in, "")
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("Normalize(%q, %q) = %q, %v, want %q", c.format, c.in, got, err, c.want)
		}
	}
}

func TestNormalizePhone_CountryCode(t *testing.T) {
	for _, number := range []string{
		"9175550100", "3105550100", "51096468", "917-555-0101", "(917) 555-0100", " 61400111222", "\u202a14155552671",
	} {
		_, err := NormalizePhone(number, "")
		if err == nil || !strings.Contains(err.Error(), "country code is missing") {
			t.Errorf("NormalizePhone(%q, no region) = %v, want that the country code is missing", number, err)
		}
	}
	for _, c := range []struct{ number, region, want string }{
		{"9175550100", "US", "+19175550100"},
		{"(917) 555-0100", "US", "+19175550100"},
		{"51096468", "DK", "+4551096468"},
		{"0400 111 222", "AU", "+61400111222"},
		{"0049 170 1234567", "GB", "+491701234567"},
		{"11 15 2345-6789", "AR", "+541123456789"},
		{"(31) 8765-4321", "BR", "+5531987654321"},
		{"+61 400 111 222", "US", "+61400111222"},
		{"12", "US", ""},
	} {
		got, err := NormalizePhone(c.number, c.region)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("NormalizePhone(%q, %s) = %q, %v, want %q", c.number, c.region, got, err, c.want)
		}
	}
	_, err := NormalizePhone("+1 415 555", "")
	if want := "not a possible number in +1: check the digits"; err == nil || err.Error() != want {
		t.Errorf("NormalizePhone(+1 415 555) = %v, want %s", err, want)
	}
}

// TestNumberForms checks that both forms of a number are stored as one, that the other form is that which
// a provider sends, and that numbers with only one form do not change.
func TestNumberForms(t *testing.T) {
	for _, c := range []struct{ in, want, other string }{
		{"+525512345678", "+525512345678", "+5215512345678"},
		{"+5215512345678", "+525512345678", "+5215512345678"},
		{"+52 1 55 1234-5678", "+525512345678", "+5215512345678"},
		{"+521551234567", "+521551234567", "+5211551234567"},
		{"+52155123456789", "", ""},
		{"+5210512345678", "", ""},
		{"+5491123456789", "+541123456789", "+5491123456789"},
		{"+541123456789", "+541123456789", "+5491123456789"},
		{"+54 011 15 2345-6789", "+541123456789", "+5491123456789"},
		{"+54 9 2966 12-3456", "+542966123456", "+5492966123456"},
		{"+5531987654321", "+5531987654321", "+553187654321"},
		{"+553187654321", "+5531987654321", "+553187654321"},
		{"+5511961234567", "+5511961234567", "+551161234567"},
		{"+551132345678", "+551132345678", "+551132345678"},    // a landline
		{"+551177123456", "+551177123456", "+551177123456"},    // trunked radio
		{"+5511912345678", "+5511912345678", "+5511912345678"}, // never had eight digits
		{"+22997123456", "+2290197123456", "+22997123456"},
		{"+2290197123456", "+2290197123456", "+22997123456"},
		{"+22507123456", "+2250707123456", "+22507123456"},
		{"+2250707123456", "+2250707123456", "+22507123456"},
		{"+22544123456", "+2250544123456", "+22544123456"},
		{"+22501123456", "+2250101123456", "+22501123456"},
		{"+2252722123456", "+2252722123456", "+2252722123456"}, // a landline
		{"+14155552671", "+14155552671", "+14155552671"},
		{"+56912345678", "+56912345678", "+56912345678"},
	} {
		got, err := NormalizePhone(c.in, "")
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("NormalizePhone(%q) = %q, %v, want %q", c.in, got, err, c.want)
			continue
		}
		if err != nil {
			continue
		}
		for _, format := range []Format{PhoneFormat, PhoneOrUserFormat} {
			if other := DisplayForm(format, got); other != c.other {
				t.Errorf("DisplayForm(%s, %q) = %q, want %q", format, got, other, c.other)
			}
		}
		if again, err := NormalizePhone(c.other, ""); err != nil || again != got {
			t.Errorf("NormalizePhone(%q) = %q, %v, want %q", c.other, again, err, got)
		}
	}
	for _, id := range []string{"US.525512345678", "525512345678"} {
		if got := DisplayForm(NumericFormat, id); got != id {
			t.Errorf("DisplayForm(%q) = %q, want it unchanged", id, got)
		}
	}
}
