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
		ID: "e1", InstanceID: "one", Channel: ch, Mode: adapters.Webhook, Address: testNumber, WebhookURL: testWebhookURL,
		Settings:    map[string]string{MessagingService: testServiceSID},
		Credentials: adapters.Credentials{adapters.AccountSID: testAccountSID, adapters.AuthToken: testAuthToken},
	}
}

// newRequest posts a form signed for u.
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

// genuineRequest is the request Twilio makes of a form.
func genuineRequest(ep adapters.Endpoint, hook string, body []byte) *http.Request {
	return newRequest(ep.Credentials[adapters.AuthToken], webhookURL(ep, hook), string(body))
}

// newSimulator starts a Twilio that knows the account, the number and Steve's chat.
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

func providerFaults(tw *simulator.Twilio) map[string]adaptertest.Fault {
	say := func(status, code int) simulator.Fault {
		return simulator.Fault{Status: status, Body: fmt.Sprintf(`{"code":%d,"message":"To %s: no","status":%d}`, code, steve, status), Header: http.Header{"Content-Type": {"application/json"}}}
	}
	html := simulator.Fault{Status: 502, Body: "<html>" + strings.Repeat("x", 8<<10) + "</html>", Header: http.Header{"Content-Type": {"text/html"}}}
	slow := say(429, 20429)
	slow.Header.Set("Retry-After", "3")
	arm := func(f simulator.Fault) func() { return func() { tw.Arm("Messages.create", f) } }
	return map[string]adaptertest.Fault{
		"429":             {Arm: arm(slow), Reason: adapters.Throttled, RetryAfter: 3 * time.Second},
		"QueueFull":       {Arm: arm(say(400, 21611)), Reason: adapters.Throttled},
		"WhatsAppTooFast": {Arm: arm(say(400, 63018)), Reason: adapters.Throttled},
		"401":             {Arm: arm(say(401, 20003)), Reason: adapters.BadSecret},
		"OptedOut":        {Arm: arm(say(400, 21610)), Reason: adapters.OptedOut},
		"InvalidTo":       {Arm: arm(say(400, 21211)), Reason: adapters.Refused},
		"NoMobile":        {Arm: arm(say(400, 21614)), Reason: adapters.Refused},
		"Unroutable":      {Arm: arm(say(400, 21612)), Reason: adapters.Refused},
		"Region":          {Arm: arm(say(400, 21408)), Reason: adapters.Refused},
		"WindowClosed":    {Arm: arm(say(400, 63016)), Reason: adapters.Refused},
		"500":             {Arm: arm(say(500, 20500)), Reason: adapters.Unreachable},
		"502HTML":         {Arm: arm(html), Reason: adapters.Unreachable},
		"503Empty":        {Arm: arm(simulator.Fault{Status: 503}), Reason: adapters.Unreachable},
		"200HTML":         {Arm: arm(simulator.Fault{Status: 200, Body: "<!doctype html>log in"}), Reason: adapters.Unreachable},
		"403HTML":         {Arm: arm(simulator.Fault{Status: 403, Body: "<html>"}), Reason: adapters.Unreachable},
		"Redirect":        {Arm: arm(simulator.Fault{Status: 307, Header: http.Header{"Location": {"http://127.0.0.1:1/"}}}), Reason: adapters.Unreachable},
		"201CutShort":     {Arm: arm(simulator.Fault{Status: 201, Body: `{"sid":"SM`}), Reason: adapters.Ambiguous},
		"201NoSID":        {Arm: arm(simulator.Fault{Status: 201, Body: `{"sid":"../x"}`}), Reason: adapters.Ambiguous},
		"Cut":             {Arm: arm(simulator.Fault{Cut: true}), Reason: adapters.Ambiguous},
		"Hang":            {Arm: arm(simulator.Fault{Hang: true}), Reason: adapters.Ambiguous, Timeout: 50 * time.Millisecond},
	}
}

func TestAdapter(t *testing.T) {
	tw, a := newSimulator(t, adapters.SMS)
	adaptertest.Run(t, adaptertest.Subject{
		Adapter: a, Endpoint: endpoint(adapters.SMS), Request: genuineRequest, Forgeries: forgeries(),
		CredentialKeys: []string{adapters.AuthToken}, To: steve, Chat: adapters.Chat{ID: steve},
		SentTexts: func() []string { return sentTexts(tw, steve) }, Faults: providerFaults(tw),
	})
}

func TestAdapter_WhatsApp(t *testing.T) {
	t.Chdir("whatsapp")
	tw, a := newSimulator(t, adapters.WhatsApp)
	tw.SendText("whatsapp:"+steve, "whatsapp:"+testNumber, "hello") // opens the window in which a business may write
	adaptertest.Run(t, adaptertest.Subject{
		Adapter: a, Endpoint: endpoint(adapters.WhatsApp), Request: genuineRequest, Forgeries: forgeries(),
		CredentialKeys: []string{adapters.AuthToken}, To: steve, Chat: adapters.Chat{ID: steve},
		SentTexts: func() []string { return sentTexts(tw, "whatsapp:"+steve) }, Faults: providerFaults(tw),
	})
}

func sentTexts(tw *simulator.Twilio, chat string) []string {
	var texts []string
	for _, l := range tw.Replies(chat) {
		texts = append(texts, l.Text)
	}
	return texts
}
