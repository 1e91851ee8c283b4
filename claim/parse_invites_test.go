package claim

import (
	"testing"
)

func TestParse_InviteCodes(t *testing.T) {
	testParse(t, []parseCase{
		{"invite", "/claim WDJBMJKLNPQR", sampleInviteCode},
		{"invite, as shown", "/claim WDJB-MJKL-NPQR", sampleInviteCode},
		{"invite, no slash", "claim WDJB-MJKL-NPQR", sampleInviteCode},
		{"invite to this bot", "/claim@acme_bot WDJBMJKLNPQR", sampleInviteCode},
		{"invite to another bot", "/claim@other_bot WDJBMJKLNPQR", noClaim},
		{"invite, deep link", "/start claim_WDJBMJKLNPQR", sampleInviteCode},
		{"invite, deep link, small", "/start claim_wdjbmjklnpqr", sampleInviteCode},
		{"invite, deep link to this bot", "/start@acme_bot claim_WDJBMJKLNPQR", sampleInviteCode},
		{"invite, deep link to another bot", "/start@other_bot claim_WDJBMJKLNPQR", noClaim},
		{"invite, deep link without the word", "/start WDJBMJKLNPQR", noClaim},
		{"invite, small", "/claim wdjb-mjkl-npqr", sampleInviteCode},
		{"invite with spaces", "/claim WDJB MJKL NPQR", sampleInviteCode},
		{"invite with en dashes", "/claim WDJB – MJKL – NPQR", sampleInviteCode},
		{"invite in threes", "/claim WDJ BMJ KLN PQR", sampleInviteCode},
		{"invite in uneven groups", "/claim WDJBM JKLNPQR", sampleInviteCode},
		{"invite letter by letter", "/claim W D J B M J K L N P Q R", sampleInviteCode},
		{"invite in quotes", "“/claim WDJB-MJKL-NPQR”", sampleInviteCode},
		{"invite with quotes of autocorrection", "Claim „wdjb–mjkl–npqr“.", sampleInviteCode},
		{"invite on two lines", "/claim\nWDJB-MJKL-NPQR", sampleInviteCode},
		{"invite, glued", "/claimWDJBMJKLNPQR", sampleInviteCode},
		{"invite, pasted link", "https://t.me/acme_bot?start=claim_WDJBMJKLNPQR", sampleInviteCode},
		{"invite, pasted link to another bot", "https://t.me/other_bot?start=claim_WDJBMJKLNPQR", noClaim},
		{"invite, misread", "/claim WDJBMJK1NPQR", sampleInviteCode},
		{"invite in Cyrillic look-alikes", "/claim ВНКМРТВНКМРХ", "BHKMPTBHKMPX"},
		{"eleven letters", "/claim WDJBMJKLNPQ", commandWithoutCode},
		{"thirteen letters", "/claim WDJBMJKLNPQRS", commandWithoutCode},
		{"seven letters", "/claim WDJBMJK", commandWithoutCode},
		{"eighteen letters", "/claim WDJBMJKLNPQRBCDFGH", commandWithoutCode},
		{"invite with a vowel", "/claim WDJBMJKLNPQA", commandWithoutCode},
		{"invite with a seven", "/claim WDJB-MJKL-NPQ7", commandWithoutCode},
		{"polite invite", "claim WDJB-MJKL-NPQR please", commandWithoutCode},
		{"deep link with a vowel", "/start claim_WDJBMJKLNPQA", commandWithoutCode},
	})
}

func TestParse_BareInviteCodes(t *testing.T) {
	testParse(t, []parseCase{
		{"invite alone", "WDJBMJKLNPQR", "alone " + sampleInviteCode},
		{"invite alone, small", "wdjbmjklnpqr", "alone " + sampleInviteCode},
		{"invite alone, as shown", "WDJB-MJKL-NPQR", "alone " + sampleInviteCode},
		{"invite alone, with spaces", "wdjb mjkl npqr", "alone " + sampleInviteCode},
		{"invite alone, in threes", "WDJ-BMJ-KLN-PQR", "alone " + sampleInviteCode},
		{"invite alone, with a full stop", "WDJB-MJKL-NPQR.", "alone " + sampleInviteCode},
		{"invite alone, one sign misread", "WDJB-MJK1-NPQR", "alone " + sampleInviteCode},
		{"invite alone, two signs misread", "WDJB-MJK1-NP0R", noClaim},
		{"invite alone, in pairs", "WD JB MJ KL NP QR", noClaim},
		{"invite alone, in uneven groups", "WDJBM JKLNPQR", noClaim},
		{"invite alone, in a sentence", "it is WDJB-MJKL-NPQR", noClaim},
		{"two codes alone", "WDJBMJ BCDFGH", noClaim},
		{"two grouped codes alone", "WDJ-BMJ BCD-FGH", noClaim},
		{"a code twice alone, in one piece", "WDJBMJWDJBMJ", noClaim},
		{"number of twelve digits", "125612561256", noClaim},
		{"word of twelve letters", "Presentation", noClaim},
		{"words of four letters", "this film sits", noClaim},
		{"long brr", "brrrrrrrrrrr", noClaim},
	})
}
