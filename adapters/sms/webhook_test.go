package sms

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"hydragate/adapters"
	"hydragate/adapters/simulator"
)

// A testGateway is a minimal gateway: it stores what the adapter receives, once per Key.
type testGateway struct {
	adapter  Adapter
	endpoint adapters.Endpoint

	mu           sync.Mutex
	failures     int // number of requests for which storing fails
	messages     map[string]adapters.Message
	receipts     []adapters.Receipt
	errs         []error
	receiptAcked chan struct{}
}

func (g *testGateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	webhook := ""
	if strings.HasSuffix(r.URL.Path, "/status") {
		webhook = statusWebhook
	}
	in, err := g.adapter.Receive(r, g.endpoint, webhook)
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil {
		g.errs = append(g.errs, err)
		g.adapter.Refuse(w, http.StatusForbidden)
		return
	}
	if g.failures > 0 {
		g.failures--
		in.Ack(w, errors.New("store failed"))
		return
	}
	for _, m := range in.Messages {
		g.messages[m.Key] = m
	}
	g.receipts = append(g.receipts, in.Receipts...)
	in.Ack(w, nil)
	if webhook == statusWebhook {
		g.receiptAcked <- struct{}{}
	}
}

// newConnectedGateway returns a simulated Twilio and a gateway whose endpoint has been set up.
func newConnectedGateway(t *testing.T, ch adapters.Channel) (*simulator.Twilio, *testGateway) {
	t.Helper()
	tw, a := newSimulator(t, ch)
	g := &testGateway{adapter: a, messages: map[string]adapters.Message{}, receiptAcked: make(chan struct{}, 16)}
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
	g.endpoint = ep
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
			from, to := g.adapter.twilioAddress(steve), g.adapter.twilioAddress(testNumber)
			sid := tw.SendText(from, to, "/claim WDJBMJ", simulator.TwilioParam("NewParameter", "x"))
			m := g.messages[testAccountSID+":"+sid]
			if m.Sender.ID != steve || m.Command == nil || m.Command.Args != "WDJBMJ" || m.UnprovenReason != "" {
				t.Errorf("message = %+v, errors %v; want the command of %s", m, g.errs, steve)
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
		g.failures = failures
		sid := tw.SendText(steve, testNumber, "hello")
		if got := tw.Attempts(sid); !tw.Delivered(sid) || len(got) != attempts {
			t.Errorf("attempts after %d failures = %+v, want %d, the last successful", failures, got, attempts)
		}
		for range 3 {
			tw.Redeliver(sid)
		}
		if len(g.messages) != 1 {
			t.Errorf("%d messages stored, want 1", len(g.messages))
		}
		checkNoReplies(t, tw)
	}
}

func TestWebhook_TokenRotation(t *testing.T) {
	tw, g := newConnectedGateway(t, adapters.SMS)
	newToken := strings.Repeat("f", 32)
	tw.RotateToken(testAccountSID, newToken)
	if sid := tw.SendText(steve, testNumber, "hello"); tw.Delivered(sid) || len(g.messages) != 0 {
		t.Fatal("a message signed with an unknown token is accepted")
	}
	g.endpoint.Credentials = adapters.Credentials{
		adapters.AccountSID: testAccountSID, adapters.AuthToken: newToken, adapters.AuthToken + "_old": testAuthToken,
	}
	if sid := tw.SendText(steve, testNumber, "hello"); !tw.Delivered(sid) {
		t.Error("a message signed with the new token is rejected")
	}
	checkNoReplies(t, tw)
}

func TestStatusCallbacks(t *testing.T) {
	tw, g := newConnectedGateway(t, adapters.SMS)
	tw.OutOfOrder = true
	tw.FailMessages("+14155550102", 30003)
	for to, want := range map[string]adapters.Receipt{
		steve:          {Status: adapters.Delivered},
		"+14155550102": {Status: adapters.Failed, Code: "30003"},
	} {
		reply := adapters.Reply{To: to, Text: "hello", StatusURL: g.endpoint.WebhookURL + "/status"}
		sid, err := g.adapter.Send(t.Context(), g.endpoint, reply)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			<-g.receiptAcked
		}
		g.mu.Lock()
		want.ProviderID = sid
		wantAll := []adapters.Receipt{want, {ProviderID: sid, Status: adapters.Sent}}
		if !slices.Equal(g.receipts, wantAll) {
			t.Errorf("receipts = %+v, errors %v; want %+v", g.receipts, g.errs, wantAll)
		}
		g.receipts = nil
		g.mu.Unlock()
	}
}
