package sms

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"errors"
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

// maxReadTime is more than any one request may take to be read.
const maxReadTime = 5 * time.Second

// Whatever Twilio signs is one message or receipt that can be kept, and the same one
// every time; who it proves is a phone.
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
			return // TestAdapter refuses what is no form
		}
		hook := ""
		if status {
			hook = statusWebhook
		}
		for _, ch := range []adapters.Channel{adapters.SMS, adapters.WhatsApp} {
			a, ep := Adapter{Name: ch}, endpoint(ch)
			begun := time.Now()
			in, err := a.Receive(genuineRequest(ep, hook, []byte(body)), ep, hook)
			if took := time.Since(begun); took > maxReadTime {
				t.Errorf("reading %d bytes took %v", len(body), took)
			}
			if err != nil {
				if !errors.Is(err, adapters.ErrForged) && !errors.Is(err, adapters.ErrMalformed) && !errors.Is(err, adapters.ErrTooLarge) {
					t.Errorf("%v is none of the reasons", err)
				}
				continue
			}
			adaptertest.CheckInbound(t, in)
			for _, m := range in.Messages {
				if m.UnprovenReason == "" && !isE164(m.Sender.ID) {
					t.Errorf("%q proves a sender", m.Sender.ID)
				}
			}
			again, err := a.Receive(genuineRequest(ep, hook, []byte(body)), ep, hook)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(in.Messages, again.Messages) {
				t.Errorf("the second time it is another message:\n%s", cmp.Diff(in.Messages, again.Messages))
			}
		}
	})
}

// A request is Twilio's when its signature is the one that Twilio's documentation gives
// for the URL it was told, with its port or without.
func FuzzSignature(f *testing.F) {
	f.Add("", "Body=hi&From=%2B14155550101", testAuthToken, testWebhookURL)
	f.Add("vOEb5UThFn24KEfnOFLQY2AE5FY=", "Digits=1234&To=%2B18005551212&From=%2B14158675310&Caller=%2B14158675310&CallSid=CA1234567890ABCDE", "12345", "https://mycompany.com/myapp.php?foo=1&bar=2")
	f.Add("x", "a=1&a=2", "", "http://[::1]:8080/h")
	f.Fuzz(func(t *testing.T, given, body, token, u string) {
		form, err := url.ParseQuery(body)
		if err != nil {
			return
		}
		var keys []string
		for k := range form {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		fields := ""
		for _, k := range keys {
			values := slices.Clone(form[k])
			slices.Sort(values)
			for _, v := range slices.Compact(values) {
				fields += k + v
			}
		}
		reference := func(u string) string {
			mac := hmac.New(sha1.New, []byte(token))
			mac.Write([]byte(u + fields))
			return base64.StdEncoding.EncodeToString(mac.Sum(nil))
		}
		if right := reference(u); !isSigned(right, []string{token}, u, form) {
			t.Error("the right signature is not right")
		} else if isSigned(right+"=", []string{token}, u, form) || isSigned(right, nil, u, form) || isSigned(strings.ToLower(right), []string{token}, u, form) && strings.ToLower(right) != right {
			t.Error("another spelling is taken, or no token is a token")
		}
		if !isSigned(given, []string{token}, u, form) {
			return
		}
		p, err := url.Parse(u)
		for _, spelling := range []string{u, strings.Replace(u, p.Host, p.Host+":443", 1), strings.Replace(u, p.Host, p.Host+":80", 1), strings.Replace(u, ":"+p.Port(), "", 1)} {
			if err == nil && given == reference(spelling) {
				return
			}
		}
		t.Errorf("%q is taken for %q", given, u)
	})
}

// Nothing stands between the keys and the values that Twilio signs, so a signed text can
// be cut anew. However it is cut, and whatever a person wrote to prepare it: no cut is
// taken for another sender's message, or for another message.
func FuzzAmbiguousSplit(f *testing.F) {
	f.Add("hello", "", uint64(0))
	f.Add("hello From+14155559999", "", uint64(0b11))
	f.Add("hello From+14155559999FromCity", "Paris", uint64(0b1111))
	f.Add("x From+14155559999MessageSidSM00000000000000000000000000000009", "", uint64(0b10111))
	f.Add("xFrom+14155559999FromCity", "xMessageSidSM00000000000000000000000000000009NumMedia", ^uint64(0))
	f.Add("From+14155559999FromCityToTo+15005550006", "From", uint64(0b1010101))
	f.Fuzz(func(t *testing.T, body, city string, cuts uint64) {
		const sid = "SM00000000000000000000000000000001"
		form := url.Values{
			"AccountSid": {testAccountSID}, "MessageSid": {sid}, "SmsSid": {sid}, "From": {steve}, "To": {testNumber},
			"Body": {body}, "FromCity": {city}, "FromCountry": {"US"}, "NumMedia": {"0"}, "ProfileName": {body}, "ApiVersion": {"2010-04-01"},
		}
		text := signedText(form)
		other, ok := splitAgain(text, cuts)
		if !ok {
			return
		}
		for _, ch := range []adapters.Channel{adapters.SMS, adapters.WhatsApp} {
			a, ep := Adapter{Name: ch}, endpoint(ch)
			in, err := a.Receive(genuineRequest(ep, "", []byte(other.Encode())), ep, "")
			if err != nil {
				continue
			}
			if m := in.Messages[0]; m.Sender.ID != steve || m.ProviderID != sid {
				t.Errorf("%q is taken as a message %s of %s", other, m.ProviderID, m.Sender.ID)
			}
		}
	})
}

// splitAgain cuts a signed text at some of the names in it: bit i says whether the name
// found i-th begins a field. It is false for what is no form that gives the same text.
func splitAgain(text string, cuts uint64) (url.Values, bool) {
	names := []string{"FromCity", "FromCountry", "From", "AccountSid", "ApiVersion", "Body", "MessageSid", "NumMedia", "ProfileName", "SmsSid", "To"}
	type cut struct {
		at   int
		name string
	}
	var found []cut
	for at := 0; at < len(text); at++ {
		for _, name := range names {
			if strings.HasPrefix(text[at:], name) {
				found = append(found, cut{at, name})
				break
			}
		}
	}
	var chosen []cut
	for i, c := range found {
		if i < 64 && cuts&(1<<i) != 0 {
			chosen = append(chosen, c)
		}
	}
	form := url.Values{}
	for i, c := range chosen {
		end := len(text)
		if i+1 < len(chosen) {
			end = chosen[i+1].at
		}
		form.Add(c.name, text[c.at+len(c.name):end])
	}
	return form, len(form) > 0 && signedText(form) == text
}

// A sender that proves somebody is a phone number or WhatsApp's own id of a person, and
// nothing that could be taken for another channel's.
func FuzzSender(f *testing.F) {
	for _, from := range []string{steve, "whatsapp:" + steve, "whatsapp:US.abc", "72975", "ACME Shop", "", "+266696687", "messenger:1", "rcs:a_b", "sip:x@y", "whatsapp:whatsapp:+1", "+0123456789", "+1415555０101", "+14155550101\x00"} {
		f.Add(from)
	}
	f.Fuzz(func(t *testing.T, from string) {
		for _, ch := range []adapters.Channel{adapters.SMS, adapters.WhatsApp} {
			id, unproven, ok := Adapter{Name: ch}.parseSender(from)
			switch {
			case !ok && (id != "" || unproven != ""):
				t.Errorf("%q is nobody, and %q %q", from, id, unproven)
			case ok && unproven == "" && !isE164(id):
				t.Errorf("%q proves %q", from, id)
			case ok && !strings.HasSuffix(from, id):
				t.Errorf("%q is %q", from, id)
			}
		}
	})
}
