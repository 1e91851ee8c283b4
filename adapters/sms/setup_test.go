package sms

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"hydragate/adapters"
	"hydragate/adapters/simulator"
)

var _ adapters.Configurer = Adapter{}

func asSetupError(t *testing.T, err error) *adapters.SetupError {
	t.Helper()
	var se *adapters.SetupError
	if !errors.As(err, &se) {
		t.Fatalf("%v (%T); want a *SetupError", err, err)
	}
	if strings.Contains(se.Error()+se.Message, testAuthToken) {
		t.Error("the error tells the token")
	}
	return se
}

func TestCheckAndConnect(t *testing.T) {
	tw, a := newSimulator(t, adapters.SMS)
	ep := endpoint(adapters.SMS)
	ep.Address, ep.Settings = " +1 (500) 555-0006 ", nil
	ep, err := a.Check(t.Context(), ep)
	if err != nil {
		t.Fatal(err)
	}
	if ep.Address != testNumber || !isSID(ep.Settings[adapters.NumberSID], "PN") || ep.Settings[adapters.Warning] != "" {
		t.Errorf("address %q, settings %v", ep.Address, ep.Settings)
	}
	if u, _ := tw.Webhook(testNumber); u != "" {
		t.Errorf("Check set the webhook to %q", u)
	}
	for range 2 {
		if err := a.Connect(t.Context(), ep); err != nil {
			t.Fatal(err)
		}
		if u, fallback := tw.Webhook(testNumber); u != testWebhookURL+"#rc=5&rp=all" || fallback != testWebhookURL {
			t.Errorf("webhook %q, fallback %q", u, fallback)
		}
	}
	for range 2 {
		if err := a.Disconnect(t.Context(), ep); err != nil {
			t.Fatal(err)
		}
		if u, fallback := tw.Webhook(testNumber); u != "" || fallback != "" {
			t.Errorf("after disconnect: webhook %q, fallback %q", u, fallback)
		}
	}
}

func TestDisconnect_OtherWebhook(t *testing.T) {
	tw, a := newSimulator(t, adapters.SMS)
	tw.SetWebhook(testNumber, "https://other.example/sms", "https://other.example/fallback")
	if err := a.Disconnect(t.Context(), endpoint(adapters.SMS)); err != nil {
		t.Fatal(err)
	}
	tw.SetWebhook(testNumber, testWebhookURL, "https://other.example/fallback")
	if err := a.Disconnect(t.Context(), endpoint(adapters.SMS)); err != nil {
		t.Fatal(err)
	}
	if u, fallback := tw.Webhook(testNumber); u != "" || fallback != "https://other.example/fallback" {
		t.Errorf("webhook %q, fallback %q", u, fallback)
	}
	sold := endpoint(adapters.SMS)
	sold.Address = "+15005550009"
	if err := a.Disconnect(t.Context(), sold); err != nil {
		t.Errorf("number that is gone: %v", err)
	}
}

func TestCheck_Errors(t *testing.T) {
	_, a := newSimulator(t, adapters.SMS)
	for name, c := range map[string]struct {
		change func(ep *adapters.Endpoint)
		reason adapters.Reason
		field  string
	}{
		"AccountShape":  {func(ep *adapters.Endpoint) { ep.Credentials[adapters.AccountSID] = "AC1/../../evil" }, adapters.Refused, adapters.AccountSID},
		"TokenShape":    {func(ep *adapters.Endpoint) { ep.Credentials[adapters.AuthToken] = "secret" }, adapters.Refused, adapters.AuthToken},
		"NoToken":       {func(ep *adapters.Endpoint) { ep.Credentials[adapters.AuthToken] = "" }, adapters.Refused, adapters.AuthToken},
		"NumberShape":   {func(ep *adapters.Endpoint) { ep.Address = "555 0006" }, adapters.Refused, "phone_number"},
		"ShortCode":     {func(ep *adapters.Endpoint) { ep.Address = "72975" }, adapters.Refused, "phone_number"},
		"WrongToken":    {func(ep *adapters.Endpoint) { ep.Credentials[adapters.AuthToken] = strings.Repeat("0", 32) }, adapters.BadSecret, adapters.AuthToken},
		"ForeignNumber": {func(ep *adapters.Endpoint) { ep.Address = "+15005550001" }, adapters.Refused, "phone_number"},
		"PartOfNumber":  {func(ep *adapters.Endpoint) { ep.Address = "+1500555000" }, adapters.Refused, "phone_number"},
	} {
		t.Run(name, func(t *testing.T) {
			ep := endpoint(adapters.SMS)
			c.change(&ep)
			_, err := a.Check(t.Context(), ep)
			if se := asSetupError(t, err); se.Reason != c.reason || se.Field != c.field || se.Message == "" {
				t.Errorf("%q on %q (%s); want %q on %q", se.Reason, se.Field, se.Message, c.reason, c.field)
			}
		})
	}
	for name, c := range map[string]struct {
		call   string
		fault  simulator.Fault
		reason adapters.Reason
		field  string
	}{
		"Away":          {"Accounts.fetch", simulator.Fault{Status: 503}, adapters.Unreachable, ""},
		"NotFound":      {"Accounts.fetch", simulator.Fault{Status: 404, Body: `{"code":20404,"message":"not found"}`}, adapters.Refused, adapters.AccountSID},
		"Suspended":     {"Accounts.fetch", simulator.Fault{Status: 200, Body: `{"status":"suspended"}`}, adapters.Refused, adapters.AccountSID},
		"TooFast":       {"IncomingPhoneNumbers.list", simulator.Fault{Status: 429}, adapters.Throttled, ""},
		"VoiceOnly":     {"IncomingPhoneNumbers.list", simulator.Fault{Status: 200, Body: `{"incoming_phone_numbers":[{"sid":"PN00000000000000000000000000000001","phone_number":"` + testNumber + `","capabilities":{"sms":false}}]}`}, adapters.Refused, "phone_number"},
		"SIDWithAPath":  {"IncomingPhoneNumbers.list", simulator.Fault{Status: 200, Body: `{"incoming_phone_numbers":[{"sid":"PN/../x","phone_number":"` + testNumber + `","capabilities":{"sms":true}}]}`}, adapters.Refused, "phone_number"},
		"HTMLAllOver":   {"Accounts.fetch", simulator.Fault{Status: 200, Body: "<html>"}, adapters.Unreachable, ""},
		"ConnectionCut": {"IncomingPhoneNumbers.list", simulator.Fault{Cut: true}, adapters.Unreachable, ""},
	} {
		t.Run(name, func(t *testing.T) {
			tw, a := newSimulator(t, adapters.SMS)
			tw.Arm(c.call, c.fault, c.fault) // net/http may ask again by itself
			_, err := a.Check(t.Context(), endpoint(adapters.SMS))
			if se := asSetupError(t, err); se.Reason != c.reason || se.Field != c.field {
				t.Errorf("%q on %q (%s); want %q on %q", se.Reason, se.Field, se.Message, c.reason, c.field)
			}
		})
	}
}

func TestConnect_InvalidURL(t *testing.T) {
	_, a := newSimulator(t, adapters.SMS)
	ep := endpoint(adapters.SMS)
	ep.WebhookURL = "/hooks/sms/one"
	se := asSetupError(t, a.Connect(t.Context(), ep))
	if se.Reason != adapters.Refused || !strings.Contains(se.Message, "not a valid URL") {
		t.Errorf("%+v", se)
	}
}

func TestCheck_MessagingService(t *testing.T) {
	for name, c := range map[string]struct {
		url  string
		warn bool
	}{
		"ElsewhereWarns": {"https://other.example/pool", true},
		"OursIsFine":     {testWebhookURL, false},
		"NumbersOwn":     {"", false},
	} {
		t.Run(name, func(t *testing.T) {
			tw, a := newSimulator(t, adapters.SMS)
			tw.AddService(testAccountSID, "", "+15005550008")
			sid := tw.AddService(testAccountSID, c.url, testNumber)
			ep, err := a.Check(t.Context(), endpoint(adapters.SMS))
			if err != nil {
				t.Fatal(err)
			}
			if ep.Settings[MessagingService] != sid || (ep.Settings[adapters.Warning] != "") != c.warn {
				t.Errorf("settings %v; want service %s, warning %v", ep.Settings, sid, c.warn)
			}
		})
	}
}

// A server without Messaging Services is set up all the same.
func TestCheck_NoMessagingServices(t *testing.T) {
	tw, _ := newSimulator(t, adapters.SMS)
	for name, c := range map[string]struct {
		fault simulator.Fault
		warn  bool
	}{
		"NotFound": {simulator.Fault{Status: 404, Body: "404 page not found"}, false},
		"NotYours": {simulator.Fault{Status: 403, Body: `{"code":20403}`}, false},
		"Away":     {simulator.Fault{Status: 503}, true},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { tw.ServeHTTP(w, r) }))
			defer srv.Close()
			tw.Arm("Services.list", c.fault)
			ep := endpoint(adapters.SMS)
			ep.Settings = nil
			ep, err := Adapter{Name: adapters.SMS, APIURL: srv.URL}.Check(t.Context(), ep)
			if err != nil || (ep.Settings[adapters.Warning] != "") != c.warn || ep.Settings[MessagingService] != "" {
				t.Errorf("%v, %v", ep.Settings, err)
			}
		})
	}
}

// A WhatsApp sender is in no list and cannot be set up through the API: staff are
// told what to enter where.
func TestSetup_WhatsApp(t *testing.T) {
	tw, a := newSimulator(t, adapters.WhatsApp)
	ep := endpoint(adapters.WhatsApp)
	ep.Address = "whatsapp:+1 500 555 0042"
	ep, err := a.Check(t.Context(), ep)
	if err != nil {
		t.Fatal(err)
	}
	if ep.Address != "+15005550042" || !strings.Contains(ep.Settings[adapters.Warning], testWebhookURL) {
		t.Errorf("address %q, settings %v", ep.Address, ep.Settings)
	}
	if err := errors.Join(a.Connect(t.Context(), ep), a.Disconnect(t.Context(), ep)); err != nil {
		t.Error(err)
	}
	if u, _ := tw.Webhook(testNumber); u != "" {
		t.Errorf("the SMS number was changed to %q", u)
	}
}

func TestMessagingOrigin(t *testing.T) {
	for api, want := range map[string]string{
		"":                                  "https://messaging.twilio.com",
		"https://api.dublin.ie1.twilio.com": "https://messaging.dublin.ie1.twilio.com",
		"http://127.0.0.1:8080/":            "http://127.0.0.1:8080",
		"https://api.twilio.com.evil.test":  "https://api.twilio.com.evil.test",
	} {
		if got := (Adapter{APIURL: api}).messagingOrigin(); got != want {
			t.Errorf("%q: %q; want %q", api, got, want)
		}
	}
}
