package claim

import (
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestParse_WithoutBotName(t *testing.T) {
	for _, tt := range []struct{ botName, text, want string }{
		{"", "/claim WDJBMJ", sampleCode},
		{"", "/claim@acme_bot WDJBMJ", noClaim},
		{"", "/claim@ WDJBMJ", noClaim},
		{"@acme_bot", "/claim@acme_bot WDJBMJ", sampleCode},
	} {
		if got := describe(Parse(tt.text, tt.botName)); got != tt.want {
			t.Errorf("Parse(%q, %q) = %s, want %s", tt.text, tt.botName, got, tt.want)
		}
	}
}

func TestIsAddressedToBot(t *testing.T) {
	for _, tt := range []struct {
		text string
		want bool
	}{
		{"/claim@other_bot WDJBMJ", true},
		{"/claim@other_bot", true},
		{"/claim@ WDJBMJ", true},
		{"/CLAIM@Other_Bot wdj-bmj", true},
		{"/claim @other_bot WDJBMJ", true},
		{"\u200b/claim＠other_bot WDJBMJ", true},
		{"/claim@other_bot " + strings.Repeat(".", MaxTextLen), true},
		{"/start@other_bot claim_WDJBMJ", true},
		{"/START@other_bot CLAIM_wdjbmj", true},
		{"/start@other_bot claim_WDJBMJKLNPQR", true},
		{"/start@other_bot claim_nonsense", true},
		{"/start@other_bot WDJBMJ", false},
		{"/start @other_bot claim_WDJBMJ", true},
		{"/start@other_bot hello", false},
		{"/start@other_bot", false},
		{"/start@other_bot claims", false},
		{"/started@other_bot claim_WDJBMJ", false},
		{"start@other_bot claim_WDJBMJ", false},
		{"claim@other_bot please", false},
		{"/claim WDJBMJ", false},
		{"/start claim_WDJBMJ", false},
		{"/help@other_bot claim_WDJBMJ", false},
		{"claims@acme.example", false},
		{"@other_bot /claim", false},
		{"hello", false},
		{"", false},
	} {
		if got := IsAddressedToBot(tt.text); got != tt.want {
			t.Errorf("IsAddressedToBot(%q) = %v, want %v", tt.text, got, tt.want)
		}
	}
}

func TestParse_LongTexts(t *testing.T) {
	padding := strings.Repeat(" . ", MaxTextLen)
	for _, tt := range []struct{ name, text, want string }{
		{"maximum length", "/claim WDJBMJ" + strings.Repeat(".", MaxTextLen-len("/claim WDJBMJ")), sampleCode},
		{"one byte longer", "/claim WDJBMJ" + strings.Repeat(".", MaxTextLen+1-len("/claim WDJBMJ")), commandWithoutCode},
		{
			"blanks not counted",
			strings.Repeat(" ", MaxTextLen) + "/claim WDJBMJ" + strings.Repeat("\n", MaxTextLen),
			sampleCode,
		},
		{"command", "/claim WDJBMJ" + padding + "!", commandWithoutCode},
		{"word and code", "claim WDJBMJ" + padding + "!", commandWithoutCode},
		{"word and sentence", "claim " + strings.Repeat("for my delayed baggage ", 50), noClaim},
		{"code alone", "WDJBMJ" + padding + "!", noClaim},
		{"command far behind", padding + "/claim WDJBMJ", noClaim},
		{"cut within a character", "/claim " + strings.Repeat("€", MaxTextLen), commandWithoutCode},
		{"sentence", strings.Repeat("lorem ipsum ", 5000), noClaim},
	} {
		if got := describe(Parse(tt.text, "acme_bot")); got != tt.want {
			t.Errorf("%s: Parse = %s, want %s", tt.name, got, tt.want)
		}
	}
}

// TestParse_BoundedTime checks that the time for texts of any content is proportional to their length.
// If it were proportional to its square, parsing would take minutes.
func TestParse_BoundedTime(t *testing.T) {
	for name, unit := range map[string]string{
		"expanding": "\ufdfa", "marks": "\u0301", "letters": "Q", "invalid": "\xff", "commands": "/claim ",
	} {
		text := strings.Repeat(unit, 512<<10/len(unit))
		begun := time.Now()
		Parse(text, "acme_bot")
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("%s: Parse took %v", name, took)
		}
	}
}

// TestParse_Decorations parses thousands of codes with random decorations. Each must be found, and
// none as another code.
func TestParse_Decorations(t *testing.T) {
	// What keyboards, autocorrection, quoting and copying leave around and between letters.
	decorations := strings.Fields("- ‐ ‑ ‒ – — ― − ﹣ － _ . , ; : ! ? … ' \" ` ´ ‘ ’ “ ” „ « » < > ( ) [ ] { } * ~ " +
		"= + • · ・ 👍 🙏🏽 ❤️ 🇩🇪 👨‍👩‍👧 \x00 \x1b \x7f \ufffd \xff \u3164 \ue000 / \\ # & % $ €")
	decorations = append(decorations, "  ")
	for _, r := range " \t\n\u00a0\u2009\u202f\u3000\u200b\u200d\u2060\ufeff\u00ad\u200e\u200f" +
		"\u202a\u202e\u202c\u2066\u2069\u034f\ufe0f\u0336" {
		decorations = append(decorations, string(r))
	}
	noise := rapid.SliceOfN(rapid.SampledFrom(decorations), 0, 3)
	letter := rapid.SampledFrom(strings.Split(alphabet, ""))
	command := rapid.SampledFrom(
		[]string{"/claim", "/Claim", "/CLAIM", "claim", "Claim", "/claim@acme_bot", "/start claim_"},
	)
	gap := rapid.SampledFrom([]string{" ", "\n", "\u00a0", ": "})
	decorate := func(r *rapid.T) (code, text string, want ParsedText) {
		add := func(parts ...string) { text += strings.Join(parts, "") }
		add(noise.Draw(r, "before")...)
		add(command.Draw(r, "command"), gap.Draw(r, "gap"))
		size, before := rapid.SampledFrom([]int{codeLen, inviteLen}).Draw(r, "size"), len(text)
		for range size {
			x := letter.Draw(r, "letter")
			code += x
			if rapid.Bool().Draw(r, "small") {
				x = strings.ToLower(x)
			}
			add(noise.Draw(r, "within")...)
			add(x)
		}
		add(noise.Draw(r, "after")...)
		if isRepeatedCode(code) || IsInviteCode(code) && isTwoWords(canonicalize(text[before:])) {
			return code, text, ParsedText{Command: true} // by chance it looks like two codes
		}
		return code, text, ParsedText{Code: code, Command: true}
	}
	for range repetitions(100) {
		rapid.Check(t, func(r *rapid.T) {
			code, text, want := decorate(r)
			if got, ok := Parse(text, "acme_bot"); !ok || got != want {
				r.Fatalf("Parse(%q) = %+v, %v, want %s", text, got, ok, code)
			}
		})
		if t.Failed() {
			return
		}
	}
}

// TestParse_NewCodes checks that every code that is issued can be redeemed as it is shown, with
// and without the command.
func TestParse_NewCodes(t *testing.T) {
	for range repetitions(10_000) {
		code := NewCode()
		for text, want := range map[string]ParsedText{
			code:                             {Code: code},
			Group(code):                      {Code: code},
			strings.ToLower(Group(code)):     {Code: code},
			"/claim " + code:                 {Code: code, Command: true},
			"claim " + strings.ToLower(code): {Code: code, Command: true},
			"/start claim_" + code:           {Code: code, Command: true},
		} {
			if got, ok := Parse(text, ""); !ok || got != want {
				t.Fatalf("Parse(%q) = %+v, %v, want %+v", text, got, ok, want)
			}
		}
	}
}

// TestParse_NewInviteCodes checks the same for invites.
func TestParse_NewInviteCodes(t *testing.T) {
	for range repetitions(10_000) {
		code := NewInviteCode()
		for text, want := range map[string]ParsedText{
			code:                              {Code: code},
			Group(code):                       {Code: code},
			strings.ToLower(Group(code)):      {Code: code},
			"/claim " + Group(code):           {Code: code, Command: true},
			"claim " + strings.ToLower(code):  {Code: code, Command: true},
			"/start claim_" + code:            {Code: code, Command: true},
			"/start@acme_bot claim_" + code:   {Code: code, Command: true},
			"“" + Group(code) + "”":           {Code: code},
			"/claim «" + Group(code) + "».\n": {Code: code, Command: true},
		} {
			if got, ok := Parse(text, "acme_bot"); !ok || got != want {
				t.Fatalf("Parse(%q) = %+v, %v, want %+v", text, got, ok, want)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"/claim WDJBMJ", "/claim@acme_bot WDJ-BMJ", "/claim@other_bot WDJBMJ", "Claim: wdj bmj.", "claimWDJBMJ", "claim",
		"/claim W.D.J.B.M.J.", "\ufeff/claim W\u200bDJ\u202fBMJ", "／ｃｌａｉｍ　ＷＤＪＢＭＪ", "/claim ВСҒНЈК", "> “/claim BC1️⃣FGH” 🙏🏽",
		"/start claim_WDJBMJ", "/start@acme_bot claim_WDJBMJKLNPQR", "/start newsletter", "/claims WDJBMJ", "/help WDJBMJ",
		"/claim WDJB-MJKL-NPQR", "/claim WDJBMJ BCDFGH", "claim my refund", "claim WDJBMA please", "WDJ-BMJ",
		"wdjb mjkl npqr", "WDJBMJWDJBMJ", "165 826", "hmmmmm", "@wdjbmj", "",
	} {
		f.Add(text, "acme_bot")
	}
	f.Add("/claim\xff\xfeWDJBMJ", "")
	f.Add("/claim WDJBMJ"+strings.Repeat("\u0301", 300), "\xff")
	f.Fuzz(func(t *testing.T, text, botName string) { checkParsed(t, text, botName) })
}

// checkParsed checks what must be true for every text: what Parse returns is well-formed, is parsed
// as itself, and does not vary.
func checkParsed(t *testing.T, text, botName string) {
	t.Helper()
	parsed, ok := Parse(text, botName)
	if !ok {
		if parsed != (ParsedText{}) {
			t.Fatalf("Parse(%q) = %+v, false", text, parsed)
		}
		return
	}
	if !parsed.Command && parsed.Code == "" {
		t.Fatalf("Parse(%q) is empty, but true", text)
	}
	if parsed.Code == "" {
		return
	}
	if len(parsed.Code) != codeLen && len(parsed.Code) != inviteLen || strings.Trim(parsed.Code, alphabet) != "" ||
		!utf8.ValidString(parsed.Code) {
		t.Fatalf("Parse(%q) returns the code %q", text, parsed.Code)
	}
	finds := slices.ContainsFunc(Scan(text), func(c Candidate) bool { return c.Code == parsed.Code })
	if !finds && !isRejected(parsed.Code) {
		t.Fatalf("Parse(%q) returns the code %s, which Scan does not find", text, parsed.Code)
	}
	again, ok := Parse("/claim "+parsed.Code, botName)
	if !ok || again.Code != parsed.Code {
		t.Fatalf("Parse(%q) returns the code %s, which is parsed as %+v", text, parsed.Code, again)
	}
	if same, ok := Parse(text, botName); !ok || same != parsed {
		t.Fatalf("Parse(%q) = %+v, then %+v", text, parsed, same)
	}
}

func BenchmarkParse(b *testing.B) {
	for _, text := range []string{"/claim WDJ-BMJ", "Hello, where is my parcel? I have been waiting for two weeks now."} {
		b.Run(text[:6], func(b *testing.B) {
			for b.Loop() {
				Parse(text, "acme_bot")
			}
		})
	}
}
