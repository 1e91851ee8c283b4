package identity

import (
	"testing"
)

func TestNormalize(t *testing.T) {
	for _, c := range []struct{ channel, in, want string }{
		{"sms", "+61 400 111 222", "+61400111222"},
		{"sms", " 61400111222", "+61400111222"},
		{"sms", "+1 (415) 555-2671", "+14155552671"},
		{"whatsapp", "whatsapp:+14155552671", "+14155552671"},
		{"whatsapp", "whatsapp:+5215512345678", "+525512345678"},
		{"whatsapp", "+525512345678", "+525512345678"},
		{"sms", "5215512345678", "+525512345678"},
		{"sms", "+52 1 55 1234-5678", "+525512345678"},
		{"sms", "+521551234567", "+521551234567"},
		{"sms", "+52155123456789", ""},
		{"sms", "+5210512345678", ""},
		{"sms", "0400", ""},
		{"sms", "STEVE", ""},
		{"telegram", "12345", "12345"},
		{"telegram", " 4503599627370495 ", "4503599627370495"},
		{"telegram", "-100123", ""},
		{"telegram", "@steve", ""},
		{"telegram", "012", ""},
		{"slack", "T024BE7LD:U023BECGF", "T024BE7LD:U023BECGF"},
		{"slack", "t024be7ld:w023becgf", "T024BE7LD:W023BECGF"},
		{"slack", "U023BECGF", ""},
		{"email", " steve@example.com ", "steve@example.com"},
		{"wechat", "a\nb", ""},
	} {
		got, err := Normalize(c.channel, c.in)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s %q: %q, %v; want %q", c.channel, c.in, got, err, c.want)
		}
	}
}

func TestDisplayForm_RoundTrip(t *testing.T) {
	for _, c := range []struct{ channel, id, want string }{
		{"whatsapp", "+525512345678", "+5215512345678"},
		{"sms", "+525512345678", "+5215512345678"},
		{"whatsapp", "+521551234567", "+5211551234567"},
		{"whatsapp", "+61400111222", "+61400111222"},
		{"sms", "+520000000000", "+520000000000"},
		{"telegram", "525512345678", "525512345678"},
		{"email", "+525512345678", "+525512345678"},
	} {
		got := DisplayForm(c.channel, c.id)
		if again, err := Normalize(c.channel, got); got != c.want || err != nil || again != c.id {
			t.Errorf("%s of %s is shown as %q, and that is %q, %v", c.id, c.channel, got, again, err)
		}
	}
}
