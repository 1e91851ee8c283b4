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

// A webhookServer serves the webhook like the gateway: receive, store, acknowledge.
type webhookServer struct {
	adapter  *telegram.Adapter
	store    *fakeStore
	mu       sync.Mutex
	statuses map[int]int // responses by status
}

func (h *webhookServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	in, err := h.adapter.Receive(r, webhookEndpoint(), "")
	if err != nil {
		h.countStatus(http.StatusForbidden)
		w.WriteHeader(http.StatusForbidden)
		return
	}
	err = h.store.add(r.Context(), in.Messages, "")
	in.Ack(w, err)
	if err != nil {
		h.countStatus(http.StatusServiceUnavailable)
		return
	}
	h.countStatus(http.StatusOK)
}

func (h *webhookServer) countStatus(code int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.statuses == nil {
		h.statuses = map[int]int{}
	}
	h.statuses[code]++
}

// TestWebhook_StoreOutage checks that Telegram retries while the store is unavailable, and that
// each message is then stored once, in order.
func TestWebhook_StoreOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, a := newSimulator(t)
		h := &webhookServer{adapter: a, store: &fakeStore{failures: 3}}
		server.WebhookClient = &http.Client{Transport: handlerTransport{h}}
		if err := a.Connect(t.Context(), webhookEndpoint()); err != nil {
			t.Fatal(err)
		}
		sendTexts(server, "a", "b", "c")
		id := server.SendText(botUsername, steve, "d")
		start := time.Now()
		if _, err := server.WaitDelivered(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if h.store.joinedTexts() != "a b c d" || h.statuses[http.StatusServiceUnavailable] != 3 ||
			h.statuses[http.StatusForbidden] != 0 {
			t.Errorf("stored %q, response statuses %v", h.store.joinedTexts(), h.statuses)
		}
		if waited := time.Since(start); waited != 15*time.Second {
			t.Errorf("took %v; want three times the Retry-After of 5 s", waited)
		}
	})
}

func TestWebhook_UpdateKinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, a := newSimulator(t)
		s := &recorder{}
		server.WebhookClient = &http.Client{
			Transport: handlerTransport{http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				in, err := a.Receive(r, webhookEndpoint(), "")
				if err != nil {
					w.WriteHeader(http.StatusForbidden)
					return
				}
				s.add(in.Messages...)
				in.Ack(w, nil)
			})},
		}
		if err := a.Connect(t.Context(), webhookEndpoint()); err != nil {
			t.Fatal(err)
		}
		for name, c := range map[string]struct {
			do   func() int64
			want func(m adapters.Message) bool
		}{
			"claim": {func() int64 { return server.SendText(botUsername, steve, "/claim WDJBMJ") }, canRedeem},
			"group": {
				func() int64 { return server.SendGroupText(botUsername, -1001, steve, "/claim@"+botUsername+" WDJBMJ") },
				func(m adapters.Message) bool { return m.Chat.Group && m.Command != nil && m.Sender.ID == "712345678" },
			},
			"callback": {
				func() int64 { return server.PressButton(botUsername, steve, 5, "yes") },
				func(m adapters.Message) bool {
					return m.Kind == adapters.Callback && m.Action == "yes" && m.Chat.ReplyToken != ""
				},
			},
			"block": {
				func() int64 { return server.Block(botUsername, steve) },
				func(m adapters.Message) bool { return m.Kind == adapters.Block && m.Sender.ID == "712345678" },
			},
			"unblock": {
				func() int64 { return server.Unblock(botUsername, steve) },
				func(m adapters.Message) bool { return m.Kind == adapters.Unblock },
			},
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

// TestWebhook_WrongSecret checks that a wrong secret gets 403 and Telegram keeps the update.
func TestWebhook_WrongSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, a := newSimulator(t)
		h := &webhookServer{adapter: a, store: &fakeStore{}}
		server.WebhookClient = &http.Client{Transport: handlerTransport{h}}
		ep := webhookEndpoint()
		ep.Credentials = adapters.Credentials{adapters.BotToken: token, adapters.WebhookSecret: "of-another-endpoint"}
		if err := a.Connect(t.Context(), ep); err != nil {
			t.Fatal(err)
		}
		id := server.SendText(botUsername, steve, "hi")
		advance(time.Minute)
		if server.Delivered(id) || h.store.attempts != 0 || h.statuses[http.StatusForbidden] == 0 {
			t.Errorf("delivered %v, %d store calls, response statuses %v", server.Delivered(id), h.store.attempts, h.statuses)
		}
	})
}

// A recorder records messages.
type recorder struct {
	mu       sync.Mutex
	messages []adapters.Message
}

func (r *recorder) add(ms ...adapters.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.messages = append(r.messages, ms...)
}

func (r *recorder) last() adapters.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.messages) == 0 {
		return adapters.Message{}
	}
	return r.messages[len(r.messages)-1]
}
