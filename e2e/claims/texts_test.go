package claims

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/e2e/harness"
)

// wordLists are Debian's word lists, of the packages that .ci/servers installs.
var wordLists = []string{"american-english", "ngerman", "french", "spanish", "portuguese", "italian"}

// readWords returns the words of all lists, in short runs every fiftieth.
func readWords(t *testing.T) (words []string) {
	t.Helper()
	for _, name := range wordLists {
		b, err := os.ReadFile("/usr/share/dict/" + name)
		if err != nil {
			t.Fatalf("%v: run .ci/servers --check, which installs the word lists", err)
		}
		n := 0
		for word := range strings.FieldsSeq(string(b)) {
			if n++; n%harness.Scaled(50, 1) != 0 {
				continue
			}
			if utf8.ValidString(word) && !strings.EqualFold(word, "claim") {
				words = append(words, word)
			}
		}
	}
	return words
}

// sentence returns n random words.
func sentence(r *rand.Rand, words []string, n int) string {
	picked := make([]string, n)
	for i := range picked {
		picked[i] = words[r.IntN(len(words))]
	}
	return strings.Join(picked, " ")
}

// testChannels are the channels of the property tests.
var testChannels = adapters.Channels()

// TestOrdinaryTexts_PassedOn checks, with live codes and invites at the instance, that words, phrases of
// two words and sentences of six languages reach the application unchanged, and cost no try.
func TestOrdinaryTexts_PassedOn(t *testing.T) {
	harness.ParallelUnlessFull(t)
	words := readWords(t)
	var fit []string // alone they could be a code
	for _, word := range words {
		if parsed, ok := claim.Parse(word, ""); ok {
			if parsed.Command {
				t.Errorf("%q is a command", word)
			}
			fit = append(fit, word)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	texts := append([]string{"pls fix", "thx bud", "Flight", "switch", "bright", "spring", "script", "trucks"}, fit...)
	for len(texts) < len(fit)+20_000 {
		texts = append(texts, sentence(r, words, 2))
	}
	for range 20_000 {
		texts = append(texts, sentence(r, words, 3+r.IntN(12)))
	}
	if n := harness.Scaled(150, len(texts)); n < len(texts) {
		short := texts[:8:8]
		for len(short) < n {
			short = append(short, texts[r.IntN(len(texts))])
		}
		texts = short
	}
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		var p harness.LinkedIdentity
		for start := 0; start < len(texts); start += 1000 {
			p = h.CreateIdentity(h.NewExternalID()) // codes live for 15 minutes
			code := h.IssueCode(p)
			part := texts[start:min(start+1000, len(texts))]
			keys := make([]string, len(part))
			for i, text := range part {
				keys[i] = h.SendText(p.ExternalID, p.ExternalID, text)
			}
			h.ProcessMessages()
			delivered := h.QueryTexts(`select m.text from deliveries d join messages m on m.id = d.message_id
				where m.sender_id = $1 order by m.seq`, p.ExternalID)
			for i, text := range part {
				if i >= len(delivered) || delivered[i] != text {
					t.Fatalf("%q: outcome = %q, want it passed on unchanged", text, h.Outcome(keys[i]))
				}
			}
			key := h.SendText(p.ExternalID, p.ExternalID, "/claim "+code)
			h.ProcessMessages()
			if got := h.Outcome(key); got != "claimed" {
				t.Errorf("outcome of the code afterwards = %q, want claimed", got)
			}
		}
		if n := h.QueryInt(`select count(*) from claim_failures where kind = 'failure'`); n != 0 {
			t.Errorf("failed tries = %d, want 0", n)
		}
		t.Logf("%d texts passed on, 0 withheld, 0 tries; %d of %d words could be a code", len(texts), len(fit), len(words))
	})
}

// dressed returns letters of a code as part of a longer text, in a random form that is no proper claim.
func dressed(r *rand.Rand, words []string, code string) string {
	pick := func(from ...string) string { return from[r.IntN(len(from))] }
	letters := code
	switch r.IntN(8) {
	case 0:
		letters = claim.Group(code)
	case 1:
		letters = strings.ToLower(code)
	case 2:
		letters = strings.Join(strings.Split(code, ""), pick(" ", "-", ".", "\n", " - ", "/", "·", "_", "\u200b", "👍"))
	case 3:
		letters = claim.Spell(code)
	case 4:
		n := 1 + r.IntN(len(code)-1)
		letters = code[:n] + pick(" ", "-", "–", "*", "_", ",", "|", "<b>", "\u00a0", "\n") + code[n:]
	case 5:
		letters = strings.NewReplacer("L", "1", "S", "5", "B", "8", "Z", "2", "G", "6").Replace(claim.Group(code))
	case 6:
		letters = pick("claim", "claim_", "start=claim_", "/claim ", "claim%20", "CLAIM:") + code
	}
	letters = fmt.Sprintf(
		pick("%s", "*%s*", "`%s`", "\"%s\"", "(%s)", "<%s>", "_%s_", "[%s](https://example.com)", "\n%s\n",
			"https://t.me/acme_bot?start=claim_%s", "tg://resolve?domain=acme_bot&start=claim_%s"),
		letters,
	)
	before := pick("", "1. ", "2) ", "- ", "> ", "👋 ", ":wave: ", "@acme_bot ", "<@U023BECGF> ") + "hello "
	return before + sentence(
		r,
		words,
		r.IntN(4),
	) + " " + letters + pick(
		" ",
		", ",
		"! ",
		"\n",
		"; ",
	) + sentence(
		r,
		words,
		r.IntN(3),
	)
}

// TestDressedCodes_Withheld sends live codes and invites in many forms on every channel, and checks that
// none is passed on, stored or logged.
func TestDressedCodes_Withheld(t *testing.T) {
	harness.ParallelUnlessFull(t)
	words := readWords(t)
	const perCode = 500
	n := harness.Scaled(40, 20_000)
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		var log harness.LockedBuffer
		h.Log = &log
		h.Exec(`update instances set sms_invites = true`)
		for _, channel := range testChannels {
			h.Channel = channel
			r := rand.New(rand.NewPCG(3, 4))
			hits := 0
			for sent := 0; sent < n; sent += perCode {
				p := h.CreateIdentity(h.NewExternalID())
				code := h.IssueCode(p)
				_, invite := h.CreateInvite("")
				for i := range min(perCode, n-sent) {
					letters := code
					if i%2 == 1 {
						letters = invite
					}
					h.SendText(p.ExternalID, p.ExternalID, dressed(r, words, letters))
				}
				h.ProcessMessages()
				for _, text := range h.QueryTexts(`select m.text from messages m join deliveries d on d.message_id = m.id
					where m.sender_id = $1`, p.ExternalID) {
					hits++
					t.Errorf("%s: passed on %q with a live %s or %s", channel, text, code, invite)
				}
				found := harness.FindCodes([]string{code, invite}, map[string]string{
					"log": log.String(), "messages": strings.Join(h.QueryTexts(`select text || body from messages
						where sender_id = $1`, p.ExternalID), "\n"),
				})
				if hits += len(found); len(found) > 0 {
					t.Error("codes found:", found)
				}
			}
			t.Logf("%s: %d texts with live codes and invites, %d hits", channel, n, hits)
		}
	})
}

// TestDressedCodes_Found checks that Scan finds the letters in every form of TestDressedCodes_Withheld.
func TestDressedCodes_Found(t *testing.T) {
	words, r := readWords(t), rand.New(rand.NewPCG(5, 6))
	n := harness.Scaled(20_000, 400_000)
	for i := range n {
		code := claim.NewCode()
		if i%2 == 1 {
			code = claim.NewInviteCode()
		}
		text := dressed(r, words, code)
		isCode := func(c claim.Candidate) bool { return c.Code == code }
		if !slices.ContainsFunc(claim.Scan(text), isCode) {
			t.Fatalf("Scan(%q) does not find %s", text, code)
		}
	}
	t.Logf("%d texts, all found", n)
}
