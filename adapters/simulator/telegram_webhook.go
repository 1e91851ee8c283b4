package simulator

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// A telegramWebhook is the webhook of a bot, from setWebhook until the next one.
type telegramWebhook struct {
	url, secret string
	ctx         context.Context //nolint:containedctx // canceled when the webhook is replaced or deleted
	stop        context.CancelFunc
	slots       chan struct{}   // limits concurrent requests to max_connections
	working     map[string]bool // queues with a running deliverQueue
	lastError   string
	lastErrorAt int64
}

const (
	telegramMinBackoff     = time.Second
	telegramMaxBackoff     = 60 * time.Second
	telegramMaxRetryAfter  = time.Hour
	telegramWebhookTimeout = 60 * time.Second
	defaultConnections     = 40
	maxConnections         = 100
)

func (t *Telegram) setWebhook(b *telegramBot, p map[string]string) telegramResponse {
	if p["url"] == "" {
		return t.deleteWebhook(b, p)
	}
	u, err := url.Parse(p["url"])
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return telegramError(http.StatusBadRequest,
			"Bad Request: bad webhook: An HTTPS URL must be provided for webhook")
	}
	if len(p["secret_token"]) > 256 {
		return telegramError(http.StatusBadRequest, "Bad Request: secret token is too long")
	}
	for _, r := range p["secret_token"] {
		if r != '_' && r != '-' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') {
			return telegramError(http.StatusBadRequest, "Bad Request: secret token contains unallowed characters")
		}
	}
	connections, _ := strconv.Atoi(p["max_connections"])
	if connections < 1 || connections > maxConnections {
		connections = defaultConnections
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	b.endPoll(conflictSetWebhook)
	b.removeWebhook(p)
	b.setAllowedUpdates(p["allowed_updates"])
	ctx, stop := context.WithCancel(t.ctx)
	b.webhook = &telegramWebhook{
		url: p["url"], secret: p["secret_token"], ctx: ctx, stop: stop,
		slots: make(chan struct{}, connections), working: map[string]bool{},
	}
	t.startDeliveries(b)
	return telegramOK(true).withDescription("Webhook was set")
}

func (t *Telegram) deleteWebhook(b *telegramBot, p map[string]string) telegramResponse {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !b.removeWebhook(p) {
		return telegramOK(true).withDescription("Webhook is already deleted")
	}
	return telegramOK(true).withDescription("Webhook was deleted")
}

// removeWebhook removes the webhook and reports whether there was one. The caller must hold t.mu.
func (b *telegramBot) removeWebhook(p map[string]string) bool {
	if p["drop_pending_updates"] == "true" {
		b.confirm(func(*telegramUpdate) bool { return true })
	}
	if b.webhook == nil {
		return false
	}
	b.webhook.stop()
	b.webhook = nil
	return true
}

func (t *Telegram) getWebhookInfo(b *telegramBot) telegramResponse {
	t.mu.Lock()
	defer t.mu.Unlock()
	info := map[string]any{"url": "", "has_custom_certificate": false, "pending_update_count": len(b.pending)}
	if len(b.allowed) > 0 {
		info["allowed_updates"] = b.allowed
	}
	if h := b.webhook; h != nil {
		info["url"], info["max_connections"] = h.url, cap(h.slots)
		if h.lastError != "" {
			info["last_error_date"], info["last_error_message"] = h.lastErrorAt, h.lastError
		}
	}
	return telegramOK(info)
}

// startDeliveries starts a deliverQueue for each queue with updates that has none. The caller must
// hold t.mu.
func (t *Telegram) startDeliveries(b *telegramBot) {
	h := b.webhook
	if h == nil || t.ctx.Err() != nil {
		return
	}
	for _, u := range b.pending {
		if h.working[u.queue] {
			continue
		}
		h.working[u.queue] = true
		t.posting.Go(func() { t.deliverQueue(b, h, u.queue) })
	}
}

// deliverQueue posts the updates of a queue in order. It retries an update until the webhook responds
// with 2xx.
func (t *Telegram) deliverQueue(b *telegramBot, h *telegramWebhook, queue string) {
	delay := telegramMinBackoff
	for u := t.nextUpdate(b, h, queue); u != nil; u = t.nextUpdate(b, h, queue) {
		retryAfter, failure := t.postUpdate(b, h, u)
		if failure == "" {
			t.mu.Lock()
			b.confirm(func(p *telegramUpdate) bool { return p == u })
			t.mu.Unlock()
			delay = telegramMinBackoff
			continue
		}
		wait := delay
		if retryAfter > 0 {
			wait = retryAfter
		}
		delay = min(2*delay, telegramMaxBackoff+rand.N(telegramMaxBackoff))
		t.mu.Lock()
		h.lastError, h.lastErrorAt = failure, time.Now().Unix()
		t.mu.Unlock()
		select {
		case <-time.After(time.Duration(float64(wait) * t.RetryScale)):
		case <-h.ctx.Done():
			return
		}
	}
}

// nextUpdate returns the oldest update of a queue. It returns nil if the queue is empty or the webhook
// was removed.
func (t *Telegram) nextUpdate(b *telegramBot, h *telegramWebhook, queue string) *telegramUpdate {
	t.mu.Lock()
	defer t.mu.Unlock()
	if h.ctx.Err() == nil {
		for _, u := range b.pending {
			if u.queue == queue {
				u.attempts++
				return u
			}
		}
	}
	delete(h.working, queue)
	return nil
}

// postUpdate posts an update. If the response is not 2xx, it returns Telegram's last_error_message and
// the Retry-After of the webhook.
func (t *Telegram) postUpdate(
	b *telegramBot, h *telegramWebhook, u *telegramUpdate,
) (retryAfter time.Duration, failure string) {
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	case <-h.ctx.Done():
		return 0, "Webhook was deleted"
	}
	ctx, cancel := context.WithTimeout(h.ctx, telegramWebhookTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(u.raw))
	if err != nil {
		return 0, "Bad webhook URL"
	}
	r.Header.Set("Content-Type", "application/json")
	if h.secret != "" {
		r.Header.Set("X-Telegram-Bot-Api-Secret-Token", h.secret)
	}
	resp, err := t.WebhookClient.Do(r)
	if err != nil {
		return 0, "Connection failed"
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if resp.StatusCode/100 == 2 {
		t.runWebhookReply(r, b, body)
		return 0, ""
	}
	seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
	retryAfter = min(time.Duration(max(seconds, 0))*time.Second, telegramMaxRetryAfter)
	return retryAfter, "Wrong response from the webhook: " + resp.Status
}

// runWebhookReply executes the API call in the response of a webhook, if there is one.
func (t *Telegram) runWebhookReply(r *http.Request, b *telegramBot, body []byte) {
	var call struct {
		Method string `json:"method"`
	}
	if json.Unmarshal(body, &call) == nil && call.Method != "" {
		t.dispatch(r, b, call.Method, jsonParams(body))
	}
}
