package simulator

import "strings"

// slackTyped writes what a person typed as Slack passes it on.
func slackTyped(text string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(text)
}

// slackShown writes a text as people see it. What was not escaped takes effect:
// "<!channel>" calls everybody, and a label hides its link.
func slackShown(text string) string {
	var b strings.Builder
	for {
		before, rest, open := strings.Cut(text, "<")
		entity, after, closed := strings.Cut(rest, ">")
		if !open || !closed {
			b.WriteString(text)
			break
		}
		b.WriteString(before)
		b.WriteString(slackEntity(entity))
		text = after
	}
	return strings.NewReplacer("&lt;", "<", "&gt;", ">", "&amp;", "&").Replace(b.String())
}

func slackEntity(entity string) string {
	target, label, labelled := strings.Cut(entity, "|")
	switch {
	case labelled:
		return label
	case strings.HasPrefix(target, "!"):
		return "@" + target[1:]
	}
	return target
}
