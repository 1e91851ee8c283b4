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

// isAmbiguous reports whether a signed text may have been another message when Twilio signed it.
//
// The text has no separators between keys and values. If a person writes
// "…From+15550001111MessageSidSM…", an attacker who captures the request can split the text into
// other fields with the same signature. However it is split, the sender and the SID that Twilio
// signed are still in it, before the keys that follow them. If they differ from those of the form,
// the form may not be the one that Twilio signed.
//
// Such a message is rejected. FetchLog reads the genuine one from the log, which has fields.
func isAmbiguous(signedText, from, sid string) bool {
	for rest := range tailsAfter(signedText, "From") {
		if other, ok := leadingSender(rest); ok && other != from {
			return true
		}
	}
	text := strings.ReplaceAll(signedText, "OriginalRepliedMessageSid", "")
	for rest := range tailsAfter(text, "MessageSid") {
		if len(rest) >= len(sid) && isMessageSID(rest[:len(sid)]) && rest[:len(sid)] != sid {
			return true
		}
	}
	return false
}

// leadingSender returns the sender with which s begins. ok is false if s does not begin with a
// possible sender followed by the name of a parameter that Twilio signs after From.
func leadingSender(s string) (sender string, ok bool) {
	for _, suffix := range []string{"City", "Country", "State", "Zip"} {
		if strings.HasPrefix(s, suffix) {
			return "", false // the parameter is FromCity and so on
		}
	}
	end := -1
	for _, next := range []string{
		"FromCity", "FromCountry", "FromState", "FromZip", "Interactive", "Label", "Latitude",
		"ListId", "ListTitle", "Longitude", "MediaContentType0", "MediaUrl0", "MessageSid", "MessageType",
	} {
		if i := strings.Index(s, next); i >= 0 && (end < 0 || i < end) {
			end = i
		}
	}
	if end < 0 {
		return "", false
	}
	sender = s[:end]
	bare := strings.TrimPrefix(sender, whatsAppPrefix)
	_, _, known := parseSMSSender(bare)
	return sender, (known || isScopedID(bare)) && !strings.Contains(sender, "From")
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
