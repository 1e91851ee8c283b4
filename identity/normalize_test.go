package identity

import (
	"testing"
)

func TestNormalize(t *testing.T) {
	for _, c := range []struct {
		format   Format
		in, want string
	}{
		{PhoneFormat, "+61 400 111 222", "+61400111222"},
		{PhoneFormat, " 61400111222", "+61400111222"},
		{PhoneFormat, "+1 (415) 555-2671", "+14155552671"},
		{PhoneFormat, "whatsapp:+14155552671", "+14155552671"},
		{PhoneFormat, "whatsapp:+5215512345678", "+525512345678"},
		{PhoneFormat, "+525512345678", "+525512345678"},
		{PhoneFormat, "5215512345678", "+525512345678"},
		{PhoneFormat, "+52 1 55 1234-5678", "+525512345678"},
		{PhoneFormat, "+521551234567", "+521551234567"},
		{PhoneFormat, "+52155123456789", ""},
		{PhoneFormat, "+5210512345678", ""},
		{PhoneFormat, "0400", ""},
		{PhoneFormat, "STEVE", ""},
		{NumericFormat, "12345", "12345"},
		{NumericFormat, " 4503599627370495 ", "4503599627370495"},
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
		got, err := Normalize(c.format, c.in)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("Normalize(%q, %q) = %q, %v, want %q", c.format, c.in, got, err, c.want)
		}
	}
}

func TestDisplayForm_RoundTrip(t *testing.T) {
	for _, c := range []struct {
		format   Format
		id, want string
	}{
		{PhoneFormat, "+525512345678", "+5215512345678"},
		{PhoneFormat, "+521551234567", "+5211551234567"},
		{PhoneFormat, "+61400111222", "+61400111222"},
		{PhoneFormat, "+520000000000", "+520000000000"},
		{NumericFormat, "525512345678", "525512345678"},
		{"", "+525512345678", "+525512345678"},
	} {
		got := DisplayForm(c.format, c.id)
		if got != c.want {
			t.Errorf("DisplayForm(%q, %q) = %q, want %q", c.format, c.id, got, c.want)
		}
		if id, err := Normalize(c.format, got); err != nil || id != c.id {
			t.Errorf("Normalize(%q, %q) = %q, %v, want %q", c.format, got, id, err, c.id)
		}
	}
}
