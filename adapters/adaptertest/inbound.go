package adaptertest

import (
	"encoding/json"
	"errors"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"hydragate/adapters"
)

// Limits of what an adapter may make of one request, whatever was in it.
const (
	maxFieldLen   = 1024    // every text that is not what somebody said
	maxEncodedLen = 4 << 20 // a message written down; undecodable ones are kept as base64
)

var kinds = []adapters.Kind{
	adapters.Text, adapters.Media, adapters.Edit, adapters.Callback, adapters.OptOut, adapters.OptIn, adapters.Help,
	adapters.Block, adapters.Unblock, adapters.Unsupported, adapters.Undecodable,
}

// CheckInbound holds that what an adapter made of a request can be kept and acted on, whatever
// was in the request: every text is clean and bounded, every message has a name, and
// who can prove something is somebody. Fuzz tests call it.
func CheckInbound(t *testing.T, in adapters.Inbound) {
	t.Helper()
	if in.Ack == nil {
		t.Fatal("there is no Ack")
	}
	for _, m := range in.Messages {
		checkMessage(t, m)
	}
	for _, r := range in.Receipts {
		checkFields(t, "receipt", r.ProviderID, r.Code)
		if r.ProviderID == "" || r.Status.Rank() == 0 {
			t.Errorf("a receipt of %q, %q", r.ProviderID, r.Status)
		}
	}
	checkAck(t, in)
}

func checkMessage(t *testing.T, m adapters.Message) {
	t.Helper()
	if m.Key == "" || !slices.Contains(kinds, m.Kind) {
		t.Errorf("key %q, kind %q", m.Key, m.Kind)
	}
	checkFields(t, "message", m.Key, m.AltKey, m.ProviderID, m.Sender.ID, m.Sender.Name, m.Sender.Username, m.Sender.Locale,
		m.Chat.ID, m.Chat.Thread, m.Chat.ReplyToken, m.ReplyTo, m.UnprovenReason)
	checkTexts(t, m.Text, m.Action)
	if m.Command != nil {
		checkFields(t, "command", m.Command.Name)
		checkTexts(t, m.Command.Args)
		if m.Command.Name == "" || m.Command.Name != strings.ToLower(m.Command.Name) {
			t.Errorf("command %q", m.Command.Name)
		}
	}
	for _, a := range m.Media {
		checkFields(t, "attachment", a.Kind, a.MIME, a.Name)
		checkTexts(t, a.Ref)
		if a.Kind == "" {
			t.Error("an attachment of no kind")
		}
	}
	if (m.Kind == adapters.Undecodable) != (len(m.Raw) > 0) {
		t.Errorf("kind %q with %d raw bytes", m.Kind, len(m.Raw))
	}
	speaks := m.Kind == adapters.Text || m.Kind == adapters.Media || m.Kind == adapters.Callback
	if speaks && m.UnprovenReason == "" && (m.Sender.ID == "" || m.Chat.ID == "") {
		t.Errorf("nobody, or nowhere, and yet proven: %q in %q", m.Sender.ID, m.Chat.ID)
	}
	written, err := json.Marshal(m)
	if err != nil || len(written) > maxEncodedLen {
		t.Fatalf("written down it has %d bytes, %v", len(written), err)
	}
	var read adapters.Message
	if err := json.Unmarshal(written, &read); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(m, read) {
		t.Errorf("what is read is not what was written (-was +is):\n%s", cmp.Diff(m, read))
	}
}

func checkFields(t *testing.T, of string, texts ...string) {
	t.Helper()
	for _, s := range texts {
		checkText(t, s)
		if len(s) > maxFieldLen {
			t.Errorf("%s: a name of %d bytes", of, len(s))
		}
	}
}

func checkTexts(t *testing.T, texts ...string) {
	t.Helper()
	for _, s := range texts {
		checkText(t, s)
		if len(s) > adapters.MaxInboundText+2 {
			t.Errorf("a text of %d bytes", len(s))
		}
	}
}

func checkText(t *testing.T, s string) {
	t.Helper()
	if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
		t.Errorf("cannot be kept: %q", s)
	}
}

// checkAck holds that the provider is told that it was taken, or else to come again
// (a person who waits for an answer is told in words), and in neither case what came.
func checkAck(t *testing.T, in adapters.Inbound) {
	t.Helper()
	taken, refused := httptest.NewRecorder(), httptest.NewRecorder()
	in.Ack(taken, nil)
	in.Ack(refused, errors.New("the database is away"))
	if taken.Code/100 != 2 {
		t.Errorf("taken, and answered %d", taken.Code)
	}
	for _, w := range []*httptest.ResponseRecorder{taken, refused} {
		if w.Body.Len() > 512 || strings.Contains(w.Body.String(), "database") {
			t.Errorf("the answer is %q", w.Body)
		}
	}
}
