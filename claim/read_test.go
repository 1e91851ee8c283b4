package claim

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// The kinds of text, as the gateway tells them apart.
const (
	other = "other" // nothing about claims
	hint  = "hint"  // a command without a well-formed code
)

const good = "WDJBMJ"

// texts are what people type to a bot named acme_bot. want is other, hint, the code
// of a command, or "alone " and a code that came without one.
var texts = []struct{ name, text, want string }{
	{"slash", "/claim WDJBMJ", good},
	{"to this bot", "/claim@acme_bot WDJBMJ", good},
	{"to this bot, capitals", "/claim@Acme_Bot WDJBMJ", good},
	{"to this bot, after a space", "/claim @acme_bot WDJBMJ", good},
	{"to this bot, no slash", "claim@acme_bot WDJBMJ", good},
	{"to this bot, no space", "/claim@acme_bot:WDJBMJ", good},
	{"to another bot", "/claim@other_bot WDJBMJ", other},
	{"to a bot with a longer name", "/claim@acme_bot2 WDJBMJ", other},
	{"to a bot with a shorter name", "/claim@acme WDJBMJ", other},
	{"to nobody", "/claim@ WDJBMJ", other},
	{"no slash", "claim WDJBMJ", good},
	{"capital", "Claim WDJBMJ", good},
	{"all capitals", "CLAIM WDJBMJ", good},
	{"mixed", "/ClAiM wDjBmJ", good},
	{"small", "/claim wdjbmj", good},
	{"grouped", "/claim WDJ-BMJ", good},
	{"grouped, small", "/claim wdj-bmj", good},
	{"with a space", "/claim WDJ BMJ", good},
	{"in pairs", "/claim WD JB MJ", good},
	{"letter by letter", "/claim W D J B M J", good},
	{"letter by letter with full stops", "/claim W.D.J.B.M.J.", good},
	{"uneven groups", "/claim WDJB MJ", good},
	{"en dash", "/claim WDJ–BMJ", good},
	{"em dash", "/claim WDJ—BMJ", good},
	{"non-breaking hyphen", "/claim WDJ\u2011BMJ", good},
	{"minus sign", "/claim WDJ−BMJ", good},
	{"small hyphen", "/claim WDJ﹣BMJ", good},
	{"soft hyphen", "/claim WDJ\u00adBMJ", good},
	{"hyphen bullet", "/claim WDJ\u2043BMJ", good},
	{"katakana middle dot", "/claim WDJ・BMJ", good},
	{"underscore", "/claim WDJ_BMJ", good},
	{"spaces around", "  /claim   WDJBMJ  ", good},
	{"tab", "/claim\tWDJBMJ", good},
	{"two lines", "/claim\nWDJBMJ", good},
	{"carriage return", "/claim WDJBMJ\r\n", good},
	{"no-break space", "/claim\u00a0WDJBMJ", good},
	{"thin space", "/claim\u2009WDJ\u202fBMJ", good},
	{"ideographic space", "/claim\u3000WDJBMJ", good},
	{"zero-width space", "/claim W\u200bDJBMJ", good},
	{"zero-width space in the command", "/cl\u200baim WDJBMJ", good},
	{"byte order mark", "\ufeff/claim WDJBMJ", good},
	{"word joiner", "/claim WDJ\u2060BMJ", good},
	{"direction marks", "\u200e/claim \u200fWDJBMJ\u200e", good},
	{"direction override", "/claim \u202eWDJBMJ\u202c", good},
	{"direction isolate", "\u2068/claim WDJBMJ\u2069", good},
	{"control character", "/claim WDJ\x07BMJ", good},
	{"Hangul filler", "/claim WDJBMJ\u3164", good},
	{"fullwidth", "／ｃｌａｉｍ　ＷＤＪＢＭＪ", good},
	{"fullwidth to this bot", "/claim＠acme_bot WDJBMJ", good},
	{"fraction slash", "⁄claim WDJBMJ", good},
	{"bold letters", "/claim 𝐖𝐃𝐉𝐁𝐌𝐉", good},
	{"circled letters", "/claim ⓌⒹⒿⒷⓂⒿ", good},
	{"quotes", `/claim "WDJBMJ"`, good},
	{"curly quotes", "/claim “WDJBMJ”", good},
	{"German quotes", "/claim „WDJBMJ“", good},
	{"French quotes", "/claim « WDJBMJ »", good},
	{"all in quotes", "“/claim WDJBMJ”", good},
	{"back-ticks", "`/claim WDJBMJ`", good},
	{"angle brackets", "/claim <WDJBMJ>", good},
	{"square brackets", "/claim [WDJBMJ]", good},
	{"bold marks", "*/claim WDJBMJ*", good},
	{"quoted line", "> /claim WDJBMJ", good},
	{"full stop", "/claim WDJBMJ.", good},
	{"exclamation mark", "claim WDJBMJ!", good},
	{"emoji", "/claim WDJBMJ 🙏🏽", good},
	{"emoji before", "👉 /claim WDJBMJ", good},
	{"emoji of a family", "/claim WDJBMJ 👨‍👩‍👧", good},
	{"flag", "/claim WDJBMJ 🇩🇪", good},
	{"colon", "Claim: WDJ BMJ", good},
	{"equals sign", "claim=WDJBMJ", good},
	{"hyphen", "claim-WDJBMJ", good},
	{"number sign", "claim #WDJBMJ", good},
	{"slash apart", "/ claim WDJBMJ", good},
	{"two slashes", "//claim WDJBMJ", good},
	{"backslash", `\claim WDJBMJ`, good},
	{"no space", "claimWDJBMJ", good},
	{"no space after the slash command", "/claimWDJ-BMJ", good},
	{"Turkish capital", "CLAİM WDJBMJ", good},
	{"Turkish small", "claım wdjbmj", good},
	{"deep link", "/start claim_WDJBMJ", good},
	{"deep link with a hyphen", "/start claim-WDJBMJ", good},
	{"deep link, small", "/start claim_wdjbmj", good},
	{"deep link, glued", "/start claimWDJBMJ", good},
	{"deep link, code alone", "/start WDJBMJ", good},
	{"deep link to this bot", "/start@acme_bot claim_WDJBMJ", good},
	{"deep link to another bot", "/start@other_bot claim_WDJBMJ", other},
	{"one for L", "/claim BC1FGH", "BCLFGH"},
	{"I for L", "/claim BCIFGH", "BCLFGH"},
	{"bar for L", "/claim BC|FGH", "BCLFGH"},
	{"two for Z", "/claim BC2FGH", "BCZFGH"},
	{"five for S", "/claim BC5FGH", "BCSFGH"},
	{"six for G", "/claim BC6FGH", "BCGFGH"},
	{"eight for B", "/claim 8CDFGH", "BCDFGH"},
	{"U for V", "/claim BCUFGH", "BCVFGH"},
	{"all digits", "/claim 125688", "LZSGBB"},
	{"keycap", "/claim BC1️⃣FGH", "BCLFGH"},
	{"Cyrillic", "/claim ВСҒНЈК", "BCFHJK"},
	{"Cyrillic, more", "/claim МРЅТХВ", "MPSTXB"},
	{"Cyrillic, small", "/claim внкмрт", "BHKMPT"},
	{"Greek", "/claim ΒΗΚΜΝΡ", "BHKMNP"},
	{"Greek, more", "/claim ΤΧΖΒΗΚ", "TXZBHK"},
	{"command in Cyrillic look-alikes", "/СLАІМ WDJBMJ", good},

	{"command alone", "/claim", hint},
	{"command alone to this bot", "/claim@acme_bot", hint},
	{"word alone", "claim", hint},
	{"word alone with a question mark", "Claim?", hint},
	{"polite", "claim WDJBMJ please", hint},
	{"polite with a slash", "/claim WDJBMJ please", hint},
	{"with the word code", "claim code WDJBMJ", hint},
	{"sentence with a slash", "/claim how does this work", hint},
	{"one letter too few", "/claim WDJBM", hint},
	{"one letter too many", "/claim WDJBMJK", hint},
	{"one letter too few, no slash", "claim WDJBM", hint},
	{"one letter too many, no slash", "claim WDJBMJK", hint},
	{"vowel", "/claim WDJBMA", hint},
	{"vowel, no slash", "claim WDJBMA", hint},
	{"Y", "/claim WDJBMY", hint},
	{"zero", "/claim WDJBM0", hint},
	{"seven, no slash", "claim WDJBM7", hint},
	{"foreign letter", "/claim WDJBMЖ", hint},
	{"accent", "/claim WDJBMŚ", hint},
	{"foreign digit", "/claim WDJBM٣", hint},
	{"two codes", "/claim WDJBMJ WDJBMJ", hint},
	{"two codes, no slash", "claim WDJBMJ or BCDFGH", hint},
	{"spelt out as well", "/claim WDJBMJ (Whiskey Delta Juliett, Bravo Mike Juliett)", hint},
	{"twelve letters", "claim WDJBMJBCDFGH", hint},
	{"corrected to claims", "/claims WDJBMJ", hint},
	{"corrected to claimed", "claimed WDJBMJ", hint},
	{"deep link without code", "/start claim", hint},
	{"deep link with half a code", "/start claim_WDJ", hint},
	{"deep link with a wrong letter", "/start claim_WDJBMA", hint},

	{"nothing", "", other},
	{"blanks", " \u200b\n", other},
	{"emoji only", "👍", other},
	{"slash only", "/", other},
	{"greeting", "Hello, I am Steve", other},
	{"other command", "/help", other},
	{"other command with a code", "/help WDJBMJ", other},
	{"other command like a code", "/string", other},
	{"other command that starts alike", "/claims", other},
	{"other command that starts alike, with words", "/claims list", other},
	{"about a claim", "claim my refund", other},
	{"about a claim with a number", "Claim number 88213 was rejected", other},
	{"about a claim, short", "claim denied", other},
	{"about a claim, in Chinese", "claim 请给我退款", other},
	{"about claims", "Claims department, please", other},
	{"claimed", "claimed", other},
	{"claimant", "Claimant Smith", other},
	{"later in a sentence", "I want to claim WDJBMJ", other},
	{"mention of somebody", "claim @john owes me", other},
	{"start", "/start", other},
	{"start with another payload", "/start newsletter", other},
	{"start with a number", "/start 165826", other},
	{"start without a slash", "start WDJBMJ", other},
	{"starting", "/startWDJBMJ", other},

	{"code", "WDJBMJ", "alone " + good},
	{"code, small", "wdjbmj", "alone " + good},
	{"code, grouped", "WDJ-BMJ", "alone " + good},
	{"code with a space", "wdj bmj", "alone " + good},
	{"code in pairs", "WD JB MJ", "alone " + good},
	{"code with a full stop", "WDJBMJ.", "alone " + good},
	{"code in quotes", "“WDJ-BMJ”", "alone " + good},
	{"code with emoji", "WDJBMJ 👍", "alone " + good},
	{"code, one sign misread", "WD1BMJ", "alone WDLBMJ"},
	{"code in Cyrillic", "ВНКМРТ", "alone BHKMPT"},
	{"code, two signs misread", "W01BMU", other},
	{"code in a sentence", "it is WDJBMJ", other},
	{"code twice", "WDJBMJ WDJBMJ", other},
	{"code in uneven groups", "WDJB MJ", other},
	{"code letter by letter", "W D J B M J", other},
	{"number", "165826", other},
	{"number in groups", "165 826", other},
	{"number like a code", "125 688", other},
	{"postcode", "SW1 5BG", other},
	{"time", "12:15", other},
	{"five letters", "thank", other},
	{"word", "thanks", other},
	{"words", "thx bro", other},
	{"hmm", "hmm", other},
	{"long hmm", "hmmmmm", other},
	{"hmm hmm", "hmmm mmm", other},
	{"grr", "Grrrrr!", other},
	{"two look-alikes", "public", other},
	{"mention", "@wdjbmj", other},
	{"topic", "#wdjbmj", other},
	{"bar", "WDJBM|", other},
}

func TestRead(t *testing.T) {
	for _, tt := range texts {
		t.Run(tt.name, func(t *testing.T) {
			if got := kind(Read(tt.text, "acme_bot")); got != tt.want {
				t.Errorf("Read(%q) is %s, want %s", tt.text, got, tt.want)
			}
		})
	}
}

func kind(typed Typed, ok bool) string {
	switch {
	case !ok && typed == Typed{}:
		return other
	case !ok:
		return "other, but something was read"
	case !typed.Command:
		return "alone " + typed.Code
	case typed.Code == "":
		return hint
	}
	return typed.Code
}

func TestReadWithoutAName(t *testing.T) {
	for _, tt := range []struct{ me, text, want string }{
		{"", "/claim WDJBMJ", good},
		{"", "/claim@acme_bot WDJBMJ", other},
		{"", "/claim@ WDJBMJ", other},
		{"@acme_bot", "/claim@acme_bot WDJBMJ", good},
	} {
		if got := kind(Read(tt.text, tt.me)); got != tt.want {
			t.Errorf("Read(%q, %q) is %s, want %s", tt.text, tt.me, got, tt.want)
		}
	}
}

func TestReadLongTexts(t *testing.T) {
	padding := strings.Repeat(" . ", MaxTyped)
	for _, tt := range []struct{ name, text, want string }{
		{"as long as can be", "/claim WDJBMJ" + strings.Repeat(".", MaxTyped-len("/claim WDJBMJ")), good},
		{"one byte longer", "/claim WDJBMJ" + strings.Repeat(".", MaxTyped+1-len("/claim WDJBMJ")), hint},
		{"blanks are not counted", strings.Repeat(" ", MaxTyped) + "/claim WDJBMJ" + strings.Repeat("\n", MaxTyped), good},
		{"command", "/claim WDJBMJ" + padding + "!", hint},
		{"word and code", "claim WDJBMJ" + padding + "!", hint},
		{"word and sentence", "claim " + strings.Repeat("for my delayed baggage ", 50), other},
		{"code alone", "WDJBMJ" + padding + "!", other},
		{"command far behind", padding + "/claim WDJBMJ", other},
		{"cut within a character", "/claim " + strings.Repeat("€", MaxTyped), hint},
		{"sentence", strings.Repeat("lorem ipsum ", 5000), other},
	} {
		if got := kind(Read(tt.text, "acme_bot")); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// TestReadIsFast holds that a text of any length and any make-up is read at once.
func TestReadIsFast(t *testing.T) {
	for name, unit := range map[string]string{"expanding": "\ufdfa", "marks": "\u0301", "letters": "Q", "invalid": "\xff", "commands": "/claim "} {
		text := strings.Repeat(unit, 4<<20/len(unit))
		begun := time.Now()
		Read(text, "acme_bot")
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("%s: %v", name, took)
		}
	}
}

func TestRedacted(t *testing.T) {
	for _, tt := range texts {
		typed, ok := Read(tt.text, "acme_bot")
		if !ok {
			continue
		}
		want := "/claim ******"
		if !typed.Command {
			want = "******"
		}
		if got := typed.Redacted(); got != want {
			t.Errorf("%s: %q", tt.name, got)
		}
	}
}

// decorations are what keyboards, autocorrection, quoting and copying leave around
// and between letters.
var decorations = []string{
	" ", "  ", "\t", "\n", "\u00a0", "\u2009", "\u202f", "\u3000", "\u200b", "\u200d", "\u2060", "\ufeff", "\u00ad", "\u200e", "\u200f",
	"\u202a", "\u202e", "\u202c", "\u2066", "\u2069", "\u034f", "\ufe0f", "\u0336", "-", "‐", "‑", "‒", "–", "—", "―", "−", "﹣", "－", "_", ".", ",", ";",
	":", "!", "?", "…", "'", `"`, "`", "´", "‘", "’", "“", "”", "„", "«", "»", "<", ">", "(", ")", "[", "]", "{", "}", "*", "~", "=", "+", "•", "·", "・",
	"👍", "🙏🏽", "❤️", "🇩🇪", "👨‍👩‍👧", "\x00", "\x1b", "\x7f", "\ufffd", "\xff", "\u3164", "\ue000", "/", `\`, "#", "&", "%", "$", "€",
}

// TestDecorationsAreRemoved reads ten thousand codes through random decorations: each
// must come back, and none as another.
func TestDecorationsAreRemoved(t *testing.T) {
	noise := rapid.SliceOfN(rapid.SampledFrom(decorations), 0, 3)
	letter := rapid.SampledFrom(strings.Split(alphabet, ""))
	command := rapid.SampledFrom([]string{"/claim", "/Claim", "/CLAIM", "claim", "Claim", "/claim@acme_bot", "/start claim_"})
	gap := rapid.SampledFrom([]string{" ", "\n", "\u00a0", ": "})
	decorate := func(r *rapid.T) (code, text string) {
		add := func(parts ...string) { text += strings.Join(parts, "") }
		add(noise.Draw(r, "before")...)
		add(command.Draw(r, "command"), gap.Draw(r, "gap"))
		for range codeLen {
			x := letter.Draw(r, "letter")
			code += x
			if rapid.Bool().Draw(r, "small") {
				x = strings.ToLower(x)
			}
			add(noise.Draw(r, "within")...)
			add(x)
		}
		add(noise.Draw(r, "after")...)
		return code, text
	}
	for range 100 {
		rapid.Check(t, func(r *rapid.T) {
			code, text := decorate(r)
			if got, ok := Read(text, "acme_bot"); !ok || got != (Typed{Code: code, Command: true}) {
				r.Fatalf("Read(%q) = %+v, %v; want %s", text, got, ok, code)
			}
		})
		if testing.Short() || t.Failed() {
			return
		}
	}
}

// TestNewCodesAreRead holds that every code that is made can be redeemed as it is
// shown, with and without the command.
func TestNewCodesAreRead(t *testing.T) {
	for range 10_000 {
		code := NewCode()
		for text, want := range map[string]Typed{
			code:                             {Code: code},
			Group(code):                      {Code: code},
			strings.ToLower(Group(code)):     {Code: code},
			"/claim " + code:                 {Code: code, Command: true},
			"claim " + strings.ToLower(code): {Code: code, Command: true},
			"/start claim_" + code:           {Code: code, Command: true},
		} {
			if got, ok := Read(text, ""); !ok || got != want {
				t.Fatalf("Read(%q) = %+v, %v", text, got, ok)
			}
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, tt := range texts {
		f.Add(tt.text, "acme_bot")
	}
	f.Add("/claim\xff\xfeWDJBMJ", "")
	f.Add("/claim WDJBMJ"+strings.Repeat("\u0301", 300), "\xff")
	f.Fuzz(func(t *testing.T, text, me string) {
		typed, ok := Read(text, me)
		if !ok {
			if typed != (Typed{}) {
				t.Fatalf("Read(%q) is nothing, and %+v", text, typed)
			}
			return
		}
		if !typed.Command && typed.Code == "" {
			t.Fatalf("Read(%q) found nothing and says it did", text)
		}
		if typed.Code == "" {
			return
		}
		if len(typed.Code) != codeLen || strings.Trim(typed.Code, alphabet) != "" || !utf8.ValidString(typed.Code) {
			t.Fatalf("Read(%q) gives the code %q", text, typed.Code)
		}
		again, ok := Read("/claim "+typed.Code, me)
		if !ok || again.Code != typed.Code {
			t.Fatalf("Read(%q) gives %s, which reads as %+v", text, typed.Code, again)
		}
		if same, ok := Read(text, me); !ok || same != typed {
			t.Fatalf("Read(%q) gives %+v, then %+v", text, typed, same)
		}
	})
}

func BenchmarkRead(b *testing.B) {
	for _, text := range []string{"/claim WDJ-BMJ", "Hello, where is my parcel? I have been waiting for two weeks now."} {
		b.Run(text[:6], func(b *testing.B) {
			for b.Loop() {
				Read(text, "acme_bot")
			}
		})
	}
}
