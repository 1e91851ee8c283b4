package simulator

import (
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
)

// twilioBody is the form value that holds the body of a JSON request.
const twilioBody = "(body)"

// parseTwilioForm parses the form of a request. The body of a JSON request is its value twilioBody.
func parseTwilioForm(r *http.Request) error {
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if kind != "application/json" {
		return r.ParseForm()
	}
	var body json.RawMessage
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		return errors.New("invalid JSON")
	}
	r.Form = url.Values{twilioBody: {string(body)}}
	return nil
}

// routeTwilioSender returns the call of a request to the API of WhatsApp senders.
func routeTwilioSender(method string, parts []string) (twilioCall, bool) {
	var c twilioCall
	switch {
	case len(parts) < 2 || parts[0] != "Channels" || parts[1] != "Senders":
	case len(parts) == 2 && method == http.MethodGet:
		c.name, c.run = "Senders.list", (*Twilio).listSenders
	case len(parts) == 3 && method == http.MethodPost:
		c.name, c.run, c.sid = "Senders.update", (*Twilio).updateSender, parts[2]
	}
	return c, c.run != nil
}

// listSenders returns a page of the WhatsApp senders of an account.
func (t *Twilio) listSenders(c twilioCall, form url.Values) twilioResponse {
	if form.Get("Channel") != "whatsapp" {
		return twilioError(http.StatusBadRequest, 20001, "Channel is required")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	all := []any{}
	for _, n := range t.numbers {
		if n.account == c.account && isWhatsApp(n.address) {
			all = append(all, n.senderDoc())
		}
	}
	size, _ := strconv.Atoi(form.Get("PageSize"))
	page, _ := strconv.Atoi(form.Get("Page"))
	size = max(size, 1)
	start := min(page*size, len(all))
	end := min(start+size, len(all))
	meta := map[string]any{"page": page, "page_size": size, "next_page_url": nil, "key": "senders"}
	if end < len(all) {
		meta["next_page_url"] = "https://messaging.twilio.com/v2/Channels/Senders?" + url.Values{
			"Channel": {"whatsapp"}, "PageSize": {strconv.Itoa(size)}, "Page": {strconv.Itoa(page + 1)}, "PageToken": {"PA1"},
		}.Encode()
	}
	return twilioResponse{http.StatusOK, map[string]any{"senders": all[start:end], "meta": meta}}
}

// updateSender replaces the webhooks of a WhatsApp sender.
func (t *Twilio) updateSender(c twilioCall, form url.Values) twilioResponse {
	var update struct {
		Webhook *struct {
			CallbackURL       string `json:"callback_url"`
			FallbackURL       string `json:"fallback_url"`
			StatusCallbackURL string `json:"status_callback_url"`
		} `json:"webhook"`
	}
	if json.Unmarshal([]byte(form.Get(twilioBody)), &update) != nil {
		return twilioError(http.StatusBadRequest, 20001, "Bad request")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.IndexFunc(t.numbers, func(n *twilioNumber) bool { return n.sid == c.sid && n.account == c.account })
	if i < 0 {
		return twilioError(http.StatusNotFound, 20404, "The requested resource was not found")
	}
	n := t.numbers[i]
	if w := update.Webhook; w != nil {
		if !isWebhookURL(w.CallbackURL) || !isWebhookURL(w.FallbackURL) {
			return twilioError(http.StatusBadRequest, 63100, "Invalid webhook URL")
		}
		n.smsURL, n.fallbackURL, n.statusURL = w.CallbackURL, w.FallbackURL, w.StatusCallbackURL
	}
	return twilioResponse{http.StatusAccepted, n.senderDoc()}
}

func (n *twilioNumber) senderDoc() map[string]any {
	doc := map[string]any{
		"sid": n.sid, "sender_id": n.address, "status": "ONLINE", "offline_reasons": nil,
		"url": "https://messaging.twilio.com/v2/Channels/Senders/" + n.sid,
		"webhook": map[string]any{
			"callback_url": n.smsURL, "callback_method": "POST", "fallback_url": n.fallbackURL, "fallback_method": "POST",
			"status_callback_url": n.statusURL, "status_callback_method": "POST",
		},
	}
	if n.offline != "" {
		doc["status"] = "OFFLINE"
		doc["offline_reasons"] = []any{map[string]any{"code": "63110", "message": n.offline}}
	}
	return doc
}
