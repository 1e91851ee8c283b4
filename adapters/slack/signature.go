package slack

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"time"

	"hydragate/adapters"
)

// An event about an edit contains the text up to four times, in which JSON writes a character in up to
// twelve bytes. Slack announces the length of what it sends; a body of unknown length, which anyone can
// send, is read only as far as most events need.
const (
	maxBody        = 2560 << 10
	maxUnknownBody = 512 << 10
	maxSkew        = 300 * time.Second

	signatureHeader = "X-Slack-Signature"
	timestampHeader = "X-Slack-Request-Timestamp"
)

// authenticate returns the raw body of r if Slack signed it with a signing secret of ep within the
// last five minutes. It checks the headers before it reads the body.
func (a *Adapter) authenticate(r *http.Request, ep adapters.Endpoint) ([]byte, error) {
	secrets := ep.Current(adapters.SigningSecret)
	if len(secrets) == 0 {
		return nil, adapters.ErrNoKey
	}
	if r.Method != http.MethodPost || r.URL.RawQuery != "" || r.URL.ForceQuery {
		return nil, adapters.ErrForged
	}
	signature, timestamp := singleHeader(r.Header, signatureHeader), singleHeader(r.Header, timestampHeader)
	if len(signature) != len("v0=")+hex.EncodedLen(sha256.Size) {
		return nil, adapters.ErrForged
	}
	if !a.isFresh(timestamp) {
		return nil, adapters.ErrStale
	}
	limit := maxBody
	if r.ContentLength < 0 {
		limit = maxUnknownBody
	}
	body, err := adapters.ReadBody(r, limit)
	if err != nil {
		return nil, err
	}
	genuine := false
	for _, secret := range secrets {
		if hmac.Equal([]byte(sign(secret, timestamp, body)), []byte(signature)) {
			genuine = true
		}
	}
	if !genuine {
		return nil, adapters.ErrForged
	}
	if len(body) == 0 {
		return nil, adapters.ErrMalformed
	}
	return body, nil
}

// sign returns Slack's signature, version 0, in lower-case hexadecimal.
func sign(secret, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte("v0:" + timestamp + ":"))
	mac.Write(body)
	return "v0=" + hex.EncodeToString(mac.Sum(nil))
}

// isFresh reports whether timestamp is a decimal number of seconds close to the current time.
func (a *Adapter) isFresh(timestamp string) bool {
	if timestamp == "" || len(timestamp) > 12 || !allBytes(timestamp, isDigit) {
		return false
	}
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return false
	}
	skew := a.now().Unix() - seconds
	return skew <= int64(maxSkew/time.Second) && -skew <= int64(maxSkew/time.Second)
}

// singleHeader returns the value of a header that occurs exactly once.
func singleHeader(h http.Header, name string) string {
	if vs := h.Values(name); len(vs) == 1 {
		return vs[0]
	}
	return ""
}
