// Package sms speaks SMS and WhatsApp through Twilio: signed webhooks in, the
// Messages API out. The two differ in the prefix of an address and in what their
// carriers do by themselves. It does not know who a number belongs to.
package sms

import (
	"net/http"
	"strings"

	"hydragate/adapters"
)

// MessagingService is the key of Endpoint.Settings that holds the Twilio Messaging
// Service the number was found in at set-up. Messages to other numbers of that
// service are taken too.
const MessagingService = "messaging_service_sid"

const (
	twilioOrigin = "https://api.twilio.com"
	maxText      = 1600
)

// An Adapter speaks one of Twilio's two channels. Only Name is required.
type Adapter struct {
	// Name is adapters.SMS or adapters.WhatsApp.
	Name adapters.Channel

	// APIURL is the origin of Twilio's API; empty means https://api.twilio.com. No
	// variable of the environment changes it.
	APIURL string

	// HTTP makes the calls; nil means a client of its own. Redirects are never
	// followed, whatever it says: they would carry the credentials along.
	HTTP *http.Client
}

// Channel names the channel.
func (a Adapter) Channel() adapters.Channel { return a.Name }

// Limits says what a message can carry: plain text of 1600 UTF-16 units, which is
// how Twilio counts what GSM-7 cannot spell.
func (a Adapter) Limits() adapters.Limits {
	return adapters.Limits{MaxText: maxText, Measure: adapters.UTF16Len}
}

func (a Adapter) origin() string {
	if a.APIURL == "" {
		return twilioOrigin
	}
	return strings.TrimSuffix(a.APIURL, "/")
}

// twilioAddress spells an address as Twilio does on this channel.
func (a Adapter) twilioAddress(address string) string {
	if a.Name != adapters.WhatsApp || address == "" {
		return address
	}
	return whatsAppPrefix + address
}
