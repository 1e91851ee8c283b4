package sms

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"hydragate/adapters"
	"hydragate/adapters/adaptertest"
)

type forgery = func(ep adapters.Endpoint, hook string, body []byte) *http.Request

// withParameter is a genuine request of a form with a parameter replaced before signing,
// as somebody makes it who holds the token.
func withParameter(name, value string) forgery {
	return func(ep adapters.Endpoint, hook string, body []byte) *http.Request {
		form, _ := url.ParseQuery(string(body))
		form.Set(name, value)
		return genuineRequest(ep, hook, []byte(form.Encode()))
	}
}

// modifiedAfterSigning is a genuine request that is changed once it is signed.
func modifiedAfterSigning(change func(r *http.Request, body string)) forgery {
	return func(ep adapters.Endpoint, hook string, body []byte) *http.Request {
		r := genuineRequest(ep, hook, body)
		change(r, string(body))
		return r
	}
}

func setBody(r *http.Request, body string) {
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
}

func forgeries() map[string]forgery {
	header := func(name, value string) forgery {
		return modifiedAfterSigning(func(r *http.Request, _ string) { r.Header.Set(name, value) })
	}
	return map[string]forgery{
		"Unsigned":       modifiedAfterSigning(func(r *http.Request, _ string) { r.Header.Del("X-Twilio-Signature") }),
		"EmptySignature": header("X-Twilio-Signature", ""),
		"NoBase64":       header("X-Twilio-Signature", "not a signature"),
		"TwoSignatures": modifiedAfterSigning(func(r *http.Request, _ string) {
			r.Header.Add("X-Twilio-Signature", r.Header.Get("X-Twilio-Signature"))
		}),
		"ShortSignature": modifiedAfterSigning(func(r *http.Request, _ string) {
			r.Header.Set("X-Twilio-Signature", r.Header.Get("X-Twilio-Signature")[:27])
		}),
		"Base64URLSignature": modifiedAfterSigning(func(r *http.Request, _ string) {
			r.Header.Set("X-Twilio-Signature", "-_"+r.Header.Get("X-Twilio-Signature")[2:])
		}),
		"OtherToken": func(ep adapters.Endpoint, hook string, body []byte) *http.Request {
			return newRequest(strings.Repeat("0", 32), webhookURL(ep, hook), string(body))
		},
		"EmptyToken": func(ep adapters.Endpoint, hook string, body []byte) *http.Request {
			return newRequest("", webhookURL(ep, hook), string(body))
		},
		"OtherHook": func(ep adapters.Endpoint, hook string, body []byte) *http.Request {
			return genuineRequest(ep, "status", body)
		},
		"OtherInstance": func(ep adapters.Endpoint, hook string, body []byte) *http.Request {
			return newRequest(testAuthToken, "https://gateway.example/hooks/sms/two", string(body))
		},
		"EvilURL": func(ep adapters.Endpoint, hook string, body []byte) *http.Request {
			r := newRequest(testAuthToken, "https://evil.example/hooks/sms/one", string(body))
			r.Host = "evil.example"
			r.Header.Set("X-Forwarded-Host", "evil.example")
			return r
		},
		"Query":      modifiedAfterSigning(func(r *http.Request, _ string) { r.URL.RawQuery = "a=1" }),
		"EmptyQuery": modifiedAfterSigning(func(r *http.Request, _ string) { r.URL.ForceQuery = true }),
		"SignedQuery": func(ep adapters.Endpoint, hook string, body []byte) *http.Request {
			r := newRequest(testAuthToken, webhookURL(ep, hook)+"?bodySHA256=00", string(body))
			r.URL.RawQuery = "bodySHA256=00"
			return r
		},
		"Get":             modifiedAfterSigning(func(r *http.Request, _ string) { r.Method = http.MethodGet }),
		"JSON":            header("Content-Type", "application/json"),
		"Multipart":       header("Content-Type", "multipart/form-data; boundary=x"),
		"NoContentType":   modifiedAfterSigning(func(r *http.Request, _ string) { r.Header.Del("Content-Type") }),
		"SecondBody":      modifiedAfterSigning(func(r *http.Request, body string) { setBody(r, body+"&Body=%2Fclaim+WDJBMJ") }),
		"SecondBodyFirst": modifiedAfterSigning(func(r *http.Request, body string) { setBody(r, "Body=%2Fclaim+WDJBMJ&"+body) }),
		"SameBodyTwice":   modifiedAfterSigning(func(r *http.Request, body string) { setBody(r, body+"&AccountSid="+testAccountSID) }),
		"SignedSecondBody": func(ep adapters.Endpoint, hook string, body []byte) *http.Request {
			return genuineRequest(ep, hook, append(body, "&Body=zz"...))
		},
		"Escapes":            modifiedAfterSigning(func(r *http.Request, body string) { setBody(r, body+"&a=%zz") }),
		"Semicolon":          modifiedAfterSigning(func(r *http.Request, body string) { setBody(r, body+"&a;b=1") }),
		"OddName":            withParameter("Fr om", "x"),
		"EmptyName":          withParameter("", "x"),
		"LongName":           withParameter(strings.Repeat("a", 61), "x"),
		"OtherAccount":       withParameter("AccountSid", "AC00000000000000000000000000000000"),
		"NoAccount":          withParameter("AccountSid", ""),
		"OtherNumber":        withParameter("To", "+15005550001"),
		"NoNumber":           withParameter("To", ""),
		"FromTwoNumbers":     withParameter("From", "+1999From+14155550101"),
		"FromTooShort":       withParameter("From", "+1999"),
		"FromWithSpace":      withParameter("From", " 14155550101"),
		"FromUnknownScheme":  withParameter("From", "sip:steve@example.com"),
		"FromSchemeInScheme": withParameter("From", "whatsapp:whatsapp:+14155550101"),
		"WithoutFrom": func(ep adapters.Endpoint, hook string, body []byte) *http.Request {
			form, _ := url.ParseQuery(string(body))
			form.Del("From")
			return genuineRequest(ep, hook, []byte(form.Encode()))
		},
		"ServiceOfAnotherInstance": func(ep adapters.Endpoint, hook string, body []byte) *http.Request {
			form, _ := url.ParseQuery(string(body))
			form.Set("To", "+15005550001")
			form.Set("MessagingServiceSid", "MG00000000000000000000000000000000")
			return genuineRequest(ep, hook, []byte(form.Encode()))
		},
		"Resplit": func(ep adapters.Endpoint, hook string, body []byte) *http.Request {
			form, _ := url.ParseQuery(string(body))
			form.Set("Body", "xFrom+1999")
			r := genuineRequest(ep, hook, []byte(form.Encode()))
			form.Set("Body", "x")
			form.Set("From", "+1999From"+form.Get("From"))
			setBody(r, form.Encode())
			return r
		},
	}
}

func testForm(pairs ...string) string {
	f := url.Values{
		"AccountSid": {testAccountSID}, "MessageSid": {"SM00000000000000000000000000000001"},
		"From": {steve}, "To": {testNumber}, "Body": {"hi"}, "NumMedia": {"0"},
	}
	for i := 0; i < len(pairs); i += 2 {
		f.Set(pairs[i], pairs[i+1])
	}
	return f.Encode()
}

// What a proxy or a stranger says of the host changes nothing: the configured URL
// alone is signed.
func TestReceive_HostConfusion(t *testing.T) {
	const evil = "https://evil.example/hooks/sms/one"
	for name, trick := range map[string]func(r *http.Request){
		"Host":             func(r *http.Request) { r.Host = "evil.example" },
		"AbsoluteForm":     func(r *http.Request) { r.RequestURI, r.Host, r.URL.Host = evil, "evil.example", "evil.example" },
		"X-Forwarded-Host": func(r *http.Request) { r.Header.Set("X-Forwarded-Host", "evil.example") },
		"X-Forwarded-Proto": func(r *http.Request) {
			r.Header.Set("X-Forwarded-Proto", "http")
			r.Host = "evil.example"
		},
		"X-Forwarded-Port": func(r *http.Request) { r.Header.Set("X-Forwarded-Port", "8443") },
		"Forwarded":        func(r *http.Request) { r.Header.Set("Forwarded", "host=evil.example;proto=https") },
		"X-Original-URL":   func(r *http.Request) { r.Header.Set("X-Original-URL", evil) },
		"X-Rewrite-URL":    func(r *http.Request) { r.Header.Set("X-Rewrite-URL", "/hooks/sms/two") },
	} {
		t.Run(name, func(t *testing.T) {
			a, ep := Adapter{Name: adapters.SMS}, endpoint(adapters.SMS)
			good, bad := newRequest(testAuthToken, testWebhookURL, testForm()), newRequest(testAuthToken, evil, testForm())
			trick(good)
			trick(bad)
			if _, err := a.Receive(good, ep, ""); err != nil {
				t.Errorf("signed for the configured URL: %v", err)
			}
			if _, err := a.Receive(bad, ep, ""); !errors.Is(err, adapters.ErrForged) {
				t.Errorf("signed for the other URL: %v", err)
			}
		})
	}
}

func TestReceive_UnusualGenuine(t *testing.T) {
	old, now := strings.Repeat("a", 32), strings.Repeat("b", 32)
	rotating := endpoint(adapters.SMS)
	rotating.Credentials = adapters.Credentials{adapters.AccountSID: testAccountSID, adapters.AuthToken: now, adapters.AuthToken + "_old": old}
	at := func(u string) adapters.Endpoint {
		ep := endpoint(adapters.SMS)
		ep.WebhookURL = u
		return ep
	}
	for name, c := range map[string]struct {
		ep    adapters.Endpoint
		token string
		u     string
	}{
		"NewToken":           {rotating, now, testWebhookURL},
		"OldToken":           {rotating, old, testWebhookURL},
		"FragmentInURL":      {at(testWebhookURL + "#rc=5&rp=all"), testAuthToken, testWebhookURL},
		"Port":               {at("https://gateway.example:8443/h"), testAuthToken, "https://gateway.example:8443/h"},
		"PortLeftOut":        {at("https://gateway.example:8443/h"), testAuthToken, "https://gateway.example/h"},
		"DefaultPortAdded":   {at("https://gateway.example/h"), testAuthToken, "https://gateway.example:443/h"},
		"IPv6Port":           {at("http://[::1]:8080/h"), testAuthToken, "http://[::1]:8080/h"},
		"IPv6PortLeftOut":    {at("http://[::1]:8080/h"), testAuthToken, "http://[::1]/h"},
		"PathIsNotRewritten": {at("https://gateway.example/a%2fb"), testAuthToken, "https://gateway.example/a%2fb"},
	} {
		t.Run(name, func(t *testing.T) {
			in, err := Adapter{Name: adapters.SMS}.Receive(newRequest(c.token, c.u, testForm()), c.ep, "")
			if err != nil || len(in.Messages) != 1 {
				t.Fatalf("%v, %v", in.Messages, err)
			}
		})
	}
}

func TestReceive_EmptyKeys(t *testing.T) {
	ep := endpoint(adapters.SMS)
	ep.Credentials = adapters.Credentials{adapters.AccountSID: testAccountSID, adapters.AuthToken: "", adapters.AuthToken + "_old": ""}
	if _, err := (Adapter{Name: adapters.SMS}).Receive(newRequest("", testWebhookURL, testForm()), ep, ""); !errors.Is(err, adapters.ErrNoKey) {
		t.Errorf("empty token: %v", err)
	}
	ep.Credentials = adapters.Credentials{adapters.AuthToken: testAuthToken}
	if _, err := (Adapter{Name: adapters.SMS}).Receive(newRequest(testAuthToken, testWebhookURL, testForm("AccountSid", "")), ep, ""); !errors.Is(err, adapters.ErrNoKey) {
		t.Errorf("empty account: %v", err)
	}
}

func TestReceive_BodyLimit(t *testing.T) {
	a, ep := Adapter{Name: adapters.SMS}, endpoint(adapters.SMS)
	for name, known := range map[string]bool{"LengthKnown": true, "LengthUnknown": false} {
		t.Run(name, func(t *testing.T) {
			body, read := adaptertest.CountingBody(64 << 20)
			r := newRequest(testAuthToken, testWebhookURL, testForm())
			r.Body, r.ContentLength = body, -1
			if known {
				r.ContentLength = 64 << 20
			}
			if _, err := a.Receive(r, ep, ""); !errors.Is(err, adapters.ErrTooLarge) {
				t.Errorf("%v; want ErrTooLarge", err)
			}
			if n := read(); n > 2*maxBody {
				t.Errorf("read %d bytes", n)
			}
		})
	}
	body, read := adaptertest.CountingBody(64 << 20)
	r := newRequest(testAuthToken, testWebhookURL, testForm())
	r.Body = body
	r.Header.Del("X-Twilio-Signature")
	if _, err := a.Receive(r, ep, ""); !errors.Is(err, adapters.ErrForged) || read() != 0 {
		t.Errorf("unsigned: %v after %d bytes", err, read())
	}
}

// A MessageSid that is none is no message of this API, such as a call's webhook.
func TestReceive_OtherProducts(t *testing.T) {
	a, ep := Adapter{Name: adapters.SMS}, endpoint(adapters.SMS)
	for _, sid := range []string{"", "CA00000000000000000000000000000001", "SM1", "SM0000000000000000000000000000000g"} {
		if _, err := a.Receive(newRequest(testAuthToken, testWebhookURL, testForm("MessageSid", sid)), ep, ""); !errors.Is(err, adapters.ErrMalformed) {
			t.Errorf("MessageSid %q: %v; want ErrMalformed", sid, err)
		}
	}
}

// The numbers of the configured Messaging Service are ep's, and answers leave from
// the number the person wrote to; the pools of others are not.
func TestReceive_MessagingService(t *testing.T) {
	a := Adapter{Name: adapters.SMS}
	body := testForm("To", "+15005550007", "MessagingServiceSid", testServiceSID)
	in, err := a.Receive(newRequest(testAuthToken, testWebhookURL, body), endpoint(adapters.SMS), "")
	if err != nil || in.Messages[0].Chat.Thread != "+15005550007" {
		t.Errorf("own pool: %+v, %v", in.Messages, err)
	}
	without := endpoint(adapters.SMS)
	without.Settings = nil
	if _, err := a.Receive(newRequest(testAuthToken, testWebhookURL, body), without, ""); !errors.Is(err, adapters.ErrForged) {
		t.Errorf("pool of an endpoint without one: %v", err)
	}
	if _, err := a.Receive(newRequest(testAuthToken, testWebhookURL, testForm("To", "+15005550007")), endpoint(adapters.SMS), ""); !errors.Is(err, adapters.ErrForged) {
		t.Errorf("another number without a pool: %v", err)
	}
	if _, err := a.Receive(newRequest(testAuthToken, testWebhookURL, testForm("MessagingServiceSid", "MG00000000000000000000000000000000")), without, ""); err != nil {
		t.Errorf("own number, in a pool nobody told us of: %v", err)
	}
}

// However a captured text is cut into fields, under the same signature, it never
// names somebody else.
func TestReceive_AmbiguousSplit(t *testing.T) {
	a, ep := Adapter{Name: adapters.SMS}, endpoint(adapters.SMS)
	const genuineSID, fakeSID = "SM00000000000000000000000000000001", "SM0000000000000000000000000000000f"
	for sender, from := range map[string]string{"Phone": steve, "ShortCode": "72975", "Name": "ACME Shop"} {
		rest := "FromCitySAN FRANCISCOMessageSid" + genuineSID + "NumMedia0To" + testNumber
		with := func(pairs ...string) url.Values {
			f := url.Values{"AccountSid": {testAccountSID}, "Body": {"/claim WDJBMJ"}, "From": {"+14155550199"}, "To": {testNumber}}
			for i := 0; i < len(pairs); i += 2 {
				f.Set(pairs[i], pairs[i+1])
			}
			return f
		}
		known := []string{"FromCity", "SAN FRANCISCO", "MessageSid", genuineSID, "NumMedia", "0"}
		for name, fake := range map[string]url.Values{
			"AllFaked":     with("MessageSid", fakeSID, "Z", "From"+from+rest),
			"NameStraddle": with("MessageSid", fakeSID, "Z", "F", "rom", from+rest),
			"OwnKey":       with(append(known, "FromA", "xFrom"+from)...),
			"KeyEndsFrom":  with(append(known, "FromAFrom", from)...),
			"KeyInFrom":    with(append(known, "FromAFr", "om"+from)...),
			"NewKeyNext":   with("MessageSid", fakeSID, "Z", "From"+from+"GadgetxMessageSid"+genuineSID),
		} {
			t.Run(sender+name, func(t *testing.T) {
				if _, err := a.Receive(newRequest(testAuthToken, testWebhookURL, fake.Encode()), ep, ""); !errors.Is(err, adapters.ErrForged) {
					t.Errorf("%v; want ErrForged", err)
				}
			})
		}
	}
}

// What people write of senders and ids passes, unless it is made for cutting.
func TestReceive_TextMentionsSender(t *testing.T) {
	a, ep := Adapter{Name: adapters.SMS}, endpoint(adapters.SMS)
	for text, want := range map[string]error{
		"From now on":                nil,
		"I come From":                nil,
		"From":                       nil,
		"From+14155550199 hi":        nil,
		"From: +14155550199":         nil,
		"MessageSid: SM0123":         nil,
		"From+14155550199MessageSid": adapters.ErrForged,
	} {
		for _, from := range []string{steve, "+4912345678", "+1234567"} {
			body := testForm("Body", text, "From", from, "FromCity", "")
			if _, err := a.Receive(newRequest(testAuthToken, testWebhookURL, body), ep, ""); !errors.Is(err, want) {
				t.Errorf("%q of %s: %v; want %v", text, from, err, want)
			}
		}
	}
}

// Twilio texts the body of an answer in text/plain to the person.
func TestAck_TwiML(t *testing.T) {
	a := Adapter{Name: adapters.SMS}
	answers := map[int]func(w http.ResponseWriter){}
	for _, status := range []int{400, 403, 404, 405, 413, 429, 500, 503} {
		answers[status] = func(w http.ResponseWriter) { a.Refuse(w, status) }
	}
	answers[200] = func(w http.ResponseWriter) { acknowledge(w, nil) }
	for status, answer := range answers {
		w := httptest.NewRecorder()
		answer(w)
		if w.Code != status || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/xml") || w.Body.String() != emptyTwiML {
			t.Errorf("%d: %d %q %s", status, w.Code, w.Header().Get("Content-Type"), w.Body)
		}
	}
	w := httptest.NewRecorder()
	acknowledge(w, errors.New("away"))
	if w.Code != 503 || w.Header().Get("Retry-After") == "" || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/xml") {
		t.Errorf("not stored: %d %v", w.Code, w.Header())
	}
}
