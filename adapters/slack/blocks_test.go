package slack

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestBlockMarkup checks the words that people read in blocks and attachments.
func TestBlockMarkup(t *testing.T) {
	for blocks, want := range map[string]string{
		// The text of typed objects is plain, that of attachments is markup.
		`[{"type":"of_next_month","title":"a <b> & c"}]`:           "a <b> & c",
		`[{"title":"<https://example.com|more> &amp; more"}]`:      "more (https://example.com) & more",
		`[{"type":"mrkdwn","text":"<https://example.com|more>"}]`:  "more (https://example.com)",
		`[[{"text":"1"},{"text":"2"}],[{"text":"3"},{"text":""}]]`: "1 | 2\n3",
		`{"text":"not a list"}`:                                    "not a list",
		`{`:                                                        "",
	} {
		if got := decodeText(blockMarkup(json.RawMessage(blocks)), ""); got != want {
			t.Errorf("text of %s = %q, want %q", blocks, got, want)
		}
	}
}

// TestBlockMarkup_Depth checks that blocks are read to a certain depth only, however they are nested.
func TestBlockMarkup_Depth(t *testing.T) {
	for _, c := range []struct{ begin, end string }{
		{`[`, `]`},
		{`{"text":`, `}`},
		{`{"of_next_month":[`, `]}`},
		{`{"type":"rich_text_section","elements":[`, `]}`},
		{`{"type":"rich_text_list","elements":[`, `]}`},
	} {
		for levels, want := range map[int]bool{18: true, 2 * maxBlockDepth: false} {
			blocks := strings.Repeat(c.begin, levels) + `{"text":"word"}` + strings.Repeat(c.end, levels)
			if got := strings.Contains(blockMarkup(json.RawMessage(blocks)), "word"); got != want {
				t.Errorf("words below %d times %s…%s are read: %v, want %v", levels, c.begin, c.end, got, want)
			}
		}
	}
}
