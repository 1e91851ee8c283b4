package slack

import (
	"strings"
	"testing"
)

func TestIDs(t *testing.T) {
	for name, is := range map[string]func(string) bool{"ID": isID, "key part": isKeyPart, "timestamp": isTimestamp} {
		for s, kinds := range map[string]string{
			"U061F7AUR": "ID, key part", "AZ09": "ID, key part", "azAZ09.-_": "key part",
			"1732190400.000100": "key part, timestamp", "1.2.3": "key part", ".1": "key part", "1.": "key part",
			"": "", "U1:2": "", "@": "", "[": "", "`": "", "{": "", "Ж": "",
			strings.Repeat("A", 32): "ID, key part", strings.Repeat("A", 33): "key part",
			strings.Repeat("a", 128): "key part", strings.Repeat("a", 129): "",
			strings.Repeat("1", 30) + ".1": "key part, timestamp", strings.Repeat("1", 31) + ".1": "key part",
		} {
			if got, want := is(s), strings.Contains(kinds, name); got != want {
				t.Errorf("%q is a valid %s: %v, want %v", s, name, got, want)
			}
		}
	}
}

func TestParseTimestamp(t *testing.T) {
	for ts, want := range map[string]string{
		"1732190400.000100":      "2024-11-21T12:00:00.0001Z",
		"1732190400.5":           "2024-11-21T12:00:00.5Z",
		"253402300799.0":         "9999-12-31T23:59:59Z",
		"253402300800.0":         "0001-01-01T00:00:00Z",
		"x":                      "0001-01-01T00:00:00Z",
		"1.x":                    "0001-01-01T00:00:00Z",
		"99999999999999999999.1": "0001-01-01T00:00:00Z",
	} {
		if got := parseTimestamp(ts).Format("2006-01-02T15:04:05.999999999Z07:00"); got != want {
			t.Errorf("parseTimestamp(%q) = %s, want %s", ts, got, want)
		}
	}
}
