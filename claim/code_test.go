package claim

import (
	"go/parser"
	"go/token"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/cryptotest"
)

// repetitions returns a number of repetitions: all of them with HYDRAGATE_TEST_LONG=1, and otherwise
// a fifth.
func repetitions(all int) int {
	if os.Getenv("HYDRAGATE_TEST_LONG") == "1" {
		return all
	}
	return all / 5
}

// TestNewCode_Uniform compares the frequency of each letter at each position in many codes with the
// expected one, given the codes that are excluded.
func TestNewCode_Uniform(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	draws := repetitions(1_000_000)
	var seen [codeLen][len(alphabet)]float64
	for range draws {
		code := NewCode()
		if len(code) != codeLen || isRejected(code) {
			t.Fatalf("NewCode = %q", code)
		}
		for i := range codeLen {
			seen[i][strings.IndexByte(alphabet, code[i])]++
		}
	}
	expected := letterShares()
	for i := range codeLen {
		chi := 0.0
		for x := range len(alphabet) {
			want := expected[i][x] * float64(draws)
			chi += (seen[i][x] - want) * (seen[i][x] - want) / want
		}
		if p := chiSquareTail(chi, len(alphabet)-1); p < 0.001 {
			t.Errorf("position %d: chi-square %.1f, p = %.5f", i, chi, p)
		}
	}
}

// TestRandomLetters_Independent checks that each of the 400 pairs of letters is equally likely.
func TestRandomLetters_Independent(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 2)
	draws := repetitions(1_000_000)
	var seen [len(alphabet)][len(alphabet)]float64
	for range draws {
		pair := randomLetters(2)
		seen[strings.IndexByte(alphabet, pair[0])][strings.IndexByte(alphabet, pair[1])]++
	}
	want, chi := float64(draws)/400, 0.0
	for _, row := range seen {
		for _, n := range row {
			chi += (n - want) * (n - want) / want
		}
	}
	if p := chiSquareTail(chi, 399); p < 0.001 {
		t.Errorf("chi-square %.1f, p = %.5f", chi, p)
	}
}

// TestChiSquare_DetectsModuloBias is the control: the bias of a byte modulo 20 must be detected.
func TestChiSquare_DetectsModuloBias(t *testing.T) {
	draws := float64(repetitions(1_000_000))
	chi := 0.0
	for x := range len(alphabet) {
		n := 256 / len(alphabet)
		if x < 256%len(alphabet) {
			n++
		}
		got, want := draws*float64(n)/256, float64(draws)/float64(len(alphabet))
		chi += (got - want) * (got - want) / want
	}
	if p := chiSquareTail(chi, len(alphabet)-1); p > 1e-9 {
		t.Errorf("p of a plain modulo = %g, want at most 1e-9", p)
	}
}

// TestIsRejected_SmallShare checks that few codes are excluded, because excluded codes make
// guessing easier.
func TestIsRejected_SmallShare(t *testing.T) {
	for _, of := range []struct {
		letters int
		most    float64
	}{{codeLen, 0.015}, {inviteLen, 0.035}} {
		good, all := 0.0, math.Pow(float64(len(alphabet)), float64(of.letters))
		for _, n := range countAccepted()[of.letters] {
			good += n
		}
		share := 1 - good/all
		t.Logf("of %.4g codes of %d letters %.2f %% are excluded, leaving %.4g", all, of.letters, 100*share, good)
		if share > of.most {
			t.Errorf("%.2f %% of codes of %d letters are excluded, want at most %.2f %%", 100*share, of.letters, 100*of.most)
		}
	}
}

// TestNewInviteCode_GuessingOdds checks the odds of a million wrong tries a day, by any number of
// senders, against a thousand live invites of one bot.
func TestNewInviteCode_GuessingOdds(t *testing.T) {
	good := 0.0
	for _, n := range countAccepted()[inviteLen] {
		good += n
	}
	odds := 1e6 * 1000 / good
	t.Logf(
		"a million tries a day against a thousand invites: %.2g; by one sender: %.2g; tries for one in a million: %.3g",
		odds,
		MaxFailuresPerDay*1000/good,
		1e-6*good/1000,
	)
	if odds > 1e-6 {
		t.Errorf("odds of a day = %.2g, want at most 1e-6", odds)
	}
}

func TestIsRejected_AbusiveWords(t *testing.T) {
	if len(abusiveWords) != 24 {
		t.Errorf("%d abusive words, want 24", len(abusiveWords))
	}
	for _, word := range abusiveWords {
		if len(word) < 3 || len(word) > 4 || strings.Trim(word, alphabet) != "" {
			t.Errorf("%q cannot occur in a code", word)
		}
		if !isRejected("X"+word) || !isRejected(word) || !isRejected("BX"+word) {
			t.Errorf("%q is not rejected", word)
		}
	}
	for _, code := range []string{"HMMMMJ", "BBBBCD", "WDZZZZ"} {
		if !isRejected(code) {
			t.Errorf("%s is not rejected", code)
		}
	}
	if isRejected("WDJBMJ") || isRejected("WDJJJB") {
		t.Error("a valid code is rejected")
	}
}

// countAccepted returns, by length and last three letters, the number of codes that are not
// excluded.
var countAccepted = sync.OnceValue(func() [inviteLen + 1]map[string]float64 {
	var ways [inviteLen + 1]map[string]float64
	ways[0] = map[string]float64{"": 1}
	for i := range inviteLen {
		ways[i+1] = map[string]float64{}
		for end, n := range ways[i] {
			for x := range len(alphabet) {
				longer := end + alphabet[x:x+1]
				if !isRejected(longer) {
					ways[i+1][lastThree(longer)] += n
				}
			}
		}
	}
	return ways
})

// letterShares returns the probability of each letter at each position of a code.
func letterShares() [codeLen][len(alphabet)]float64 {
	before := countAccepted()
	after := map[string]float64{}
	for end := range before[codeLen] {
		after[end] = 1
	}
	var share [codeLen][len(alphabet)]float64
	for i := codeLen; i > 0; i-- {
		total := 0.0
		for end, n := range before[i] {
			share[i-1][strings.IndexByte(alphabet, end[len(end)-1])] += n * after[end]
			total += n * after[end]
		}
		for x := range len(alphabet) {
			share[i-1][x] /= total
		}
		earlier := map[string]float64{}
		for end := range before[i-1] {
			for x := range len(alphabet) {
				if longer := end + alphabet[x:x+1]; !isRejected(longer) {
					earlier[end] += after[lastThree(longer)]
				}
			}
		}
		after = earlier
	}
	return share
}

func lastThree(s string) string { return s[max(0, len(s)-3):] }

// chiSquareTail returns the probability of a chi-square value of at least chi, by the
// Wilson–Hilferty approximation.
func chiSquareTail(chi float64, freedom int) float64 {
	k := 2 / (9 * float64(freedom))
	z := (math.Cbrt(chi/float64(freedom)) - (1 - k)) / math.Sqrt(k)
	return math.Erfc(z/math.Sqrt2) / 2
}

func TestGroupAndSpell(t *testing.T) {
	for _, tt := range []struct{ code, grouped, spelled string }{
		{"WDJBMJ", "WDJ-BMJ", "Whiskey Delta Juliett, Bravo Mike Juliett"},
		{"BCDFGH", "BCD-FGH", "Bravo Charlie Delta, Foxtrot Golf Hotel"},
		{"JKLMNP", "JKL-MNP", "Juliett Kilo Lima, Mike November Papa"},
		{"QRSTVW", "QRS-TVW", "Quebec Romeo Sierra, Tango Victor Whiskey"},
		{"XZXZXZ", "XZX-ZXZ", "X-ray Zulu X-ray, Zulu X-ray Zulu"},
		{"WDJBMJKLNPQR", "WDJB-MJKL-NPQR", "Whiskey Delta Juliett Bravo, Mike Juliett Kilo Lima, November Papa Quebec Romeo"},
	} {
		if got := Group(tt.code); got != tt.grouped {
			t.Errorf("Group(%s) = %q, want %q", tt.code, got, tt.grouped)
		}
		if got := Spell(tt.code); got != tt.spelled {
			t.Errorf("Spell(%s) = %q, want %q", tt.code, got, tt.spelled)
		}
	}
}

// TestImports_NoMathRand checks that the package gets randomness only from crypto/rand.
func TestImports_NoMathRand(t *testing.T) {
	err := filepath.WalkDir(".", func(path string, _ os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, imported := range file.Imports {
			name, err := strconv.Unquote(imported.Path.Value)
			if err != nil || strings.HasPrefix(name, "math/rand") {
				t.Errorf("%s imports %s", path, name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func BenchmarkNewCode(b *testing.B) {
	for b.Loop() {
		NewCode()
	}
}
