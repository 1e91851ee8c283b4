package claim

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// TestScan checks that Scan finds WDJBMJ, or the invite WDJBMJKLNPQR, and that Withhold removes it.
func TestScan(t *testing.T) {
	for _, text := range []string{
		"WDJBMJ", "wdj-bmj", "my code is WDJ-BMJ", "please claim WDJBMJ", "claim <@U023BECGF> WDJBMJ", "1. claim WDJBMJ",
		"1.WDJBMJ", "2) wdj bmj", "1️⃣WDJBMJ", "hi /claim WDJBMJ", "@acme_bot WDJ-BMJ", ":wave: WDJ BMJ", "👋WDJ BMJ",
		"it is W D J B M J, thanks", "W.D.J.B.M.J.", "w/d/j/b/m/j", "W\nD\nJ\nB\nM\nJ", "WD JB MJ", "WDJBM J", "*WDJ*_BMJ_",
		"https://t.me/acme_bot?start=claim_WDJBMJ", "tg://resolve?domain=acme_bot&start=claim_WDJBMJ",
		"sms:+14155550100?body=claim%20WDJ-BMJ", "https://wa.me/1?text=%2Fclaim%20WDJ%20BMJ", "claim%5FWDJBMJ",
		"WDJ&nbsp;BMJ",
		"/claim WDJ-BMJ (Whiskey Delta Juliett, Bravo Mike Juliett)", "Whiskey Delta Juliett, Bravo Mike Juliett",
		"W as in whisky, D as in delta, J as in Juliet, B as in bravo, M as in mike, J as in juliette",
		"W D J bravo mike juliett", "Whiskey Delta Juliett, Bravo Mike Juliettplease",
		"codeWhiskeyDeltaJuliett BravoMikeJuliett",
		"claim_WhiskeyDeltaJuliettBravoMikeJuliett", "code:Whiskey Delta Juliett Bravo Mike Juliettenow",
		"claimWDJBMJ", "claimWDJ8MJ", "codeWDJBMJ", "WDJBMJplease", "WDJ-8MJplease", "nowWDJ8MJ", "the code:WDJ-BMJnow",
		"WDJ8MJ", "WDJ—8MJ", "ＷＤＪ ＢＭＪ",
		"ⓌⒹⒿⒷⓂⒿ", "🇼🇩🇯🇧🇲🇯", "🅦🅓🅙🅑🅜🅙", "𝐖𝐃𝐉 𝐁𝐌𝐉", "W\u200bDJ\u00adBMJ", "<b>WDJ</b>BMJ", "<WDJ<b>BMJ>", "<WDJ><i>BMJ",
		"[WDJBMJ](https://example.com)",
		"WDJBMJ 🇩🇪", "WDJ 🇩🇪 BMJ", "\"WDJ\",\"BMJ\"", "WDJ|BMJ", "`WDJBMJ`", "~WDJBMJ~", "WDJBMJWDJBMJ", "BCDFGHWDJBMJ",
		strings.Repeat("lorem ipsum ", 3000) + "WDJ-BMJ",
	} {
		checkScan(t, text, "WDJBMJ")
	}
	for _, text := range []string{
		"WDJBMJKLNPQR", "WDJB-MJKL-NPQR", "here it is: wdjb mjkl npqr, bye", "https://t.me/acme_bot?start=claim_WDJBMJKLNPQR",
		"WDJBMJ KLNPQR", "WDJ BMJ KLN PQR", "1. WDJB-MJKL-NPQR", "WDJB-MJK1-NPQR", "claim_WDJB_MJKL_NPQR",
		"Whiskey Delta Juliett Bravo, Mike Juliett Kilo Lima, November Papa Quebec Romeo", "WDJBMJKLNPQRxyz",
		"WDJBMJK|NPQR",
	} {
		checkScan(t, text, "WDJBMJKLNPQR")
	}
	checkScan(t, "Xray Zulu Hotel x-ray zulu hotel", "XZHXZH")
	checkScan(t, "BC|FGH", "BCLFGH")
}

func checkScan(t *testing.T, text, code string) {
	t.Helper()
	shown := text[max(0, len(text)-100):]
	found := Scan(text)
	if !slices.ContainsFunc(found, func(c Candidate) bool { return c.Code == code }) {
		t.Errorf("Scan(%q) does not find %s", shown, code)
		return
	}
	left := Withhold(text, found)
	if slices.ContainsFunc(Scan(left), func(c Candidate) bool { return c.Code == code }) {
		t.Errorf("Withhold(%q) = %q, which contains %s", shown, left[max(0, len(left)-100):], code)
	}
}

// TestScan_Positions checks what Withhold replaces.
func TestScan_Positions(t *testing.T) {
	for text, want := range map[string]string{
		"my code: WDJ-BMJ, ok":   "my code: [withheld], ok",
		"my code is WDJ-BMJ, ok": "my code i[withheld], ok", // SWDJBM could be one as well
		"é WDJBMJ ü":             "é [withheld] ü",
		"ﬁ ⓌⒹⒿ BMJ ﬁ":            "ﬁ [withheld]",
		"nothing here":           "nothing here",
		"WDJ":                    "WDJ",
		"":                       "",
		"/claim, WDJ-BMJ a (Whiskey Delta Juliett, Bravo Mike Juliett)": "/clai[withheld] a ([withheld])",
	} {
		if got := Withhold(text, Scan(text)); got != want {
			t.Errorf("Withhold(%q) = %q, want %q", text, got, want)
		}
	}
}

// TestScan_LongTexts checks that texts with a candidate at every letter take no more time than their
// length.
func TestScan_LongTexts(t *testing.T) {
	for _, part := range []string{"b", "wdjbmjklnpqr", "b c d f g h ", "1 2 5 6 8 ", "zulu xray ", "&amp;%20b|", "🇼🇩"} {
		took := time.Hour
		for try := 0; try < 10 && took > 3*time.Second; try++ { // the machine may be busy
			started := time.Now()
			Scan(strings.Repeat(part, 40_000/len(part)))
			took = min(took, time.Since(started))
		}
		if took > 3*time.Second {
			t.Errorf("Scan of 40,000 times %q took %v", part, took)
		}
	}
}

func FuzzScan(f *testing.F) {
	f.Add("1. WDJ-BMJ & %20 | 🇼")
	f.Fuzz(func(t *testing.T, text string) {
		found := Scan(text)
		for _, c := range found {
			if c.Start < 0 || c.Start >= c.End || c.End > len(text) || strings.Trim(c.Code, alphabet) != "" {
				t.Fatalf("Scan(%q) = %+v", text, c)
			}
		}
		Withhold(text, found)
	})
}
