package adapters

import (
	"testing"
	"unicode/utf8"
)

func TestParseCommand(t *testing.T) {
	for text, want := range map[string]Command{
		"/claim ABC":         {"claim", "ABC"},
		"/claim@MyBot ABC":   {"claim", "ABC"},
		"/CLAIM@mybot\nABC":  {"claim", "ABC"},
		"/claim":             {"claim", ""},
		"/claim\u00a0 A B ":  {"claim", "A B"},
		"/claim@OtherBot AB": {},
		"//claim x":          {},
		"/":                  {},
		"claim ABC":          {},
		"😀 /claim ABC":       {},
		"/x@":                {},
		"\u200b/help":        {"help", ""},
		"/\u200dhe\u2060lp":  {"help", ""},
		"\ufeff \u200e/help": {"help", ""},
		"／help":              {"help", ""},
		"／ｈｅｌｐ＠MyBot x":      {"help", "x"},
		"/help\ufe0f":        {"help", ""},
		"/help \u200e":       {"help", ""},
		"\u200b":             {},
		"h\u200b/elp":        {},
		"/hélp":              {},
	} {
		got, ok := ParseCommand(text, "MyBot")
		if got != want || ok != (want != Command{}) {
			t.Errorf("ParseCommand(%q) = %+v, %v, want %+v", text, got, ok, want)
		}
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"\u202Eevil":                      "evil",
		"\x1b[31mred\x1b[0m":              "[31mred[0m",
		"a\u009b31mb":                     "a31mb",
		"a\r\nlevel=ERROR\tb\u2028c":      "a level=ERROR b c",
		"\u2067x\u2069\u200F\u061C\uFEFF": "x",
		"\u200B\u00AD":                    "",
		"Zoë O’Neill-李 (3M)":              "Zoë O’Neill-李 (3M)",
		"👩\u200D🚀❤\uFE0F":                 "👩\u200D🚀❤\uFE0F",
		"می\u200Cخواهم":                   "می\u200Cخواهم",
		" أحمد  עדי ":                     "أحمد עדי",
	} {
		if got := Printable(in); got != want {
			t.Errorf("Printable(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestParseCommand_AnyBot(t *testing.T) {
	for text, want := range map[string]bool{
		"/claim@typo ABC": true, "/claim ABC": true, "/claim@ ABC": false, "claim@typo": false,
	} {
		if _, ok := ParseCommand(text, AnyBot); ok != want {
			t.Errorf("ParseCommand(%q) = %v, want %v", text, ok, want)
		}
	}
}

func TestSanitize(t *testing.T) {
	for in, want := range map[string]string{
		"a\x00b":       "a\uFFFDb",
		"\xff\xfe":     "\uFFFD",
		"ok 😀":         "ok 😀",
		"\xed\xa0\x80": "\uFFFD", // a lone surrogate
	} {
		if got := Sanitize(in, 100); got != want || !utf8.ValidString(got) {
			t.Errorf("Sanitize(%q, 100) = %q, want %q", in, got, want)
		}
	}
	if got := Sanitize("ab😀", 4); got != "ab" {
		t.Errorf("Sanitize(%q, 4) = %q, want %q", "ab😀", got, "ab")
	}
}
