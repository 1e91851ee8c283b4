//go:build unix

package harness

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"io"
	"maps"
	"net/url"
	"slices"
)

// The signatures are implemented here a second time, as the providers document them, so that the
// tests do not depend on the adapters.

// TwilioSignature returns the signature of a form that is posted to u.
func TwilioSignature(token, u string, form url.Values) string {
	mac := hmac.New(sha1.New, []byte(token))
	_, _ = io.WriteString(mac, u)
	for _, key := range slices.Sorted(maps.Keys(form)) {
		for _, v := range slices.Compact(slices.Sorted(slices.Values(form[key]))) {
			_, _ = io.WriteString(mac, key+v)
		}
	}
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// SlackSignature returns the signature of a body.
func SlackSignature(secret, timestamp, body string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = io.WriteString(mac, "v0:"+timestamp+":"+body)
	return "v0=" + hex.EncodeToString(mac.Sum(nil))
}
