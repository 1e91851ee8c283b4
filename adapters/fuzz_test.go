package adapters_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"hydragate/adapters"
)

// unusualTexts are texts that something somewhere cannot keep or count.
var unusualTexts = []string{
	"", " ", "/", "/claim WDJBMJ", "/CLAIM@Acme_Bot\tWDJ-BMJ", "/claim@", "/claim@other x", "/" + strings.Repeat("a", 33), "/İ", "/ſtart x",
	"a\x00b", "\xff\xfe", "\xed\xa0\x80", "👩‍👩‍👧‍👦", strings.Repeat("e\u0301", 50), "\u202egnp.exe", "\ufeff/claim", "/claim\u00a0X", "{\"a\":1}", "'; drop table messages; --", "\r\nX: y",
}

func FuzzParseCommand(f *testing.F) {
	for _, s := range unusualTexts {
		f.Add(s, "acme_bot")
	}
	f.Add("/claim@ K", "K")
	f.Fuzz(func(t *testing.T, text, me string) {
		c, ok := adapters.ParseCommand(text, me)
		if !ok {
			if c != (adapters.Command{}) {
				t.Errorf("%q is no command, and %+v", text, c)
			}
			return
		}
		if c.Name == "" || len(c.Name) > 32 || strings.Trim(c.Name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			t.Errorf("%q is a command named %q", text, c.Name)
		}
		if c.Args != strings.TrimSpace(c.Args) || !strings.Contains(text, c.Args) {
			t.Errorf("%q has the arguments %q", text, c.Args)
		}
		if again, ok := adapters.ParseCommand("/"+c.Name+" "+c.Args, me); !ok || again != c {
			t.Errorf("%q is %+v, which reads as %+v", text, c, again)
		}
	})
}

func FuzzSanitize(f *testing.F) {
	for i, s := range unusualTexts {
		f.Add(s, i)
	}
	f.Fuzz(func(t *testing.T, s string, most int) {
		most = max(0, min(most, 1<<20))
		got := adapters.Sanitize(s, most)
		if !utf8.ValidString(got) || strings.ContainsRune(got, 0) {
			t.Errorf("%q cannot be kept", got)
		}
		// What cannot be kept becomes a sign of three bytes.
		if len(got) > 3*most || utf8.RuneCountInString(got) > most {
			t.Errorf("%d bytes of at most %d", len(got), most)
		}
		if utf8.ValidString(s) && !strings.ContainsRune(s, 0) && !strings.HasPrefix(s, got) {
			t.Errorf("%q became %q", s, got)
		}
	})
}

func FuzzSplit(f *testing.F) {
	for i, s := range unusualTexts {
		f.Add(s, i+1)
	}
	f.Add(strings.Repeat("word ", 400), 100)
	f.Fuzz(func(t *testing.T, text string, most int) {
		most = max(2, min(most, 4096)) // one emoji has two units
		text = adapters.Sanitize(text, 64<<10)
		l := adapters.Limits{MaxText: most, Measure: adapters.UTF16Len}
		joined := ""
		for _, part := range l.Split(text) {
			if n := l.Measure(part); n > most || strings.TrimSpace(part) == "" {
				t.Errorf("a part of %d units; want 1 to %d", n, most)
			}
			joined += part
		}
		if strings.Join(strings.Fields(joined), "") != strings.Join(strings.Fields(text), "") {
			t.Errorf("splitting %q lost or added something", text)
		}
	})
}
