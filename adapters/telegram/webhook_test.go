package telegram_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hydragate/adapters"
	"hydragate/adapters/adaptertest"
)

// TestWebhook_StoreOutage checks that Telegram retries while the store is unavailable, and that
// each message is then stored once, in order.
func TestWebhook_StoreOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, a := newSimulator(t)
		h := &adaptertest.Gateway{
			Adapter: a, Endpoint: webhookEndpoint(), Store: adaptertest.Store{NextErr: adaptertest.FailTimes(3)},
		}
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
		if h.Store.Texts() != "a b c d" || h.Count(http.StatusServiceUnavailable) != 3 ||
			h.Count(http.StatusForbidden) != 0 {
			t.Errorf("stored %q, %d store failures, %d rejected, want all stored after 3 failures",
				h.Store.Texts(), h.Count(http.StatusServiceUnavailable), h.Count(http.StatusForbidden))
		}
		if waited := time.Since(start); waited != 15*time.Second {
			t.Errorf("took %v; want three times the Retry-After of 5 s", waited)
		}
	})
}

func TestWebhook_UpdateKinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, a := newSimulator(t)
		h := &adaptertest.Gateway{Adapter: a, Endpoint: webhookEndpoint()}
		server.WebhookClient = &http.Client{Transport: handlerTransport{h}}
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
			if m := h.Store.Last(); !c.want(m) || !strings.HasPrefix(m.Key, "424242:") {
				t.Errorf("%s: stored %+v, which is not the message that was sent", name, m)
			}
		}
	})
}

// TestWebhook_WrongSecret checks that a wrong secret gets 403 and Telegram keeps the update.
func TestWebhook_WrongSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, a := newSimulator(t)
		h := &adaptertest.Gateway{Adapter: a, Endpoint: webhookEndpoint()}
		server.WebhookClient = &http.Client{Transport: handlerTransport{h}}
		ep := webhookEndpoint()
		ep.Credentials = adapters.Credentials{adapters.BotToken: token, adapters.WebhookSecret: "of-another-endpoint"}
		if err := a.Connect(t.Context(), ep); err != nil {
			t.Fatal(err)
		}
		id := server.SendText(botUsername, steve, "hi")
		adaptertest.Advance(time.Minute)
		if server.Delivered(id) || h.Store.Calls() != 0 || h.Count(http.StatusForbidden) == 0 {
			t.Errorf("delivered %v, %d store calls, %d rejected, want only rejections",
				server.Delivered(id), h.Store.Calls(), h.Count(http.StatusForbidden))
		}
	})
}
