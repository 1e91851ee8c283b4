package identity

import (
	"strings"
	"testing"
)

func TestCustomer_MaskedName(t *testing.T) {
	for _, tt := range []struct {
		name     string
		customer Customer
		want     string
	}{
		{"first name", Customer{FirstName: "Steve", LastName: "Miller", CompanyName: "Acme"}, "S…e"},
		{"spaces and quotes", Customer{FirstName: ` "Anna Maria" `}, "A…a"},
		{"last name only", Customer{LastName: "Miller"}, "M…r"},
		{"company only", Customer{CompanyName: "3M"}, "3…M"},
		{"no name", Customer{Email: "steve@example.com", PhoneNumber: "+61400111222"}, ""},
		{"one letter", Customer{FirstName: "S"}, "S…"},
		{"two letters", Customer{FirstName: "Al"}, "A…l"},
		{"composed mark", Customer{FirstName: "Zoë"}, "Z…ë"},
		{"separate mark", Customer{FirstName: "E\u0301milie\u0301"}, "É…é"},
		{"Chinese", Customer{FirstName: "李小龙"}, "李…龙"},
		{"Arabic", Customer{FirstName: "محمد"}, "م…د"},
		{"Hindi", Customer{FirstName: "मोहिनी"}, "मो…नी"},
		{"emoji around", Customer{FirstName: "🎉Steve👨‍👩‍👧"}, "S…e"},
		{"emoji only", Customer{FirstName: "🎉", LastName: "👍🏽"}, ""},
		{"emoji, then a last name", Customer{FirstName: "🎉", LastName: "Miller"}, "M…r"},
		{"e-mail address", Customer{FirstName: "steve@example.com"}, ""},
		{"e-mail address in a name", Customer{FirstName: "Steve <steve@example.com>", LastName: "Miller"}, "M…r"},
		{"full-width at sign", Customer{FirstName: "steve＠example.com"}, ""},
		{"bidi control", Customer{FirstName: "\u202eSteve\u202c"}, "S…e"},
		{"many marks", Customer{FirstName: "S" + strings.Repeat("\u0336", 1000) + "teve"}, "S\u0336\u0336\u0336\u0336…e"},
		{"invalid UTF-8", Customer{FirstName: "\xffSteve\xff"}, "S…e"},
	} {
		if got := tt.customer.MaskedName(); got != tt.want {
			t.Errorf("%s: MaskedName() = %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestCustomer_FullName(t *testing.T) {
	for want, c := range map[string]Customer{
		"Steve Miller": {FirstName: "Steve", LastName: "Miller", CompanyName: "Acme"},
		"Miller":       {LastName: "Miller"},
		"Acme":         {CompanyName: "Acme", Email: "steve@example.com"},
		"":             {Email: "steve@example.com"},
	} {
		if got := c.FullName(); got != want {
			t.Errorf("FullName() of %+v = %q, want %q", c, got, want)
		}
	}
}

func TestMaskEmail(t *testing.T) {
	for address, want := range map[string]string{
		"steve@example.com":  "s…@example.com",
		"s@example.com":      "s…@example.com",
		"élodie@example.com": "é…@example.com",
		`"a@b"@example.com`:  `"…@example.com`,
		"":                   "",
		"@example.com":       "",
		"without-an-at-sign": "",
	} {
		if got := MaskEmail(address); got != want {
			t.Errorf("MaskEmail(%q) = %q, want %q", address, got, want)
		}
	}
}
