package slack

import (
	"strings"
	"testing"
)

func TestDecodeFrame_Length(t *testing.T) {
	for length, want := range map[int]bool{maxFrame: false, maxFrame + 1: true} {
		const head = `{"envelope_id":"e1","payload":"`
		raw := head + strings.Repeat("a", length-len(head)-2) + `"}`
		if f := decodeFrame([]byte(raw)); f.malformed != want || f.EnvelopeID != "e1" {
			t.Errorf("decodeFrame of %d bytes: malformed = %v, ID %q, want %v, e1", length, f.malformed, f.EnvelopeID, want)
		}
	}
}
