package sms

import (
	"strings"

	"hydragate/adapters"
)

const whatsAppPrefix = "whatsapp:"

// Why an address is nobody's proof, for Message.Unproven.
const (
	anonymous    = "anonymous"     // the caller withheld the number
	shortCode    = "short_code"    // a service, not a person
	alphanumeric = "alphanumeric"  // a name anybody may set
	scopedID     = "scoped_id"     // WhatsApp hides the number
	otherChannel = "other_channel" // a Messaging Service mixes channels
)

// parseSender reads a From. It gives the address to which answers go, and why it
// proves nobody when it does not; ok is false when Twilio never sends such a value,
// as when a signed text was cut anew to make another From of it.
func (a Adapter) parseSender(from string) (id, unproven string, ok bool) {
	scheme, rest, found := strings.Cut(from, ":")
	if !found {
		scheme, rest = "", from
	}
	switch {
	case a.Name == adapters.WhatsApp && scheme == "whatsapp":
		return parseWhatsAppSender(rest)
	case a.Name == adapters.SMS && scheme == "":
		return parseSMSSender(rest)
	case scheme == "" || scheme == "whatsapp" || scheme == "messenger" || scheme == "rcs":
		if _, _, known := parseSMSSender(rest); known || isScopedID(rest) {
			return from, otherChannel, true
		}
	}
	return "", "", false
}

// stripMexicanMobilePrefix gives an address as identities are stored: a number of Mexico without the 1
// that WhatsApp still puts into it. Answers go to the number with it.
func stripMexicanMobilePrefix(address string) string {
	if national, ok := strings.CutPrefix(address, "+521"); ok && len(national) == 10 && national[0] != '0' && allBytes(national, isDigit) {
		return "+52" + national
	}
	return address
}

func parseSMSSender(from string) (id, unproven string, ok bool) {
	switch {
	case from == "" || isWithheldNumber(from):
		return from, anonymous, true
	case isE164(from):
		return from, "", true
	case len(from) >= 3 && len(from) <= 8 && allBytes(from, isDigit):
		return from, shortCode, true
	case isAlphanumericSender(from):
		return from, alphanumeric, true
	}
	return "", "", false
}

func parseWhatsAppSender(from string) (id, unproven string, ok bool) {
	switch {
	case isE164(from):
		return from, "", true
	case isScopedID(from):
		return from, scopedID, true
	}
	return "", "", false
}

// isE164 reports whether s is an E.164 number, as Twilio spells them.
func isE164(s string) bool {
	digits, plus := strings.CutPrefix(s, "+")
	return plus && len(digits) >= 7 && len(digits) <= 15 && digits[0] != '0' && allBytes(digits, isDigit)
}

// isWithheldNumber reports whether s stands for a number the caller withheld: Twilio
// spells ANONYMOUS, RESTRICTED, BLOCKED, UNKNOWN and UNAVAILABLE on a phone's keys.
func isWithheldNumber(s string) bool {
	switch s {
	case "+266696687", "+7378742833", "+2562533", "+8656696", "+86282452253":
		return true
	}
	return false
}

// isAlphanumericSender reports whether s is a sender's name such as "ACME Shop".
func isAlphanumericSender(s string) bool {
	return len(s) >= 1 && len(s) <= 15 && isAlnum(s[0]) &&
		allBytes(s, func(c byte) bool { return isAlnum(c) || strings.IndexByte(" _&.+-", c) >= 0 })
}

// isScopedID reports whether s is WhatsApp's id of a person for one business: a
// country, a dot and letters or digits.
func isScopedID(s string) bool {
	country, id, found := strings.Cut(s, ".")
	return found && len(country) == 2 && allBytes(country, isAlnum) && len(id) >= 1 && len(id) <= 128 && allBytes(id, isAlnum)
}

// isSID reports whether s is a Twilio id with this prefix. Only such a string may
// become part of a path.
func isSID(s, prefix string) bool {
	hex, found := strings.CutPrefix(s, prefix)
	return found && isHex32(hex)
}

// isResourceID reports whether s is an id that Twilio itself gave us in an answer: safe in a
// path, and taken as it is.
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
