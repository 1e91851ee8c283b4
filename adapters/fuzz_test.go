package adapters_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"hydragate/adapters"
)

// unusualTexts are seeds with invalid UTF-8, NUL, combining and invisible characters, and commands.
var unusualTexts = []string{
	"", " ", "/", "/claim WDJBMJ", "/CLAIM@Acme_Bot\tWDJ-BMJ", "/claim@", "/claim@other x",
	"/" + strings.Repeat("a", 33), "/İ", "/ſtart x", "a\x00b", "\xff\xfe", "\xed\xa0\x80", "👩‍👩‍👧‍👦",
	strings.Repeat("e\u0301", 50), "\u202egnp.exe", "\ufeff/claim", "/claim\u00a0X", "{\"a\":1}",
	"'; drop table messages; --", "\r\nX: y",
}

// FuzzParseCommand checks that a parsed command is well formed and parses to itself.
func FuzzParseCommand(f *testing.F) {
	for _, s := range unusualTexts {
		f.Add(s, "acme_bot")
	}
	f.Add("/claim@ K", "K")
	f.Fuzz(func(t *testing.T, text, botUsername string) {
		c, ok := adapters.ParseCommand(text, botUsername)
		if !ok {
			if c != (adapters.Command{}) {
				t.Errorf("ParseCommand(%q) = %+v, false, want no command", text, c)
			}
			return
		}
		if c.Name == "" || len(c.Name) > 32 || strings.Trim(c.Name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			t.Errorf("ParseCommand(%q) has the invalid name %q", text, c.Name)
		}
		if c.Args != strings.TrimSpace(c.Args) || !strings.Contains(text, c.Args) {
			t.Errorf("ParseCommand(%q) has the invalid arguments %q", text, c.Args)
		}
		if again, ok := adapters.ParseCommand("/"+c.Name+" "+c.Args, botUsername); !ok || again != c {
			t.Errorf("ParseCommand(%q) = %+v, which parses as %+v", text, c, again)
		}
	})
}

// FuzzSanitize checks that the result is valid, short enough, and a prefix of a valid text.
func FuzzSanitize(f *testing.F) {
	for i, s := range unusualTexts {
		f.Add(s, i)
	}
	f.Fuzz(func(t *testing.T, s string, limit int) {
		limit = max(0, min(limit, 1<<20))
		got := adapters.Sanitize(s, limit)
		if !utf8.ValidString(got) || strings.ContainsRune(got, 0) {
			t.Errorf("Sanitize(%q, %d) = %q, want valid UTF-8 without NUL", s, limit, got)
		}
		// Each invalid byte becomes a character of three bytes.
		if len(got) > 3*limit || utf8.RuneCountInString(got) > limit {
			t.Errorf("Sanitize(%q, %d) has %d bytes", s, limit, len(got))
		}
		if utf8.ValidString(s) && !strings.ContainsRune(s, 0) && !strings.HasPrefix(s, got) {
			t.Errorf("Sanitize(%q, %d) = %q, want a prefix", s, limit, got)
		}
	})
}

// FuzzSplit checks that every part is within the limit and that no character is lost or added.
func FuzzSplit(f *testing.F) {
	for i, s := range unusualTexts {
		f.Add(s, i+1)
	}
	f.Add(strings.Repeat("word ", 400), 100)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		limit = max(2, min(limit, 4096)) // one emoji has two units
		text = adapters.Sanitize(text, 64<<10)
		l := adapters.Limits{MaxText: limit, Measure: adapters.UTF16Len}
		joined := ""
		for _, part := range l.Split(text) {
			if n := l.Measure(part); n > limit || strings.TrimSpace(part) == "" {
				t.Errorf("part %q has %d units, want 1 to %d", part, n, limit)
			}
			joined += part
		}
		if strings.Join(strings.Fields(joined), "") != strings.Join(strings.Fields(text), "") {
			t.Errorf("Split(%q) joins to %q", text, joined)
		}
	})
}
