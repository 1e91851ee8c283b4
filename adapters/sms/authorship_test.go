package sms

import (
	"testing"

	"hydragate/adapters"
	"hydragate/adapters/simulator"
)

// TestReceive_Authorship checks whose words a message holds, as its webhook and as Twilio's log tell.
func TestReceive_Authorship(t *testing.T) {
	forwarded := func(value string) []string { return []string{"Forwarded", value} }
	for name, c := range map[string]struct {
		ch           adapters.Channel
		from         string
		params       []string
		webhook, log adapters.Author
	}{
		"text":                 {adapters.SMS, steve, nil, "sender", "sender"},
		"short code":           {adapters.SMS, "72975", nil, "unknown", "unknown"},
		"name":                 {adapters.SMS, "ACME Shop", nil, "unknown", "unknown"},
		"withheld number":      {adapters.SMS, "+266696687", nil, "unknown", "unknown"},
		"WhatsApp":             {adapters.WhatsApp, steve, nil, "sender", "unknown"},
		"scoped ID":            {adapters.WhatsApp, "US.abc123", nil, "sender", "unknown"},
		"not forwarded":        {adapters.WhatsApp, steve, forwarded("false"), "sender", "unknown"},
		"forwarded":            {adapters.WhatsApp, steve, forwarded("true"), "other", "unknown"},
		"forwarded scoped ID":  {adapters.WhatsApp, "US.abc123", forwarded("true"), "other", "unknown"},
		"forwarded, new value": {adapters.WhatsApp, steve, forwarded("Once"), "other", "unknown"},
		"often forwarded":      {adapters.WhatsApp, steve, []string{"FrequentlyForwarded", "True"}, "other", "unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			tw, a := newSimulator(t, c.ch)
			var options []simulator.TwilioOption
			for i := 0; i < len(c.params); i += 2 {
				options = append(options, simulator.TwilioParam(c.params[i], c.params[i+1]))
			}
			from, to := a.twilioAddress(c.from), a.twilioAddress(testNumber)
			sid := tw.SendText(from, to, "/claim WDJBMJ", options...)
			form := testForm(append(c.params, "MessageSid", sid, "From", from, "To", to, "Body", "/claim WDJBMJ")...)
			in, err := a.Receive(newRequest(testAuthToken, testWebhookURL, form), endpoint(c.ch), "")
			if err != nil {
				t.Fatal(err)
			}
			logged, _ := fetchLog(t, a, endpoint(c.ch))
			if len(in.Messages) != 1 || len(logged) != 1 {
				t.Fatalf("%d messages in the webhook and %d in the log, want 1 and 1", len(in.Messages), len(logged))
			}
			for place, m := range map[string]adapters.Message{"webhook": in.Messages[0], "log": logged[0]} {
				want := c.webhook
				if place == "log" {
					want = c.log
				}
				if m.WrittenBy() != want || want != adapters.AuthorSender && m.UnprovenReason == "" {
					t.Errorf("%s: written by %q, unproven %q, want %q", place, m.WrittenBy(), m.UnprovenReason, want)
				}
			}
			if m := logged[0]; c.ch == adapters.SMS && m.UnprovenReason != in.Messages[0].UnprovenReason {
				t.Errorf(
					"text in the log is unproven %q, want %q as in the webhook",
					m.UnprovenReason,
					in.Messages[0].UnprovenReason,
				)
			}
		})
	}
}
