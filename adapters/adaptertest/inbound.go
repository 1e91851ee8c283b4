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

// Limits of the messages of one request, whatever it contains.
const (
	maxFieldLen   = 1024    // of every string except the texts that a person wrote, in bytes
	maxEncodedLen = 4 << 20 // of a message in JSON, where Raw is in base64
)

var kinds = []adapters.Kind{
	adapters.Text, adapters.Media, adapters.Edit, adapters.Callback, adapters.OptOut, adapters.OptIn, adapters.Help,
	adapters.Block, adapters.Unblock, adapters.Delete, adapters.Unsupported, adapters.Undecodable,
}

// CheckInbound checks the invariants of what an adapter returns for any request: every string is
// valid and bounded, every message has a key and a known kind, a message that proves its sender has
// a sender and a chat, and a message survives encoding in JSON. Fuzz tests of adapters call it.
func CheckInbound(t *testing.T, in adapters.Inbound) {
	t.Helper()
	if in.Ack == nil {
		t.Fatal("Ack is nil")
	}
	for _, m := range in.Messages {
		checkMessage(t, m)
	}
	for _, r := range in.Receipts {
		checkFields(t, "receipt", r.ProviderID, r.Code)
		if r.ProviderID == "" || r.Status.Rank() == 0 {
			t.Errorf("receipt with provider ID %q and status %q, want an ID and a reported status", r.ProviderID, r.Status)
		}
	}
	checkAck(t, in)
}

func checkMessage(t *testing.T, m adapters.Message) {
	t.Helper()
	if m.Key == "" || !slices.Contains(kinds, m.Kind) {
		t.Errorf("message with key %q and kind %q, want a key and a known kind", m.Key, m.Kind)
	}
	checkFields(t, "message", m.Key, m.AltKey, m.ProviderID,
		m.Sender.ID, m.Sender.Name, m.Sender.Username, m.Sender.Locale,
		m.Chat.ID, m.Chat.Thread, m.Chat.ReplyToken, m.ReplyTo, string(m.UnprovenReason))
	checkFields(t, "sender", m.Sender.Aliases...)
	checkTexts(t, m.Text, m.Action)
	if m.Command != nil {
		checkFields(t, "command", m.Command.Name)
		checkTexts(t, m.Command.Args)
		if m.Command.Name == "" || m.Command.Name != strings.ToLower(m.Command.Name) {
			t.Errorf("command name = %q, want lower case", m.Command.Name)
		}
	}
	for _, a := range m.Media {
		checkFields(t, "attachment", a.Kind, a.MIME, a.Name)
		checkTexts(t, a.Ref)
		if a.Kind == "" {
			t.Error("an attachment has no kind")
		}
	}
	for _, c := range m.Content {
		checkTexts(t, string(c.Kind), c.Title, c.Address, c.PhoneNumber, c.Name)
		if c.Kind == "" || c.Kind == adapters.Other && c.Name == "" {
			t.Errorf("content = %+v, want a kind, and a name if it is other", c)
		}
	}
	isOther := func(c adapters.Content) bool { return c.Kind == adapters.Other }
	if undecodable := m.Kind == adapters.Undecodable; undecodable && len(m.Raw) == 0 ||
		len(m.Raw) > 0 && !undecodable && !slices.ContainsFunc(m.Content, isOther) {
		t.Errorf("message of kind %q has %d raw bytes, want some only if it was not decoded completely", m.Kind, len(m.Raw))
	}
	isWritten := m.Kind == adapters.Text || m.Kind == adapters.Media || m.Kind == adapters.Callback
	if isWritten && m.UnprovenReason == "" && (m.Sender.ID == "" || m.Chat.ID == "") {
		t.Errorf("message proves its sender, but has sender %q and chat %q", m.Sender.ID, m.Chat.ID)
	}
	if by := m.WrittenBy(); by != adapters.AuthorSender && m.UnprovenReason == "" && m.Sender.ID != "" {
		t.Errorf("message is proven, but written by %q", by)
	}
	encoded, err := json.Marshal(m)
	if err != nil || len(encoded) > maxEncodedLen {
		t.Fatalf("json.Marshal() = %d bytes, %v, want at most %d", len(encoded), err, maxEncodedLen)
	}
	var decoded adapters.Message
	if err := json.Unmarshal(encoded, &decoded); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(m, decoded) {
		t.Errorf("message differs after encoding and decoding (-want +got):\n%s", cmp.Diff(m, decoded))
	}
}

func checkFields(t *testing.T, owner string, fields ...string) {
	t.Helper()
	for _, s := range fields {
		checkText(t, s)
		if len(s) > maxFieldLen {
			t.Errorf("%s: a field has %d bytes, want at most %d", owner, len(s), maxFieldLen)
		}
	}
}

func checkTexts(t *testing.T, texts ...string) {
	t.Helper()
	for _, s := range texts {
		checkText(t, s)
		if len(s) > adapters.MaxInboundText+2 {
			t.Errorf("a text has %d bytes, want at most %d", len(s), adapters.MaxInboundText+2)
		}
	}
}

func checkText(t *testing.T, s string) {
	t.Helper()
	if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
		t.Errorf("string %q is not valid UTF-8 without NUL", s)
	}
}

// checkAck checks that the response acknowledges stored messages, and that no response is long or
// contains the error.
func checkAck(t *testing.T, in adapters.Inbound) {
	t.Helper()
	accepted, rejected := httptest.NewRecorder(), httptest.NewRecorder()
	in.Ack(accepted, nil)
	in.Ack(rejected, errors.New("database unavailable"))
	if accepted.Code/100 != 2 {
		t.Errorf("status of Ack(nil) = %d, want 2xx", accepted.Code)
	}
	for _, w := range []*httptest.ResponseRecorder{accepted, rejected} {
		if w.Body.Len() > 512 || strings.Contains(w.Body.String(), "database") {
			t.Errorf("response = %q, want a short one without the error", w.Body)
		}
	}
}
