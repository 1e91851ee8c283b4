package sqldb

import (
	"fmt"
	"strings"
)

// Placeholder is the n-th place for a value in a statement.
func Placeholder(n int) string { return fmt.Sprintf("$%d", n) }

// PlaceholderList gives a list of placeholders for values and the arguments with them. Lists
// come in few lengths, so that the engine knows the statements again: the last value
// stands several times.
func PlaceholderList(args []any, values []string, sign string) (string, []any) {
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
		fmt.Fprintf(&b, sign, len(args))
	}
	return b.String(), args
}
