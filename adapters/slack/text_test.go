package slack

import "testing"

func TestDecodeText(t *testing.T) {
	for raw, want := range map[string]string{
		"hello":                              "hello",
		"a &amp; b &lt;c&gt;":                "a & b <c>",
		"&amp;lt;":                           "&lt;",
		"&lt;@U1&gt;":                        "<@U1>",
		"<@UBOT> hi":                         "hi",
		"  <@UBOT|bot>  hi":                  "hi",
		"<@UBOT>":                            "@UBOT",
		"<@UBOTX> hi":                        "@UBOTX hi",
		"<@U1> <@UBOT> hi":                   "@U1 @UBOT hi",
		"<@UBOT> /claim WDJBMJ":              "/claim WDJBMJ",
		"<@U1|matt>":                         "@matt",
		"<#C1|general> <#C1>":                "#general #C1",
		"<!channel> <!here|here>":            "@channel @here",
		"<!subteam^S1> <!subteam^S1|@crew>":  "@subteam @crew",
		"<https://example.com>":              "https://example.com",
		"<https://example.com/|example.com>": "example.com",
		"<https://evil.example|bank>":        "bank (https://evil.example)",
		"<mailto:s@example.com|s@example.com> <mailto:s@example.com>": "s@example.com s@example.com",
		"1 < 2":     "1 < 2",
		"<":         "<",
		"<>":        "",
		"<|>":       "",
		"<|a>":      "a",
		"\u00a0x\n": "x",
		"":          "",
	} {
		if got := decodeText(raw, "UBOT"); got != want {
			t.Errorf("%q: %q, want %q", raw, got, want)
		}
	}
}
