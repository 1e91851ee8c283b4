package sms

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hydragate/adapters"
	"hydragate/adapters/adaptertest"
)

// maxReceiveTime is more than Receive may take for any request.
const maxReceiveTime = 30 * time.Second

// Every form with a valid signature is one message or receipt that can be stored, and the same one
// every time. Only phone numbers identify a person.
func FuzzReceive(f *testing.F) {
	for _, folder := range []string{"main", "status"} {
		files, err := filepath.Glob("testdata/" + folder + "/*.form")
		if err != nil || len(files) == 0 {
			f.Fatal("no recorded forms", err)
		}
		for _, file := range files {
			body, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(folder == "status", strings.TrimRight(string(body), "\n"))
		}
	}
	f.Fuzz(func(t *testing.T, status bool, body string) {
		if _, err := url.ParseQuery(body); err != nil {
			return // newRequest needs a form to sign; TestAdapter covers bodies that are not forms
		}
		webhook := ""
		if status {
			webhook = statusWebhook
		}
		for _, ch := range []adapters.Channel{adapters.SMS, adapters.WhatsApp} {
			a, ep := Adapter{Name: ch}, endpoint(ch)
			start := time.Now()
			in, err := a.Receive(genuineRequest(ep, webhook, []byte(body)), ep, webhook)
			if took := time.Since(start); took > maxReceiveTime {
				t.Errorf("Receive of %d bytes took %v, want at most %v", len(body), took, maxReceiveTime)
			}
			if err != nil {
				allowed := []error{adapters.ErrForged, adapters.ErrMalformed, adapters.ErrTooLarge}
				if !slices.ContainsFunc(allowed, func(want error) bool { return errors.Is(err, want) }) {
					t.Errorf("Receive error = %v, want one of %v", err, allowed)
				}
				continue
			}
			adaptertest.CheckInbound(t, in)
			for _, m := range in.Messages {
				if m.UnprovenReason == "" && !isE164(m.Sender.ID) {
					t.Errorf("UnprovenReason of sender %q is empty, want a reason", m.Sender.ID)
				}
			}
			second, err := a.Receive(genuineRequest(ep, webhook, []byte(body)), ep, webhook)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(in.Messages, second.Messages) {
				t.Errorf("Receive of the same request returns another message (-first +second):\n%s",
					cmp.Diff(in.Messages, second.Messages))
			}
		}
	})
}

// isSigned agrees with an implementation that follows Twilio's documentation, for the configured URL
// with or without its port.
func FuzzSignature(f *testing.F) {
	f.Add("", "Body=hi&From=%2B14155550101", testAuthToken, testWebhookURL)
	f.Add("vOEb5UThFn24KEfnOFLQY2AE5FY=",
		"Digits=1234&To=%2B18005551212&From=%2B14158675310&Caller=%2B14158675310&CallSid=CA1234567890ABCDE",
		"12345", "https://mycompany.com/myapp.php?foo=1&bar=2")
	f.Add("x", "a=1&a=2", "", "http://[::1]:8080/h")
	f.Fuzz(func(t *testing.T, signature, body, token, u string) {
		form, err := url.ParseQuery(body)
		if err != nil {
			return
		}
		tokens := []string{token}
		valid := referenceSignature(token, u, form)
		if !isSigned(valid, tokens, u, form) {
			t.Errorf("isSigned(%q) = false, want true", valid)
		}
		if isSigned(valid+"=", tokens, u, form) {
			t.Errorf("isSigned(%q) = true, want false", valid+"=")
		}
		if isSigned(valid, nil, u, form) {
			t.Errorf("isSigned(%q) without tokens = true, want false", valid)
		}
		if lower := strings.ToLower(valid); lower != valid && isSigned(lower, tokens, u, form) {
			t.Errorf("isSigned(%q) = true, want false", lower)
		}
		if !isSigned(signature, tokens, u, form) {
			return
		}
		p, err := url.Parse(u)
		for _, variant := range []string{
			u,
			strings.Replace(u, p.Host, p.Host+":443", 1),
			strings.Replace(u, p.Host, p.Host+":80", 1),
			strings.Replace(u, ":"+p.Port(), "", 1),
		} {
			if err == nil && signature == referenceSignature(token, variant, form) {
				return
			}
		}
		t.Errorf("isSigned(%q) for %q = true, want false", signature, u)
	})
}

// referenceSignature computes X-Twilio-Signature as Twilio documents it.
func referenceSignature(token, u string, form url.Values) string {
	mac := hmac.New(sha1.New, []byte(token))
	mac.Write([]byte(u))
	for _, key := range slices.Sorted(maps.Keys(form)) {
		for _, value := range slices.Compact(slices.Sorted(slices.Values(form[key]))) {
			mac.Write([]byte(key + value))
		}
	}
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// The text that Twilio signs has no separators, so it can be split into other fields. Whatever a
// person wrote to prepare it, no split is accepted as another message or as that of another sender.
func FuzzAmbiguousSplit(f *testing.F) {
	f.Add("hello", "", uint64(0))
	f.Add("hello From+14155559999", "", uint64(0b11))
	f.Add("hello From+14155559999FromCity", "Paris", uint64(0b1111))
	f.Add("x From+14155559999MessageSidSM00000000000000000000000000000009", "", uint64(0b10111))
	f.Add("xFrom+14155559999FromCity", "xMessageSidSM00000000000000000000000000000009NumMedia", ^uint64(0))
	f.Add("From+14155559999FromCityToTo+15005550006", "From", uint64(0b1010101))
	f.Add("xFrom+14155559999MessageSidSM00000000000000000000000000000009N", "Z", ^uint64(0))
	f.Add("xFrom+14155559999FromCarrier", "yFromCarrier", ^uint64(0b100))
	f.Fuzz(func(t *testing.T, body, city string, splits uint64) {
		const sid = "SM00000000000000000000000000000001"
		form := url.Values{
			"AccountSid": {testAccountSID}, "From": {steve}, "To": {testNumber},
			"MessageSid": {sid}, "SmsSid": {sid}, "SmsMessageSid": {sid}, "FromCarrier": {"x"},
			"Body": {body}, "FromCity": {city}, "FromCountry": {"US"}, "NumMedia": {"0"}, "ProfileName": {body},
			"ApiVersion": {"2010-04-01"},
		}
		forged, ok := splitText(signedText(form), splits)
		if !ok {
			return
		}
		for _, ch := range []adapters.Channel{adapters.SMS, adapters.WhatsApp} {
			a, ep := Adapter{Name: ch}, endpoint(ch)
			in, err := a.Receive(genuineRequest(ep, "", []byte(forged.Encode())), ep, "")
			if err != nil {
				continue
			}
			if m := in.Messages[0]; m.Sender.ID != steve || m.ProviderID != sid {
				t.Errorf("Receive(%q) = message %s of %s, want %s of %s or an error",
					forged, m.ProviderID, m.Sender.ID, sid, steve)
			}
		}
	})
}

// splitText splits a signed text into fields at parameter names. Bit i of splits says whether the
// i-th name in the text begins a field. ok is false if the form does not have the same signed text.
func splitText(text string, splits uint64) (form url.Values, ok bool) {
	names := []string{
		"FromCarrier", "FromCity", "FromCountry", "From", "AccountSid", "ApiVersion", "Body", "Label", "MessageSid",
		"NumMedia", "NMessageSid", "ParentMessageSid", "ProfileName", "SmsMessageSid", "SmsSid", "To", "Z",
	}
	type position struct {
		offset int
		name   string
	}
	var chosen []position
	found := 0
	for offset := range len(text) {
		for _, name := range names {
			if !strings.HasPrefix(text[offset:], name) {
				continue
			}
			if found < 64 && splits&(1<<found) != 0 {
				chosen = append(chosen, position{offset, name})
			}
			found++
			break
		}
	}
	form = url.Values{}
	for i, p := range chosen {
		end := len(text)
		if i+1 < len(chosen) {
			end = chosen[i+1].offset
		}
		if start := p.offset + len(p.name); start <= end {
			form.Add(p.name, text[start:end])
		}
	}
	return form, len(form) > 0 && signedText(form) == text
}

// A sender that identifies a person is a phone number or WhatsApp's ID of a user, never the address of
// another channel.
func FuzzSender(f *testing.F) {
	for _, from := range []string{
		steve, "whatsapp:" + steve, "whatsapp:US.abc", "72975", "ACME Shop", "", "+266696687", "messenger:1", "rcs:a_b",
		"rcs:+14155550101", "whatsapp:US.ENT.1",
		"sip:x@y", "whatsapp:whatsapp:+1", "+0123456789", "+1415555０101", "+14155550101\x00",
	} {
		f.Add(from)
	}
	f.Fuzz(func(t *testing.T, from string) {
		for _, ch := range []adapters.Channel{adapters.SMS, adapters.WhatsApp} {
			id, unproven, ok := Adapter{Name: ch}.parseSender(from)
			switch {
			case !ok && (id != "" || unproven != ""):
				t.Errorf("parseSender(%q) = %q, %q, false, want empty strings", from, id, unproven)
			case ok && unproven == "" && !isE164(id) && (ch != adapters.WhatsApp || !isUserID(id)):
				t.Errorf("parseSender(%q) = %q without a reason, want a number or a user ID", from, id)
			case ok && !strings.HasSuffix(from, id) && id != "sms:"+from:
				t.Errorf("parseSender(%q) = %q, want a suffix of it", from, id)
			case ok && unproven == adapters.UnprovenOtherChannel && isE164(id):
				t.Errorf("parseSender(%q) = %q for another channel, want no number of this one", from, id)
			}
		}
	})
}
