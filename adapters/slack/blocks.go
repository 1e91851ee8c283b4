package slack

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// maxBlockDepth is how deeply nested lists and objects are read. Those of Slack have fewer than twenty
// levels.
const maxBlockDepth = 40

// blockMarkup returns the words of blocks as the markup that Slack uses in texts, one block in a line.
// Blocks of unknown types are read by the same names of fields, so that new types of Slack are not
// lost.
func blockMarkup(raw json.RawMessage) string {
	var blocks any
	if json.Unmarshal(raw, &blocks) != nil {
		return ""
	}
	return renderBlock(blocks, maxBlockDepth)
}

// Names of fields that hold words, in the order in which people see them. The fallbacks repeat or
// describe the others.
var (
	wordFields     = []string{"pretext", "title", "subtitle", "header", "text", "body", "label", "description", "value"}
	fallbackFields = []string{"alt_text", "fallback", "name"}
)

func renderBlock(v any, depth int) string {
	if depth == 0 {
		return ""
	}
	switch v := v.(type) {
	case []any:
		return renderList(v, "\n", depth-1)
	case map[string]any:
		return renderObject(v, depth-1)
	}
	return ""
}

// renderList returns the words of elements. A list in a list is a row of a table.
func renderList(elements []any, separator string, depth int) string {
	var parts []string
	for _, e := range elements {
		var part string
		if row, ok := e.([]any); ok && depth > 0 {
			part = renderList(row, " | ", depth-1)
		} else {
			part = renderBlock(e, depth)
		}
		if separator == "" || strings.TrimSpace(part) != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, separator)
}

func renderObject(o map[string]any, depth int) string {
	elements, _ := o["elements"].([]any)
	switch stringField(o, "type") {
	case "rich_text_section", "rich_text_preformatted", "rich_text_quote":
		return renderList(elements, "", depth)
	case "rich_text_list":
		return renderBullets(elements, stringField(o, "style") == "ordered", depth)
	}
	if s, ok := renderInline(o); ok {
		return s
	}
	return renderFields(o, depth)
}

func renderBullets(items []any, ordered bool, depth int) string {
	var lines []string
	for i, item := range items {
		bullet := "• "
		if ordered {
			bullet = fmt.Sprintf("%d. ", i+1)
		}
		lines = append(lines, bullet+renderBlock(item, depth))
	}
	return strings.Join(lines, "\n")
}

// renderInline returns an element of rich text as markup. It returns false for everything else.
func renderInline(o map[string]any) (markup string, ok bool) {
	switch stringField(o, "type") {
	case "text", "plain_text":
		return escapeText(stringField(o, "text")), true
	case "mrkdwn":
		return stringField(o, "text"), true
	case "link":
		address := entityPart(stringField(o, "url"))
		if label := entityPart(stringField(o, "text")); label != "" {
			return "<" + address + "|" + label + ">", true
		}
		return "<" + address + ">", true
	case "user":
		return "<@" + entityPart(stringField(o, "user_id")) + ">", true
	case "channel":
		return "<#" + entityPart(stringField(o, "channel_id")) + ">", true
	case "usergroup":
		return "<!subteam^" + entityPart(stringField(o, "usergroup_id")) + ">", true
	case "broadcast":
		return "<!" + entityPart(stringField(o, "range")) + ">", true
	case "emoji":
		return ":" + escapeText(stringField(o, "name")) + ":", true
	case "date":
		if s := stringField(o, "fallback"); s != "" {
			return escapeText(s), true
		}
		seconds, _ := o["timestamp"].(float64)
		return time.Unix(int64(min(max(seconds, 0), maxUnixSeconds)), 0).UTC().Format(time.RFC3339), true
	}
	return "", false
}

// renderFields returns the words of an object in lines: those of its own fields, then those of the
// objects in it.
func renderFields(o map[string]any, depth int) string {
	var lines []string
	add := func(s string) {
		if s = strings.TrimSpace(s); s != "" && (len(lines) == 0 || lines[len(lines)-1] != s) {
			lines = append(lines, s)
		}
	}
	for _, field := range wordFields {
		if s, isText := o[field].(string); isText && (field != "value" || o["text"] == nil) {
			add(markupOf(o, s))
			continue
		}
		add(renderBlock(o[field], depth))
	}
	for _, field := range slices.Sorted(maps.Keys(o)) {
		if !slices.Contains(wordFields, field) && field != "files" { // files are attachments
			add(renderBlock(o[field], depth))
		}
	}
	for _, field := range fallbackFields {
		if s := stringField(o, field); len(lines) == 0 && s != "" {
			add(markupOf(o, s))
		}
	}
	return strings.Join(lines, "\n")
}

// markupOf returns a text in an object as markup. In typed objects other than mrkdwn it is plain;
// attachments and their fields have no type.
func markupOf(o map[string]any, s string) string {
	if stringField(o, "type") != "" {
		return escapeText(s)
	}
	return s
}

func stringField(o map[string]any, name string) string {
	s, _ := o[name].(string)
	return s
}

// entityPart escapes s for use within an entity, which a bar or a bracket would end.
func entityPart(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "|", "¦").Replace(s)
}
