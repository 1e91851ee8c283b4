package httpapi

import "testing"

func TestParseUUID(t *testing.T) {
	const id = "01930f6e-5c1a-7b3e-9a54-0c1f6a1b2c3d"
	for in, want := range map[string]string{
		id: "", "01930F6E5C1A7B3E9A540C1F6A1B2C3D": "", "{" + id + "}": "", "urn:uuid:" + id: "", "00000000-0000-0000-0000-000000000000": "",
		"":                                     "invalid length: expected length 32 for simple format, found 0",
		"abc":                                  "invalid length: expected length 32 for simple format, found 3",
		"lookup":                               "invalid character: found `l` at 1",
		"01930f6e-5c1a-7b3e-9a54-0c1f6a1b2c3g": "invalid character: found `g` at 36",
		"01930f6e-5c1a-7b3e-9a54":              "invalid group count: expected 5, found 4",
		"01930f6e-5c1a-7b3e-9a54-0c1f6a1b2c3":  "invalid group length in group 4: expected 12, found 11",
		"01930f6e5-c1a-7b3e-9a54-0c1f6a1b2c3d": "invalid group length in group 0: expected 8, found 9",
		"{01930f6e5c1a7b3e9a540c1f6a1b2c3d}":   "invalid group count: expected 5, found 1",
		"01930f6e-5c1a-7b3e-9a54-0c1f6a1b2c3d\x00": "invalid character: found `\x00` at 37",
	} {
		got, reason := parseUUID(in)
		if reason != want || want == "" && len(got) != 36 {
			t.Errorf("%q: %q, %q; want %q", in, got, reason, want)
		}
	}
}

func TestJustBefore(t *testing.T) {
	for in, want := range map[string]string{
		"01930f6e-5c1a-7b3e-9a54-0c1f6a1b2c3d": "01930f6e-5c1a-7b3e-9a54-0c1f6a1b2c3c",
		"00000000-0000-0000-0001-000000000000": "00000000-0000-0000-0000-ffffffffffff",
		"00000000-0000-0000-0000-000000000000": "",
	} {
		if got := justBefore(in); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
}
