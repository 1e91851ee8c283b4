package claim

import (
	"strings"
	"testing"
)

// The kinds of text that Parse distinguishes.
const (
	noClaim            = "other" // not about claims
	commandWithoutCode = "hint"  // a command without a well-formed code
)

const (
	sampleCode       = "WDJBMJ"
	sampleInviteCode = "WDJBMJKLNPQR"
)

// A parseCase is a text typed to a bot named acme_bot. want is "other", "hint", the code of a
// command, or "alone " and a code without a command.
type parseCase struct{ name, text, want string }

func TestParse_Commands(t *testing.T) {
	testParse(t, []parseCase{
		{"slash", "/claim WDJBMJ", sampleCode},
		{"to this bot", "/claim@acme_bot WDJBMJ", sampleCode},
		{"to this bot, capitals", "/claim@Acme_Bot WDJBMJ", sampleCode},
		{"to this bot, after a space", "/claim @acme_bot WDJBMJ", sampleCode},
		{"to this bot, no slash", "claim@acme_bot WDJBMJ", sampleCode},
		{"to this bot, no space", "/claim@acme_bot:WDJBMJ", sampleCode},
		{"to another bot", "/claim@other_bot WDJBMJ", noClaim},
		{"to a bot with a longer name", "/claim@acme_bot2 WDJBMJ", noClaim},
		{"to a bot with a shorter name", "/claim@acme WDJBMJ", noClaim},
		{"to an empty name", "/claim@ WDJBMJ", noClaim},
		{"no slash", "claim WDJBMJ", sampleCode},
		{"capital", "Claim WDJBMJ", sampleCode},
		{"all capitals", "CLAIM WDJBMJ", sampleCode},
		{"mixed", "/ClAiM wDjBmJ", sampleCode},
		{"small", "/claim wdjbmj", sampleCode},
		{"grouped", "/claim WDJ-BMJ", sampleCode},
	})
}

func TestParse_Separators(t *testing.T) {
	testParse(t, []parseCase{
		{"grouped, small", "/claim wdj-bmj", sampleCode},
		{"with a space", "/claim WDJ BMJ", sampleCode},
		{"in pairs", "/claim WD JB MJ", sampleCode},
		{"letter by letter", "/claim W D J B M J", sampleCode},
		{"letter by letter with full stops", "/claim W.D.J.B.M.J.", sampleCode},
		{"uneven groups", "/claim WDJB MJ", sampleCode},
		{"en dash", "/claim WDJ–BMJ", sampleCode},
		{"em dash", "/claim WDJ—BMJ", sampleCode},
		{"non-breaking hyphen", "/claim WDJ\u2011BMJ", sampleCode},
		{"minus sign", "/claim WDJ−BMJ", sampleCode},
		{"small hyphen", "/claim WDJ﹣BMJ", sampleCode},
		{"soft hyphen", "/claim WDJ\u00adBMJ", sampleCode},
		{"hyphen bullet", "/claim WDJ\u2043BMJ", sampleCode},
		{"katakana middle dot", "/claim WDJ・BMJ", sampleCode},
		{"underscore", "/claim WDJ_BMJ", sampleCode},
		{"spaces around", "  /claim   WDJBMJ  ", sampleCode},
		{"tab", "/claim\tWDJBMJ", sampleCode},
		{"two lines", "/claim\nWDJBMJ", sampleCode},
		{"signature", "/claim WDJBMJ\nSteve Miller", sampleCode},
		{"signature after a rule", "claim wdj-bmj\r\n-- \r\nSteve, sent from my phone", sampleCode},
		{"signature after two lines", "/claim\nWDJBMJ\n\nRegards", sampleCode},
		{"signature with a number", "/claim WDJBMJ\n+1 415 555 0123", sampleCode},
		{"signature that could be a code", "/claim WDJBMJ\nBCDFGH", commandWithoutCode},
		{"signature alone", "/claim please\nSteve", commandWithoutCode},
		{"signature of an invite", "/claim WDJB-MJKL-NPQR\nSteve", sampleInviteCode},
		{"emoji by name", "claim WDJBMJ :+1:", sampleCode},
		{"emoji with a skin tone", "/claim WDJBMJ :thumbsup::skin-tone-2:", sampleCode},
		{"emoji before the code", "/claim :point_right: WDJBMJ", sampleCode},
		{"code between colons", "/claim :WDJBMJ:", sampleCode},
		{"emoji alone", "/claim :+1:", commandWithoutCode},
		{"carriage return", "/claim WDJBMJ\r\n", sampleCode},
		{"no-break space", "/claim\u00a0WDJBMJ", sampleCode},
		{"thin space", "/claim\u2009WDJ\u202fBMJ", sampleCode},
		{"ideographic space", "/claim\u3000WDJBMJ", sampleCode},
		{"zero-width space", "/claim W\u200bDJBMJ", sampleCode},
		{"zero-width space in the command", "/cl\u200baim WDJBMJ", sampleCode},
		{"byte order mark", "\ufeff/claim WDJBMJ", sampleCode},
		{"word joiner", "/claim WDJ\u2060BMJ", sampleCode},
		{"direction marks", "\u200e/claim \u200fWDJBMJ\u200e", sampleCode},
		{"direction override", "/claim \u202eWDJBMJ\u202c", sampleCode},
		{"direction isolate", "\u2068/claim WDJBMJ\u2069", sampleCode},
		{"control character", "/claim WDJ\x07BMJ", sampleCode},
		{"Hangul filler", "/claim WDJBMJ\u3164", sampleCode},
	})
}

func TestParse_Unicode(t *testing.T) {
	testParse(t, []parseCase{
		{"fullwidth", "／ｃｌａｉｍ　ＷＤＪＢＭＪ", sampleCode},
		{"fullwidth to this bot", "/claim＠acme_bot WDJBMJ", sampleCode},
		{"fraction slash", "⁄claim WDJBMJ", sampleCode},
		{"bold letters", "/claim 𝐖𝐃𝐉𝐁𝐌𝐉", sampleCode},
		{"circled letters", "/claim ⓌⒹⒿⒷⓂⒿ", sampleCode},
		{"Turkish capital", "CLAİM WDJBMJ", sampleCode},
		{"Turkish small", "claım wdjbmj", sampleCode},
		{"all digits", "/claim 125688", "LZSGBB"},
		{"keycap", "/claim BC1️⃣FGH", "BCLFGH"},
		{"Cyrillic", "/claim ВСҒНЈК", "BCFHJK"},
		{"Cyrillic, more", "/claim МРЅТХВ", "MPSTXB"},
		{"Cyrillic, small", "/claim внкмрт", "BHKMPT"},
		{"Greek", "/claim ΒΗΚΜΝΡ", "BHKMNP"},
		{"Greek, more", "/claim ΤΧΖΒΗΚ", "TXZBHK"},
		{"command in Cyrillic look-alikes", "/СLАІМ WDJBMJ", sampleCode},
	})
}

func TestParse_Punctuation(t *testing.T) {
	testParse(t, []parseCase{
		{"quotes", `/claim "WDJBMJ"`, sampleCode},
		{"curly quotes", "/claim “WDJBMJ”", sampleCode},
		{"German quotes", "/claim „WDJBMJ“", sampleCode},
		{"French quotes", "/claim « WDJBMJ »", sampleCode},
		{"all in quotes", "“/claim WDJBMJ”", sampleCode},
		{"back-ticks", "`/claim WDJBMJ`", sampleCode},
		{"angle brackets", "/claim <WDJBMJ>", sampleCode},
		{"square brackets", "/claim [WDJBMJ]", sampleCode},
		{"bold marks", "*/claim WDJBMJ*", sampleCode},
		{"quoted line", "> /claim WDJBMJ", sampleCode},
		{"full stop", "/claim WDJBMJ.", sampleCode},
		{"exclamation mark", "claim WDJBMJ!", sampleCode},
		{"emoji", "/claim WDJBMJ 🙏🏽", sampleCode},
		{"emoji before", "👉 /claim WDJBMJ", sampleCode},
		{"emoji of a family", "/claim WDJBMJ 👨‍👩‍👧", sampleCode},
		{"flag", "/claim WDJBMJ 🇩🇪", sampleCode},
		{"colon", "Claim: WDJ BMJ", sampleCode},
		{"equals sign", "claim=WDJBMJ", sampleCode},
		{"hyphen", "claim-WDJBMJ", sampleCode},
		{"number sign", "claim #WDJBMJ", sampleCode},
		{"slash apart", "/ claim WDJBMJ", sampleCode},
		{"two slashes", "//claim WDJBMJ", sampleCode},
		{"backslash", `\claim WDJBMJ`, sampleCode},
		{"no space", "claimWDJBMJ", sampleCode},
		{"no space after the slash command", "/claimWDJ-BMJ", sampleCode},
	})
}

func TestParse_Signatures(t *testing.T) {
	testParse(t, []parseCase{
		{"signature", "/claim WDJBMJ\n\n-- \nSteve Jobs\nAcme Inc., +1 555 168 2222", sampleCode},
		{"signature after a word", "claim WDJ-BMJ\nSent from my iPhone", sampleCode},
		{"signature after a bare code", "WDJ-BMJ\nSent from my iPhone", "alone " + sampleCode},
		{"command and code on two lines", "/claim\nWDJBMJ\nBest regards", sampleCode},
		{"long signature", "/claim WDJBMJ\n" + strings.Repeat("This e-mail is confidential. ", 40), sampleCode},
		{"second code", "/claim WDJBMJ\nKLNPQR", commandWithoutCode},
		{"second code below", "WDJBMJ\nor\nKLN-PQR", noClaim},
		{"code in the second line", "Hello\nWDJBMJ\nSteve", noClaim},
		{"code in the third line", "/claim\nplease\nWDJBMJ", commandWithoutCode},
	})
}

func TestParsePrivate(t *testing.T) {
	for text, want := range map[string]string{
		"/claim @acme WDJBMJ":                       sampleCode,
		"/claim@acme_bto WDJBMJ":                    sampleCode,
		"claim @someone WDJ-BMJ":                    sampleCode,
		"/start@other_bot claim_WDJBMJ":             sampleCode,
		"https://t.me/other_bot?start=claim_WDJBMJ": sampleCode,
		"/claim@acme_bto":                           commandWithoutCode,
		"@someone claims that":                      noClaim,
		"claim @someone please":                     noClaim,
		"/help@other_bot":                           noClaim,
		"/claim WDJBMJ":                             sampleCode,
	} {
		if got := describe(ParsePrivate(text)); got != want {
			t.Errorf("ParsePrivate(%q) = %s, want %s", text, got, want)
		}
	}
}

func TestParse_DeepLinks(t *testing.T) {
	testParse(t, []parseCase{
		{"deep link", "/start claim_WDJBMJ", sampleCode},
		{"deep link with a hyphen", "/start claim-WDJBMJ", sampleCode},
		{"deep link, small", "/start claim_wdjbmj", sampleCode},
		{"deep link, glued", "/start claimWDJBMJ", sampleCode},
		{"deep link, code alone", "/start WDJBMJ", noClaim},
		{"pasted link", "https://t.me/acme_bot?start=claim_WDJBMJ", sampleCode},
		{"pasted link without scheme", "t.me/Acme_Bot?start=claim_WDJBMJ", sampleCode},
		{"pasted link in angle brackets", " <https://t.me/acme_bot?start=claim_wdjbmj>. ", sampleCode},
		{"pasted link of another domain of Telegram", "http://www.telegram.me/acme_bot/?start=claim_WDJBMJ", sampleCode},
		{"pasted link with other parameters", "https://t.me/acme_bot?a=1&start=claim%5FWDJBMJ#x", sampleCode},
		{"pasted link of an app", "tg://resolve?domain=acme_bot&start=claim_WDJBMJ", sampleCode},
		{"pasted link to another bot", "https://t.me/other_bot?start=claim_WDJBMJ", noClaim},
		{"pasted link of an app to another bot", "tg://resolve?domain=other_bot&start=claim_WDJBMJ", noClaim},
		{"pasted link to another site", "https://example.com/acme_bot?start=claim_WDJBMJ", noClaim},
		{"pasted link with another payload", "https://t.me/acme_bot?start=newsletter", noClaim},
		{"pasted link in a sentence", "open https://t.me/acme_bot?start=claim_WDJBMJ", noClaim},
		{"pasted link without code", "https://t.me/acme_bot?start=claim", commandWithoutCode},
		{"deep link to this bot", "/start@acme_bot claim_WDJBMJ", sampleCode},
		{"deep link to another bot", "/start@other_bot claim_WDJBMJ", noClaim},
		{"deep link without code", "/start claim", commandWithoutCode},
		{"deep link with half a code", "/start claim_WDJ", commandWithoutCode},
		{"deep link with a wrong letter", "/start claim_WDJBMA", commandWithoutCode},
	})
}

func TestParse_Lookalikes(t *testing.T) {
	testParse(t, []parseCase{
		{"one for L", "/claim BC1FGH", "BCLFGH"},
		{"I for L", "/claim BCIFGH", "BCLFGH"},
		{"bar for L", "/claim BC|FGH", "BCLFGH"},
		{"two for Z", "/claim BC2FGH", "BCZFGH"},
		{"five for S", "/claim BC5FGH", "BCSFGH"},
		{"six for G", "/claim BC6FGH", "BCGFGH"},
		{"eight for B", "/claim 8CDFGH", "BCDFGH"},
		{"U for V", "/claim BCUFGH", "BCVFGH"},
	})
}

func TestParse_CommandWithoutCode(t *testing.T) {
	testParse(t, []parseCase{
		{"command alone", "/claim", commandWithoutCode},
		{"command alone to this bot", "/claim@acme_bot", commandWithoutCode},
		{"word alone", "claim", commandWithoutCode},
		{"word alone with a question mark", "Claim?", commandWithoutCode},
		{"polite", "claim WDJBMJ please", commandWithoutCode},
		{"polite with a slash", "/claim WDJBMJ please", commandWithoutCode},
		{"with the word code", "claim code WDJBMJ", commandWithoutCode},
		{"sentence with a slash", "/claim how does this work", commandWithoutCode},
		{"one letter too few", "/claim WDJBM", commandWithoutCode},
		{"one letter too many", "/claim WDJBMJK", commandWithoutCode},
		{"one letter too few, no slash", "claim WDJBM", commandWithoutCode},
		{"one letter too many, no slash", "claim WDJBMJK", commandWithoutCode},
		{"vowel", "/claim WDJBMA", commandWithoutCode},
		{"vowel, no slash", "claim WDJBMA", commandWithoutCode},
		{"Y", "/claim WDJBMY", commandWithoutCode},
		{"zero", "/claim WDJBM0", commandWithoutCode},
		{"seven, no slash", "claim WDJBM7", commandWithoutCode},
		{"foreign letter", "/claim WDJBMЖ", commandWithoutCode},
		{"accent", "/claim WDJBMŚ", commandWithoutCode},
		{"foreign digit", "/claim WDJBM٣", commandWithoutCode},
		{"two codes", "/claim WDJBMJ WDJBMJ", commandWithoutCode},
		{"two codes, no slash", "claim WDJBMJ or BCDFGH", commandWithoutCode},
		{"spelt out as well", "/claim WDJBMJ (Whiskey Delta Juliett, Bravo Mike Juliett)", commandWithoutCode},
		{"two codes with a slash", "/claim WDJBMJ BCDFGH", commandWithoutCode},
		{"two grouped codes", "/claim WDJ-BMJ BCD-FGH", commandWithoutCode},
		{"two codes on two lines", "/claim\nWDJBMJ\nBCDFGH", commandWithoutCode},
		{"a code twice, in one piece", "/claim WDJBMJWDJBMJ", commandWithoutCode},
		{"a code twice, in groups", "/claim WDJ BMJ WDJ BMJ", commandWithoutCode},
		{"two codes, glued", "claimWDJBMJ BCDFGH", commandWithoutCode},
		{"three codes", "/claim WDJBMJ BCDFGH JKLMNP", commandWithoutCode},
		{"corrected to claims", "/claims WDJBMJ", commandWithoutCode},
		{"corrected to claimed", "claimed WDJBMJ", commandWithoutCode},
	})
}

func TestParse_OtherTexts(t *testing.T) {
	testParse(t, []parseCase{
		{"nothing", "", noClaim},
		{"blanks", " \u200b\n", noClaim},
		{"emoji only", "👍", noClaim},
		{"slash only", "/", noClaim},
		{"greeting", "Hello, I am Steve", noClaim},
		{"other command", "/help", noClaim},
		{"other command with a code", "/help WDJBMJ", noClaim},
		{"other command like a code", "/string", noClaim},
		{"other command that starts alike", "/claims", noClaim},
		{"other command that starts alike, with words", "/claims list", noClaim},
		{"about a claim", "claim my refund", noClaim},
		{"about a claim with a number", "Claim number 88213 was rejected", noClaim},
		{"about a claim, short", "claim denied", noClaim},
		{"about a claim, in Chinese", "claim 请给我退款", noClaim},
		{"about claims", "Claims department, please", noClaim},
		{"claimed", "claimed", noClaim},
		{"claimant", "Claimant Smith", noClaim},
		{"later in a sentence", "I want to claim WDJBMJ", noClaim},
		{"mention of a user", "claim @john owes me", noClaim},
		{"start", "/start", noClaim},
		{"start with another payload", "/start newsletter", noClaim},
		{"start with a number", "/start 165826", noClaim},
		{"start without a slash", "start WDJBMJ", noClaim},
		{"starting", "/startWDJBMJ", noClaim},
	})
}

func TestParse_BareCodes(t *testing.T) {
	testParse(t, []parseCase{
		{"code", "WDJBMJ", "alone " + sampleCode},
		{"code, small", "wdjbmj", "alone " + sampleCode},
		{"code, grouped", "WDJ-BMJ", "alone " + sampleCode},
		{"code with a space", "wdj bmj", "alone " + sampleCode},
		{"code in pairs", "WD JB MJ", "alone " + sampleCode},
		{"code with a full stop", "WDJBMJ.", "alone " + sampleCode},
		{"code in quotes", "“WDJ-BMJ”", "alone " + sampleCode},
		{"code with emoji", "WDJBMJ 👍", "alone " + sampleCode},
		{"code, one sign misread", "WD1BMJ", "alone WDLBMJ"},
		{"code in Cyrillic", "ВНКМРТ", "alone BHKMPT"},
		{"code, two signs misread", "W01BMU", noClaim},
		{"code in a sentence", "it is WDJBMJ", noClaim},
		{"code twice", "WDJBMJ WDJBMJ", noClaim},
		{"code in uneven groups", "WDJB MJ", noClaim},
		{"code letter by letter", "W D J B M J", noClaim},
		{"number", "165826", noClaim},
		{"number in groups", "165 826", noClaim},
		{"number like a code", "125 688", noClaim},
		{"postcode", "SW1 5BG", noClaim},
		{"time", "12:15", noClaim},
		{"five letters", "thank", noClaim},
		{"word", "thanks", noClaim},
		{"words", "thx bro", noClaim},
		{"hmm", "hmm", noClaim},
		{"long hmm", "hmmmmm", noClaim},
		{"hmm hmm", "hmmm mmm", noClaim},
		{"grr", "Grrrrr!", noClaim},
		{"two look-alikes", "public", noClaim},
		{"mention", "@wdjbmj", noClaim},
		{"topic", "#wdjbmj", noClaim},
		{"bar", "WDJBM|", noClaim},
	})
}

// testParse parses each text, and checks what FuzzParse checks and which form of the text is stored.
func testParse(t *testing.T, cases []parseCase) {
	t.Helper()
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			parsed, ok := Parse(tt.text, "acme_bot")
			if got := describe(parsed, ok); got != tt.want {
				t.Errorf("Parse(%q) = %s, want %s", tt.text, got, tt.want)
			}
			checkParsed(t, tt.text, "acme_bot")
			want := "/claim ******"
			if !parsed.Command {
				want = "******"
			}
			if got := parsed.Redacted(); ok && got != want {
				t.Errorf("Redacted() = %q, want %q", got, want)
			}
		})
	}
}

func describe(parsed ParsedText, ok bool) string {
	switch {
	case !ok && parsed == ParsedText{}:
		return noClaim
	case !ok:
		return "other, but not empty"
	case !parsed.Command:
		return "alone " + parsed.Code
	case parsed.Code == "":
		return commandWithoutCode
	}
	return parsed.Code
}
