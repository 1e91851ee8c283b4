package slack_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"hydragate/adapters"
)

// readTable returns the rows of a file with columns separated by tabs.
func readTable(t *testing.T, name string) (rows [][]string) {
	t.Helper()
	for line := range strings.SplitSeq(string(readRecording(t, name)), "\n") {
		if !strings.HasPrefix(line, "#") {
			rows = append(rows, strings.Split(line, "\t"))
		}
	}
	return rows
}

func messageEvent(fields string) []byte {
	return fmt.Appendf(nil, `{"type":"event_callback","event_id":"Ev1","team_id":%q,"authorizations":[{"team_id":%[1]q}],
		"event":{"type":"message","ts":"1.1","user":%q,"channel":"D0LAN2Q65","channel_type":"im",%s}}`,
		teamID, steve.ID, fields)
}

// TestReceive_DocumentedSubtypes checks that what a person writes is a message, whatever its subtype, and
// that what Slack writes is not.
func TestReceive_DocumentedSubtypes(t *testing.T) {
	for _, row := range readTable(t, "subtypes.tsv") {
		in, err := receive(t, endpoint(), "events", messageEvent(`"text":"hello","subtype":"`+row[0]+`"`))
		m := singleMessage(t, in, err)
		if isMessage := m.Kind == adapters.Text && m.Text == "hello"; isMessage != (row[1] == "person") {
			t.Errorf("%s: message of a person = %v, want %s", row[0], isMessage, row[1])
		}
	}
}

// TestReceive_DocumentedContent checks that no message of a person is dropped, whichever of the fields
// of a message it has.
func TestReceive_DocumentedContent(t *testing.T) {
	for _, fields := range []string{
		`"text":""`, `"text":null`, `"blocks":[]`, `"blocks":[{"type":"divider"}]`, `"blocks":{}`, `"files":[{}]`,
		`"files":[{"id":"F1"}]`, `"files":[{"id":"F1","mode":"hidden_by_limit"}]`, `"attachments":[{}]`,
		`"attachments":[{"image_url":"https://example.com/a.png"}]`, `"attachments":"none"`, `"text":"  "`,
		`"assistant_thread":{"title":"x"}`, `"room":{"id":"R1"}`, `"reactions":[{"name":"wave"}]`,
	} {
		in, err := receive(t, endpoint(), "events", messageEvent(fields))
		m := singleMessage(t, in, err)
		if m.Kind == adapters.Unsupported || m.Text == "" && len(m.Media) == 0 && len(m.Content) == 0 {
			t.Errorf("%s: message = %+v, want content", fields, m)
		}
	}
}

// TestReceive_DocumentedInteractions checks that what a person chooses is a message.
func TestReceive_DocumentedInteractions(t *testing.T) {
	for _, row := range readTable(t, "interactions.tsv") {
		m := interaction(t, row[0], `{"type":"button","action_id":"pick","value":"yes"}`)
		if isMessage := m.Kind == adapters.Callback; isMessage != (row[1] == "person") {
			t.Errorf("%s: message of a person = %v, want %s", row[0], isMessage, row[1])
		}
	}
}

// TestReceive_UnknownPart checks the name of what a message without words consists of, and that an
// interaction in which nothing was used is not a message.
func TestReceive_UnknownPart(t *testing.T) {
	for fields, want := range map[string]string{
		`"files":[],"attachments":[]`: "blocks", `"files":[],"attachments":[{}]`: "attachments",
		`"files":[{}],"attachments":[{}]`: "files", `"files":{},"attachments":"none"`: "blocks",
		`"subtype":"of_next_month","blocks":[{}]`: "of_next_month",
	} {
		in, err := receive(t, endpoint(), "events", messageEvent(fields))
		if m := singleMessage(t, in, err); len(m.Content) != 1 || m.Content[0].Name != want {
			t.Errorf("%s: content = %+v, want %s", fields, m.Content, want)
		}
	}
	payload := `{"type":"block_actions","trigger_id":"1.2.a","user":{"id":"U1","team_id":"T1"},"channel":{"id":"C1"},
		"actions":[{"type":"button","value":"yes"}],"message":{"ts":"1732190400.000100"}}`
	in, err := receive(t, endpoint(), "interactivity", []byte(url.Values{"payload": {payload}}.Encode()))
	if m := singleMessage(t, in, err); m.ReplyTo != "1732190400.000100" {
		t.Errorf("interaction in a message that is not named elsewhere: reply to %q", m.ReplyTo)
	}
	if m := interaction(t, "block_actions", ""); m.Kind != adapters.Unsupported {
		t.Errorf("interaction without actions = %+v, want no message of a person", m)
	}
}

// TestReceive_DocumentedElements checks that the value of each interactive element is delivered, when it
// is chosen and in the state of a form.
func TestReceive_DocumentedElements(t *testing.T) {
	for _, row := range readTable(t, "elements.tsv") {
		element := `{"type":"` + row[0] + `","action_id":"pick","block_id":"b1",` + row[1][1:]
		m := interaction(t, "block_actions", element)
		if m.Kind != adapters.Callback || m.Action != row[2] {
			t.Errorf("%s: action = %q, want %q", row[0], m.Action, row[2])
		}
		m = interaction(t, "view_submission", element)
		if strings.HasSuffix(row[0], "button") || row[2] == "pick" {
			continue // not part of a form
		}
		data, err := json.Marshal(m.Content)
		for value := range strings.SplitSeq(row[2], ",") {
			if err != nil || !strings.Contains(string(data), value) {
				t.Errorf("%s in a form: content = %s, want %q in it", row[0], data, value)
			}
		}
	}
}

// interaction receives an interaction of a type with an element that was used, or that is in its form.
func interaction(t *testing.T, kind, element string) adapters.Message {
	t.Helper()
	state := ""
	if element != "" {
		state = `"pick":` + element
	}
	payload := fmt.Sprintf(`{"type":%q,"api_app_id":%q,"trigger_id":"1.2.a","team":{"id":%q},
		"user":{"id":%q,"team_id":%[3]q},"channel":{"id":"D0LAN2Q65"},"callback_id":"call","actions":[%[5]s],
		"submission":{"a":"b"},"view":{"callback_id":"view","state":{"values":{"b1":{%s}}}}}`,
		kind, appID, teamID, steve.ID, element, state)
	in, err := receive(t, endpoint(), "interactivity", []byte(url.Values{"payload": {payload}}.Encode()))
	return singleMessage(t, in, err)
}

// TestReceive_LongTexts checks that the longest texts that Slack delivers arrive whole, also in an edit,
// whose event contains the text four times.
func TestReceive_LongTexts(t *testing.T) {
	for name, letter := range map[string]string{"Latin": "a", "Cyrillic": "Ж", "Chinese": "漢", "emoji": "😀"} {
		text := strings.Repeat(letter, 40_000)
		in, err := receive(t, endpoint(), "events", messageEvent(`"text":"`+text+`"`))
		if m := singleMessage(t, in, err); m.Text != text {
			t.Errorf("%s: %d bytes of text, want %d", name, len(m.Text), len(text))
		}
		escaped := asciiJSON(text)
		part := func(s string) string {
			return `{"type":"message","user":"U061F7AUR","ts":"1.1","text":"` + s + `","blocks":[{"type":"rich_text","elements":[
				{"type":"rich_text_section","elements":[{"type":"text","text":"` + s + `"}]}]}]}`
		}
		body := messageEvent(`"subtype":"message_changed","message":` + part(escaped) +
			`,"previous_message":` + part(escaped[:len(escaped)/2/12*12]))
		in, err = receive(t, endpoint(), "events", body)
		if m := singleMessage(t, in, err); m.Kind != adapters.Edit || m.Text != text {
			t.Errorf("%s: edit event of %d KiB: %s with %d bytes of text, want %d",
				name, len(body)>>10, m.Kind, len(m.Text), len(text))
		}
	}
}

// asciiJSON returns text as Slack writes it in JSON: with escapes for all characters beyond ASCII.
func asciiJSON(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r < 0x80:
			b.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+(r-0x10000)>>10, 0xdc00+(r-0x10000)&0x3ff)
		}
	}
	return b.String()
}
