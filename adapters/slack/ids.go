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

// isID reports whether s is an id of a team, a user or a channel. What is none
// could not be joined into a name of ours without doubt.
func isID(s string) bool {
	return s != "" && len(s) <= 32 && allBytes(s, func(c byte) bool { return isUpper(c) || isDigit(c) })
}

// isKeyPart reports whether s may be part of a key: ids of events, triggers and
// clients, and the codes of errors.
func isKeyPart(s string) bool {
	return s != "" && len(s) <= 128 && allBytes(s, func(c byte) bool {
		return isUpper(c) || isLower(c) || isDigit(c) || c == '.' || c == '-' || c == '_'
	})
}

// isUserID tells a user's id from a conversation's. In an organisation that Slack
// calls Enterprise Grid it may start with W.
func isUserID(s string) bool {
	return isID(s) && (s[0] == 'U' || s[0] == 'W')
}

// isTimestamp reports whether s is a timestamp as Slack names messages by it.
func isTimestamp(s string) bool {
	seconds, fraction, ok := strings.Cut(s, ".")
	return ok && seconds != "" && fraction != "" && len(s) <= 32 && allBytes(seconds, isDigit) && allBytes(fraction, isDigit)
}

// maxUnixSeconds is the last that RFC 3339 can write.
const maxUnixSeconds = 253402300799

// parseTimestamp reads the time of a message from its name; the zero time when there is
// none in it, or none that can be written down.
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

// externalID names a person: ids of users are only unique together with their team.
func externalID(team, user string) string {
	if !isID(team) || !isUserID(user) {
		return ""
	}
	return team + ":" + user
}
