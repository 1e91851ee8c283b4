package telegram

import (
	"slices"
	"strings"
	"unicode/utf16"
)

// An entity is a part of a text with a meaning of its own. Its place counts UTF-16 code units.
type entity struct {
	Type   string `json:"type"`
	Offset int    `json:"offset"`
	Length int    `json:"length"`
	URL    string `json:"url"`
	User   *user  `json:"user"`
}

// link returns the address behind the words of an entity, or "".
func (e entity) link() string {
	switch {
	case e.Type == "text_link":
		return e.URL
	case e.Type == "text_mention" && e.User != nil && e.User.ID != 0:
		return "tg://user?id=" + formatInt(e.User.ID)
	}
	return ""
}

// expandLinks returns text with the addresses of links after their words. Entities outside of the
// text are ignored.
func expandLinks(text string, entities []entity) string {
	if !slices.ContainsFunc(entities, func(e entity) bool { return e.link() != "" }) {
		return text
	}
	units := utf16.Encode([]rune(text))
	slices.SortStableFunc(entities, func(a, b entity) int { return a.Offset - b.Offset })
	var b strings.Builder
	done := 0
	for _, e := range entities {
		if e.link() == "" || e.Offset < done || e.Length <= 0 || e.Length > len(units)-e.Offset {
			continue
		}
		b.WriteString(string(utf16.Decode(units[done:e.Offset])))
		done = e.Offset + e.Length
		words := string(utf16.Decode(units[e.Offset:done]))
		trimmed := strings.TrimRight(words, " \n")
		b.WriteString(withLink(trimmed, e.link()) + words[len(trimmed):])
	}
	b.WriteString(string(utf16.Decode(units[done:])))
	return b.String()
}
