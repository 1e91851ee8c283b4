package slack

import (
	"strings"

	"hydragate/adapters"
)

// decodeText gives a text as its writer saw it, without the mention that called the
// bot: Slack escapes three characters and writes mentions and links as entities.
func decodeText(raw, me string) string {
	text := plainText(trimMention(raw, me))
	if text == "" {
		text = plainText(raw)
	}
	return adapters.Sanitize(text, adapters.MaxInboundText)
}

// trimMention takes a leading mention of the user me off a text.
func trimMention(raw, me string) string {
	text := strings.TrimSpace(raw)
	if me == "" || !strings.HasPrefix(text, "<@"+me) {
		return text
	}
	mention, rest, ok := strings.Cut(text, ">")
	if id, _, _ := strings.Cut(mention, "|"); !ok || id != "<@"+me {
		return text
	}
	return rest
}

// plainText undoes Slack's escapes and entities, in one pass: what an escape gives is
// never read as an entity.
func plainText(raw string) string {
	var b strings.Builder
	for raw != "" {
		before, rest, found := strings.Cut(raw, "<")
		b.WriteString(unescape(before))
		if !found {
			break
		}
		entity, after, closed := strings.Cut(rest, ">")
		if !closed {
			b.WriteString(unescape("<" + rest))
			break
		}
		b.WriteString(unescape(decodeEntity(entity)))
		raw = after
	}
	return strings.TrimSpace(b.String())
}

func unescape(s string) string {
	if !strings.Contains(s, "&") {
		return s
	}
	return strings.NewReplacer("&lt;", "<", "&gt;", ">", "&amp;", "&").Replace(s)
}

// decodeEntity gives what stands between "<" and ">" in the words a person saw.
func decodeEntity(entity string) string {
	target, label, _ := strings.Cut(entity, "|")
	switch {
	case target == "":
		return label
	case target[0] == '@', target[0] == '#':
		if label != "" {
			return target[:1] + strings.TrimPrefix(label, target[:1])
		}
		return target
	case strings.HasPrefix(target, "!date^"), strings.HasPrefix(target, "!subteam^"):
		if label != "" {
			return label
		}
		name, _, _ := strings.Cut(target[1:], "^")
		return "@" + name
	case target[0] == '!':
		return "@" + target[1:]
	}
	return formatLink(target, label)
}

// formatLink gives a link as its label when that is the address itself, and else
// both: a label alone could hide where it leads.
func formatLink(target, label string) string {
	address := target
	for _, scheme := range []string{"mailto:", "tel:", "https://", "http://"} {
		address = strings.TrimPrefix(address, scheme)
	}
	switch label {
	case "":
		return strings.TrimPrefix(strings.TrimPrefix(target, "mailto:"), "tel:")
	case target, address, strings.TrimSuffix(address, "/"):
		return label
	}
	return label + " (" + target + ")"
}
