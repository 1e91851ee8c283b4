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

// A telegramHook is the webhook of a bot, from setWebhook until the next one.
type telegramHook struct {
	url, secret string
	ctx         context.Context // ends with the webhook
	stop        context.CancelFunc
	slots       chan struct{}   // one for each connection allowed
	working     map[string]bool // queues that are being delivered
	lastError   string
	lastErrorAt int64
}

const (
	firstRepeat       = time.Second
	longestRepeat     = 60 * time.Second
	longestRetryAfter = time.Hour
	hookTimeout       = 60 * time.Second
	usualConnections  = 40
	mostConnections   = 100
)

func (t *Telegram) setWebhook(b *telegramBot, p map[string]string) telegramAnswer {
	if p["url"] == "" {
		return t.deleteWebhook(b, p)
	}
	u, err := url.Parse(p["url"])
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return refuse(http.StatusBadRequest, "Bad Request: bad webhook: An HTTPS URL must be provided for webhook")
	}
	if len(p["secret_token"]) > 256 {
		return refuse(http.StatusBadRequest, "Bad Request: secret token is too long")
	}
	for _, r := range p["secret_token"] {
		if r != '_' && r != '-' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') {
			return refuse(http.StatusBadRequest, "Bad Request: secret token contains unallowed characters")
		}
	}
	connections, _ := strconv.Atoi(p["max_connections"])
	if connections < 1 || connections > mostConnections {
		connections = usualConnections
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	b.end(conflictSet)
	b.unhook(p)
	b.remember(p["allowed_updates"])
	ctx, stop := context.WithCancel(t.ctx)
	b.hook = &telegramHook{url: p["url"], secret: p["secret_token"], ctx: ctx, stop: stop, slots: make(chan struct{}, connections), working: map[string]bool{}}
	t.work(b)
	return granted(true).saying("Webhook was set")
}

func (t *Telegram) deleteWebhook(b *telegramBot, p map[string]string) telegramAnswer {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !b.unhook(p) {
		return granted(true).saying("Webhook is already deleted")
	}
	return granted(true).saying("Webhook was deleted")
}

// unhook stops the webhook, if there is one; t.mu is held.
func (b *telegramBot) unhook(p map[string]string) bool {
	if p["drop_pending_updates"] == "true" {
		b.confirm(func(*telegramUpdate) bool { return true })
	}
	if b.hook == nil {
		return false
	}
	b.hook.stop()
	b.hook = nil
	return true
}

func (t *Telegram) getWebhookInfo(b *telegramBot) telegramAnswer {
	t.mu.Lock()
	defer t.mu.Unlock()
	info := map[string]any{"url": "", "has_custom_certificate": false, "pending_update_count": len(b.pending)}
	if len(b.allowed) > 0 {
		info["allowed_updates"] = b.allowed
	}
	if h := b.hook; h != nil {
		info["url"], info["max_connections"] = h.url, cap(h.slots)
		if h.lastError != "" {
			info["last_error_date"], info["last_error_message"] = h.lastErrorAt, h.lastError
		}
	}
	return granted(info)
}

// work sees to it that every queue with updates is being delivered; t.mu is held.
func (t *Telegram) work(b *telegramBot) {
	h := b.hook
	if h == nil || t.ctx.Err() != nil {
		return
	}
	for _, u := range b.pending {
		if h.working[u.queue] {
			continue
		}
		h.working[u.queue] = true
		t.posting.Go(func() { t.deliver(b, h, u.queue) })
	}
}

// deliver posts the updates of one queue in order. None is sent before the one
// ahead of it got its 2xx.
func (t *Telegram) deliver(b *telegramBot, h *telegramHook, queue string) {
	delay := firstRepeat
	for u := t.head(b, h, queue); u != nil; u = t.head(b, h, queue) {
		asked, err := t.post(b, h, u)
		if err == "" {
			t.mu.Lock()
			b.confirm(func(p *telegramUpdate) bool { return p == u })
			t.mu.Unlock()
			delay = firstRepeat
			continue
		}
		wait := delay
		if asked > 0 {
			wait = asked
		}
		delay = min(2*delay, longestRepeat+rand.N(longestRepeat))
		t.mu.Lock()
		h.lastError, h.lastErrorAt = err, time.Now().Unix()
		t.mu.Unlock()
		select {
		case <-time.After(time.Duration(float64(wait) * t.Scale)):
		case <-h.ctx.Done():
			return
		}
	}
}

// head gives the oldest update of a queue, or nil when the work is done.
func (t *Telegram) head(b *telegramBot, h *telegramHook, queue string) *telegramUpdate {
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

// post sends one update. Anything but a 2xx is a failure, which it tells in
// Telegram's words, with how long the webhook asked it to wait.
func (t *Telegram) post(b *telegramBot, h *telegramHook, u *telegramUpdate) (retryAfter time.Duration, failure string) {
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	case <-h.ctx.Done():
		return 0, "Webhook was deleted"
	}
	ctx, cancel := context.WithTimeout(h.ctx, hookTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(u.raw))
	if err != nil {
		return 0, "Bad webhook URL"
	}
	r.Header.Set("Content-Type", "application/json")
	if h.secret != "" {
		r.Header.Set("X-Telegram-Bot-Api-Secret-Token", h.secret)
	}
	answer, err := t.WebhookClient.Do(r)
	if err != nil {
		return 0, "Connection failed"
	}
	defer answer.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if answer.StatusCode/100 == 2 {
		t.obey(r, b, body)
		return 0, ""
	}
	seconds, _ := strconv.Atoi(answer.Header.Get("Retry-After"))
	return min(time.Duration(max(seconds, 0))*time.Second, longestRetryAfter), "Wrong response from the webhook: " + answer.Status
}

// obey carries out the call that the answer of a webhook may hold.
func (t *Telegram) obey(r *http.Request, b *telegramBot, body []byte) {
	var call struct {
		Method string `json:"method"`
	}
	if json.Unmarshal(body, &call) == nil && call.Method != "" {
		t.run(r, b, call.Method, jsonParams(body))
	}
}
