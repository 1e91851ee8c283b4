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

// A testGateway is a small gateway: it stores what the adapter reads, once for each key.
type testGateway struct {
	adapter  Adapter
	endpoint adapters.Endpoint

	mu           sync.Mutex
	failures     int // so many times the store does not answer
	messages     map[string]adapters.Message
	receipts     []adapters.Receipt
	errs         []error
	receiptAcked chan struct{}
}

func (g *testGateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	hook := ""
	if strings.HasSuffix(r.URL.Path, "/status") {
		hook = "status"
	}
	in, err := g.adapter.Receive(r, g.endpoint, hook)
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil {
		g.errs = append(g.errs, err)
		g.adapter.Refuse(w, http.StatusForbidden)
		return
	}
	if g.failures > 0 {
		g.failures--
		in.Ack(w, errors.New("away"))
		return
	}
	for _, m := range in.Messages {
		g.messages[m.Key] = m
	}
	g.receipts = append(g.receipts, in.Receipts...)
	in.Ack(w, nil)
	if hook == "status" {
		g.receiptAcked <- struct{}{}
	}
}

// newConnectedGateway is a pretend Twilio and a gate that are set up with each other.
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

func TestWebhook(t *testing.T) {
	for _, ch := range []adapters.Channel{adapters.SMS, adapters.WhatsApp} {
		t.Run(string(ch), func(t *testing.T) {
			tw, g := newConnectedGateway(t, ch)
			sid := tw.SendText(g.adapter.twilioAddress(steve), g.adapter.twilioAddress(testNumber), "/claim WDJBMJ", simulator.TwilioParam("NewThing", "x"))
			m := g.messages[testAccountSID+":"+sid]
			if m.Sender.ID != steve || m.Command == nil || m.Command.Args != "WDJBMJ" || m.UnprovenReason != "" {
				t.Errorf("%+v, %v", m, g.errs)
			}
			if !tw.Delivered(sid) || len(tw.Attempts(sid)) != 1 {
				t.Errorf("%+v", tw.Attempts(sid))
			}
			if n := len(tw.Replies("")); n != 0 {
				t.Errorf("the acknowledgement was texted to Steve")
			}
		})
	}
}

// Twilio asks again, and then asks the fallback URL, until the store is back; all of
// it is one message.
func TestWebhook_StoreOutage(t *testing.T) {
	for away, attempts := range map[int]int{1: 2, 5: 6, 6: 7} {
		tw, g := newConnectedGateway(t, adapters.SMS)
		g.failures = away
		sid := tw.SendText(steve, testNumber, "hello")
		if !tw.Delivered(sid) || len(tw.Attempts(sid)) != attempts {
			t.Errorf("away %d times: %+v", away, tw.Attempts(sid))
		}
		for range 3 {
			tw.Redeliver(sid)
		}
		if len(g.messages) != 1 {
			t.Errorf("%d messages of one text", len(g.messages))
		}
		if n := len(tw.Replies("")); n != 0 {
			t.Error("the refusal was texted to Steve")
		}
	}
}

func TestWebhook_TokenRotation(t *testing.T) {
	tw, g := newConnectedGateway(t, adapters.SMS)
	fresh := strings.Repeat("f", 32)
	tw.RotateToken(testAccountSID, fresh)
	if sid := tw.SendText(steve, testNumber, "hello"); tw.Delivered(sid) || len(g.messages) != 0 {
		t.Fatal("taken with a token nobody told us")
	}
	g.endpoint.Credentials = adapters.Credentials{adapters.AccountSID: testAccountSID, adapters.AuthToken: fresh, adapters.AuthToken + "_old": testAuthToken}
	if sid := tw.SendText(steve, testNumber, "hello"); !tw.Delivered(sid) {
		t.Error("refused with the new token")
	}
	if n := len(tw.Replies("")); n != 0 {
		t.Error("the refusal was texted to Steve")
	}
}

func TestStatusCallbacks(t *testing.T) {
	tw, g := newConnectedGateway(t, adapters.SMS)
	tw.OutOfOrder = true
	tw.FailMessages("+14155550102", 30003)
	for to, want := range map[string]adapters.Receipt{
		steve:          {Status: adapters.Delivered},
		"+14155550102": {Status: adapters.Failed, Code: "30003"},
	} {
		sid, err := g.adapter.Send(t.Context(), g.endpoint, adapters.Reply{To: to, Text: "hello", StatusURL: g.endpoint.WebhookURL + "/status"})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			<-g.receiptAcked
		}
		g.mu.Lock()
		want.ProviderID = sid
		if !slices.Equal(g.receipts, []adapters.Receipt{want, {ProviderID: sid, Status: adapters.Sent}}) {
			t.Errorf("%+v, %v", g.receipts, g.errs)
		}
		g.receipts = nil
		g.mu.Unlock()
	}
}
