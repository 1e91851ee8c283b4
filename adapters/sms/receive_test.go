package sms

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"

	"hydragate/adapters"
	"hydragate/adapters/adaptertest"
)

type forgery = func(ep adapters.Endpoint, webhook string, body []byte) *http.Request

// withForm returns a genuine request whose form is changed before signing.
func withForm(change func(form url.Values)) forgery {
	return func(ep adapters.Endpoint, webhook string, body []byte) *http.Request {
		form, _ := url.ParseQuery(string(body))
		change(form)
		return genuineRequest(ep, webhook, []byte(form.Encode()))
	}
}

// withParameter returns a genuine request in which a parameter is replaced before signing.
func withParameter(name, value string) forgery {
	return withForm(func(form url.Values) { form.Set(name, value) })
}

// afterSigning returns a genuine request that is changed after signing.
func afterSigning(change func(r *http.Request, body string)) forgery {
	return func(ep adapters.Endpoint, webhook string, body []byte) *http.Request {
		r := genuineRequest(ep, webhook, body)
		change(r, string(body))
		return r
	}
}

// withHeader returns a genuine request in which a header is replaced.
func withHeader(name, value string) forgery {
	return afterSigning(func(r *http.Request, _ string) { r.Header.Set(name, value) })
}

// signedWith returns a request signed with another token.
func signedWith(token string) forgery {
	return func(ep adapters.Endpoint, webhook string, body []byte) *http.Request {
		return newRequest(token, webhookURL(ep, webhook), string(body))
	}
}

// signedFor returns a request signed for another URL.
func signedFor(u string) forgery {
	return func(ep adapters.Endpoint, _ string, body []byte) *http.Request {
		return newRequest(testAuthToken, u, string(body))
	}
}

func setBody(r *http.Request, body string) {
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
}

func forgeries() map[string]forgery {
	all := map[string]forgery{}
	maps.Copy(all, signatureForgeries())
	maps.Copy(all, requestForgeries())
	maps.Copy(all, formForgeries())
	return all
}

// signatureForgeries returns requests with a missing, malformed or foreign signature.
func signatureForgeries() map[string]forgery {
	const header = "X-Twilio-Signature"
	return map[string]forgery{
		"no signature":         afterSigning(func(r *http.Request, _ string) { r.Header.Del(header) }),
		"empty signature":      withHeader(header, ""),
		"signature not base64": withHeader(header, "not a signature"),
		"two signatures": afterSigning(func(r *http.Request, _ string) {
			r.Header.Add(header, r.Header.Get(header))
		}),
		"short signature": afterSigning(func(r *http.Request, _ string) {
			r.Header.Set(header, r.Header.Get(header)[:27])
		}),
		"base64url signature": afterSigning(func(r *http.Request, _ string) {
			r.Header.Set(header, "-_"+r.Header.Get(header)[2:])
		}),
		"other token": signedWith(strings.Repeat("0", 32)),
		"empty token": signedWith(""),
		"other webhook": func(ep adapters.Endpoint, _ string, body []byte) *http.Request {
			return genuineRequest(ep, statusWebhook, body)
		},
		"other instance": signedFor("https://gateway.example/hooks/sms/two"),
		"other host": func(ep adapters.Endpoint, _ string, body []byte) *http.Request {
			r := newRequest(testAuthToken, "https://evil.example/hooks/sms/one", string(body))
			r.Host = "evil.example"
			r.Header.Set("X-Forwarded-Host", "evil.example")
			return r
		},
	}
}

// requestForgeries returns requests with an unexpected method, query, content type or body.
func requestForgeries() map[string]forgery {
	return map[string]forgery{
		"query":       afterSigning(func(r *http.Request, _ string) { r.URL.RawQuery = "a=1" }),
		"empty query": afterSigning(func(r *http.Request, _ string) { r.URL.ForceQuery = true }),
		"signed query": func(ep adapters.Endpoint, webhook string, body []byte) *http.Request {
			r := newRequest(testAuthToken, webhookURL(ep, webhook)+"?bodySHA256=00", string(body))
			r.URL.RawQuery = "bodySHA256=00"
			return r
		},
		"GET":             afterSigning(func(r *http.Request, _ string) { r.Method = http.MethodGet }),
		"JSON":            withHeader("Content-Type", "application/json"),
		"multipart":       withHeader("Content-Type", "multipart/form-data; boundary=x"),
		"no content type": afterSigning(func(r *http.Request, _ string) { r.Header.Del("Content-Type") }),
		"parameter added": afterSigning(func(r *http.Request, body string) {
			setBody(r, body+"&Body=%2Fclaim+WDJBMJ")
		}),
		"parameter added before": afterSigning(func(r *http.Request, body string) {
			setBody(r, "Body=%2Fclaim+WDJBMJ&"+body)
		}),
		"parameter repeated": afterSigning(func(r *http.Request, body string) {
			setBody(r, body+"&AccountSid="+testAccountSID)
		}),
		"signed repeated parameter": func(ep adapters.Endpoint, webhook string, body []byte) *http.Request {
			return genuineRequest(ep, webhook, append(body, "&Body=zz"...))
		},
		"invalid escape": afterSigning(func(r *http.Request, body string) { setBody(r, body+"&a=%zz") }),
		"semicolon":      afterSigning(func(r *http.Request, body string) { setBody(r, body+"&a;b=1") }),
	}
}

// formForgeries returns requests with a valid signature for a form that is not for the endpoint, or
// that Twilio does not send.
func formForgeries() map[string]forgery {
	return map[string]forgery{
		"space in name":     withParameter("Fr om", "x"),
		"empty name":        withParameter("", "x"),
		"long name":         withParameter(strings.Repeat("a", 61), "x"),
		"other account":     withParameter("AccountSid", "AC00000000000000000000000000000000"),
		"no account":        withParameter("AccountSid", ""),
		"other number":      withParameter("To", "+15005550001"),
		"no number":         withParameter("To", ""),
		"two senders":       withParameter("From", "+1999From+14155550101"),
		"short sender":      withParameter("From", "+1999"),
		"sender with space": withParameter("From", " 14155550101"),
		"unknown scheme":    withParameter("From", "Sip:steve@example.com"),
		"scheme in scheme":  withParameter("From", "whatsapp:whatsapp:+14155550101"),
		"no From":           withForm(func(form url.Values) { form.Del("From") }),
		"service of another instance": withForm(func(form url.Values) {
			form.Set("To", "+15005550001")
			form.Set("MessagingServiceSid", "MG00000000000000000000000000000000")
		}),
		"signed text split differently": func(ep adapters.Endpoint, webhook string, body []byte) *http.Request {
			form, _ := url.ParseQuery(string(body))
			form.Set("Body", "xFrom+1999")
			r := genuineRequest(ep, webhook, []byte(form.Encode()))
			form.Set("Body", "x")
			form.Set("From", "+1999From"+form.Get("From"))
			setBody(r, form.Encode())
			return r
		},
	}
}

// testForm returns an encoded form of a message. pairs are names and values of further parameters.
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

// The signature is checked against the configured URL, whatever the request says about its host.
func TestReceive_HostConfusion(t *testing.T) {
	const otherURL = "https://evil.example/hooks/sms/one"
	for name, change := range map[string]func(r *http.Request){
		"Host": func(r *http.Request) { r.Host = "evil.example" },
		"absolute form": func(r *http.Request) {
			r.RequestURI, r.Host, r.URL.Host = otherURL, "evil.example", "evil.example"
		},
		"X-Forwarded-Host": func(r *http.Request) { r.Header.Set("X-Forwarded-Host", "evil.example") },
		"X-Forwarded-Proto": func(r *http.Request) {
			r.Header.Set("X-Forwarded-Proto", "http")
			r.Host = "evil.example"
		},
		"X-Forwarded-Port": func(r *http.Request) { r.Header.Set("X-Forwarded-Port", "8443") },
		"Forwarded":        func(r *http.Request) { r.Header.Set("Forwarded", "host=evil.example;proto=https") },
		"X-Original-URL":   func(r *http.Request) { r.Header.Set("X-Original-URL", otherURL) },
		"X-Rewrite-URL":    func(r *http.Request) { r.Header.Set("X-Rewrite-URL", "/hooks/sms/two") },
	} {
		t.Run(name, func(t *testing.T) {
			genuine := newRequest(testAuthToken, testWebhookURL, testForm())
			forged := newRequest(testAuthToken, otherURL, testForm())
			change(genuine)
			change(forged)
			if _, err := receive(endpoint(adapters.SMS), genuine); err != nil {
				t.Errorf("Receive of a request signed for the configured URL = %v, want nil", err)
			}
			if _, err := receive(endpoint(adapters.SMS), forged); !errors.Is(err, adapters.ErrForged) {
				t.Errorf("Receive of a request signed for another URL = %v, want ErrForged", err)
			}
		})
	}
}

// receive receives an SMS webhook.
func receive(ep adapters.Endpoint, r *http.Request) (adapters.Inbound, error) {
	return Adapter{Name: adapters.SMS}.Receive(r, ep, "")
}

// receiveForm receives an SMS webhook with a form that is signed for the test endpoint.
func receiveForm(ep adapters.Endpoint, form string) (adapters.Inbound, error) {
	return receive(ep, newRequest(testAuthToken, testWebhookURL, form))
}

func TestReceive_UnusualGenuine(t *testing.T) {
	previous, current := strings.Repeat("a", 32), strings.Repeat("b", 32)
	rotating := endpoint(adapters.SMS)
	rotating.Credentials = adapters.Credentials{
		adapters.AccountSID: testAccountSID, adapters.AuthToken: current, adapters.AuthToken + "_old": previous,
	}
	at := func(u string) adapters.Endpoint {
		ep := endpoint(adapters.SMS)
		ep.WebhookURL = u
		return ep
	}
	const withPort, withoutPort = "https://gateway.example:8443/h", "https://gateway.example/h"
	for name, c := range map[string]struct {
		ep    adapters.Endpoint
		token string
		u     string
	}{
		"current token":         {rotating, current, testWebhookURL},
		"previous token":        {rotating, previous, testWebhookURL},
		"fragment in URL":       {at(testWebhookURL + "#rc=5&rp=all"), testAuthToken, testWebhookURL},
		"port":                  {at(withPort), testAuthToken, withPort},
		"port omitted":          {at(withPort), testAuthToken, withoutPort},
		"default port added":    {at(withoutPort), testAuthToken, "https://gateway.example:443/h"},
		"IPv6 with port":        {at("http://[::1]:8080/h"), testAuthToken, "http://[::1]:8080/h"},
		"IPv6 port omitted":     {at("http://[::1]:8080/h"), testAuthToken, "http://[::1]/h"},
		"host like the scheme":  {at("https://s/h"), testAuthToken, "https://s:443/h"},
		"path is not rewritten": {at("https://gateway.example/a%2fb"), testAuthToken, "https://gateway.example/a%2fb"},
	} {
		t.Run(name, func(t *testing.T) {
			in, err := receive(c.ep, newRequest(c.token, c.u, testForm()))
			if err != nil || len(in.Messages) != 1 {
				t.Fatalf("Receive = %v, %v, want one message", in.Messages, err)
			}
		})
	}
}

func TestReceive_NoKey(t *testing.T) {
	ep := endpoint(adapters.SMS)
	ep.Credentials = adapters.Credentials{
		adapters.AccountSID: testAccountSID, adapters.AuthToken: "", adapters.AuthToken + "_old": "",
	}
	if _, err := receive(ep, newRequest("", testWebhookURL, testForm())); !errors.Is(err, adapters.ErrNoKey) {
		t.Errorf("Receive with an empty token = %v, want ErrNoKey", err)
	}
	ep.Credentials = adapters.Credentials{adapters.AuthToken: testAuthToken}
	if _, err := receiveForm(ep, testForm("AccountSid", "")); !errors.Is(err, adapters.ErrNoKey) {
		t.Errorf("Receive with an empty account SID = %v, want ErrNoKey", err)
	}
}

func TestReceive_BodyLimit(t *testing.T) {
	for name, length := range map[string]int64{"length known": 64 << 20, "length unknown": -1} {
		t.Run(name, func(t *testing.T) {
			body, read := adaptertest.CountingBody(64 << 20)
			r := newRequest(testAuthToken, testWebhookURL, testForm())
			r.Body, r.ContentLength = body, length
			if _, err := receive(endpoint(adapters.SMS), r); !errors.Is(err, adapters.ErrTooLarge) {
				t.Errorf("Receive = %v, want ErrTooLarge", err)
			}
			if n := read(); n > 2*maxBody {
				t.Errorf("%d bytes read, want at most %d", n, 2*maxBody)
			}
		})
	}
	body, read := adaptertest.CountingBody(64 << 20)
	r := newRequest(testAuthToken, testWebhookURL, testForm())
	r.Body = body
	r.Header.Del("X-Twilio-Signature")
	if _, err := receive(endpoint(adapters.SMS), r); !errors.Is(err, adapters.ErrForged) || read() != 0 {
		t.Errorf("Receive without a signature = %v after %d bytes, want ErrForged after 0", err, read())
	}
}

func TestReceive_FieldLimits(t *testing.T) {
	fields := func(n int) string {
		return testForm() + strings.Repeat("&", n-6)
	}
	for name, c := range map[string]struct {
		form string
		want error
	}{
		"longest name": {testForm(strings.Repeat("a", 60), "x"), nil},
		"long name":    {testForm(strings.Repeat("a", 61), "x"), adapters.ErrForged},
		"most fields":  {fields(maxFields), nil},
		"many fields":  {fields(maxFields + 1), adapters.ErrForged},
	} {
		if _, err := receiveForm(endpoint(adapters.SMS), c.form); !errors.Is(err, c.want) {
			t.Errorf("%s: Receive = %v, want %v", name, err, c.want)
		}
	}
}

// Messages to other numbers are accepted if they are in the Messaging Service of the endpoint.
// Replies to them are sent from the same number.
func TestReceive_MessagingService(t *testing.T) {
	const otherNumber = "+15005550007"
	withService, without := endpoint(adapters.SMS), endpoint(adapters.SMS)
	without.Pool = adapters.Pool{}
	toOther := testForm("To", otherNumber, "MessagingServiceSid", testServiceSID)
	in, err := receiveForm(withService, toOther)
	if err != nil || in.Messages[0].Chat.Thread != otherNumber {
		t.Errorf("Receive of a message to the service = %+v, %v, want a reply from %s", in, err, otherNumber)
	}
	if _, err := receiveForm(without, toOther); !errors.Is(err, adapters.ErrForged) {
		t.Errorf("Receive on an endpoint without a service = %v, want ErrForged", err)
	}
	if _, err := receiveForm(withService, testForm("To", otherNumber)); !errors.Is(err, adapters.ErrForged) {
		t.Errorf("Receive of a message to another number without a service = %v, want ErrForged", err)
	}
	ownNumber := testForm("MessagingServiceSid", "MG00000000000000000000000000000000")
	if _, err := receiveForm(without, ownNumber); err != nil {
		t.Errorf("Receive of a message to the own number in an unknown service = %v, want nil", err)
	}
}

// Every response is empty TwiML, since Twilio sends the body of a text/plain response to the person.
func TestAck_TwiML(t *testing.T) {
	a := Adapter{Name: adapters.SMS}
	responses := map[int]func(w http.ResponseWriter){}
	for _, status := range []int{400, 403, 404, 405, 413, 429, 500, 503} {
		responses[status] = func(w http.ResponseWriter) { a.Refuse(w, status) }
	}
	responses[200] = func(w http.ResponseWriter) { acknowledge(w, nil) }
	for status, respond := range responses {
		w := httptest.NewRecorder()
		respond(w)
		contentType := w.Header().Get("Content-Type")
		if w.Code != status || !strings.HasPrefix(contentType, "text/xml") || w.Body.String() != emptyTwiML {
			t.Errorf("response = %d %q %s, want %d and empty TwiML", w.Code, contentType, w.Body, status)
		}
	}
	w := httptest.NewRecorder()
	acknowledge(w, errors.New("store failed"))
	if w.Code != 503 || w.Header().Get("Retry-After") == "" || w.Body.String() != emptyTwiML {
		t.Errorf("response after a failed store = %d %v %s, want 503 with Retry-After and empty TwiML",
			w.Code, w.Header(), w.Body)
	}
}

// TestReceive_Parameters sends messages that contain nothing but one of the documented parameters, and
// one that Twilio may add. Each must be a message that says something.
func TestReceive_Parameters(t *testing.T) {
	list, err := os.ReadFile("testdata/parameters.txt")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(list) + "FutureContent=42\n") {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		n++
		for _, ch := range []adapters.Channel{adapters.SMS, adapters.WhatsApp} {
			a := Adapter{Name: ch}
			form := url.Values{
				"MessageSid": {"SM5b1e77d0c4a64e2f9a30b2c1d4e57777"}, "AccountSid": {testAccountSID},
				"From": {a.twilioAddress(steve)}, "To": {a.twilioAddress(testNumber)}, name: {value},
			}
			if ch == adapters.SMS {
				form.Set("From", strings.TrimPrefix(form.Get("From"), whatsAppPrefix))
				form.Set("To", strings.TrimPrefix(form.Get("To"), whatsAppPrefix))
			}
			in, err := a.Receive(newRequest(testAuthToken, testWebhookURL, form.Encode()), endpoint(ch), "")
			if err != nil || len(in.Messages) != 1 {
				t.Errorf("%s with %s alone: %d messages, %v, want one", ch, name, len(in.Messages), err)
				continue
			}
			m := in.Messages[0]
			if m.Kind == adapters.Unsupported || m.Text == "" && m.Action == "" && len(m.Media)+len(m.Content) == 0 {
				t.Errorf("%s with %s alone: message = %+v, want some content", ch, name, m)
			}
		}
	}
	if n < 50 {
		t.Errorf("parameters = %d, want at least 50", n)
	}
}
