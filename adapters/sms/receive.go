package sms

import (
	"bytes"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"hydragate/adapters"
)

const (
	maxBody          = 64 << 10
	maxFields        = 300 // Twilio sends some thirty
	maxParameterName = 60
	statusWebhook    = "status"
)

// Receive takes a webhook of Twilio, signed with the endpoint's auth token for the
// endpoint's own URL, account and number.
func (a Adapter) Receive(r *http.Request, ep adapters.Endpoint, hook string) (adapters.Inbound, error) {
	if hook != "" && hook != statusWebhook {
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
	if !isSigned(signatures[0], tokens, webhookURL(ep, hook), form) {
		return adapters.Inbound{}, adapters.ErrForged
	}
	if form.Get("AccountSid") != ep.Credentials[adapters.AccountSID] {
		return adapters.Inbound{}, adapters.ErrForged
	}
	if !isMessageSID(form.Get("MessageSid")) {
		return adapters.Inbound{}, adapters.ErrMalformed
	}
	if hook == statusWebhook {
		return adapters.Inbound{Receipts: parseReceipts(form), Ack: acknowledge}, nil
	}
	m, err := a.parseMessage(form, ep)
	if err != nil {
		return adapters.Inbound{}, err
	}
	return adapters.Inbound{Messages: []adapters.Message{m}, Ack: acknowledge}, nil
}

// isFormPost reports whether r can be a webhook at all. The hook is configured
// without a query, so a query is somebody else's.
func isFormPost(r *http.Request) bool {
	if r.Method != http.MethodPost || r.URL.RawQuery != "" || r.URL.ForceQuery {
		return false
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && kind == "application/x-www-form-urlencoded"
}

// parseForm reads a form that has each key once. Twilio signs the values of a repeated
// key in a way that lets a stranger add values to a captured request, and has no
// parameter that repeats. The number of fields is bounded before any is made, since
// nobody has signed them yet.
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

// isParameterName reports whether name can be a parameter of Twilio's, known or yet to
// come.
func isParameterName(name string) bool {
	return name != "" && len(name) <= maxParameterName &&
		allBytes(name, func(c byte) bool { return isAlnum(c) || c == '.' || c == '_' || c == '-' })
}

// webhookURL is the URL Twilio was told, as Twilio signs it: without the fragment that
// asks for retries.
func webhookURL(ep adapters.Endpoint, hook string) string {
	u, _, _ := strings.Cut(ep.WebhookURL, "#")
	if hook == "" {
		return u
	}
	return u + "/" + hook
}

// isAddressedTo reports whether a message to this address is ep's. Twilio's signature says
// which URL was meant, and everybody who holds the account's token can make one; so
// the number must be ep's as well.
//
// A number in a Messaging Service shares its webhook with the other numbers of the
// pool, and a message to any of them is genuine. It is taken when the service is the
// one that Check found ep's number in, and so never on the word of the request
// alone: a service of another instance of the same account does not get in here.
func (a Adapter) isAddressedTo(ep adapters.Endpoint, to, service string) bool {
	if ep.Address != "" && to == a.twilioAddress(ep.Address) {
		return true
	}
	return isSID(service, "MG") && service == ep.Settings[MessagingService]
}

// emptyTwiML is the answer that makes Twilio do nothing. Of an answer in text/plain
// Twilio would send the body to the person.
const emptyTwiML = `<?xml version="1.0" encoding="UTF-8"?><Response/>`

// Refuse answers a request that Receive did not take. An HTTP layer that finds this
// method on an adapter uses it instead of its own error bodies, so that no answer of
// a hook ever reads as a message to a person.
func (a Adapter) Refuse(w http.ResponseWriter, status int) { writeTwiML(w, status) }

func acknowledge(w http.ResponseWriter, taken error) {
	if taken != nil {
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

// parseReceipts reads a status callback. States before "sent" say nothing that the
// answer to Send did not say.
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
		r.Gone = isNumberGone(r.Code)
	default:
		return nil
	}
	return []adapters.Receipt{r}
}

// isNumberGone reports whether a code says that nobody has the number: an unknown handset, or
// a landline. A phone that is off has another one.
func isNumberGone(code string) bool { return code == "30005" || code == "30006" }

// errorCode keeps an error code that is a number, as all of Twilio's are.
func errorCode(s string) string {
	if len(s) > maxErrorCode || !allBytes(s, isDigit) {
		return ""
	}
	return s
}
