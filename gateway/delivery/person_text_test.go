package delivery

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"hydragate/adapters/telegram"
	"hydragate/gateway"
)

// TestDocument_PersonTexts walks a complete event, and checks that all strings in it that come from the
// message can be screened for codes: Message.MapTexts must reach them. A field that is added to the
// message and to the event must be reached as well, or be listed here as one that no person can fill.
func TestDocument_PersonTexts(t *testing.T) {
	fixed := []string{
		"data.provider_message_id", "data.reply_to", "data.attachments.0.kind", "data.content.0.kind",
		"data.sender.external_id", "data.thread_id", "data.group_key", "data.messages.0.provider_message_id",
		"data.messages.0.reply_to", "data.messages.0.attachments.0.kind", "data.messages.0.content.0.kind",
		// Names are stored with the identity, after they were screened.
	}
	e := gateway.Event{CreatedAt: time.Now()}
	e.ID, e.MessageID, e.Type = "e1", "m1", "message.received"
	fill(reflect.ValueOf(&e.Message).Elem(), "person")
	e.Message.Raw = nil

	if n := len(paths(t, e, "person")); n < 8 {
		t.Fatalf("strings of the message in the event = %d, want at least 8", n)
	}
	e.Message = e.Message.MapTexts(func(string) string { return "screened" })
	for _, path := range paths(t, e, "person") {
		if !slices.Contains(fixed, path) {
			t.Errorf("%s is not screened for codes: MapTexts does not reach it", path)
		}
	}
	if n := len(paths(t, e, "screened")); n < 4 {
		t.Errorf("screened strings in the event = %d, want at least 4", n)
	}
}

// fill sets every string below v, with one element in each slice and map.
func fill(v reflect.Value, text string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), text)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte(`"` + text + `"`))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), text)
	case reflect.Map:
		value := reflect.New(v.Type().Elem()).Elem()
		fill(value, text)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("key").Convert(v.Type().Key()), value)
	case reflect.Interface:
		v.Set(reflect.ValueOf(text))
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i), text)
			}
		}
	default: // numbers and flags
	}
}

// paths returns where text occurs in the document of e.
func paths(t *testing.T, e gateway.Event, text string) (found []string) {
	t.Helper()
	b, err := json.Marshal(document(e, &telegram.Adapter{}, time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	var doc any
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case string:
			if v == text {
				found = append(found, path[1:])
			}
		case map[string]any:
			for name, v := range v {
				walk(path+"."+name, v)
			}
		case []any:
			for i, v := range v {
				walk(fmt.Sprint(path, ".", i), v)
			}
		}
	}
	walk("", doc)
	return found
}
