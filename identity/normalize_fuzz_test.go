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
	anyText  = regexp.MustCompile(`(?s)^.+$`)
	teamUser = regexp.MustCompile(`^[TE][A-Z0-9]+:[UW][A-Z0-9]+$`)
)

// FuzzNormalize checks that a normalized ID matches its format, is printable, and is a fixed point.
func FuzzNormalize(f *testing.F) {
	formats := map[identity.Format]*regexp.Regexp{
		identity.PhoneFormat: e164, identity.NumericFormat: numeric, identity.TeamUserFormat: teamUser, "": anyText,
		identity.PhoneOrUserFormat: regexp.MustCompile(e164.String() + `|^[A-Z]{2}\.(ENT\.)?[A-Za-z0-9]+$`),
	}
	for _, s := range []string{
		"+61400111222", "61400111222", " 61400111222", "+1 (415) 555-0101", "whatsapp:+14155550101",
		"tel:+14155550101;ext=5", "+1-800-FLOWERS", "+39 06 698", "００１", "+5215512345678", "+52 1 55 1234 5678",
		"+553187654321",
		"us.ENT.118", "+22507123456",
		"+1415555\x000101", "712345678", "0712", "-1", "9223372036854775807", "9223372036854775808",
		"T024BE7LD:U023BECGF", "t024be7ld:u023becgf", "T1:U1:U2", "ſteve", "steve@example.com", "\u202eevets", "\xff",
		"", strings.Repeat("9", 300),
	} {
		for format := range formats {
			f.Add(string(format), s)
		}
	}
	f.Fuzz(func(t *testing.T, format, externalID string) {
		id, err := identity.Normalize(identity.Format(format), externalID, "")
		if err != nil {
			if id != "" {
				t.Errorf("Normalize(%q, %q) = %q, %v, want no ID with an error", format, externalID, id, err)
			}
			return
		}
		want, ok := formats[identity.Format(format)]
		if !ok {
			want = anyText
		}
		if !want.MatchString(id) || !utf8.ValidString(id) || strings.ContainsFunc(id, unicode.IsControl) {
			t.Errorf("Normalize(%q, %q) = %q, want printable text that matches %s", format, externalID, id, want)
		}
		if again, err := identity.Normalize(identity.Format(format), id, ""); err != nil || again != id {
			t.Errorf("Normalize(%q, %q) = %q, %v, want %q", format, id, again, err, id)
		}
	})
}
