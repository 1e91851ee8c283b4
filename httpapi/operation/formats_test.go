package operation

import (
	"strings"
	"testing"

	"hydragate/httpapi/fastapi"
)

// What a format takes is kept in one spelling, which it takes again; what it refuses it
// does not show.
func FuzzFormats(f *testing.F) {
	check := NewChecker(false)
	names := []string{fastapi.FormatUUID, fastapi.FormatTime, fastapi.FormatEmail, fastapi.FormatPhone, fastapi.FormatLocale, fastapi.FormatTimezone, fastapi.FormatAgentURL}
	for i := range names {
		for _, s := range []string{
			"2030-01-31T12:00:00Z", "2030-01-31T12:00:00.123456789+14:00", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "steve@example.com", "a@b", "\"a b\"@c", "Steve <steve@example.com>", "+61400111222", "en-AU", "x-private", "i-klingon",
			"Australia/Sydney", "../../etc/passwd", "Local", "UTC", "https://agent.example/x", "https://127.0.0.1/", "https://[::ffff:10.0.0.1]/", "http://agent.example", "javascript:alert(1)", "https://steve:x@agent.example", "https://agent.example\\@evil.example", "//evil", "", "\x00", "\xff",
		} {
			f.Add(byte(i), s)
		}
	}
	f.Fuzz(func(t *testing.T, which byte, in string) {
		name := names[int(which)%len(names)]
		clean, bad := check.Formats[name](in)
		if bad != nil {
			if bad.Msg == "" || bad.Type == "" {
				t.Errorf("%s of %q: %+v", name, in, bad)
			}
			return
		}
		again, bad := check.Formats[name](clean)
		if bad != nil || again != clean {
			t.Errorf("%s: %q is kept as %q, and that as %q, %+v", name, in, clean, again, bad)
		}
		if strings.ContainsRune(clean, 0) && name != fastapi.FormatAgentURL {
			t.Errorf("%s: %q is kept as %q", name, in, clean)
		}
	})
}
