package sms

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// isSigned reports whether one of tokens signed form for the configured URL u. The
// Host of the request and what proxies say of it play no part.
func isSigned(signature string, tokens []string, u string, form url.Values) bool {
	fields := signedText(form)
	good := 0
	for _, token := range tokens {
		for _, spelling := range urlVariants(u) {
			if hmac.Equal([]byte(signature), []byte(sign(token, spelling, fields))) {
				good++
			}
		}
	}
	return good > 0
}

// sign is Twilio's X-Twilio-Signature of a URL and the fields after it.
func sign(token, u, fields string) string {
	m := hmac.New(sha1.New, []byte(token))
	_, _ = io.WriteString(m, u)
	_, _ = io.WriteString(m, fields)
	return base64.StdEncoding.EncodeToString(m.Sum(nil))
}

// signedText is what Twilio signs of a form: each key with each of its distinct
// values, sorted by bytes, with nothing between them.
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

// urlVariants gives u with and without its port, because Twilio is inconsistent
// about which of the two it signs (its own libraries try both).
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
	return []string{u, strings.Replace(u, p.Host, other, 1)}
}

// isAmbiguous reports whether a signed text may have been another message when
// Twilio signed it. Nothing stands between keys and values in it, so a person who
// writes "…From+15550001111MessageSidSM…" makes a text that whoever captures the
// request can cut into other fields under the same signature. However it is cut, the
// sender and the SID that Twilio put in are still there, before the keys that follow
// them: when they are not the ones that were read, the reading is not Twilio's.
//
// Such a message is refused, not guessed at; Sweep reads the log, where nothing can
// be cut, and brings the genuine one.
func isAmbiguous(signedText, from, sid string) bool {
	for rest := range tailsAfter(signedText, "From") {
		if other, ok := leadingSender(rest); ok && other != from {
			return true
		}
	}
	texts := strings.ReplaceAll(signedText, "OriginalRepliedMessageSid", "")
	for rest := range tailsAfter(texts, "MessageSid") {
		if len(rest) >= len(sid) && isMessageSID(rest[:len(sid)]) && rest[:len(sid)] != sid {
			return true
		}
	}
	return false
}

// leadingSender gives what s begins with, if it can be a sender and a parameter that
// follows From in Twilio's order comes next.
func leadingSender(s string) (sender string, ok bool) {
	for _, part := range []string{"City", "Country", "State", "Zip"} {
		if strings.HasPrefix(s, part) {
			return "", false // where the sender is, not who
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

// tailsAfter gives what follows each mark in s.
func tailsAfter(s, mark string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for _, rest, found := strings.Cut(s, mark); found; _, rest, found = strings.Cut(rest, mark) {
			if !yield(rest) {
				return
			}
		}
	}
}
