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

// swept gives what a sweep hands over.
func swept(t *testing.T, a Adapter, ep adapters.Endpoint) (ms []adapters.Message, batches int) {
	t.Helper()
	err := a.Sweep(t.Context(), ep, time.Now().Add(-time.Minute), func(_ context.Context, batch []adapters.Message) error {
		ms = append(ms, batch...)
		batches++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return ms, batches
}

func TestSweep(t *testing.T) {
	tw, a := pretend(t, adapters.SMS)
	ep := endpoint(adapters.SMS)
	ep.Settings = nil
	tw.AddNumber(theAccount, "+15005550007")
	var want []string
	for i := range 250 {
		want = append(want, theAccount+":"+tw.Text(steve, theNumber, fmt.Sprint("text ", i)))
	}
	tw.Text(steve, "+15005550007", "not for this endpoint")
	if _, err := a.Send(t.Context(), ep, adapters.Reply{To: steve, Text: "not received"}); err != nil {
		t.Fatal(err)
	}
	withMedia := tw.Text(steve, theNumber, "look", simulator.TwilioMedia("image/png"))
	want = append(want, theAccount+":"+withMedia)

	ms, batches := swept(t, a, ep)
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
func TestSweepKeyIsTheWebhooks(t *testing.T) {
	for _, ch := range []adapters.Channel{adapters.SMS, adapters.WhatsApp} {
		tw, a := pretend(t, ch)
		sid := tw.Text(a.wire(steve), a.wire(theNumber), "hello")
		ms, _ := swept(t, a, endpoint(ch))
		body := form("MessageSid", sid, "From", a.wire(steve), "To", a.wire(theNumber), "Body", "hello")
		in, err := a.Receive(request(theToken, theURL, body), endpoint(ch), "")
		if err != nil || len(ms) != 1 {
			t.Fatal(ms, err)
		}
		if ms[0].Key != in.Messages[0].Key || ms[0].Sender != in.Messages[0].Sender || ms[0].Place != in.Messages[0].Place {
			t.Errorf("%s: swept %+v, received %+v", ch, ms[0], in.Messages[0])
		}
	}
}

// WhatsApp's Mexican numbers have a 1 that nobody dials. Whoever sends from one is known
// by the number that staff would enter, by webhook and log alike, and answered at the one
// that WhatsApp knows.
func TestSenderIsSpelledAsStaffDoes(t *testing.T) {
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
		tw, a := pretend(t, c.ch)
		ep := endpoint(c.ch)
		sid := tw.Text(a.wire(c.from), a.wire(theNumber), "hello")
		in, err := a.Receive(request(theToken, theURL, form("MessageSid", sid, "From", a.wire(c.from), "To", a.wire(theNumber), "Body", "hello")), ep, "")
		if err != nil {
			t.Fatal(err)
		}
		ms, _ := swept(t, a, ep)
		for _, m := range append(ms, in.Messages...) {
			if m.Sender.ID != c.want || m.Place.ID != c.from || len(ms) != 1 {
				t.Errorf("%s %s is known as %s, at %s; want %s", c.ch, c.from, m.Sender.ID, m.Place.ID, c.want)
			}
			if entered, err := identity.Normalise(string(c.ch), c.from); err == nil && m.Unproven == "" && entered != m.Sender.ID {
				t.Errorf("%s %s is known as %s, and looked up as %s", c.ch, c.from, m.Sender.ID, entered)
			}
			if _, err := a.Send(t.Context(), ep, adapters.Reply{To: m.Sender.ID, Place: m.Place, Text: "hi"}); err != nil && m.Unproven == "" {
				t.Error(err)
			}
		}
		if got := sentTo(tw, a.wire(c.from)); len(got) != 2 && isPhone(c.from) {
			t.Errorf("%s was sent %q", c.from, got)
		}
	}
}

func TestSweepOfAPool(t *testing.T) {
	tw, a := pretend(t, adapters.SMS)
	tw.AddNumber(theAccount, "+15005550007")
	ep := endpoint(adapters.SMS)
	ep.Settings = map[string]string{MessagingService: tw.AddService(theAccount, theURL, theNumber, "+15005550007")}
	tw.AddNumber(theAccount, "+15005550008")
	tw.Text(steve, "+15005550007", "pool")
	tw.Text(steve, "+15005550008", "another instance")
	ms, _ := swept(t, a, ep)
	if len(ms) != 1 || ms[0].Text != "pool" || ms[0].Place.Thread != "+15005550007" {
		t.Errorf("%+v", ms)
	}
}

func TestSweepStops(t *testing.T) {
	tw, a := pretend(t, adapters.SMS)
	ep := endpoint(adapters.SMS)
	for range 101 {
		tw.Text(steve, theNumber, "hi")
	}
	full := errors.New("full")
	calls := 0
	err := a.Sweep(t.Context(), ep, time.Now().Add(-time.Minute), func(context.Context, []adapters.Message) error {
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
		if err := a.Sweep(t.Context(), ep, time.Now(), never); reasonOf(t, err) != adapters.Unreachable {
			t.Errorf("%s: %v", name, err)
		}
	}
}
