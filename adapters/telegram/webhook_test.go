package telegram_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hydragate/adapters"
	"hydragate/adapters/telegram"
)

// A hook serves the webhook as the gateway does: receive, take, acknowledge.
type hook struct {
	adapter *telegram.Adapter
	shelf   *shelf
	mu      sync.Mutex
	codes   map[int]int // answers by status
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	in, err := h.adapter.Receive(r, webhookEndpoint(), "")
	if err != nil {
		h.count(http.StatusForbidden)
		w.WriteHeader(http.StatusForbidden)
		return
	}
	err = h.shelf.take(r.Context(), in.Messages, "")
	in.Ack(w, err)
	if err != nil {
		h.count(http.StatusServiceUnavailable)
		return
	}
	h.count(http.StatusOK)
}

func (h *hook) count(code int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.codes == nil {
		h.codes = map[int]int{}
	}
	h.codes[code]++
}

// While the store is away Telegram is told to come again; then each message is
// there once, in order.
func TestWebhookOverAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, a := pretend(t)
		h := &hook{adapter: a, shelf: &shelf{fail: 3}}
		server.WebhookClient = &http.Client{Transport: inProcess{h}}
		if err := a.Connect(t.Context(), webhookEndpoint()); err != nil {
			t.Fatal(err)
		}
		say(server, "a", "b", "c")
		id := server.Say(me, steve, "d")
		start := time.Now()
		if _, err := server.WaitDelivered(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if h.shelf.kept() != "a b c d" || h.codes[http.StatusServiceUnavailable] != 3 || h.codes[http.StatusForbidden] != 0 {
			t.Errorf("kept %q, answered %v", h.shelf.kept(), h.codes)
		}
		if waited := time.Since(start); waited != 15*time.Second {
			t.Errorf("took %v; want three times the Retry-After of 5 s", waited)
		}
	})
}

func TestWebhookCarriesWhatPeopleDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, a := pretend(t)
		s := &recorder{}
		server.WebhookClient = &http.Client{Transport: inProcess{http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			in, err := a.Receive(r, webhookEndpoint(), "")
			if err != nil {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			s.add(in.Messages...)
			in.Ack(w, nil)
		})}}
		if err := a.Connect(t.Context(), webhookEndpoint()); err != nil {
			t.Fatal(err)
		}
		for name, c := range map[string]struct {
			do   func() int64
			want func(m adapters.Message) bool
		}{
			"Claim": {func() int64 { return server.Say(me, steve, "/claim WDJBMJ") }, proven},
			"Group": {func() int64 { return server.SayInGroup(me, -1001, steve, "/claim@"+me+" WDJBMJ") }, func(m adapters.Message) bool { return m.Place.Group && m.Command != nil && m.Sender.ID == "712345678" }},
			"Callback": {func() int64 { return server.Press(me, steve, 5, "yes") }, func(m adapters.Message) bool {
				return m.Kind == adapters.Callback && m.Action == "yes" && m.Place.Answer != ""
			}},
			"Block":   {func() int64 { return server.Block(me, steve) }, func(m adapters.Message) bool { return m.Kind == adapters.Block && m.Sender.ID == "712345678" }},
			"Unblock": {func() int64 { return server.Unblock(me, steve) }, func(m adapters.Message) bool { return m.Kind == adapters.Unblock }},
		} {
			if _, err := server.WaitDelivered(t.Context(), c.do()); err != nil {
				t.Fatal(name, err)
			}
			if m := s.last(); !c.want(m) || !strings.HasPrefix(m.Key, "424242:") {
				t.Errorf("%s: %+v", name, m)
			}
		}
	})
}

// A wrong secret is answered 403, and the update stays with Telegram.
func TestWebhookWithAnotherSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, a := pretend(t)
		h := &hook{adapter: a, shelf: &shelf{}}
		server.WebhookClient = &http.Client{Transport: inProcess{h}}
		ep := webhookEndpoint()
		ep.Credentials = adapters.Credentials{adapters.BotToken: token, adapters.WebhookSecret: "of-another-endpoint"}
		if err := a.Connect(t.Context(), ep); err != nil {
			t.Fatal(err)
		}
		id := server.Say(me, steve, "hi")
		later(time.Minute)
		if server.Delivered(id) || h.shelf.tries != 0 || h.codes[http.StatusForbidden] == 0 {
			t.Errorf("delivered %v, takes %d, answered %v", server.Delivered(id), h.shelf.tries, h.codes)
		}
	})
}

// A recorder keeps messages.
type recorder struct {
	mu sync.Mutex
	ms []adapters.Message
}

func (r *recorder) add(ms ...adapters.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ms = append(r.ms, ms...)
}

func (r *recorder) last() adapters.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ms) == 0 {
		return adapters.Message{}
	}
	return r.ms[len(r.ms)-1]
}
