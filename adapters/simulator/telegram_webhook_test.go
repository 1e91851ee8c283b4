package simulator_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A webhookTransport is a webhook without a network. It records requests, and the first failures of
// them fail.
type webhookTransport struct {
	mu         sync.Mutex
	failures   int
	retryAfter string // Retry-After of failed requests
	body       string // of successful responses
	texts      []string
	secret     string
	times      []time.Time
}

func (h *webhookTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	var u struct {
		Message struct {
			Text string `json:"text"`
		} `json:"message"`
	}
	if err := json.Unmarshal(raw, &u); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.texts, h.times = append(h.texts, u.Message.Text), append(h.times, time.Now())
	h.secret = r.Header.Get("X-Telegram-Bot-Api-Secret-Token")
	w := httptest.NewRecorder()
	if h.failures > 0 {
		h.failures--
		if h.retryAfter != "" {
			w.Header().Set("Retry-After", h.retryAfter)
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		return w.Result(), nil
	}
	_, _ = w.WriteString(h.body)
	return w.Result(), nil
}

func (h *webhookTransport) receivedTexts() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.texts, " ")
}

func TestTelegram_WebhookRetryOrder(t *testing.T) {
	const s = time.Second
	for name, c := range map[string]struct {
		retryAfter string
		scale      float64
		wantDelays []time.Duration
	}{
		"doubling":    {"", 1, []time.Duration{s, 2 * s, 4 * s, 8 * s}},
		"Retry-After": {"5", 1, []time.Duration{5 * s, 5 * s, 5 * s, 5 * s}},
		"scaled":      {"", 0.01, []time.Duration{s / 100, s / 50, s / 25, 2 * s / 25}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := newTelegram(t)
				webhook := &webhookTransport{failures: 4, retryAfter: c.retryAfter}
				server.WebhookClient, server.RetryScale = &http.Client{Transport: webhook}, c.scale
				r := callTelegram(t, server, "setWebhook", "url", "https://gateway.example/hook", "secret_token", "s-1")
				if !r.OK {
					t.Fatalf("setWebhook = %+v, want ok", r)
				}
				a := server.SendText("hydragate_bot", telegramSteve, "a")
				b := server.SendText("hydragate_bot", telegramSteve, "b")
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				for id, want := range map[int64]int{a: 5, b: 1} {
					if n, err := server.WaitDelivered(ctx, id); n != want || err != nil {
						t.Errorf("WaitDelivered(%d) = %d, %v, want %d, nil", id, n, err, want)
					}
				}
				if got := webhook.receivedTexts(); got != "a a a a a b" || webhook.secret != "s-1" {
					t.Errorf("webhook received %q with secret %q, want a 5 times, b, and s-1", got, webhook.secret)
				}
				for i, want := range c.wantDelays {
					if got := webhook.times[i+1].Sub(webhook.times[i]); got != want {
						t.Errorf("delay before attempt %d = %v, want %v", i+2, got, want)
					}
				}
			})
		})
	}
}

// A failing update blocks only its own chat.
func TestTelegram_ChatsAreIndependent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newTelegram(t)
		webhook := &webhookTransport{failures: 1, retryAfter: "3600"}
		server.WebhookClient = &http.Client{Transport: webhook}
		callTelegram(t, server, "setWebhook", "url", "https://gateway.example/hook")
		blocked := server.SendText("hydragate_bot", telegramSteve, "blocked")
		synctest.Wait()
		other := server.SendGroupText("hydragate_bot", -1001, telegramSteve, "other")
		synctest.Wait()
		if !server.Delivered(other) || server.Delivered(blocked) {
			t.Errorf("webhook received %q, want both with only the second delivered", webhook.receivedTexts())
		}
		callTelegram(t, server, "deleteWebhook")
		if got := updateIDs(t, callTelegram(t, server, "getUpdates")); !slices.Equal(got, []int64{blocked}) {
			t.Errorf("getUpdates after deleteWebhook = %v, want %d", got, blocked)
		}
	})
}

func TestTelegram_WebhookReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newTelegram(t)
		webhook := &webhookTransport{body: `{"method":"sendMessage","chat_id":712345678,"text":"echo"}`}
		server.WebhookClient = &http.Client{Transport: webhook}
		callTelegram(t, server, "setWebhook", "url", "https://gateway.example/hook")
		server.SendText("hydragate_bot", telegramSteve, "hi")
		line, err := server.WaitReply(t.Context(), "712345678", 0)
		if err != nil || line.Text != "echo" {
			t.Errorf("WaitReply = %+v, %v, want the text echo", line, err)
		}
	})
}
