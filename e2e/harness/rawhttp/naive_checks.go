//go:build unix

package rawhttp

import (
	"bufio"
	"io"
	"net/http"
	"net/url"
	"strings"

	"hydragate/e2e/harness"
)

// PassesNaiveChecks reports whether a request passes common but insufficient checks: the URL is built
// from the request, only the first of several values counts, an instance without a key accepts
// everything, and timestamps are ignored. It is the control of the forged requests: one that naive
// checks accept is realistic.
func (h *WebhookFixture) PassesNaiveChecks(p *RawRequest) bool {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(p.Encode())))
	if err != nil {
		return false
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return false
	}
	accounts, found := h.naiveInstance(r.URL.Path)
	if !found {
		return false
	}
	switch channel, _ := SplitKind(p.Unsigned.Kind); channel {
	case "telegram":
		return strings.HasPrefix(r.Header.Get(TelegramSecretHeader), accounts.TelegramSecret)
	case "slack":
		want := harness.SlackSignature(accounts.SigningSecret, r.Header.Get(SlackTimestampHeader), string(body))
		return strings.EqualFold(r.Header.Get(SlackSignatureHeader), want)
	}
	form, _ := url.ParseQuery(string(body))
	for name, values := range form {
		form[name] = values[:1]
	}
	host, scheme := r.Host, "https"
	if forwarded := r.Header.Get("X-Forwarded-Host"); forwarded != "" {
		host = forwarded
	}
	if forwarded := r.Header.Get("X-Forwarded-Proto"); forwarded != "" {
		scheme = forwarded
	}
	want := harness.TwilioSignature(accounts.AuthToken, scheme+"://"+host+r.URL.RequestURI(), form)
	return r.Header.Get(TwilioSignatureHeader) == want
}

// naiveInstance returns the instance whose ID occurs in the path, whatever else the path contains.
func (h *WebhookFixture) naiveInstance(path string) (InstanceAccounts, bool) {
	for _, s := range []InstanceAccounts{h.Acme, h.Neighbor, h.OtherAccount, h.Keyless} {
		if strings.Contains(strings.ToLower(path), s.InstanceID) {
			return s, true
		}
	}
	return InstanceAccounts{}, false
}
