package operation

import (
	"strings"
	"testing"

	"hydragate/httpapi/fastapi"
)

// FuzzPreviousID checks that PreviousID returns a lower UUID.
func FuzzPreviousID(f *testing.F) {
	for _, s := range []string{
		"00000000-0000-0000-0000-000000000000", "00000000-0000-0000-0000-000000000001",
		"01930f6e-0000-7000-8000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", "", "x", "-", "1",
		strings.Repeat("f", 33),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		id, reason := fastapi.ParseUUID(in)
		if reason != "" {
			return // cursors are UUIDs
		}
		before := PreviousID(id)
		if before == "" {
			if id != "00000000-0000-0000-0000-000000000000" {
				t.Errorf("PreviousID(%s) is empty", id)
			}
			return
		}
		if again, _ := fastapi.ParseUUID(before); again != before || before >= id {
			t.Errorf("PreviousID(%s) = %s", id, before)
		}
	})
}

func TestPreviousID(t *testing.T) {
	for in, want := range map[string]string{
		"01930f6e-5c1a-7b3e-9a54-0c1f6a1b2c3d": "01930f6e-5c1a-7b3e-9a54-0c1f6a1b2c3c",
		"00000000-0000-0000-0001-000000000000": "00000000-0000-0000-0000-ffffffffffff",
		"00000000-0000-0000-0000-000000000000": "",
	} {
		if got := PreviousID(in); got != want {
			t.Errorf("PreviousID(%s) = %s, want %s", in, got, want)
		}
	}
}
