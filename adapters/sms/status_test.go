package sms

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/adapters/simulator"
)

func TestStatus(t *testing.T) { //nolint:funlen // a table of cases
	const secondary = "ffffffffffffffffffffffffffffffff"
	const foreign = "https://other.example/secret-path"
	for _, tt := range []struct {
		name     string
		channel  adapters.Channel
		change   func(*simulator.Twilio)
		token    string
		previous string
		last     time.Duration     // age of the last message; 0 if there is none
		settings map[string]string // of the endpoint

		fault    string // part of it, also of an error; "" for none
		repair   time.Duration
		warnings []string
	}{
		{name: "webhook as set up"},
		{
			name: "webhook of another program", change: func(tw *simulator.Twilio) { tw.SetWebhook(testNumber, foreign, "") },
			fault: "https://other.example/…", repair: adapters.RepairForeign,
		},
		{
			name: "webhook removed", change: func(tw *simulator.Twilio) { tw.SetWebhook(testNumber, "", "") },
			fault: "no webhook", repair: adapters.RepairMissing,
		},
		{
			name: "earlier public URL", change: func(tw *simulator.Twilio) {
				tw.SetWebhook(testNumber, strings.Replace(testWebhookURL, "gateway", "old", 1)+"#rc=5", "")
			},
			fault: "https://old.example/…", repair: adapters.RepairOwn,
		},
		{name: "secondary token", token: secondary, fault: "secondary"},
		{name: "secondary token before it is promoted", token: secondary, previous: testAuthToken},
		{
			name:   "service that overrides the webhook",
			change: func(tw *simulator.Twilio) { tw.AddService(testAccountSID, foreign, testNumber) },
			fault:  "Messaging Service",
		},
		{
			name: "new service that overrides the webhook, soon after a message", last: time.Minute,
			change: func(tw *simulator.Twilio) { tw.AddService(testAccountSID, foreign, testNumber) },
		},
		{
			name: "known service that overrides the webhook, soon after a message", last: time.Minute,
			settings: map[string]string{adapters.MessagingService: testServiceSID},
			change:   func(tw *simulator.Twilio) { tw.AddService(testAccountSID, foreign, testNumber) },
			fault:    "Messaging Service",
		},
		{
			name: "service that overrides the webhook, long after a message", last: 2 * time.Hour,
			change: func(tw *simulator.Twilio) { tw.AddService(testAccountSID, foreign, testNumber) },
			fault:  "Messaging Service",
		},
		{
			name:   "service that calls the gateway",
			change: func(tw *simulator.Twilio) { tw.AddService(testAccountSID, testWebhookURL, testNumber) },
		},
		{
			name:   "service that defers to the number",
			change: func(tw *simulator.Twilio) { tw.AddService(testAccountSID, "", testNumber) },
		},
		{
			name: "suspended", change: func(tw *simulator.Twilio) {
				tw.Arm("Accounts.fetch", simulator.Fault{Status: http.StatusOK, Body: `{"status":"suspended"}`})
			},
			fault: "suspended",
		},
		{
			name: "number released", change: func(tw *simulator.Twilio) {
				tw.Arm("IncomingPhoneNumbers.list", simulator.Fault{Status: http.StatusOK, Body: `{"incoming_phone_numbers":[]}`})
			},
			fault: "not in this account",
		},
		{
			name: "token replaced", change: func(tw *simulator.Twilio) { tw.RotateToken(testAccountSID, secondary[1:]+"0") },
			fault: "Authenticate",
		},
		{name: "WhatsApp", channel: adapters.WhatsApp},
		{
			name: "WhatsApp webhook of another program", channel: adapters.WhatsApp,
			change: func(tw *simulator.Twilio) { tw.SetWebhook("whatsapp:"+testNumber, foreign, "") },
			fault:  "https://other.example/…", repair: adapters.RepairForeign,
		},
		{
			name: "WhatsApp webhook removed", channel: adapters.WhatsApp,
			change: func(tw *simulator.Twilio) { tw.SetWebhook("whatsapp:"+testNumber, "", "") },
			fault:  "no webhook", repair: adapters.RepairMissing,
		},
		{
			name: "WhatsApp sender offline", channel: adapters.WhatsApp,
			change: func(tw *simulator.Twilio) { tw.SetOffline(testNumber, "Business account is locked") },
			fault:  "OFFLINE: 63110 Business account is locked",
		},
		{
			name: "service that overrides the WhatsApp webhook", channel: adapters.WhatsApp,
			change: func(tw *simulator.Twilio) { tw.AddService(testAccountSID, foreign, "whatsapp:"+testNumber) },
			fault:  "Messaging Service",
		},
		{
			name: "service with the SMS number only", channel: adapters.WhatsApp,
			change: func(tw *simulator.Twilio) { tw.AddService(testAccountSID, foreign, testNumber) },
		},
		{
			name: "WhatsApp sender that is not listed", channel: adapters.WhatsApp,
			settings: map[string]string{adapters.Warning: "Enter the webhook."}, warnings: []string{"Enter the webhook."},
			change: func(tw *simulator.Twilio) {
				tw.Arm("Senders.list", simulator.Fault{Status: http.StatusOK, Body: `{"senders":[],"meta":{}}`})
			},
		},
		{name: "WhatsApp with the secondary token", channel: adapters.WhatsApp, token: secondary, fault: "secondary"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			channel := tt.channel
			if channel == "" {
				channel = adapters.SMS
			}
			tw, a := newSimulator(t, channel)
			tw.AddSecondaryToken(testAccountSID, secondary)
			ep := endpoint(channel)
			if err := a.Connect(t.Context(), ep); err != nil {
				t.Fatal(err)
			}
			if tt.token != "" {
				ep.Credentials = adapters.Credentials{adapters.AccountSID: testAccountSID, adapters.AuthToken: tt.token}
			}
			if tt.previous != "" {
				ep.Credentials[adapters.AuthToken+adapters.PreviousSuffix] = tt.previous
			}
			if tt.change != nil {
				tt.change(tw)
			}
			last := time.Time{}
			if tt.last != 0 {
				last = time.Now().Add(-tt.last)
			}
			if tt.settings != nil {
				ep.Settings = tt.settings
			}
			got, err := a.Status(t.Context(), ep, last)
			fault := got.Fault
			if err != nil {
				se := asSetupError(t, err)
				fault = se.Message
				if se.Retryable() {
					t.Errorf("Status() = %v, want an error that retrying does not correct", err)
				}
			}
			if (fault == "") != (tt.fault == "") || !strings.Contains(fault, tt.fault) || got.RepairInterval != tt.repair ||
				strings.Contains(fault, "secret-path") || !slices.Equal(got.Warnings, tt.warnings) {
				t.Errorf("Status() = %+v, %v, want fault %q, repair %v, warnings %q", got, err, tt.fault, tt.repair, tt.warnings)
			}
		})
	}
}
