package sms

import (
	"bytes"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"hydragate/adapters"
)

const (
	maxBody    = 64 << 10
	maxFields  = 300 // Twilio sends some thirty
	maxName    = 60
	statusHook = "status"
)

// Receive takes a webhook of Twilio, signed with the endpoint's auth token for the
// endpoint's own URL, account and number.
func (a Adapter) Receive(r *http.Request, ep adapters.Endpoint, hook string) (adapters.Inbound, error) {
	if hook != "" && hook != statusHook {
		return adapters.Inbound{}, adapters.ErrNoHook
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
	form, err := parse(raw)
	if err != nil {
		return adapters.Inbound{}, err
	}
	if !signed(signatures[0], tokens, hookURL(ep, hook), form) {
		return adapters.Inbound{}, adapters.ErrForged
	}
	if form.Get("AccountSid") != ep.Credentials[adapters.AccountSID] {
		return adapters.Inbound{}, adapters.ErrForged
	}
	if !isMessageSID(form.Get("MessageSid")) {
		return adapters.Inbound{}, adapters.ErrMalformed
	}
	if hook == statusHook {
		return adapters.Inbound{Receipts: receipts(form), Ack: ack}, nil
	}
	m, err := a.read(form, ep)
	if err != nil {
		return adapters.Inbound{}, err
	}
	return adapters.Inbound{Messages: []adapters.Message{m}, Ack: ack}, nil
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

// parse reads a form that has each key once. Twilio signs the values of a repeated
// key in a way that lets a stranger add values to a captured request, and has no
// parameter that repeats. The number of fields is bounded before any is made, since
// nobody has signed them yet.
func parse(raw []byte) (url.Values, error) {
	if bytes.Count(raw, []byte("&")) >= maxFields {
		return nil, adapters.ErrForged
	}
	form, err := url.ParseQuery(string(raw))
	if err != nil {
		return nil, adapters.ErrForged
	}
	for name, values := range form {
		if len(values) != 1 || !isParameter(name) {
			return nil, adapters.ErrForged
		}
	}
	return form, nil
}

// isParameter reports whether name can be a parameter of Twilio's, known or yet to
// come.
func isParameter(name string) bool {
	return name != "" && len(name) <= maxName &&
		only(name, func(c byte) bool { return isAlnum(c) || c == '.' || c == '_' || c == '-' })
}

// hookURL is the URL Twilio was told, as Twilio signs it: without the fragment that
// asks for retries.
func hookURL(ep adapters.Endpoint, hook string) string {
	u, _, _ := strings.Cut(ep.WebhookURL, "#")
	if hook == "" {
		return u
	}
	return u + "/" + hook
}

// isFor reports whether a message to this address is ep's. Twilio's signature says
// which URL was meant, and everybody who holds the account's token can make one; so
// the number must be ep's as well.
//
// A number in a Messaging Service shares its webhook with the other numbers of the
// pool, and a message to any of them is genuine. It is taken when the service is the
// one that Check found ep's number in, and so never on the word of the request
// alone: a service of another instance of the same account does not get in here.
func (a Adapter) isFor(ep adapters.Endpoint, to, service string) bool {
	if ep.Address != "" && to == a.wire(ep.Address) {
		return true
	}
	return isSID(service, "MG") && service == ep.Settings[MessagingService]
}
