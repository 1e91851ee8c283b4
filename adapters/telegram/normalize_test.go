package telegram_test

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"hydragate/adapters"
	"hydragate/adapters/telegram"
)

// unavailableHandler fails every webhook request.
type unavailableHandler struct{}

func (unavailableHandler) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusServiceUnavailable)
}

// canRedeem reports whether a message may redeem a code.
func canRedeem(m adapters.Message) bool {
	return m.Kind == adapters.Text && m.Command != nil && m.UnprovenReason == "" && !m.Chat.Group && m.Sender.ID != ""
}

// TestReceive_ProvenClaims checks that of all recorded claims only those typed by a person in a
// private chat can redeem a code.
func TestReceive_ProvenClaims(t *testing.T) {
	good := map[string]bool{
		"claim":               true,
		"claim_at_bot":        true,
		"claim_upper_newline": true,
		"claim_alone":         true,
		"start_deep_link":     true,
		"start_payload":       true,
		"rich_message_claim":  true,
	}
	files, err := filepath.Glob("testdata/main/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		name := filepath.Base(f[:len(f)-len(".json")])
		body, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		in, err := new(telegram.Adapter).Receive(requestWithSecrets(secret)(endpoint(), "", body), endpoint(), "")
		if err != nil {
			t.Fatal(err)
		}
		if got := canRedeem(in.Messages[0]); got != good[name] {
			t.Errorf("%s: proven %v; want %v", name, got, good[name])
		}
	}
}

func TestReceive_Dates(t *testing.T) {
	for date, known := range map[int64]bool{
		-1: false, 0: false, 1: true, 1763776800: true, 253402300799: true, 253402300800: false,
	} {
		m := receiveFields(t, "message", map[string]any{"text": "hi", "date": date})
		if known && m.SentAt.Unix() != date || !known && !m.SentAt.IsZero() {
			t.Errorf("date %d: sent at %v, want the same time: %v", date, m.SentAt, known)
		}
	}
}

// TestReceive_MessageKeys checks that a repeated update ID does not hide a new message, and
// that a message with another update ID is still the same.
func TestReceive_MessageKeys(t *testing.T) {
	key := func(body string) string {
		t.Helper()
		in, err := new(telegram.Adapter).Receive(requestWithSecrets(secret)(endpoint(), "", []byte(body)), endpoint(), "")
		if err != nil || len(in.Messages) != 1 {
			t.Fatal(in, err)
		}
		return in.Messages[0].Key
	}
	message := func(update, id, rest string) string {
		return `{"update_id":` + update + `,"message":{"message_id":` + id + `,
			"chat":{"id":7,"type":"private"},"from":{"id":7,"first_name":"Steve"},"date":1,"text":"x"` + rest + `}}`
	}
	for name, c := range map[string]struct {
		a, b string
		same bool
	}{
		"same message other number": {message("1", "5", ""), message("2", "5", ""), true},
		"other message same number": {message("1", "5", ""), message("1", "6", ""), false},
		"business chat of that ID":  {message("1", "5", ""), message("1", "5", `,"business_connection_id":"b"`), false},
		"block same number": {
			`{"update_id":1,"my_chat_member":{"chat":{"id":7,"type":"private"},"date":1}}`,
			`{"update_id":1,"my_chat_member":{"chat":{"id":7,"type":"private"},"date":2}}`, false,
		},
		"unknown same number": {`{"update_id":1,"new":{"a":1}}`, `{"update_id":1,"new":{"a":2}}`, false},
		"odd same number":     {`{"update_id":1,"message":{}}`, `{"update_id":1,"message":{"text":"y"}}`, false},
		"two presses": {
			`{"update_id":1,"callback_query":{"id":"1","from":{"id":7}}}`,
			`{"update_id":1,"callback_query":{"id":"2","from":{"id":7}}}`, false,
		},
		"message then its edit": {
			message("1", "5", ""), `{"update_id":2,"edited_message":{"message_id":5,"chat":{"id":7},"edit_date":9,"text":"y"}}`,
			false,
		},
		"two edits": {
			`{"update_id":2,"edited_message":{"message_id":5,"chat":{"id":7},"edit_date":8}}`,
			`{"update_id":3,"edited_message":{"message_id":5,"chat":{"id":7},"edit_date":9}}`, false,
		},
	} {
		if same := key(c.a) == key(c.b); same != c.same {
			t.Errorf("%s: keys %q and %q, want the same: %v", name, key(c.a), key(c.b), c.same)
		}
	}
}
