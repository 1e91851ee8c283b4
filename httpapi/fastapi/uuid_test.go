package fastapi

import (
	"testing"
	"unicode/utf8"

	"github.com/google/uuid"
)

// FuzzParseUUID checks that accepted input has the canonical form that package uuid returns, and
// that other input gets a reason.
func FuzzParseUUID(f *testing.F) {
	for _, s := range []string{
		"01930f6e-0000-7000-8000-000000000001", "01930F6E-0000-7000-8000-000000000001",
		"01930f6e000070008000000000000001", "{01930f6e-0000-7000-8000-000000000001}",
		"urn:uuid:01930f6e-0000-7000-8000-000000000001",
		"URN:UUID:01930f6e-0000-7000-8000-000000000001", "01930f6e-0000-7000-8000-00000000000", "----", "{}", "{",
		"urn:uuid:", "", "g", "01930f6e-0000-7000-8000-00000000000１", "\xff", "' or 1=1 --",
		"00000000-0000-0000-0000-000000000000",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		id, reason := ParseUUID(in)
		if (id == "") == (reason == "") || !utf8.ValidString(reason) && utf8.ValidString(in) {
			t.Fatalf("ParseUUID(%q) = %q, %q", in, id, reason)
		}
		if id == "" {
			return
		}
		known, err := uuid.Parse(in)
		if err != nil || known.String() != id {
			t.Errorf("ParseUUID(%q) = %s; uuid.Parse: %s, %v", in, id, known, err)
		}
		if again, _ := ParseUUID(id); again != id {
			t.Errorf("ParseUUID(%s) = %s, want the same", id, again)
		}
	})
}

func TestParseUUID(t *testing.T) {
	const id = "01930f6e-5c1a-7b3e-9a54-0c1f6a1b2c3d"
	for in, want := range map[string]string{
		id: "", "01930F6E5C1A7B3E9A540C1F6A1B2C3D": "", "{" + id + "}": "", "urn:uuid:" + id: "",
		"00000000-0000-0000-0000-000000000000":     "",
		"":                                         "invalid length: expected length 32 for simple format, found 0",
		"abc":                                      "invalid length: expected length 32 for simple format, found 3",
		"lookup":                                   "invalid character: found `l` at 1",
		"01930f6e-5c1a-7b3e-9a54-0c1f6a1b2c3g":     "invalid character: found `g` at 36",
		"01930f6e-5c1a-7b3e-9a54":                  "invalid group count: expected 5, found 4",
		"01930f6e-5c1a-7b3e-9a54-0c1f6a1b2c3":      "invalid group length in group 4: expected 12, found 11",
		"01930f6e5-c1a-7b3e-9a54-0c1f6a1b2c3d":     "invalid group length in group 0: expected 8, found 9",
		"{01930f6e5c1a7b3e9a540c1f6a1b2c3d}":       "invalid group count: expected 5, found 1",
		"01930f6e-5c1a-7b3e-9a54-0c1f6a1b2c3d\x00": "invalid character: found `\x00` at 37",
	} {
		got, reason := ParseUUID(in)
		if reason != want || want == "" && len(got) != 36 {
			t.Errorf("ParseUUID(%q) = %q, %q, want reason %q", in, got, reason, want)
		}
	}
}
