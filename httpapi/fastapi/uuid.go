package fastapi

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// ParseUUID returns the canonical form of a UUID: hyphenated and in lower case. It accepts
// hyphenated, unhyphenated, braced and urn:uuid: forms in any case. For other input it returns the
// reason that Pydantic appends to "Input should be a valid UUID, ".
func ParseUUID(in string) (canonical, reason string) {
	in = trimExactWrapper(in)
	s, before, simple := trimWrapper(in)
	if digits, ok := hexDigits(s, simple); ok {
		return digits[:8] + "-" + digits[8:12] + "-" + digits[12:16] + "-" + digits[16:20] + "-" + digits[20:], ""
	}
	return "", uuidReason(in, s, before, simple)
}

// trimExactWrapper removes the wrapper from input of exactly the right length. Positions in the
// reason then do not count the wrapper, as in Pydantic.
func trimExactWrapper(in string) string {
	if len(in) == 38 && in[0] == '{' && in[37] == '}' {
		return in[1:37]
	}
	if len(in) == 45 && strings.HasPrefix(in, "urn:uuid:") {
		return in[9:]
	}
	return in
}

// trimWrapper removes braces or urn:uuid:. before is the number of bytes removed at the beginning,
// and simple reports that there was no wrapper.
func trimWrapper(in string) (s string, before int, simple bool) {
	switch {
	case len(in) >= 2 && in[0] == '{' && in[len(in)-1] == '}':
		return in[1 : len(in)-1], 1, false
	case strings.HasPrefix(in, "urn:uuid:"):
		return in[9:], 9, false
	}
	return in, 0, true
}

// hexDigits returns the 32 digits of a UUID in lower case.
func hexDigits(s string, simple bool) (string, bool) {
	switch {
	case len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-':
		s = s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	case len(s) != 32 || !simple:
		return "", false
	}
	if _, err := hex.DecodeString(s); err != nil {
		return "", false
	}
	return strings.ToLower(s), true
}

// uuidReason returns why input is not a UUID, in the words of Pydantic.
func uuidReason(in, s string, before int, simple bool) string {
	var hyphens []int
	for i, r := range s {
		switch {
		case r == '-':
			hyphens = append(hyphens, i)
		case !strings.ContainsRune("0123456789abcdefABCDEF", r):
			return fmt.Sprintf("invalid character: found `%c` at %d", r, i+before+1)
		}
	}
	if len(hyphens) == 0 && simple {
		return fmt.Sprintf("invalid length: expected length 32 for simple format, found %d", len(in))
	}
	if len(hyphens) != 4 {
		return fmt.Sprintf("invalid group count: expected 5, found %d", len(hyphens)+1)
	}
	begin := [5]int{0, 9, 14, 19, 24}
	for i, at := range hyphens {
		if at != begin[i+1]-1 {
			return fmt.Sprintf(
				"invalid group length in group %d: expected %d, found %d", i, begin[i+1]-1-begin[i], at-begin[i],
			)
		}
	}
	return fmt.Sprintf("invalid group length in group 4: expected 12, found %d", len(in)-24)
}
