package sms

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/adapters/simulator"
	"hydragate/identity"
)

// collectLog gives what a sweep hands over.
func collectLog(t *testing.T, a Adapter, ep adapters.Endpoint) (ms []adapters.Message, batches int) {
	t.Helper()
	err := a.FetchLog(t.Context(), ep, time.Now().Add(-time.Minute), func(_ context.Context, batch []adapters.Message) error {
		ms = append(ms, batch...)
		batches++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return ms, batches
}

func TestFetchLog(t *testing.T) {
	tw, a := newSimulator(t, adapters.SMS)
	ep := endpoint(adapters.SMS)
	ep.Settings = nil
	tw.AddNumber(testAccountSID, "+15005550007")
	var want []string
	for i := range 250 {
		want = append(want, testAccountSID+":"+tw.SendText(steve, testNumber, fmt.Sprint("text ", i)))
	}
	tw.SendText(steve, "+15005550007", "not for this endpoint")
	if _, err := a.Send(t.Context(), ep, adapters.Reply{To: steve, Text: "not received"}); err != nil {
		t.Fatal(err)
	}
	withMedia := tw.SendText(steve, testNumber, "look", simulator.TwilioMedia("image/png"))
	want = append(want, testAccountSID+":"+withMedia)

	ms, batches := collectLog(t, a, ep)
	var got []string
	for _, m := range ms {
		got = append(got, m.Key)
	}
	if !slices.Equal(got, want) || batches != 3 {
		t.Fatalf("%d messages in %d batches; want %d in 3, oldest first", len(got), batches, len(want))
	}
	if m := ms[7]; m.Kind != adapters.Text || m.Text != "text 7" || m.Sender.ID != steve || m.SentAt.IsZero() {
		t.Errorf("%+v", m)
	}
	if m := ms[250]; m.Kind != adapters.Media || len(m.Media) != 1 || m.Media[0].Kind != "image" {
		t.Errorf("%+v", m)
	}
}

// A text that no webhook brought is found under the Key its webhook has.
func TestFetchLog_SameKeyAsWebhook(t *testing.T) {
	for _, ch := range []adapters.Channel{adapters.SMS, adapters.WhatsApp} {
		tw, a := newSimulator(t, ch)
		sid := tw.SendText(a.twilioAddress(steve), a.twilioAddress(testNumber), "hello")
		ms, _ := collectLog(t, a, endpoint(ch))
		body := testForm("MessageSid", sid, "From", a.twilioAddress(steve), "To", a.twilioAddress(testNumber), "Body", "hello")
		in, err := a.Receive(newRequest(testAuthToken, testWebhookURL, body), endpoint(ch), "")
		if err != nil || len(ms) != 1 {
			t.Fatal(ms, err)
		}
		if ms[0].Key != in.Messages[0].Key || ms[0].Sender != in.Messages[0].Sender || ms[0].Chat != in.Messages[0].Chat {
			t.Errorf("%s: swept %+v, received %+v", ch, ms[0], in.Messages[0])
		}
	}
}

// WhatsApp's Mexican numbers have a 1 that nobody dials. Whoever sends from one is known
// by the number that staff would enter, by webhook and log alike, and answered at the one
// that WhatsApp knows.
func TestSender_Normalized(t *testing.T) {
	for _, c := range []struct {
		ch         adapters.Channel
		from, want string
	}{
		{adapters.WhatsApp, "+5215512345678", "+525512345678"},
		{adapters.SMS, "+5215512345678", "+525512345678"},
		{adapters.WhatsApp, "+525512345678", "+525512345678"},
		{adapters.WhatsApp, "+521551234567", "+521551234567"},
		{adapters.WhatsApp, "+5210512345678", "+5210512345678"},
		{adapters.WhatsApp, "+5491123456789", "+5491123456789"},
		{adapters.SMS, steve, steve},
		{adapters.SMS, "72975", "72975"},
	} {
		tw, a := newSimulator(t, c.ch)
		ep := endpoint(c.ch)
		sid := tw.SendText(a.twilioAddress(c.from), a.twilioAddress(testNumber), "hello")
		in, err := a.Receive(newRequest(testAuthToken, testWebhookURL, testForm("MessageSid", sid, "From", a.twilioAddress(c.from), "To", a.twilioAddress(testNumber), "Body", "hello")), ep, "")
		if err != nil {
			t.Fatal(err)
		}
		ms, _ := collectLog(t, a, ep)
		for _, m := range append(ms, in.Messages...) {
			if m.Sender.ID != c.want || m.Chat.ID != c.from || len(ms) != 1 {
				t.Errorf("%s %s is known as %s, at %s; want %s", c.ch, c.from, m.Sender.ID, m.Chat.ID, c.want)
			}
			if entered, err := identity.Normalize(identity.Format(adapters.TraitsOf(c.ch).IDFormat), c.from); err == nil && m.UnprovenReason == "" && entered != m.Sender.ID {
				t.Errorf("%s %s is known as %s, and looked up as %s", c.ch, c.from, m.Sender.ID, entered)
			}
			if _, err := a.Send(t.Context(), ep, adapters.Reply{To: m.Sender.ID, Chat: m.Chat, Text: "hi"}); err != nil && m.UnprovenReason == "" {
				t.Error(err)
			}
		}
		if got := sentTexts(tw, a.twilioAddress(c.from)); len(got) != 2 && isE164(c.from) {
			t.Errorf("%s was sent %q", c.from, got)
		}
	}
}

func TestFetchLog_MessagingService(t *testing.T) {
	tw, a := newSimulator(t, adapters.SMS)
	tw.AddNumber(testAccountSID, "+15005550007")
	ep := endpoint(adapters.SMS)
	ep.Settings = map[string]string{MessagingService: tw.AddService(testAccountSID, testWebhookURL, testNumber, "+15005550007")}
	tw.AddNumber(testAccountSID, "+15005550008")
	tw.SendText(steve, "+15005550007", "pool")
	tw.SendText(steve, "+15005550008", "another instance")
	ms, _ := collectLog(t, a, ep)
	if len(ms) != 1 || ms[0].Text != "pool" || ms[0].Chat.Thread != "+15005550007" {
		t.Errorf("%+v", ms)
	}
}

func TestFetchLog_Errors(t *testing.T) {
	tw, a := newSimulator(t, adapters.SMS)
	ep := endpoint(adapters.SMS)
	for range 101 {
		tw.SendText(steve, testNumber, "hi")
	}
	full := errors.New("full")
	calls := 0
	err := a.FetchLog(t.Context(), ep, time.Now().Add(-time.Minute), func(context.Context, []adapters.Message) error {
		calls++
		return full
	})
	if !errors.Is(err, full) || calls != 1 {
		t.Errorf("%d calls, %v", calls, err)
	}
	never := func(context.Context, []adapters.Message) error {
		t.Error("handed over a part")
		return nil
	}
	next := `{"messages":[],"next_page_uri":%q}`
	for name, f := range map[string]simulator.Fault{
		"Away":           {Status: 503},
		"OtherHost":      {Status: 200, Body: fmt.Sprintf(next, "//evil.example/x")},
		"OtherAccount":   {Status: 200, Body: fmt.Sprintf(next, "/2010-04-01/Accounts/AC0/Messages.json?Page=1")},
		"HostInUserinfo": {Status: 200, Body: fmt.Sprintf(next, "@evil.example/x")},
	} {
		tw.Arm("Messages.list", f)
		if err := a.FetchLog(t.Context(), ep, time.Now(), never); sendErrorReason(t, err) != adapters.Unreachable {
			t.Errorf("%s: %v", name, err)
		}
	}
}
