package sms

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"io"
	"iter"
	"maps"
	"net/url"
	"slices"
	"strings"
	"unicode"
)

// isSigned reports whether signature is the signature of form for the configured URL u with one of
// tokens. The Host of the request and the headers of proxies are not used.
//
// twilio-go's client.RequestValidator is not used, because it is wrong in these cases, which
// TestRequestValidator_Differences covers:
//   - It checks only the first value of a repeated parameter, while Twilio signs all values. So it
//     rejects a genuine request, and accepts a captured request with added values.
//   - It removes the port of an IPv6 address incorrectly, and so rejects a genuine request.
//   - It re-encodes the URL when it adds or removes a port, and so rejects a genuine request for a
//     path with a character that net/url escapes.
//   - With an empty token it accepts a signature made with the empty key.
func isSigned(signature string, tokens []string, u string, form url.Values) bool {
	fields := signedText(form)
	matches := 0
	for _, token := range tokens {
		for _, variant := range urlVariants(u) {
			if hmac.Equal([]byte(signature), []byte(sign(token, variant, fields))) {
				matches++
			}
		}
	}
	return matches > 0
}

// sign returns Twilio's X-Twilio-Signature of a URL followed by fields.
func sign(token, u, fields string) string {
	m := hmac.New(sha1.New, []byte(token))
	_, _ = io.WriteString(m, u)
	_, _ = io.WriteString(m, fields)
	return base64.StdEncoding.EncodeToString(m.Sum(nil))
}

// signedText returns what Twilio signs of a form: each key with each of its distinct values,
// sorted by bytes, without separators.
func signedText(form url.Values) string {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(form)) {
		for _, value := range slices.Compact(slices.Sorted(slices.Values(form[key]))) {
			b.WriteString(key)
			b.WriteString(value)
		}
	}
	return b.String()
}

// urlVariants returns u with and without its port. Twilio is inconsistent about which of the two
// it signs, and its own libraries try both.
func urlVariants(u string) []string {
	p, err := url.Parse(u)
	if err != nil || p.Host == "" {
		return []string{u}
	}
	other := p.Host
	switch port := p.Port(); {
	case port != "":
		other = strings.TrimSuffix(p.Host, ":"+port)
	case p.Scheme == "https":
		other += ":443"
	default:
		other += ":80"
	}
	scheme, rest, _ := strings.Cut(u, "//")
	return []string{u, scheme + "//" + strings.Replace(rest, p.Host, other, 1)}
}

// isAmbiguous reports whether the signed text of a form may have been the message of another person,
// or another message, when Twilio signed it.
//
// The text has no separators between keys and values. If a person writes
// "…From+15550001111MessageSidSM…", an attacker who captures the request can split the text into
// other fields with the same signature. However it is split, the sender and the SID that Twilio
// signed are still in it, before the keys that follow them. If they differ from those of the form,
// the form may not be the one that Twilio signed.
//
// Only senders that can prove someone count. Names and short codes are spelled like words, and
// people, places and new parameters of Twilio contain "From" as well. A split that hides one still
// has the SID of the signed message, so it can at most replace that message.
//
// Such a form is rejected. FetchLog reads the genuine message from the log, which has fields.
func isAmbiguous(form url.Values) bool {
	text, from, sid := signedText(form), form.Get("From"), form.Get("MessageSid")
	for rest := range tailsAfter(text, "From") {
		if after, found := strings.CutPrefix(rest, from); found && startsParameterAfterFrom(after) {
			continue
		}
		after, ok := cutPerson(rest)
		if ok && startsParameterAfterFrom(after) && !strings.HasPrefix(after, "From"+from) {
			return true
		}
	}
	others := 0
	for rest := range tailsAfter(text, "MessageSid") {
		if len(rest) >= len(sid) && isMessageSID(rest[:len(sid)]) && rest[:len(sid)] != sid {
			others++
		}
	}
	return others > countOtherSIDs(form)
}

// cutPerson returns what follows the sender with which s begins. ok is false if s does not begin with
// a sender that can prove someone.
func cutPerson(s string) (after string, ok bool) {
	scheme, bare, found := strings.Cut(s, ":")
	switch {
	case !found || !isSenderScheme(scheme):
		bare = s
	case len(bare) > 4 && isUserID(bare[:4]): // the end of such an ID cannot be distinguished from what follows
		return "MessageSid", true
	}
	digits, plus := strings.CutPrefix(bare, "+")
	after = strings.TrimLeft(digits, "0123456789")
	return after, plus && isE164(bare[:len(bare)-len(after)])
}

// isSenderScheme reports whether Twilio writes scheme and a colon before senders of other channels.
func isSenderScheme(scheme string) bool {
	return scheme == "whatsapp" || scheme == "messenger" || scheme == "rcs"
}

// startsParameterAfterFrom reports whether s can begin with the name of a parameter that Twilio signs
// after From, at the latest MessageSid. Parameters are sorted by their names, and there may be new
// ones.
func startsParameterAfterFrom(s string) bool {
	end := strings.IndexFunc(s, func(r rune) bool {
		return r > unicode.MaxASCII || !isAlnum(byte(r)) //nolint:gosec // checked to be ASCII
	})
	if end < 0 {
		end = len(s)
	}
	return s[:end] > "From" && s[:1] <= "M"
}

// countOtherSIDs returns how many fields are the SID of another message, such as
// OriginalRepliedMessageSid. Their names consist of letters: a name with digits may be the rest of a
// value. SmsMessageSid is another name of MessageSid.
func countOtherSIDs(form url.Values) int {
	n := 0
	for name := range form {
		isName := strings.HasSuffix(name, "MessageSid") && name != "MessageSid" && name != "SmsMessageSid" &&
			allBytes(name, func(c byte) bool { return isAlnum(c) && !isDigit(c) })
		if isName && isMessageSID(form.Get(name)) && form.Get(name) != form.Get("MessageSid") {
			n++
		}
	}
	return n
}

// tailsAfter iterates over the parts of s that follow each occurrence of mark.
func tailsAfter(s, mark string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, rest, found := strings.Cut(s, mark); found; _, rest, found = strings.Cut(rest, mark) {
			if !yield(rest) {
				return
			}
		}
	}
}
