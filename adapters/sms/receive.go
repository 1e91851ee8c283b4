package sms

import (
	"bytes"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"hydragate/adapters"
)

const (
	maxBody          = 64 << 10
	maxFields        = 300 // Twilio sends about 30
	maxParameterName = 60
	statusWebhook    = "status"
)

// Receive authenticates and parses a webhook of Twilio. It must be signed with the endpoint's auth
// token for the endpoint's own URL, account and number. webhook is "" for messages and "status" for
// status callbacks.
func (a Adapter) Receive(r *http.Request, ep adapters.Endpoint, webhook string) (adapters.Inbound, error) {
	if webhook != "" && webhook != statusWebhook {
		return adapters.Inbound{}, adapters.ErrUnknownWebhook
	}
	tokens := ep.Current(adapters.AuthToken)
	if len(tokens) == 0 || ep.Credentials[adapters.AccountSID] == "" {
		return adapters.Inbound{}, adapters.ErrNoKey
	}
	signatures := r.Header.Values("X-Twilio-Signature")
	if len(signatures) != 1 || !isFormPost(r) {
		return adapters.Inbound{}, adapters.ErrForged
	}
	raw, err := adapters.ReadBody(r, maxBody)
	if err != nil {
		return adapters.Inbound{}, err
	}
	form, err := parseForm(raw)
	if err != nil {
		return adapters.Inbound{}, err
	}
	if !isSigned(signatures[0], tokens, webhookURL(ep, webhook), form) {
		return adapters.Inbound{}, adapters.ErrForged
	}
	if form.Get("AccountSid") != ep.Credentials[adapters.AccountSID] {
		return adapters.Inbound{}, adapters.ErrOtherEndpoint
	}
	if !isMessageSID(form.Get("MessageSid")) {
		return adapters.Inbound{}, adapters.ErrMalformed
	}
	if webhook == statusWebhook {
		return adapters.Inbound{Receipts: parseReceipts(form), Ack: acknowledge}, nil
	}
	m, err := a.parseMessage(form, ep)
	if err != nil {
		return adapters.Inbound{}, err
	}
	in := adapters.Inbound{Messages: []adapters.Message{m}, Ack: acknowledge}
	if m.UnprovenReason == adapters.UnprovenOtherChannel {
		in.Notices = append(in.Notices, otherChannelNotice(form.Get("From")))
	}
	return in, nil
}

// otherChannelNotice returns the notice for staff that messages arrive from a channel that the gateway does
// not support.
func otherChannelNotice(from string) adapters.ProviderNotice {
	scheme, _, found := strings.Cut(from, ":")
	if !found {
		scheme = "sms"
	}
	return adapters.ProviderNotice{
		Reason: string(adapters.UnprovenOtherChannel),
		Detail: "Twilio passes on messages from " + scheme + " to this channel, whose senders remain unknown. If you " +
			"do not want them, remove that sender from the Messaging Service",
	}
}

// isFormPost reports whether r has the method, query and content type of a webhook. Webhook URLs
// are configured without a query, so Twilio never sends one.
func isFormPost(r *http.Request) bool {
	if r.Method != http.MethodPost || r.URL.RawQuery != "" || r.URL.ForceQuery {
		return false
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && kind == "application/x-www-form-urlencoded"
}

// parseForm parses a form. It returns ErrForged for a form with a repeated parameter: Twilio has
// none, and its signature does not protect the order of the values. The number of fields is limited
// before the form is parsed, since its signature has not been checked yet.
func parseForm(raw []byte) (url.Values, error) {
	if bytes.Count(raw, []byte("&")) >= maxFields {
		return nil, adapters.ErrForged
	}
	form, err := url.ParseQuery(string(raw))
	if err != nil {
		return nil, adapters.ErrForged
	}
	for name, values := range form {
		if len(values) != 1 || !isParameterName(name) {
			return nil, adapters.ErrForged
		}
	}
	return form, nil
}

// isParameterName reports whether name can be the name of a parameter of Twilio, including future
// ones.
func isParameterName(name string) bool {
	return name != "" && len(name) <= maxParameterName &&
		allBytes(name, func(c byte) bool { return isAlnum(c) || c == '.' || c == '_' || c == '-' })
}

// webhookURL returns the configured URL of a webhook as Twilio signs it: without the fragment that
// asks for retries.
func webhookURL(ep adapters.Endpoint, webhook string) string {
	u := stripFragment(ep.WebhookURL)
	if webhook == "" {
		return u
	}
	return u + "/" + webhook
}

// isAddressedTo reports whether a message to this address is for ep. Twilio's signature covers the
// URL of ep, but any holder of the account's auth token can sign, so the number must be that of ep as
// well.
//
// The numbers of a Messaging Service share a webhook. A message to any of them is accepted if ep
// owns that service and no other endpoint owns the number. The request alone is not enough: a
// service of another instance of the same account is rejected.
func (a Adapter) isAddressedTo(ep adapters.Endpoint, to, service string) bool {
	if ep.Address != "" && to == a.twilioAddress(ep.Address) {
		return true
	}
	return isSID(service, "MG") && service == ep.Pool.ID && !isExcluded(ep.Pool, to)
}

// isExcluded reports whether to, an address as Twilio writes it, is that of another endpoint.
func isExcluded(pool adapters.Pool, to string) bool {
	return slices.ContainsFunc(pool.Excluded, func(other adapters.ProviderAddress) bool {
		return Adapter{Name: other.Channel}.twilioAddress(other.ID) == to
	})
}

// emptyTwiML is the response to which Twilio does nothing. Twilio would send the body of a
// text/plain response to the person.
const emptyTwiML = `<?xml version="1.0" encoding="UTF-8"?><Response/>`

// Refuse responds to a request that Receive rejected. The HTTP layer calls it in place of its own
// error response, so that no response is sent to a person as a message.
func (a Adapter) Refuse(w http.ResponseWriter, status int) { writeTwiML(w, status) }

func acknowledge(w http.ResponseWriter, err error) {
	if err != nil {
		writeTwiML(w, http.StatusServiceUnavailable)
		return
	}
	writeTwiML(w, http.StatusOK)
}

func writeTwiML(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, emptyTwiML)
}

const maxErrorCode = 10

// parseReceipts returns the receipt of a status callback. It returns none for states before "sent",
// which the response to Send implied.
func parseReceipts(form url.Values) []adapters.Receipt {
	r := adapters.Receipt{ProviderID: form.Get("MessageSid")}
	switch form.Get("MessageStatus") {
	case "sent":
		r.Status = adapters.Sent
	case "delivered", "read":
		r.Status = adapters.Delivered
	case "undelivered", "failed", "canceled":
		r.Status = adapters.Failed
		r.Code = errorCode(form.Get("ErrorCode"))
		r.Gone, r.OptedOut = isNumberGone(r.Code), r.Code == codeOptedOut
	default:
		return nil
	}
	return []adapters.Receipt{r}
}

// codeOptedOut is the error code of a message to a person who sent STOP.
const codeOptedOut = "21610"

// isNumberGone reports whether an error code means that the number no longer exists: 30005 is an unknown
// handset. A landline, or a phone that is switched off, has another code: the number still belongs to
// the same person.
func isNumberGone(code string) bool { return code == "30005" }

// errorCode returns s if it is a number, as all error codes of Twilio are. Otherwise it returns "".
func errorCode(s string) string {
	if len(s) > maxErrorCode || !allBytes(s, isDigit) {
		return ""
	}
	return s
}
