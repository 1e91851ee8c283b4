package bulk

import (
	"strings"
	"testing"
)

func TestEscapeFormula(t *testing.T) {
	for _, s := range []string{"", "'", "''", "=1", "'=1", "''=1", "+61", "-", "@x", "\tx", "Steve", "'twas", "O'Hara", "'-"} {
		d := escapeFormula(s)
		if got := unescapeFormula(d); got != s {
			t.Errorf("%q is %q in the file and %q after", s, d, got)
		}
		if d != "" && strings.ContainsAny(d[:1], "=+-@\t") {
			t.Errorf("%q is armed", d)
		}
	}
}
