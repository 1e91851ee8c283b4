package sms

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"hydragate/adapters"
	"hydragate/adapters/simulator"
)

// fetchLog returns the messages of the last minute in the log, and the number of batches.
func fetchLog(t *testing.T, a Adapter, ep adapters.Endpoint) (messages []adapters.Message, batches int) {
	t.Helper()
	store := func(_ context.Context, batch []adapters.Message) error {
		messages = append(messages, batch...)
		batches++
		return nil
	}
	if err := a.FetchLog(t.Context(), ep, time.Now().Add(-time.Minute), store); err != nil {
		t.Fatal(err)
	}
	return messages, batches
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
	tw.SendText(steve, "+15005550007", "to another number")
	if _, err := a.Send(t.Context(), ep, adapters.Reply{To: steve, Text: "outbound"}); err != nil {
		t.Fatal(err)
	}
	withMedia := tw.SendText(steve, testNumber, "look", simulator.TwilioMedia("image/png"))
	want = append(want, testAccountSID+":"+withMedia)

	messages, batches := fetchLog(t, a, ep)
	var got []string
	for _, m := range messages {
		got = append(got, m.Key)
	}
	if !slices.Equal(got, want) || batches != 3 {
		t.Fatalf("FetchLog passes %d messages in %d batches, want %d in 3, oldest first", len(got), batches, len(want))
	}
	if m := messages[7]; m.Kind != adapters.Text || m.Text != "text 7" || m.Sender.ID != steve || m.SentAt.IsZero() {
		t.Errorf("message 7 = %+v, want \"text 7\" of %s with its time", m, steve)
	}
	if m := messages[250]; m.Kind != adapters.Media || len(m.Media) != 1 || m.Media[0].Kind != "image" {
		t.Errorf("message 250 = %+v, want one with an image", m)
	}
	tw.Arm("Media.list", twilioFault(404, 20404))
	messages, _ = fetchLog(t, a, ep)
	if len(messages) != 251 || messages[250].Text != "look" || len(messages[250].Media) != 0 {
		t.Errorf("FetchLog passes %d messages once a file is deleted, want all, the last without a file", len(messages))
	}
}

// A message in the log has the Key of its webhook.
func TestFetchLog_SameKeyAsWebhook(t *testing.T) {
	for _, ch := range []adapters.Channel{adapters.SMS, adapters.WhatsApp} {
		tw, a := newSimulator(t, ch)
		from, to := a.twilioAddress(steve), a.twilioAddress(testNumber)
		sid := tw.SendText(from, to, "hello")
		messages, _ := fetchLog(t, a, endpoint(ch))
		body := testForm("MessageSid", sid, "From", from, "To", to, "Body", "hello")
		in, err := a.Receive(newRequest(testAuthToken, testWebhookURL, body), endpoint(ch), "")
		if err != nil || len(messages) != 1 {
			t.Fatalf("%s: FetchLog passes %d messages, Receive error = %v; want 1, nil", ch, len(messages), err)
		}
		got, want := messages[0], in.Messages[0]
		if got.Key != want.Key || !reflect.DeepEqual(got.Sender, want.Sender) || got.Chat != want.Chat {
			t.Errorf("%s: FetchLog passes %+v, want %+v as received", ch, got, want)
		}
	}
}

func TestFetchLog_MessagingService(t *testing.T) {
	tw, a := newSimulator(t, adapters.SMS)
	tw.AddNumber(testAccountSID, "+15005550007")
	ep := endpoint(adapters.SMS)
	service := tw.AddService(testAccountSID, testWebhookURL, testNumber, "+15005550007")
	ep.Pool = adapters.Pool{ID: service}
	tw.AddNumber(testAccountSID, "+15005550008")
	tw.SendText(steve, "+15005550007", "pool")
	tw.SendText(steve, "+15005550008", "another instance")
	messages, _ := fetchLog(t, a, ep)
	if len(messages) != 1 || messages[0].Text != "pool" || messages[0].Chat.Thread != "+15005550007" {
		t.Errorf("FetchLog passes %+v, want the message to the pool only", messages)
	}
	ep.Pool.Excluded = []adapters.ProviderAddress{{Channel: adapters.SMS, ID: "+15005550007"}}
	tw.SendText(steve, testNumber, "own")
	if messages, _ = fetchLog(t, a, ep); len(messages) != 1 || messages[0].Text != "own" {
		t.Errorf("FetchLog passes %+v, want no message to a number of another endpoint", messages)
	}
}

func TestFetchLog_StoreError(t *testing.T) {
	tw, a := newSimulator(t, adapters.SMS)
	for range 101 {
		tw.SendText(steve, testNumber, "hi")
	}
	errStore := errors.New("store failed")
	calls := 0
	store := func(context.Context, []adapters.Message) error {
		calls++
		return errStore
	}
	err := a.FetchLog(t.Context(), endpoint(adapters.SMS), time.Now().Add(-time.Minute), store)
	if !errors.Is(err, errStore) || calls != 1 {
		t.Errorf("FetchLog = %v after %d calls of store, want %v after 1", err, calls, errStore)
	}
}

func TestFetchLog_TwilioError(t *testing.T) {
	next := func(uri string) simulator.Fault {
		return simulator.Fault{Status: 200, Body: fmt.Sprintf(`{"messages":[],"next_page_uri":%q}`, uri)}
	}
	wrongType := simulator.Fault{Status: 200, Body: `{"messages":[{"sid":15005550006}]}`}
	const messages, media = "Messages.list", "Media.list"
	otherAccount := "/2010-04-01/Accounts/AC0/Messages.json?Page=1"
	samePage := "/2010-04-01/Accounts/" + testAccountSID + "/Messages.json?To=x"
	for name, c := range map[string]struct {
		call  string
		fault simulator.Fault
		want  adapters.Reason
	}{
		"unavailable":                  {messages, simulator.Fault{Status: 503}, adapters.Unreachable},
		"wrong JSON type":              {messages, wrongType, adapters.Ambiguous},
		"next page elsewhere":          {messages, next("//evil.example/x"), adapters.Unreachable},
		"next page of another account": {messages, next(otherAccount), adapters.Unreachable},
		"next page with user":          {messages, next("@evil.example/x"), adapters.Unreachable},
		"same page again":              {messages, next(samePage), adapters.Unreachable},
		"files unavailable":            {media, simulator.Fault{Status: 503}, adapters.Unreachable},
	} {
		t.Run(name, func(t *testing.T) {
			tw, a := newSimulator(t, adapters.SMS)
			tw.SendText(steve, testNumber, "look", simulator.TwilioMedia("image/png"))
			tw.Arm(c.call, c.fault)
			store := func(context.Context, []adapters.Message) error {
				t.Error("store is called with a part of the log")
				return nil
			}
			err := a.FetchLog(t.Context(), endpoint(adapters.SMS), time.Now().Add(-time.Minute), store)
			if got := sendErrorReason(t, err); got != c.want {
				t.Errorf("FetchLog = %v, reason %q, want %q", err, got, c.want)
			}
		})
	}
}

// Two quick texts get the same answer, and it is unclear whether the second was sent: the message of the
// first is not taken for it. Twilio's clock is five seconds behind.
func TestSend_RetryIgnoresOtherReplies(t *testing.T) {
	for name, sent := range map[string]bool{"sent": true, "not sent": false} {
		t.Run(name, func(t *testing.T) {
			tw, a := newSimulator(t, adapters.SMS)
			ep := endpoint(adapters.SMS)
			first, err := a.Send(t.Context(), ep, adapters.Reply{ID: newID(t), To: steve, Text: "Done."})
			if err != nil {
				t.Fatal(err)
			}
			second := adapters.Reply{ID: idAt(time.Now().Add(5 * time.Second)), To: steve, Text: "Done."}
			want := ""
			if sent {
				if want, err = a.Send(t.Context(), ep, second); err != nil {
					t.Fatal(err)
				}
			}
			second.MaybeSent, second.OtherIDs = true, []string{first}
			sid, err := a.Send(t.Context(), ep, second)
			if err != nil || sid == first || sent && sid != want {
				t.Errorf("Send = %q, %v, want the SID of the second reply", sid, err)
			}
			if n := len(tw.Replies(steve)); n != 2 {
				t.Errorf("the person receives %d messages, want 2", n)
			}
		})
	}
}

// idAt returns a UUID of version 7 that was made at a time.
func idAt(at time.Time) string {
	id := uuid.Must(uuid.NewV7())
	for i := range 6 {
		id[i] = byte(at.UnixMilli() >> (40 - 8*i))
	}
	return id.String()
}
