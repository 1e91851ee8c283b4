// Package sms implements the channels SMS and WhatsApp through Twilio. It authenticates and parses
// Twilio's webhooks, sends messages, sets up the webhook of a number, and reads Twilio's message
// log. The two channels differ in the prefix of an address and in the keywords of carriers.
//
// It does not resolve senders, and it does not fetch media.
//
// See https://www.twilio.com/docs/messaging/api/message-resource and
// https://www.twilio.com/docs/usage/webhooks/messaging-webhooks.
package sms

import (
	"net/http"
	"strings"

	"hydragate/adapters"
)

const (
	twilioOrigin = "https://api.twilio.com"
	maxText      = 1600
)

// An Adapter implements adapters.Adapter and adapters.StatusReporter for SMS or WhatsApp. Only Name is
// required.
type Adapter struct {
	// Name is adapters.SMS or adapters.WhatsApp.
	Name adapters.Channel

	// APIURL is the origin of Twilio's API. The default is https://api.twilio.com. Environment
	// variables of Twilio's libraries do not change it.
	APIURL string

	// HTTP sends the requests. The default is a client with http.DefaultTransport. Its
	// CheckRedirect is ignored: redirects are never followed, since they would forward the
	// credentials.
	HTTP *http.Client
}

// Channel returns a.Name.
func (a Adapter) Channel() adapters.Channel { return a.Name }

// Limits returns the limits of a message: plain text of 1600 UTF-16 code units, which is how Twilio
// counts text that GSM-7 cannot encode.
func (a Adapter) Limits() adapters.Limits {
	return adapters.Limits{MaxText: maxText, Measure: adapters.UTF16Len}
}

func (a Adapter) origin() string {
	if a.APIURL == "" {
		return twilioOrigin
	}
	return strings.TrimSuffix(a.APIURL, "/")
}

// twilioAddress returns an address as Twilio writes it on this channel.
func (a Adapter) twilioAddress(address string) string {
	if a.Name != adapters.WhatsApp || address == "" {
		return address
	}
	return whatsAppPrefix + address
}
