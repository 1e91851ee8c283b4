package sms

import (
	"errors"
	"testing"

	"hydragate/adapters"
)

// Messages to numbers of other endpoints are rejected, also if they are in the Messaging Service of
// the endpoint. Other channels of the same number are not concerned.
func TestReceive_OtherEndpointsNumber(t *testing.T) {
	const otherNumber = "+15005550007"
	excluding := endpoint(adapters.SMS)
	excluding.Pool.Excluded = []adapters.ProviderAddress{
		{Channel: adapters.SMS, ID: otherNumber}, {Channel: adapters.WhatsApp, ID: "+15005550008"},
	}
	for to, want := range map[string]error{
		otherNumber:               adapters.ErrForged,
		"whatsapp:+15005550008":   adapters.ErrForged,
		"+15005550008":            nil,
		"whatsapp:" + otherNumber: nil,
	} {
		form := testForm("To", to, "MessagingServiceSid", testServiceSID)
		if _, err := receiveForm(excluding, form); !errors.Is(err, want) {
			t.Errorf("Receive of a message to %s, beside numbers of other endpoints = %v, want %v", to, err, want)
		}
	}
}
