package sqldb

import (
	"fmt"
	"strings"
)

// Placeholder returns the n-th placeholder of a statement.
func Placeholder(n int) string { return fmt.Sprintf("$%d", n) }

// PlaceholderList appends values to args and returns a comma-separated list of their placeholders,
// each formatted with format, and the new args. The list is padded to one of a few lengths by
// repeating the last value, so that few distinct statements are prepared.
func PlaceholderList(args []any, values []string, format string) (string, []any) {
	n := 8
	for n < len(values) {
		n *= 4
	}
	var b strings.Builder
	for i := range n {
		args = append(args, values[min(i, len(values)-1)])
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, format, len(args))
	}
	return b.String(), args
}
