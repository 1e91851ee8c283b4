package slack

import (
	"strconv"
	"strings"
	"time"
)

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isUpper(c byte) bool { return 'A' <= c && c <= 'Z' }

func isLower(c byte) bool { return 'a' <= c && c <= 'z' }

func allBytes(s string, is func(byte) bool) bool {
	for i := range len(s) {
		if !is(s[i]) {
			return false
		}
	}
	return true
}

// isID reports whether s is the ID of a team, a user or a channel. Other strings could make keys
// ambiguous.
func isID(s string) bool {
	return s != "" && len(s) <= 32 && allBytes(s, func(c byte) bool { return isUpper(c) || isDigit(c) })
}

// isKeyPart reports whether s is well formed as an ID of an event, trigger or client message, or as
// an error code, so that it can be part of a Key.
func isKeyPart(s string) bool {
	return s != "" && len(s) <= 128 && allBytes(s, func(c byte) bool {
		return isUpper(c) || isLower(c) || isDigit(c) || c == '.' || c == '-' || c == '_'
	})
}

// isUserID reports whether s is the ID of a user, rather than of a conversation. In Enterprise
// Grid it may start with W.
func isUserID(s string) bool {
	return isID(s) && (s[0] == 'U' || s[0] == 'W')
}

// isTimestamp reports whether s is a timestamp in the form that identifies messages.
func isTimestamp(s string) bool {
	seconds, fraction, ok := strings.Cut(s, ".")
	return ok && seconds != "" && fraction != "" && len(s) <= 32 && allBytes(seconds, isDigit) &&
		allBytes(fraction, isDigit)
}

// maxUnixSeconds is the latest time that RFC 3339 can represent.
const maxUnixSeconds = 253402300799

// parseTimestamp returns the time in the timestamp of a message, or the zero time if it is invalid
// or out of range.
func parseTimestamp(ts string) time.Time {
	seconds, fraction, _ := strings.Cut(ts, ".")
	s, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil || s > maxUnixSeconds {
		return time.Time{}
	}
	us, err := strconv.ParseInt((fraction + "000000")[:6], 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.Unix(s, us*int64(time.Microsecond)).UTC()
}

// externalID returns the external ID of a person. User IDs are unique only together with the team.
func externalID(team, user string) string {
	if !isID(team) || !isUserID(user) {
		return ""
	}
	return team + ":" + user
}
