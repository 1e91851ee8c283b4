package sms

import (
	"strings"

	"hydragate/adapters"
)

const (
	whatsAppPrefix = "whatsapp:"
	rcsPrefix      = "rcs:" // a Messaging Service sends and receives RCS with the numbers of SMS
)

// parseSender parses a From parameter. It returns the address for replies, and the reason if the
// address does not identify a person. ok is false if Twilio never sends such a value, as when a
// signed text was split differently to forge another From.
func (a Adapter) parseSender(from string) (id string, unproven adapters.UnprovenReason, ok bool) {
	scheme, rest, found := strings.Cut(from, ":")
	if !found {
		scheme, rest = "", from
	}
	switch {
	case a.Name == adapters.WhatsApp && scheme == "whatsapp":
		if isE164(rest) || isUserID(rest) {
			return rest, "", true
		}
	case a.Name == adapters.SMS && scheme == "":
		return parseSMSSender(rest)
	case a.Name == adapters.SMS && scheme == "rcs" && isE164(rest):
		return rest, "", true
	case scheme == "" || isSenderScheme(scheme):
		if scheme == "" {
			from = "sms:" + from
		}
		if _, _, known := parseSMSSender(rest); known || isUserID(rest) {
			return from, adapters.UnprovenOtherChannel, true
		}
	case isOtherScheme(scheme) && len(rest) >= 1 && len(rest) <= 128 && allBytes(rest, isAddressByte):
		return from, adapters.UnprovenOtherChannel, true
	}
	return "", "", false
}

// isOtherScheme reports whether Twilio may write scheme before senders of a channel that it adds later.
func isOtherScheme(scheme string) bool {
	return len(scheme) >= 2 && len(scheme) <= 32 && !isDigit(scheme[0]) &&
		allBytes(scheme, func(c byte) bool { return isDigit(c) || c >= 'a' && c <= 'z' })
}

// isAddressByte reports whether c may be in an address of such a channel.
func isAddressByte(c byte) bool { return isAlnum(c) || strings.IndexByte("_.+@:-", c) >= 0 }

func parseSMSSender(from string) (id string, unproven adapters.UnprovenReason, ok bool) {
	switch {
	case from == "" || isWithheldNumber(from):
		return from, adapters.UnprovenAnonymous, true
	case isE164(from):
		return from, "", true
	case len(from) >= 3 && len(from) <= 8 && allBytes(from, isDigit):
		return from, adapters.UnprovenShortCode, true
	case isAlphanumericSender(from):
		return from, adapters.UnprovenAlphanumeric, true
	}
	return "", "", false
}

// isE164 reports whether s is an E.164 number as Twilio writes it.
func isE164(s string) bool {
	digits, plus := strings.CutPrefix(s, "+")
	return plus && len(digits) >= 7 && len(digits) <= 15 && digits[0] != '0' && allBytes(digits, isDigit)
}

// isWithheldNumber reports whether s stands for a withheld number. Twilio encodes ANONYMOUS,
// RESTRICTED, BLOCKED, UNKNOWN and UNAVAILABLE as digits of a phone's keypad.
func isWithheldNumber(s string) bool {
	switch s {
	case "+266696687", "+7378742833", "+2562533", "+8656696", "+86282452253":
		return true
	}
	return false
}

// isAlphanumericSender reports whether s is an alphanumeric sender ID such as "ACME Shop".
func isAlphanumericSender(s string) bool {
	return len(s) >= 1 && len(s) <= 15 && isAlnum(s[0]) &&
		allBytes(s, func(c byte) bool { return isAlnum(c) || strings.IndexByte(" _&.+-", c) >= 0 })
}

// isUserID reports whether s is one of WhatsApp's IDs of a person: a country code, a dot, and letters or
// digits, as in US.13491208655302741918. That of a parent business has ENT. before the letters.
func isUserID(s string) bool {
	country, id, found := strings.Cut(s, ".")
	id = strings.TrimPrefix(id, "ENT.")
	return found && len(country) == 2 && allBytes(country, isAlnum) &&
		len(id) >= 1 && len(id) <= 128 && allBytes(id, isAlnum)
}

// isSID reports whether s is a Twilio SID with this prefix. Input must pass it before it becomes
// part of a path.
func isSID(s, prefix string) bool {
	hex, found := strings.CutPrefix(s, prefix)
	return found && isHex32(hex)
}

// isResourceID reports whether s, taken from a response of Twilio, is an ID with this prefix that is
// safe in a path. It is less strict than isSID, since servers compatible with Twilio's API may use
// other IDs.
func isResourceID(s, prefix string) bool {
	return strings.HasPrefix(s, prefix) && len(s) > len(prefix) && len(s) <= 64 && allBytes(s, isAlnum)
}

func isSentMessageID(s string) bool { return isResourceID(s, "SM") || isResourceID(s, "MM") }

func isMessageSID(s string) bool { return isSID(s, "SM") || isSID(s, "MM") }

func isHex32(s string) bool {
	return len(s) == 32 && allBytes(s, func(c byte) bool {
		return isDigit(c) || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
	})
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isAlnum(c byte) bool { return isDigit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

func allBytes(s string, allowed func(byte) bool) bool {
	for i := range len(s) {
		if !allowed(s[i]) {
			return false
		}
	}
	return true
}
