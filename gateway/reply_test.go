package gateway

import (
	"strings"
	"testing"

	"hydragate/adapters"
)

// countingAdapter counts each character as two units.
type countingAdapter struct{ adapters.Adapter }

func (countingAdapter) Limits() adapters.Limits {
	return adapters.Limits{MaxText: 1 << 20, Measure: func(s string) int { return 2 * len([]rune(s)) }}
}

// TestDivideReply checks that a reply is divided by the length that its channel counts, that nothing of it is
// lost, and that a short one is not divided.
func TestDivideReply(t *testing.T) {
	for name, c := range map[string]struct {
		text  string
		parts int
	}{
		"words":          {strings.TrimSpace(strings.Repeat("word ", 100)), 3},
		"no spaces":      {strings.Repeat("ж", 200), 2},
		"shortest":       {strings.Repeat("ж", 100), 2},
		"too short":      {strings.Repeat("ж", 98), 0},
		"a single break": {strings.Repeat("a", 120) + "\n" + strings.Repeat("b", 121), 2},
	} {
		row := OutboxRow{ID: "1", Text: c.text, ReplyTo: "7", Attempts: 3, ConversationID: "c"}
		parts := DivideReply(countingAdapter{}, row)
		if len(parts) != c.parts {
			t.Errorf("%s: DivideReply() = %d parts, want %d", name, len(parts), c.parts)
			continue
		}
		var whole strings.Builder
		for i, p := range parts {
			whole.WriteString(p.Text)
			if first := i == 0; (p.ID == "1") != first || (p.ReplyTo == "7") != first || p.ConversationID != "c" {
				t.Errorf("%s: part %d = %+v", name, i, p)
			}
		}
		strip := strings.NewReplacer(" ", "", "\n", "")
		if got, want := strip.Replace(whole.String()), strip.Replace(c.text); c.parts > 0 && got != want {
			t.Errorf("%s: parts contain %q, want %q", name, got, want)
		}
	}
}
