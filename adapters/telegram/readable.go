package telegram

import (
	"cmp"
	"encoding/json"
	"strconv"
	"strings"

	"hydragate/adapters"
)

// readableKeys are the keys whose values people read, in reading order, in all objects of the Bot API: the
// blocks of rich messages, polls, checklists, and objects that do not exist yet. Everything else of an
// object is for programs.
var readableKeys = strings.Fields(`
	label emoji value title question first_name last_name summary text alternative_text expression
	option_text description prize_description explanation button
	blocks items cells rows tasks options users buttons paid_media media
	caption credit address`)

// maxDepth is the depth to which objects are read. Telegram nests blocks less deeply.
const maxDepth = 64

// fileKeys are the keys of what is collected from the objects that contain it.
var fileKeys = strings.Fields(
	"animation audio document photo sticker video video_note voice voice_note live_photo location",
)

// inlineKeys are those of readableKeys whose lists are one line of text.
const inlineKeys = " text summary caption credit label title button "

// A readable collects what people see of an object of the Bot API.
type readable struct {
	media   []adapters.Attachment
	content []adapters.Content
	depth   int
}

// read returns the text of an object, with a line for each of its parts. It collects the files and
// places in it.
func (r *readable) read(raw json.RawMessage) string {
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return ""
	}
	return strings.TrimSpace(r.text(v, "", "\n"))
}

// text returns the text of the value of a key. Parts of a list are separated by sep.
func (r *readable) text(v any, key, sep string) string {
	if r.depth >= maxDepth {
		return ""
	}
	r.depth++
	defer func() { r.depth-- }()
	switch v := v.(type) {
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case []any:
		if strings.Contains(inlineKeys, " "+key+" ") {
			sep = ""
		}
		cell := key == "cells" && sep == "\n"
		var parts []string
		for _, e := range v {
			if inner, isRow := e.([]any); isRow && cell {
				parts = append(parts, r.text(inner, "row", " | "))
			} else if s := r.text(e, key, sep); s != "" {
				parts = append(parts, s)
			}
		}
		return strings.Join(parts, sep)
	case map[string]any:
		return r.object(v)
	}
	return ""
}

// object returns the text of an object. The address of a link follows its words.
func (r *readable) object(o map[string]any) string {
	r.collect(o)
	var parts []string
	for _, key := range readableKeys {
		_, labeled := o["label"]
		if v, ok := o[key]; ok && (key != "value" || !labeled) {
			if s := r.text(v, key, "\n"); s != "" {
				parts = append(parts, s)
			}
		}
	}
	sep := "\n"
	if _, isDice := o["value"]; isDice || o["first_name"] != nil || o["label"] != nil {
		sep = " "
	}
	words := strings.Join(parts, sep)
	link, _ := o["url"].(string)
	if user, ok := o["user"].(map[string]any); ok && o["type"] == "text_mention" {
		link = userLink(user["id"])
	}
	return withLink(words, link)
}

// collect appends the files and the place in an object.
func (r *readable) collect(o map[string]any) {
	found := map[string]any{}
	for _, key := range fileKeys {
		if v, ok := o[key]; ok {
			found[key] = v
		}
	}
	if len(found) == 0 {
		return
	}
	var block struct {
		media
		VoiceNote *file     `json:"voice_note"`
		Location  *location `json:"location"`
	}
	b, err := json.Marshal(found)
	if err != nil || json.Unmarshal(b, &block) != nil {
		return
	}
	block.Voice = cmp.Or(block.Voice, block.VoiceNote)
	r.media = append(r.media, block.attachments()...)
	if block.Location != nil {
		r.content = append(r.content, block.Location.content())
	}
}

func userLink(id any) string {
	n, ok := id.(float64)
	if !ok || n == 0 {
		return ""
	}
	return "tg://user?id=" + formatInt(int64(n))
}

// withLink returns "words (link)", or words alone if they are the link.
func withLink(words, link string) string {
	bare := strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(link, "https://"), "http://"), "/")
	if link == "" || words == "" || strings.Contains(words, bare) {
		return cmp.Or(words, link)
	}
	return words + " (" + link + ")"
}
