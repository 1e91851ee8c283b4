package claim

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"
)

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

func TestAddressed(t *testing.T) {
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
		{"/claim@other_bot " + strings.Repeat(".", MaxTyped), true},
		{"/start@other_bot claim_WDJBMJ", true},
		{"/START@other_bot CLAIM_wdjbmj", true},
		{"/start@other_bot claim_WDJBMJKLNPQR", true},
		{"/start@other_bot claim_nonsense", true},
		{"/start@other_bot WDJBMJ", true},
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
		if got := Addressed(tt.text); got != tt.want {
			t.Errorf("%q: %v", tt.text, got)
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
	decorate := func(r *rapid.T) (code, text string, want Typed) {
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
		if doubled(code) || IsInvite(code) && twoWords(canonical(text[before:])) {
			return code, text, Typed{Command: true} // by chance it looks like two codes
		}
		return code, text, Typed{Code: code, Command: true}
	}
	for range 100 {
		rapid.Check(t, func(r *rapid.T) {
			code, text, want := decorate(r)
			if got, ok := Read(text, "acme_bot"); !ok || got != want {
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

// TestNewInvitesAreRead holds the same of invites.
func TestNewInvitesAreRead(t *testing.T) {
	for range 10_000 {
		code := NewInvite()
		for text, want := range map[string]Typed{
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
			if got, ok := Read(text, "acme_bot"); !ok || got != want {
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
		if len(typed.Code) != codeLen && len(typed.Code) != inviteLen || strings.Trim(typed.Code, alphabet) != "" || !utf8.ValidString(typed.Code) {
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
