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

// signed reports whether one of tokens signed form for the configured URL u. The
// Host of the request and what proxies say of it play no part.
func signed(signature string, tokens []string, u string, form url.Values) bool {
	fields := signedText(form)
	good := 0
	for _, token := range tokens {
		for _, spelling := range spellings(u) {
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

// spellings gives u with and without its port, because Twilio is inconsistent
// about which of the two it signs (its own libraries try both).
func spellings(u string) []string {
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
