package identity

import "testing"

func TestFold(t *testing.T) {
	for _, c := range []struct{ a, b string }{
		{"JOSÉ@example.com", "josé@example.com"},
		{"JOSE\u0301@example.com", "jos\u00e9@example.com"},
		{"Émile", "e\u0301mile"},
		{"ÅNGSTRÖM", "a\u030angstro\u0308m"},
		{"Straße", "STRASSE"},
		{"ΣΊΣΥΦΟΣ", "σίσυφος"},
		{"ИВАН", "иван"},
		{"", ""},
	} {
		if a, b := Fold(c.a), Fold(c.b); a != b || Fold(a) != a {
			t.Errorf("Fold(%q) = %q and Fold(%q) = %q, want the same", c.a, a, c.b, b)
		}
	}
	for _, c := range []struct{ a, b string }{{"Émile", "Emile"}, {"Jose", "José"}, {"a b", "ab"}} {
		if Fold(c.a) == Fold(c.b) {
			t.Errorf("Fold(%q) = Fold(%q), want different texts", c.a, c.b)
		}
	}
}
