package adapters

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestMessage_MapTexts checks that all texts that a person can fill are replaced, and no others, and that
// the message itself is not changed.
func TestMessage_MapTexts(t *testing.T) {
	m := Message{
		Key: "fixed1", Kind: "fixed2", ProviderID: "fixed3", ReplyTo: "fixed4", UnprovenReason: "fixed5",
		Sender:  Sender{ID: "fixed6", Name: "text1", Username: "text2"},
		Chat:    Chat{ID: "fixed7", Thread: "fixed8"},
		Text:    "text3",
		Command: &Command{Name: "text4", Args: "text5"},
		Action:  "text6",
		Media:   []Attachment{{Kind: "fixed9", Ref: "fixed0", MIME: "text7", Name: "text8"}},
		Content: []Content{{Kind: "fixed", Title: "text9", Data: map[string]any{"text": "text"}}},
	}
	before, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	mapped := m.MapTexts(func(text string) string {
		if !strings.HasPrefix(text, "text") {
			t.Errorf("mapped %q", text)
		}
		return "new"
	})
	b, err := json.Marshal(mapped)
	if err != nil || strings.Count(string(b), `:"new"`) != 10 || strings.Count(string(b), "fixed") != 11 {
		t.Errorf("mapped = %s, %v, want 10 texts replaced", b, err)
	}
	if after, _ := json.Marshal(m); string(after) != string(before) {
		t.Errorf("message = %s, want it unchanged: %s", after, before)
	}

	deep := struct {
		Data map[string]any
		Raw  json.RawMessage
	}{map[string]any{"text": []any{"text", map[string]any{"a": "text"}, 1, nil}}, json.RawMessage(`"text"`)}
	deep = mapTexts(deep, func(text string) string { return strings.ReplaceAll(text, "text", "new") })
	b, err = json.Marshal(deep)
	if want := `{"Data":{"new":["new",{"a":"new"},1,null]},"Raw":"new"}`; err != nil || string(b) != want {
		t.Errorf("nested texts = %s, %v, want %s", b, err, want)
	}
}
