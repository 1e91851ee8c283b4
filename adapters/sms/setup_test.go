package sms

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	api "github.com/twilio/twilio-go/rest/api/v2010"

	"hydragate/adapters"
	"hydragate/adapters/simulator"
)

var _ adapters.StatusReporter = Adapter{}

func asSetupError(t *testing.T, err error) *adapters.SetupError {
	t.Helper()
	var se *adapters.SetupError
	if !errors.As(err, &se) {
		t.Fatalf("error = %v (%T), want a *SetupError", err, err)
	}
	if strings.Contains(se.Error()+se.Message, testAuthToken) {
		t.Error("the error contains the token")
	}
	return se
}

// checkWebhook fails the test unless the number has these webhook URLs.
func checkWebhook(t *testing.T, tw *simulator.Twilio, wantURL, wantFallback string) {
	t.Helper()
	if u, fallback := tw.Webhook(testNumber); u != wantURL || fallback != wantFallback {
		t.Errorf("webhook = %q, fallback %q, want %q, %q", u, fallback, wantURL, wantFallback)
	}
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
		t.Errorf("Check = address %q, settings %v, want %q, the SID of the number and no warning",
			ep.Address, ep.Settings, testNumber)
	}
	checkWebhook(t, tw, "", "") // Check changes nothing
	twilio, err := a.newAPI(t.Context(), ep)
	if err != nil {
		t.Fatal(err)
	}
	application := (&api.UpdateIncomingPhoneNumberParams{}).SetSmsApplicationSid("AP00000000000000000000000000000001")
	if _, err := twilio.UpdateIncomingPhoneNumber(ep.Settings[adapters.NumberSID], application); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := a.Connect(t.Context(), ep); err != nil {
			t.Fatal(err)
		}
		checkWebhook(t, tw, testWebhookURL+"#rc=5&rp=all", testWebhookURL)
		if n, err := a.findNumber(t.Context(), ep); err != nil || deref(n.SmsApplicationSid) != "" {
			t.Errorf("application = %q, %v, want none that overrides the webhook", deref(n.SmsApplicationSid), err)
		}
	}
	for range 2 {
		if err := a.Disconnect(t.Context(), ep); err != nil {
			t.Fatal(err)
		}
		checkWebhook(t, tw, "", "")
	}
}

func TestDisconnect_OtherWebhook(t *testing.T) {
	const otherURL, otherFallback = "https://other.example/sms", "https://other.example/fallback"
	tw, a := newSimulator(t, adapters.SMS)
	tw.SetWebhook(testNumber, otherURL, otherFallback)
	if err := a.Disconnect(t.Context(), endpoint(adapters.SMS)); err != nil {
		t.Fatal(err)
	}
	checkWebhook(t, tw, otherURL, otherFallback)
	tw.SetWebhook(testNumber, testWebhookURL, otherFallback)
	if err := a.Disconnect(t.Context(), endpoint(adapters.SMS)); err != nil {
		t.Fatal(err)
	}
	checkWebhook(t, tw, "", otherFallback)
	sold := endpoint(adapters.SMS)
	sold.Address = "+15005550009"
	if err := a.Disconnect(t.Context(), sold); err != nil {
		t.Errorf("Disconnect of a number that the account does not have = %v, want nil", err)
	}
}

func TestCheck_InvalidInput(t *testing.T) {
	_, a := newSimulator(t, adapters.SMS)
	for name, c := range map[string]struct {
		change func(ep *adapters.Endpoint)
		reason adapters.Reason
		field  string
	}{
		"malformed account SID": {
			func(ep *adapters.Endpoint) { ep.Credentials[adapters.AccountSID] = "AC1/../../evil" },
			adapters.Refused, adapters.AccountSID,
		},
		"malformed token": {
			func(ep *adapters.Endpoint) { ep.Credentials[adapters.AuthToken] = "secret" },
			adapters.Refused, adapters.AuthToken,
		},
		"no token": {
			func(ep *adapters.Endpoint) { ep.Credentials[adapters.AuthToken] = "" },
			adapters.Refused, adapters.AuthToken,
		},
		"wrong token": {
			func(ep *adapters.Endpoint) { ep.Credentials[adapters.AuthToken] = strings.Repeat("0", 32) },
			adapters.BadSecret, adapters.AuthToken,
		},
		"malformed number":      {setAddress("555 0006"), adapters.Refused, phoneNumberField},
		"short code":            {setAddress("72975"), adapters.Refused, phoneNumberField},
		"number not in account": {setAddress("+15005550001"), adapters.Refused, phoneNumberField},
		"part of a number":      {setAddress("+1500555000"), adapters.Refused, phoneNumberField},
	} {
		t.Run(name, func(t *testing.T) {
			ep := endpoint(adapters.SMS)
			c.change(&ep)
			_, err := a.Check(t.Context(), ep)
			se := asSetupError(t, err)
			if se.Reason != c.reason || se.Field != c.field || se.Message == "" {
				t.Errorf("Check = %q on %q (%s), want %q on %q", se.Reason, se.Field, se.Message, c.reason, c.field)
			}
		})
	}
}

func setAddress(address string) func(ep *adapters.Endpoint) {
	return func(ep *adapters.Endpoint) { ep.Address = address }
}

func TestCheck_TwilioError(t *testing.T) {
	numbers := func(sid, sms string) simulator.Fault {
		return simulator.Fault{Status: 200, Body: fmt.Sprintf(
			`{"incoming_phone_numbers":[{"sid":%q,"phone_number":%q,"capabilities":{"sms":%s}}]}`, sid, testNumber, sms)}
	}
	notFound := simulator.Fault{Status: 404, Body: `{"code":20404,"message":"not found"}`}
	suspended := simulator.Fault{Status: 200, Body: `{"status":"suspended"}`}
	const account, list = "Accounts.fetch", "IncomingPhoneNumbers.list"
	const sid = "PN00000000000000000000000000000001"
	for name, c := range map[string]struct {
		call   string
		fault  simulator.Fault
		reason adapters.Reason
		field  string
	}{
		"unavailable":       {account, simulator.Fault{Status: 503}, adapters.Unreachable, ""},
		"account not found": {account, notFound, adapters.Refused, adapters.AccountSID},
		"account suspended": {account, suspended, adapters.Refused, adapters.AccountSID},
		"response in HTML":  {account, simulator.Fault{Status: 200, Body: "<html>"}, adapters.Unreachable, ""},
		"throttled":         {list, simulator.Fault{Status: 429}, adapters.Throttled, ""},
		"connection cut":    {list, simulator.Fault{Cut: true}, adapters.Unreachable, ""},
		"voice only":        {list, numbers(sid, "false"), adapters.Refused, phoneNumberField},
		"path in SID":       {list, numbers("PN/../x", "true"), adapters.Refused, phoneNumberField},
		"wrong JSON type":   {list, numbers(sid, "1"), adapters.Unreachable, ""},
	} {
		t.Run(name, func(t *testing.T) {
			tw, a := newSimulator(t, adapters.SMS)
			tw.Arm(c.call, c.fault, c.fault) // net/http may retry
			_, err := a.Check(t.Context(), endpoint(adapters.SMS))
			if se := asSetupError(t, err); se.Reason != c.reason || se.Field != c.field {
				t.Errorf("Check = %q on %q (%s), want %q on %q", se.Reason, se.Field, se.Message, c.reason, c.field)
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
		t.Errorf("Connect = %+v, want %q with Twilio's message", se, adapters.Refused)
	}
}

func TestCheck_MessagingService(t *testing.T) {
	for name, c := range map[string]struct {
		url         string
		wantWarning bool
	}{
		"other webhook":         {"https://other.example/pool", true},
		"our webhook":           {testWebhookURL, false},
		"webhook of the number": {"", false},
	} {
		t.Run(name, func(t *testing.T) {
			tw, a := newSimulator(t, adapters.SMS)
			tw.AddService(testAccountSID, "", "+15005550008")
			sid := tw.AddService(testAccountSID, c.url, testNumber)
			ep, err := a.Check(t.Context(), endpoint(adapters.SMS))
			if err != nil {
				t.Fatal(err)
			}
			if ep.Settings[adapters.MessagingService] != sid || (ep.Settings[adapters.Warning] != "") != c.wantWarning {
				t.Errorf("settings = %v, want service %s, warning: %v", ep.Settings, sid, c.wantWarning)
			}
		})
	}
}

// Check succeeds on a server without Messaging Services.
func TestCheck_NoMessagingServices(t *testing.T) {
	const list, member = "Services.list", "Services.PhoneNumbers.fetch"
	for name, c := range map[string]struct {
		call        string
		fault       simulator.Fault
		wantWarning bool
	}{
		"not found":           {list, simulator.Fault{Status: 404, Body: "404 page not found"}, false},
		"forbidden":           {list, simulator.Fault{Status: 403, Body: `{"code":20403}`}, false},
		"unavailable":         {list, simulator.Fault{Status: 503}, true},
		"numbers unavailable": {member, simulator.Fault{Status: 503}, true},
	} {
		t.Run(name, func(t *testing.T) {
			tw, a := newSimulator(t, adapters.SMS)
			tw.AddService(testAccountSID, "", "+15005550008")
			tw.Arm(c.call, c.fault)
			ep := endpoint(adapters.SMS)
			ep.Settings = nil
			ep, err := a.Check(t.Context(), ep)
			if err != nil {
				t.Fatal(err)
			}
			if (ep.Settings[adapters.Warning] != "") != c.wantWarning || ep.Settings[adapters.MessagingService] != "" {
				t.Errorf("settings = %v, want no service, warning: %v", ep.Settings, c.wantWarning)
			}
		})
	}
}

// TestSetup_WhatsApp checks that the webhook of a WhatsApp sender is set, and removed only if it is still
// the gateway's. The status callback of the sender remains.
func TestSetup_WhatsApp(t *testing.T) {
	tw, a := newSimulator(t, adapters.WhatsApp)
	for n := range senderPageSize { // of the first page
		tw.SetWhatsAppURL(testAccountSID, fmt.Sprintf("+1500556%04d", n), "https://other.example", "")
	}
	ep := endpoint(adapters.WhatsApp)
	ep.Address = "+15005570000"
	tw.SetWhatsAppURL(testAccountSID, ep.Address, "https://other.example", "")
	ep, err := a.Check(t.Context(), ep)
	if err != nil || ep.Settings[adapters.Warning] != "" {
		t.Fatalf("Check() = %v, %v, want no warning for a sender that Twilio lists", ep.Settings, err)
	}
	step := func(name string, do func(context.Context, adapters.Endpoint) error, want, wantFallback string) {
		t.Helper()
		err := do(t.Context(), ep)
		if u, fallback := tw.Webhook("whatsapp:" + ep.Address); err != nil || u != want || fallback != wantFallback {
			t.Errorf("webhook after %s = %q, %q, %v, want %q, %q", name, u, fallback, err, want, wantFallback)
		}
	}
	step("Connect", a.Connect, testWebhookURL, testWebhookURL)
	step("Disconnect", a.Disconnect, "", "")
	tw.SetWebhook("whatsapp:"+ep.Address, "https://other.example", "https://other.example")
	step("Disconnect of another program", a.Disconnect, "https://other.example", "https://other.example")
	tw.Arm("Senders.list", twilioFault(http.StatusUnauthorized, 20003))
	if _, err := a.Check(t.Context(), ep); asSetupError(t, err).Reason != adapters.BadSecret {
		t.Errorf("Check() with a token that the API rejects = %v", err)
	}
}

// TestSetup_WhatsAppUnlisted checks that a warning says what to enter in the console for a sender that
// Twilio does not list, such as the sandbox.
func TestSetup_WhatsAppUnlisted(t *testing.T) {
	tw, a := newSimulator(t, adapters.WhatsApp)
	tw.Arm("Senders.list", twilioFault(http.StatusNotFound, 20404))
	ep := endpoint(adapters.WhatsApp)
	ep.Address = "whatsapp:+1 500 555 0043"
	ep, err := a.Check(t.Context(), ep)
	if err != nil {
		t.Fatal(err)
	}
	if ep.Address != "+15005550043" || !strings.Contains(ep.Settings[adapters.Warning], testWebhookURL) {
		t.Errorf("Check = address %q, settings %v, want +15005550043 and a warning with the webhook URL",
			ep.Address, ep.Settings)
	}
	if err := errors.Join(a.Connect(t.Context(), ep), a.Disconnect(t.Context(), ep)); err != nil {
		t.Error(err)
	}
	checkWebhook(t, tw, "", "") // the SMS number is unchanged
}

func TestMessagingOrigin(t *testing.T) {
	for api, want := range map[string]string{
		"":                                  "https://messaging.twilio.com",
		"https://api.dublin.ie1.twilio.com": "https://messaging.dublin.ie1.twilio.com",
		"http://127.0.0.1:8080/":            "http://127.0.0.1:8080",
		"https://api.twilio.com.evil.test":  "https://api.twilio.com.evil.test",
	} {
		if got := (Adapter{APIURL: api}).messagingOrigin(); got != want {
			t.Errorf("messagingOrigin of %q = %q, want %q", api, got, want)
		}
	}
}

// TestWhatsApp_OwnNumber checks that a WhatsApp sender is used exactly as Twilio writes it, also if people's
// numbers of that form are stored in another one.
func TestWhatsApp_OwnNumber(t *testing.T) {
	const own = "+5215512345678"
	tw, a := newSimulator(t, adapters.WhatsApp)
	tw.SetWhatsAppURL(testAccountSID, own, testWebhookURL, "")
	ep := endpoint(adapters.WhatsApp)
	ep.Address = "whatsapp:" + own
	ep, err := a.Check(t.Context(), ep)
	if err != nil || ep.Address != own {
		t.Fatalf("Check = %q, %v, want %s", ep.Address, err, own)
	}
	form := testForm("From", "whatsapp:"+steve, "To", "whatsapp:"+own)
	if _, err := a.Receive(newRequest(testAuthToken, testWebhookURL, form), ep, ""); err != nil {
		t.Errorf("Receive of a message to %s = %v", own, err)
	}
	form = testForm("From", "whatsapp:"+steve, "To", "whatsapp:+525512345678")
	if _, err := a.Receive(newRequest(testAuthToken, testWebhookURL, form), ep, ""); err == nil {
		t.Error("Receive of a message to the other form of the number = nil, want an error")
	}
	if p := a.messageParams(ep, adapters.Reply{To: steve, Text: "hi"}); *p.From != "whatsapp:"+own {
		t.Errorf("From = %q, want whatsapp:%s", *p.From, own)
	}
}
