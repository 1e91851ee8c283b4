package sms

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/adapters/adaptertest"
	"hydragate/adapters/simulator"
)

const (
	testAccountSID = "AC6a1f0c2b9d8e4f7a8b3c5d6e7f809112"
	testAuthToken  = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
	testServiceSID = "MG2172dd2db502e20dd981ef0d67850e1a"
	testNumber     = "+15005550006"
	steve          = "+14155550101"
	testWebhookURL = "https://gateway.example/hooks/sms/one"
)

func endpoint(ch adapters.Channel) adapters.Endpoint {
	return adapters.Endpoint{
		ID: "e1", InstanceID: "one", Channel: ch, Mode: adapters.Webhook,
		Address: testNumber, WebhookURL: testWebhookURL,
		Pool:        adapters.Pool{ID: testServiceSID},
		Credentials: adapters.Credentials{adapters.AccountSID: testAccountSID, adapters.AuthToken: testAuthToken},
	}
}

// newRequest returns a webhook request with a form that is signed for u.
func newRequest(token, u, body string) *http.Request {
	form, err := url.ParseQuery(body)
	if err != nil {
		panic(err)
	}
	r := httptest.NewRequest(http.MethodPost, "http://10.0.0.7:8080/hooks/sms/one", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=UTF-8")
	r.Header.Set("X-Twilio-Signature", sign(token, u, signedText(form)))
	return r
}

// genuineRequest returns a form as Twilio posts it to ep.
func genuineRequest(ep adapters.Endpoint, webhook string, body []byte) *http.Request {
	return newRequest(ep.Credentials[adapters.AuthToken], webhookURL(ep, webhook), string(body))
}

// newSimulator starts a simulated Twilio with the test account and its number, and returns it with
// an adapter that uses it.
func newSimulator(t *testing.T, ch adapters.Channel) (*simulator.Twilio, Adapter) {
	t.Helper()
	tw := simulator.NewTwilio()
	tw.AddAccount(testAccountSID, testAuthToken)
	tw.AddNumber(testAccountSID, testNumber)
	tw.SetWhatsAppURL(testAccountSID, testNumber, "", "")
	srv := httptest.NewServer(tw)
	t.Cleanup(srv.Close)
	t.Cleanup(tw.Close)
	return tw, Adapter{Name: ch, APIURL: srv.URL, HTTP: srv.Client()}
}

// twilioFault returns an error response of Twilio. Its message contains a phone number, which must
// not be in errors.
func twilioFault(status, code int) simulator.Fault {
	return simulator.Fault{
		Status: status,
		Body:   fmt.Sprintf(`{"code":%d,"message":"To %s: no","status":%d}`, code, steve, status),
		Header: http.Header{"Content-Type": {"application/json"}},
	}
}

func sendFaults(tw *simulator.Twilio) map[string]adaptertest.Fault {
	html := simulator.Fault{
		Status: 502,
		Body:   "<html>" + strings.Repeat("x", 8<<10) + "</html>",
		Header: http.Header{"Content-Type": {"text/html"}},
	}
	later := simulator.Fault{Status: 503, Body: "<html>", Header: http.Header{"Retry-After": {"3"}}}
	redirect := simulator.Fault{Status: 307, Header: http.Header{"Location": {"http://127.0.0.1:1/"}}}
	throttled := twilioFault(429, 20429)
	throttled.Header.Set("Retry-After", "3")
	faults := map[string]adaptertest.Fault{}
	for name, c := range map[string]struct {
		fault  simulator.Fault
		reason adapters.Reason
	}{
		"429":                   {throttled, adapters.Throttled},
		"queue full":            {twilioFault(400, 21611), adapters.Throttled},
		"WhatsApp rate limit":   {twilioFault(400, 63018), adapters.Throttled},
		"401":                   {twilioFault(401, 20003), adapters.BadSecret},
		"opted out":             {twilioFault(400, 21610), adapters.OptedOut},
		"invalid To":            {twilioFault(400, 21211), adapters.Refused},
		"not a mobile number":   {twilioFault(400, 21614), adapters.Refused},
		"unroutable":            {twilioFault(400, 21612), adapters.Refused},
		"region not enabled":    {twilioFault(400, 21408), adapters.Refused},
		"WhatsApp window ended": {twilioFault(400, 63016), adapters.Refused},
		"500":                   {twilioFault(500, 20500), adapters.Unreachable},
		"502 in HTML":           {html, adapters.Unreachable},
		"503 in HTML for now":   {later, adapters.Unreachable},
		"503 without a body":    {simulator.Fault{Status: 503}, adapters.Unreachable},
		"200 in HTML":           {simulator.Fault{Status: 200, Body: "<!doctype html>log in"}, adapters.Unreachable},
		"403 in HTML":           {simulator.Fault{Status: 403, Body: "<html>"}, adapters.Unreachable},
		"redirect":              {redirect, adapters.Unreachable},
		"201 truncated":         {simulator.Fault{Status: 201, Body: `{"sid":"SM`}, adapters.Ambiguous},
		"201 without a SID":     {simulator.Fault{Status: 201, Body: `{"sid":"../x"}`}, adapters.Ambiguous},
		"201 of another type":   {simulator.Fault{Status: 201, Body: `{"sid":14155550101}`}, adapters.Ambiguous},
		"connection cut":        {simulator.Fault{Cut: true}, adapters.Ambiguous},
		"timeout":               {simulator.Fault{Hang: true}, adapters.Ambiguous},
	} {
		f := adaptertest.Fault{Arm: func() { tw.Arm("Messages.create", c.fault) }, Reason: c.reason}
		if c.fault.Hang {
			f.Timeout = 50 * time.Millisecond
		}
		if c.fault.Header.Get("Retry-After") != "" {
			f.RetryAfter = 3 * time.Second
		}
		faults[name] = f
	}
	return faults
}

func TestAdapter(t *testing.T) {
	tw, a := newSimulator(t, adapters.SMS)
	adaptertest.Run(t, adaptertest.Subject{
		Adapter: a, Endpoint: endpoint(adapters.SMS), Request: genuineRequest, Forgeries: forgeries(),
		CredentialKeys: []string{adapters.AuthToken}, To: steve, Chat: adapters.Chat{ID: steve},
		SentTexts: func() []string { return sentTexts(tw, steve) }, Faults: sendFaults(tw),
	})
}

func TestAdapter_WhatsApp(t *testing.T) {
	t.Chdir("whatsapp")
	tw, a := newSimulator(t, adapters.WhatsApp)
	chat := "whatsapp:" + steve
	tw.SendText(chat, "whatsapp:"+testNumber, "hello") // opens the window in which a business may write
	adaptertest.Run(t, adaptertest.Subject{
		Adapter: a, Endpoint: endpoint(adapters.WhatsApp), Request: genuineRequest, Forgeries: forgeries(),
		CredentialKeys: []string{adapters.AuthToken}, To: steve, Chat: adapters.Chat{ID: steve},
		SentTexts: func() []string { return sentTexts(tw, chat) }, Faults: sendFaults(tw),
	})
}

func sentTexts(tw *simulator.Twilio, chat string) []string {
	var texts []string
	for _, l := range tw.Replies(chat) {
		texts = append(texts, l.Text)
	}
	return texts
}
