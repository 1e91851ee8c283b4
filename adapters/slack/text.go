package slack

import (
	"strings"

	"hydragate/adapters"
)

// decodeText returns a text as its author saw it, without a leading mention of the bot. Slack
// escapes three characters and writes mentions and links as entities.
func decodeText(raw, botUserID string) string {
	text := plainText(cutClaimMention(trimMention(raw, botUserID), botUserID))
	if text == "" {
		text = plainText(raw)
	}
	return adapters.Sanitize(text, adapters.MaxInboundText)
}

// cutClaimMention removes mentions of the user botUserID from a text that begins with the word claim, so
// that "claim @bot CODE" is read like "claim CODE".
func cutClaimMention(text, botUserID string) string {
	first, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
	if !strings.EqualFold(strings.TrimPrefix(first, "/"), "claim") || botUserID == "" {
		return text
	}
	for {
		before, after, found := strings.Cut(rest, "<@"+botUserID)
		if !found || !strings.HasPrefix(after, ">") && !strings.HasPrefix(after, "|") {
			return first + " " + rest
		}
		_, after, _ = strings.Cut(after, ">")
		rest = before + after
	}
}

// trimMention removes a leading mention of the user botUserID.
func trimMention(raw, botUserID string) string {
	text := strings.TrimSpace(raw)
	if botUserID == "" || !strings.HasPrefix(text, "<@"+botUserID) {
		return text
	}
	mention, rest, ok := strings.Cut(text, ">")
	if id, _, _ := strings.Cut(mention, "|"); !ok || id != "<@"+botUserID {
		return text
	}
	return rest
}

// plainText decodes escapes and entities in one pass, so that the result of an escape is never
// decoded as an entity.
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

// decodeEntity returns the text that a person sees for the content between "<" and ">".
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

// formatLink returns the label of a link if it equals the address, and both otherwise, because a
// label alone could hide the target.
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
