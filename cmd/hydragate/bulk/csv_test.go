package bulk

import (
	"strings"
	"testing"
)

func TestEscapeFormula(t *testing.T) {
	for _, s := range []string{
		"", "'", "''", "=1", "'=1", "''=1", "+61", "-", "@x", "\tx", "Steve", "'twas", "O'Hara", "'-",
	} {
		d := escapeFormula(s)
		if got := unescapeFormula(d); got != s {
			t.Errorf("unescapeFormula(%q) = %q, want %q", d, got, s)
		}
		if d != "" && strings.ContainsAny(d[:1], "=+-@\t") {
			t.Errorf("escapeFormula(%q) = %q, which is a formula", s, d)
		}
	}
}
