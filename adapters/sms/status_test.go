package sms

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/adapters/simulator"
)

func TestStatus(t *testing.T) {
	const secondary = "ffffffffffffffffffffffffffffffff"
	const foreign = "https://other.example/secret-path"
	for _, tt := range []struct {
		name     string
		channel  adapters.Channel
		change   func(*simulator.Twilio)
		token    string
		previous string

		fault  string // part of it, also of an error; "" for none
		repair time.Duration
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
			got, err := a.Status(t.Context(), ep, time.Time{})
			fault := got.Fault
			if err != nil {
				se := asSetupError(t, err)
				fault = se.Message
				if se.Retryable() {
					t.Errorf("Status() = %v, want an error that retrying does not correct", err)
				}
			}
			if (fault == "") != (tt.fault == "") || !strings.Contains(fault, tt.fault) || got.RepairInterval != tt.repair ||
				strings.Contains(fault, "secret-path") {
				t.Errorf("Status() = %+v, %v, want fault %q, repair %v", got, err, tt.fault, tt.repair)
			}
		})
	}
}
