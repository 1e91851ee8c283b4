package sms

import (
	"net/url"
	"testing"

	"github.com/twilio/twilio-go/client"

	"hydragate/adapters"
)

// The example of Twilio's documentation.
func TestSign_KnownVector(t *testing.T) {
	form := url.Values{
		"Digits": {"1234"}, "CallSid": {"CA1234567890ABCDE"}, "To": {"+18005551212"}, "Caller": {"+14158675309"},
		"From": {"+14158675309"}, "ReasonConferenceEnded": {"test"}, "Reason": {"Participant"},
	}
	const u, want = "https://mycompany.com/myapp.php?foo=1&bar=2", "vOEb5UThFn24KEfnOFLQY2AE5FY="
	if got := sign("12345", u, signedText(form)); got != want {
		t.Errorf("sign(%q) = %s, want %s", u, got, want)
	}
	if got, want := signedText(url.Values{"A": {"y", "x", "x"}, "B": {""}}), "AxAyB"; got != want {
		t.Errorf("signedText of repeated values = %q, want %q", got, want)
	}
}

// twilioAccepts reports whether twilio-go accepts a signature of form.
func twilioAccepts(token, u string, form url.Values, signature string) bool {
	v := client.NewRequestValidator(token)
	return v.ValidateBody(u, []byte(form.Encode()), signature)
}

// isSigned and client.RequestValidator agree on requests as Twilio sends them.
func TestIsSigned_MatchesRequestValidator(t *testing.T) {
	form, err := url.ParseQuery(testForm("Body", "Grüße & +1", "FromCity", "", "FromCountry", "US", "ZZ.New", "x"))
	if err != nil {
		t.Fatal(err)
	}
	const (
		host  = "https://gateway.example/hooks/sms/one"
		port  = "https://gateway.example:8443/hooks/sms/one"
		https = "https://gateway.example:443/hooks/sms/one"
		query = "https://gateway.example/hooks/sms/one?a=1&b=%2f"
		plain = "http://gateway.example/hooks/sms/one"
		http  = "http://gateway.example:80/hooks/sms/one"
		ipv6  = "https://[2001:db8::1]:8443/hooks/sms/one"
		other = "https://gateway.example/hooks/sms/two"
	)
	for name, c := range map[string]struct {
		configured, signed string
		token              string
		want               bool
	}{
		"same URL":              {host, host, testAuthToken, true},
		"same port":             {port, port, testAuthToken, true},
		"port removed":          {port, host, testAuthToken, true},
		"https port added":      {host, https, testAuthToken, true},
		"http port added":       {plain, http, testAuthToken, true},
		"query":                 {query, query, testAuthToken, true},
		"IPv6 address and port": {ipv6, ipv6, testAuthToken, true},
		"other port":            {host, port, testAuthToken, false},
		"other scheme":          {host, plain, testAuthToken, false},
		"other path":            {host, other, testAuthToken, false},
		"other token":           {host, host, "00000000000000000000000000000000", false},
	} {
		t.Run(name, func(t *testing.T) {
			signature := sign(c.token, c.signed, signedText(form))
			if got := isSigned(signature, []string{testAuthToken}, c.configured, form); got != c.want {
				t.Errorf("isSigned(%q signed for %q) = %v, want %v", c.configured, c.signed, got, c.want)
			}
			if got := twilioAccepts(testAuthToken, c.configured, form, signature); got != c.want {
				t.Errorf("RequestValidator(%q signed for %q) = %v, want %v", c.configured, c.signed, got, c.want)
			}
		})
	}
	signature := sign(testAuthToken, host, signedText(form))
	form.Set("Body", "changed")
	if isSigned(signature, []string{testAuthToken}, host, form) ||
		twilioAccepts(testAuthToken, host, form, signature) {
		t.Error("a form changed after signing is accepted")
	}
}

// Each case is a reason why isSigned does not use client.RequestValidator. If one of these tests
// fails after an update of twilio-go, the reason no longer applies.
func TestRequestValidator_Differences(t *testing.T) {
	const host = "https://gateway.example/hooks/sms/one"
	one, two := url.Values{"A": {"x"}}, url.Values{"A": {"x", "y"}}
	for name, c := range map[string]struct {
		token                  string
		configured, signed     string
		signedForm, sent       url.Values
		wantTwilio, wantSigned bool
	}{
		"repeated parameter rejected": {
			testAuthToken, host, host, two, two, false, true,
		},
		"value added after signing accepted": {
			testAuthToken, host, host, one, two, true, false,
		},
		"IPv6 port not removed": {
			testAuthToken, "https://[2001:db8::1]:8443/h", "https://[2001:db8::1]/h", one, one, false, true,
		},
		"path re-encoded": {
			testAuthToken, "https://gateway.example/a|b", "https://gateway.example:443/a|b", one, one, false, true,
		},
		"empty token accepted": {
			"", host, host, one, one, true, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			signature := sign(c.token, c.signed, signedText(c.signedForm))
			tokens := adapters.Credentials{adapters.AuthToken: c.token}.Current(adapters.AuthToken)
			if got := isSigned(signature, tokens, c.configured, c.sent); got != c.wantSigned {
				t.Errorf("isSigned(%q signed for %q) = %v, want %v", c.configured, c.signed, got, c.wantSigned)
			}
			if got := twilioAccepts(c.token, c.configured, c.sent, signature); got != c.wantTwilio {
				t.Errorf("RequestValidator(%q signed for %q) = %v, want %v", c.configured, c.signed, got, c.wantTwilio)
			}
		})
	}
}
