package claims

import (
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

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
