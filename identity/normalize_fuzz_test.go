package identity_test

import (
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"hydragate/identity"
)

var (
	e164     = regexp.MustCompile(`^\+[1-9][0-9]{4,16}$`)
	numeric  = regexp.MustCompile(`^[1-9][0-9]{0,18}$`)
	teamUser = regexp.MustCompile(`^[TE][A-Z0-9]+:[UW][A-Z0-9]+$`)
)

// Whatever is given as an external id, it has one spelling or none: the spelling is
// that of its channel, and is its own.
func FuzzNormalize(f *testing.F) {
	for _, s := range []string{
		"+61400111222", "61400111222", " 61400111222", "+1 (415) 555-0101", "whatsapp:+14155550101", "tel:+14155550101;ext=5", "+1-800-FLOWERS", "+39 06 698", "００１", "+5215512345678", "+52 1 55 1234 5678",
		"+1415555\x000101", "712345678", "0712", "-1", "9223372036854775807", "9223372036854775808", "T024BE7LD:U023BECGF", "t024be7ld:u023becgf", "T1:U1:U2", "ſteve", "steve@example.com", "\u202eevets", "\xff", "", strings.Repeat("9", 300),
	} {
		for _, channel := range []string{"sms", "whatsapp", "telegram", "slack", "email"} {
			f.Add(channel, s)
		}
	}
	f.Fuzz(func(t *testing.T, channel, given string) {
		id, err := identity.Normalize(channel, given)
		if err != nil {
			if id != "" {
				t.Errorf("%q of %s is none, and %q", given, channel, id)
			}
			return
		}
		want := regexp.MustCompile(`(?s)^.+$`)
		switch channel {
		case "sms", "whatsapp":
			want = e164
		case "telegram":
			want = numeric
		case "slack":
			want = teamUser
		}
		if !want.MatchString(id) || !utf8.ValidString(id) || strings.ContainsFunc(id, unicode.IsControl) {
			t.Errorf("%q of %s is kept as %q", given, channel, id)
		}
		if again, err := identity.Normalize(channel, id); err != nil || again != id {
			t.Errorf("%q of %s is %q, and that is %q, %v", given, channel, id, again, err)
		}
	})
}
