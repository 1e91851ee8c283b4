package sms

import (
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"hydragate/adapters"
	"hydragate/adapters/adaptertest"
	"hydragate/adapters/simulator"
)

// newConnectedGateway returns a simulated Twilio and a gateway whose endpoint has been set up.
func newConnectedGateway(t *testing.T, ch adapters.Channel) (*simulator.Twilio, *adaptertest.Gateway) {
	t.Helper()
	tw, a := newSimulator(t, ch)
	g := &adaptertest.Gateway{Adapter: a, Webhooks: []string{statusWebhook}}
	srv := httptest.NewServer(g)
	t.Cleanup(srv.Close)
	ep := endpoint(ch)
	ep.WebhookURL = srv.URL + "/hooks/" + string(ch) + "/one"
	ep, err := a.Check(t.Context(), ep)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Connect(t.Context(), ep); err != nil {
		t.Fatal(err)
	}
	tw.SetWhatsAppURL(testAccountSID, testNumber, ep.WebhookURL, ep.WebhookURL)
	g.Endpoint = ep
	return tw, g
}

// checkNoReplies fails the test if Twilio has sent the response of a webhook to a person.
func checkNoReplies(t *testing.T, tw *simulator.Twilio) {
	t.Helper()
	if n := len(tw.Replies("")); n != 0 {
		t.Errorf("Twilio sent %d webhook responses to the person, want 0", n)
	}
}

func TestWebhook(t *testing.T) {
	for _, ch := range []adapters.Channel{adapters.SMS, adapters.WhatsApp} {
		t.Run(string(ch), func(t *testing.T) {
			tw, g := newConnectedGateway(t, ch)
			from, to := (Adapter{Name: ch}).twilioAddress(steve), (Adapter{Name: ch}).twilioAddress(testNumber)
			sid := tw.SendText(from, to, "/claim WDJBMJ", simulator.TwilioParam("NewParameter", "x"))
			m := g.Store.Last()
			if m.Key != testAccountSID+":"+sid || m.Sender.ID != steve || m.Command == nil ||
				m.Command.Args != "WDJBMJ" || m.UnprovenReason != "" {
				t.Errorf("message = %+v, want the command of %s", m, steve)
			}
			if attempts := tw.Attempts(sid); !tw.Delivered(sid) || len(attempts) != 1 {
				t.Errorf("attempts = %+v, want 1 that succeeds", attempts)
			}
			checkNoReplies(t, tw)
		})
	}
}

// Twilio retries the webhook and then the fallback URL until the message is stored. All attempts
// carry one message.
func TestWebhook_StoreOutage(t *testing.T) {
	for failures, attempts := range map[int]int{1: 2, 5: 6, 6: 7} {
		tw, g := newConnectedGateway(t, adapters.SMS)
		g.Store.NextErr = adaptertest.FailTimes(failures)
		sid := tw.SendText(steve, testNumber, "hello")
		if got := tw.Attempts(sid); !tw.Delivered(sid) || len(got) != attempts {
			t.Errorf("attempts after %d failures = %+v, want %d, the last successful", failures, got, attempts)
		}
		for range 3 {
			tw.Redeliver(sid)
		}
		if n := len(g.Store.Messages()); n != 1 {
			t.Errorf("%d messages stored, want 1", n)
		}
		checkNoReplies(t, tw)
	}
}

func TestWebhook_TokenRotation(t *testing.T) {
	tw, g := newConnectedGateway(t, adapters.SMS)
	newToken := strings.Repeat("f", 32)
	tw.RotateToken(testAccountSID, newToken)
	if sid := tw.SendText(steve, testNumber, "hello"); tw.Delivered(sid) || len(g.Store.Messages()) != 0 {
		t.Fatal("a message signed with an unknown token is accepted")
	}
	g.Endpoint.Credentials = adapters.Credentials{
		adapters.AccountSID: testAccountSID, adapters.AuthToken: newToken, adapters.AuthToken + "_old": testAuthToken,
	}
	if sid := tw.SendText(steve, testNumber, "hello"); !tw.Delivered(sid) {
		t.Error("a message signed with the new token is rejected")
	}
	checkNoReplies(t, tw)
}

func TestStatusCallbacks(t *testing.T) {
	tw, g := newConnectedGateway(t, adapters.SMS)
	g.Receipts = make(chan []adapters.Receipt, 16)
	tw.OutOfOrder = true
	tw.FailMessages("+14155550102", 30003)
	for to, want := range map[string]adapters.Receipt{
		steve:          {Status: adapters.Delivered},
		"+14155550102": {Status: adapters.Failed, Code: "30003"},
	} {
		reply := adapters.Reply{To: to, Text: "hello", StatusURL: g.Endpoint.WebhookURL + "/status"}
		sid, err := g.Adapter.Send(t.Context(), g.Endpoint, reply)
		if err != nil {
			t.Fatal(err)
		}
		var receipts []adapters.Receipt
		for range 3 {
			receipts = append(receipts, <-g.Receipts...)
		}
		want.ProviderID = sid
		wantAll := []adapters.Receipt{want, {ProviderID: sid, Status: adapters.Sent}}
		if !slices.Equal(receipts, wantAll) {
			t.Errorf("receipts = %+v, want %+v", receipts, wantAll)
		}
	}
}
