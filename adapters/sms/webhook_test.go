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

// A gate is a small gateway: it stores what the adapter reads, once for each key.
type gate struct {
	adapter Adapter
	ep      adapters.Endpoint

	mu       sync.Mutex
	away     int // so many times the store does not answer
	got      map[string]adapters.Message
	receipts []adapters.Receipt
	errs     []error
	receipt  chan struct{}
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	hook := ""
	if strings.HasSuffix(r.URL.Path, "/status") {
		hook = "status"
	}
	in, err := g.adapter.Receive(r, g.ep, hook)
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil {
		g.errs = append(g.errs, err)
		g.adapter.Refuse(w, http.StatusForbidden)
		return
	}
	if g.away > 0 {
		g.away--
		in.Ack(w, errors.New("away"))
		return
	}
	for _, m := range in.Messages {
		g.got[m.Key] = m
	}
	g.receipts = append(g.receipts, in.Receipts...)
	in.Ack(w, nil)
	if hook == "status" {
		g.receipt <- struct{}{}
	}
}

// connected is a pretend Twilio and a gate that are set up with each other.
func connected(t *testing.T, ch adapters.Channel) (*simulator.Twilio, *gate) {
	t.Helper()
	tw, a := pretend(t, ch)
	g := &gate{adapter: a, got: map[string]adapters.Message{}, receipt: make(chan struct{}, 16)}
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
	tw.SetWhatsAppURL(theAccount, theNumber, ep.WebhookURL, ep.WebhookURL)
	g.ep = ep
	return tw, g
}

func TestWebhook(t *testing.T) {
	for _, ch := range []adapters.Channel{adapters.SMS, adapters.WhatsApp} {
		t.Run(string(ch), func(t *testing.T) {
			tw, g := connected(t, ch)
			sid := tw.Text(g.adapter.wire(steve), g.adapter.wire(theNumber), "/claim WDJBMJ", simulator.TwilioParam("NewThing", "x"))
			m := g.got[theAccount+":"+sid]
			if m.Sender.ID != steve || m.Command == nil || m.Command.Args != "WDJBMJ" || m.Unproven != "" {
				t.Errorf("%+v, %v", m, g.errs)
			}
			if !tw.Delivered(sid) || len(tw.Attempts(sid)) != 1 {
				t.Errorf("%+v", tw.Attempts(sid))
			}
			if n := len(tw.Answers("")); n != 0 {
				t.Errorf("the acknowledgement was texted to Steve")
			}
		})
	}
}

// Twilio asks again, and then asks the fallback URL, until the store is back; all of
// it is one message.
func TestWebhookWhileTheStoreIsAway(t *testing.T) {
	for away, attempts := range map[int]int{1: 2, 5: 6, 6: 7} {
		tw, g := connected(t, adapters.SMS)
		g.away = away
		sid := tw.Text(steve, theNumber, "hello")
		if !tw.Delivered(sid) || len(tw.Attempts(sid)) != attempts {
			t.Errorf("away %d times: %+v", away, tw.Attempts(sid))
		}
		for range 3 {
			tw.Redeliver(sid)
		}
		if len(g.got) != 1 {
			t.Errorf("%d messages of one text", len(g.got))
		}
		if n := len(tw.Answers("")); n != 0 {
			t.Error("the refusal was texted to Steve")
		}
	}
}

func TestWebhookAfterRotation(t *testing.T) {
	tw, g := connected(t, adapters.SMS)
	fresh := strings.Repeat("f", 32)
	tw.RotateToken(theAccount, fresh)
	if sid := tw.Text(steve, theNumber, "hello"); tw.Delivered(sid) || len(g.got) != 0 {
		t.Fatal("taken with a token nobody told us")
	}
	g.ep.Credentials = adapters.Credentials{adapters.AccountSID: theAccount, adapters.AuthToken: fresh, adapters.AuthToken + "_old": theToken}
	if sid := tw.Text(steve, theNumber, "hello"); !tw.Delivered(sid) {
		t.Error("refused with the new token")
	}
	if n := len(tw.Answers("")); n != 0 {
		t.Error("the refusal was texted to Steve")
	}
}

func TestStatusCallbacks(t *testing.T) {
	tw, g := connected(t, adapters.SMS)
	tw.OutOfOrder = true
	tw.Fail("+14155550102", 30003)
	for to, want := range map[string]adapters.Receipt{
		steve:          {Status: adapters.Delivered},
		"+14155550102": {Status: adapters.Failed, Code: "30003"},
	} {
		sid, err := g.adapter.Send(t.Context(), g.ep, adapters.Reply{To: to, Text: "hello", StatusURL: g.ep.WebhookURL + "/status"})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			<-g.receipt
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
