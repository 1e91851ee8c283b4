package telegram_test

import (
	"encoding/json"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/go-telegram/bot/models"

	"hydragate/adapters"
	"hydragate/adapters/telegram"
)

// A documentedField is a field of Telegram's message, as its page describes it.
type documentedField struct {
	Class string          `json:"class"` // "content", "service" or "envelope"
	Value json.RawMessage `json:"value"` // an example of content
	Text  string          `json:"text"`  // what can be read in it
}

// receiveFields returns the message in an update whose message has the given fields.
func receiveFields(t *testing.T, kind string, fields map[string]any) adapters.Message {
	t.Helper()
	m := map[string]any{
		"message_id": 5, "date": 1763776800, "chat": map[string]any{"id": 7, "type": "private"},
		"from": map[string]any{"id": 7, "first_name": "Steve"},
	}
	maps.Copy(m, fields)
	body, err := json.Marshal(map[string]any{"update_id": 1, kind: m})
	if err != nil {
		t.Fatal(err)
	}
	in, err := new(telegram.Adapter).Receive(requestWithSecrets(secret)(endpoint(), "", body), endpoint(), "")
	if err != nil || len(in.Messages) != 1 {
		t.Fatalf("Receive(%s) = %+v, %v, want one message", body, in.Messages, err)
	}
	return in.Messages[0]
}

// TestReceive_MessageFields checks that a message with any content that Telegram documents, or that the
// SDK knows, is delivered, and what can be read in it.
func TestReceive_MessageFields(t *testing.T) {
	raw, err := os.ReadFile("testdata/message_fields.json")
	if err != nil {
		t.Fatal(err)
	}
	var documented struct {
		Fields map[string]documentedField `json:"fields"`
	}
	if err := json.Unmarshal(raw, &documented); err != nil {
		t.Fatal(err)
	}
	sdk := reflect.TypeFor[models.Message]()
	for field := range sdk.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if _, ok := documented.Fields[name]; !ok {
			documented.Fields[name] = documentedField{Class: "content", Value: json.RawMessage(`{"id":1}`)}
		}
	}
	documented.Fields["verse"] = documentedField{ // does not exist yet
		Class: "content", Value: json.RawMessage(`{"title":"Ode","blocks":[{"type":"stanza","text":"to joy"}]}`),
		Text: "Ode\nto joy",
	}
	documented.Fields["is_shouted"] = documentedField{Class: "content", Value: json.RawMessage(`true`)}
	for name, f := range documented.Fields {
		t.Run(name, func(t *testing.T) {
			if f.Class == "envelope" {
				return // checked by the recorded payloads
			}
			value := f.Value
			if f.Class == "service" {
				value = json.RawMessage(`{"id":1}`)
			}
			m := receiveFields(t, "message", map[string]any{name: value})
			delivered := m.Kind == adapters.Text || m.Kind == adapters.Media
			if delivered != (f.Class == "content") || m.Text != f.Text {
				t.Fatalf("message of kind %q with text %q, want %q with %q", m.Kind, m.Text, f.Class, f.Text)
			}
			if delivered && m.Text == "" && len(m.Media)+len(m.Content) == 0 {
				t.Errorf("message = %+v, want content", m)
			}
			for _, c := range m.Content {
				if c.Kind == adapters.Other && (c.Name != name || len(m.Raw) == 0) {
					t.Errorf("content = %+v with %d raw bytes, want the name of the field and all bytes", c, len(m.Raw))
				}
			}
		})
	}
}

// TestReceive_ReadableText checks how messages with formatting become text.
func TestReceive_ReadableText(t *testing.T) { //nolint:funlen // a table of cases
	type o = map[string]any
	type list = []any
	link := func(words, url string) o { return o{"type": "url", "text": words, "url": url} }
	rich := func(blocks ...any) o { return o{"rich_message": o{"blocks": blocks}} }
	entities := func(text string, es ...any) o { return o{"text": text, "entities": es} }
	nested := func(levels int) (block o) {
		for block = (o{"text": "inside"}); levels > 0; levels-- {
			block = o{"blocks": list{block}}
		}
		return block
	}
	for name, c := range map[string]struct {
		fields o
		want   string
	}{
		"rich paragraphs": {
			rich(o{"type": "heading", "text": "Brakes", "size": 1}, o{"type": "paragraph", "text": "squeal"}),
			"Brakes\nsqueal",
		},
		"rich text in a list": {
			rich(o{"type": "paragraph", "text": list{"a", o{"type": "bold", "text": list{"b", "c"}}, "d"}}), "abcd",
		},
		"list": {rich(o{"type": "list", "items": list{
			o{"label": "1.", "value": 1, "blocks": list{o{"type": "paragraph", "text": "front"}}},
			o{"label": "2.", "value": 2, "blocks": list{o{"type": "paragraph", "text": "rear"}}},
		}}), "1. front\n2. rear"},
		"table": {rich(o{"type": "table", "cells": list{
			list{o{"text": "size", "align": "left"}, o{"text": "price", "align": "left"}}, list{o{"text": "M"}, o{"text": "42"}},
		}, "caption": "Prices"}), "size | price\nM | 42\nPrices"},
		"quotation": {
			rich(o{"type": "blockquote", "blocks": list{o{"type": "paragraph", "text": "Be quick"}}, "credit": "Ann"}),
			"Be quick\nAnn",
		},
		"details": {
			rich(o{"type": "details", "summary": "More", "blocks": list{o{"type": "paragraph", "text": "inside"}}}),
			"More\ninside",
		},
		"formula": {rich(o{"type": "mathematical_expression", "expression": "a^2"}), "a^2"},
		"emoji": {
			rich(o{"type": "paragraph", "text": o{"type": "custom_emoji", "custom_emoji_id": "5", "alternative_text": "🚲"}}),
			"🚲",
		},
		"link": {
			rich(o{"type": "paragraph", "text": list{"see ", link("here", "https://example.com/a")}}),
			"see here (https://example.com/a)",
		},
		"own link": {rich(o{"type": "paragraph", "text": link("example.com/a", "https://example.com/a")}), "example.com/a"},
		"mention": {
			rich(o{"type": "paragraph", "text": o{"type": "text_mention", "text": "Ann", "user": o{"id": 42}}}),
			"Ann (tg://user?id=42)",
		},
		"many blocks": {
			rich(slices.Repeat(list{o{"type": "paragraph", "text": "a"}}, 100)...), strings.Repeat("a\n", 99) + "a",
		},
		"deep blocks":     {o{"rich_message": nested(20)}, "inside"},
		"too deep blocks": {o{"rich_message": nested(100)}, ""},
		"unknown block":   {rich(o{"type": "poem", "text": "roses", "caption": o{"text": "by Ann"}}), "roses\nby Ann"},
		"unknown container": {
			rich(o{"type": "tabs", "items": list{o{"title": "One", "blocks": list{o{"text": "first"}}}}}), "One\nfirst",
		},
		"text link": {
			entities("look here now", o{"type": "text_link", "offset": 5, "length": 4, "url": "https://example.com/"}),
			"look here (https://example.com/) now",
		},
		"after an emoji": {
			entities("😀 here", o{"type": "text_link", "offset": 3, "length": 4, "url": "https://example.com/"}),
			"😀 here (https://example.com/)",
		},
		"same link": {
			entities("example.com", o{"type": "text_link", "offset": 0, "length": 11, "url": "http://example.com/"}),
			"example.com",
		},
		"text mention": {
			entities("ask Ann", o{"type": "text_mention", "offset": 4, "length": 3, "user": o{"id": 42, "first_name": "Ann"}}),
			"ask Ann (tg://user?id=42)",
		},
		"bold": {entities("bold", o{"type": "bold", "offset": 0, "length": 4}), "bold"},
		"wrong entity": {
			entities("hi", o{"type": "text_link", "offset": 1, "length": 9, "url": "https://example.com/"}), "hi",
		},
		"wrong offset": {
			entities("hi", o{"type": "text_link", "offset": -3, "length": 1, "url": "https://example.com/"}), "hi",
		},
		"no words": {
			entities("hi", o{"type": "text_link", "offset": 1, "length": 0, "url": "https://example.com/"}), "hi",
		},
		"after the end": {
			entities("hello", o{"type": "text_link", "offset": 3, "length": 3, "url": "https://example.com/"}), "hello",
		},
		"not in order": {
			entities("a b", o{"type": "text_link", "offset": 2, "length": 1, "url": "https://b.example/"},
				o{"type": "text_link", "offset": 0, "length": 1, "url": "https://a.example/"}),
			"a (https://a.example/) b (https://b.example/)",
		},
		"nested links": {entities("hi", o{"type": "text_link", "offset": 0, "length": 2, "url": "https://a.example/"},
			o{"type": "text_link", "offset": 0, "length": 1, "url": "https://b.example/"}), "hi (https://a.example/)"},
		"caption link": {
			o{
				"photo": list{o{"file_id": "f"}}, "caption": "see it",
				"caption_entities": list{o{"type": "text_link", "offset": 4, "length": 2, "url": "https://example.com/"}},
			},
			"see it (https://example.com/)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if m := receiveFields(t, "message", c.fields); m.Text != c.want {
				t.Errorf("text = %q, want %q", m.Text, c.want)
			}
		})
	}
}

// TestReceive_RichMessageCommands checks that commands and files in formatted messages are found.
func TestReceive_RichMessageCommands(t *testing.T) {
	m := receiveFields(t, "message", map[string]any{"rich_message": json.RawMessage(`{"blocks":[{"type":"paragraph",
		"text":[{"type":"bot_command","text":"/claim","bot_command":"/claim"}," ",{"type":"bold","text":"WDJ-BMJ"}]}]}`)})
	if !canRedeem(m) || m.Command.Args != "WDJ-BMJ" {
		t.Errorf("command = %+v of kind %q, want /claim WDJ-BMJ, which may redeem the code", m.Command, m.Kind)
	}
	m = receiveFields(t, "message", map[string]any{"rich_message": json.RawMessage(`{"blocks":[{"type":"photo",
		"photo":[{"file_id":"AgACsmall","width":1,"height":1},{"file_id":"AgACbig","width":9,"height":9}],
		"caption":{"text":"my bike"}},{"type":"map", "location":{"latitude":1.5,"longitude":2.5}, "zoom":9,
		"caption":{"text":"here"}},
		{"type":"voice_note","voice_note":{"file_id":"AwACv"}}]}`)})
	if len(m.Media) != 2 || m.Media[0].Ref != "AgACbig" || m.Media[1].Kind != "voice" || m.Text != "my bike\nhere" ||
		len(m.Content) != 1 || m.Content[0].Latitude != 1.5 || m.Kind != adapters.Media {
		t.Errorf("message = %+v, want a picture, a voice note, a place and their captions", m)
	}
}

// TestReceive_Content checks contacts, places, forms and quotes.
func TestReceive_Content(t *testing.T) {
	type o = map[string]any
	content := func(c ...adapters.Content) []adapters.Content { return c }
	forwarded := o{"type": "user", "sender_user": o{"id": 8, "first_name": "Eve"}}
	for name, c := range map[string]struct {
		fields o
		want   []adapters.Content
	}{
		"own contact": {
			o{"contact": o{"phone_number": "61400111222", "first_name": "Steve", "user_id": 7}},
			content(adapters.Content{Kind: adapters.Contact, PhoneNumber: "61400111222", Name: "Steve", Own: true}),
		},
		"contact of another": {
			o{"contact": o{"phone_number": "61400111223", "first_name": "Ann", "last_name": "Lee", "user_id": 42}},
			content(adapters.Content{Kind: adapters.Contact, PhoneNumber: "61400111223", Name: "Ann Lee"}),
		},
		"forwarded own contact": {
			o{"contact": o{"phone_number": "1", "first_name": "S", "user_id": 7}, "forward_origin": forwarded},
			content(adapters.Content{Kind: adapters.Contact, PhoneNumber: "1", Name: "S"}),
		},
		"venue": {
			o{
				"venue":    o{"location": o{"latitude": 1.5, "longitude": 2.5}, "title": "Shop", "address": "1 Main St"},
				"location": o{"latitude": 1.5, "longitude": 2.5},
			},
			content(adapters.Content{
				Kind: adapters.Location, Latitude: 1.5, Longitude: 2.5, Title: "Shop", Address: "1 Main St",
			}),
		},
		"map and picture without words": {
			o{"rich_message": o{"blocks": []any{
				o{"type": "map", "location": o{"latitude": 1.5, "longitude": 2.5}},
				o{"type": "photo", "photo": []any{o{"file_id": "AgAC", "width": 1, "height": 1}}},
			}}},
			content(adapters.Content{Kind: adapters.Location, Latitude: 1.5, Longitude: 2.5}),
		},
		"equator": {o{"location": o{"latitude": 0, "longitude": 0}}, content(adapters.Content{Kind: adapters.Location})},
		"form": {
			o{"web_app_data": o{"data": `{"size":"M"}`, "button_text": "b"}},
			content(adapters.Content{Kind: adapters.Form, Data: `{"size":"M"}`}),
		},
		"quote": {
			o{"text": "why?", "quote": o{"text": "brakes", "position": 3}, "reply_to_message": o{
				"message_id": 4,
				"from":       o{"id": 9, "is_bot": true, "first_name": "Bot"},
			}},
			content(adapters.Content{Kind: adapters.Quote, Text: "brakes", Name: "Bot"}),
		},
		"reply without quote": {o{"text": "why?", "reply_to_message": o{"message_id": 4}}, nil},
		"external reply": {
			o{"text": "why?", "quote": o{"text": "sale"}, "external_reply": o{
				"message_id": 9,
				"origin":     o{"type": "channel", "chat": o{"id": -1001, "title": "News"}},
			}},
			content(adapters.Content{Kind: adapters.Quote, Text: "sale", Name: "News"}),
		},
		"external reply to a poll": {
			o{"text": "why?", "external_reply": o{
				"origin": o{"type": "hidden_user", "sender_user_name": "Eve"},
				"poll":   o{"question": "When?", "options": []any{}},
			}},
			content(adapters.Content{Kind: adapters.Quote, Text: "When?", Name: "Eve"}),
		},
	} {
		t.Run(name, func(t *testing.T) {
			if m := receiveFields(t, "message", c.fields); !reflect.DeepEqual(m.Content, c.want) {
				t.Errorf("content = %+v, want %+v", m.Content, c.want)
			}
		})
	}
}
