package sms

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"strings"

	"hydragate/adapters"
)

const phoneNumberField = "phone_number" // the input, by its name in the API

// A incomingNumber is a phone number of an account.
type incomingNumber struct {
	SID            string `json:"sid"`
	PhoneNumber    string `json:"phone_number"`
	SMSURL         string `json:"sms_url"`
	SMSFallbackURL string `json:"sms_fallback_url"`
	Capabilities   *struct {
		SMS bool `json:"sms"`
	} `json:"capabilities"`
}

// Check asks Twilio whether account, token and number belong together. WhatsApp
// senders are in no list the API has, so their number is taken as it is.
func (a Adapter) Check(ctx context.Context, ep adapters.Endpoint) (adapters.Endpoint, error) {
	address, err := a.validateInputs(ep)
	if err != nil {
		return ep, err
	}
	ep.Address = address
	ep.Settings = maps.Clone(ep.Settings)
	if ep.Settings == nil {
		ep.Settings = map[string]string{}
	}
	delete(ep.Settings, adapters.Warning)
	if err := a.checkAccount(ctx, ep); err != nil {
		return ep, err
	}
	if a.Name == adapters.WhatsApp {
		ep.Settings[adapters.Warning] = fmt.Sprintf("Twilio offers no way to set this up from here: in its console, open the WhatsApp sender %s and enter %s (HTTP POST) as the webhook URL for incoming messages and as the fallback URL.", ep.Address, ep.WebhookURL)
		return ep, nil
	}
	n, err := a.findNumber(ctx, ep)
	if err != nil {
		return ep, err
	}
	ep.Settings[adapters.NumberSID] = n.SID
	a.recordService(ctx, ep)
	return ep, nil
}

// validateInputs checks the form of what staff entered and gives the number as Twilio
// spells it.
func (a Adapter) validateInputs(ep adapters.Endpoint) (string, error) {
	if !isSID(ep.Credentials[adapters.AccountSID], "AC") {
		return "", newInputError(adapters.AccountSID, "An account SID is AC and 32 hexadecimal digits")
	}
	if !isHex32(ep.Credentials[adapters.AuthToken]) {
		return "", newInputError(adapters.AuthToken, "An auth token is 32 hexadecimal digits")
	}
	address := strings.NewReplacer(" ", "", "-", "", "(", "", ")", "", ".", "").Replace(ep.Address)
	if a.Name == adapters.WhatsApp {
		address = strings.TrimPrefix(address, whatsAppPrefix)
	}
	if !isE164(address) {
		return "", newInputError(phoneNumberField, "A phone number is + and its digits with the country, such as +15550001111")
	}
	return address, nil
}

func (a Adapter) checkAccount(ctx context.Context, ep adapters.Endpoint) error {
	base, err := accountPath(ep)
	if err != nil {
		return newSetupError(err, adapters.AuthToken)
	}
	var found struct {
		Status string `json:"status"`
	}
	if err := a.get(ctx, ep, a.origin()+base+".json", &found); err != nil {
		return newSetupError(err, adapters.AccountSID)
	}
	if found.Status != "active" {
		return newInputError(adapters.AccountSID, "The account is "+adapters.Sanitize(found.Status, 20)+", not active")
	}
	return nil
}

// findNumber finds ep's number in ep's account.
func (a Adapter) findNumber(ctx context.Context, ep adapters.Endpoint) (incomingNumber, error) {
	base, err := accountPath(ep)
	if err != nil {
		return incomingNumber{}, newSetupError(err, adapters.AuthToken)
	}
	var page struct {
		Numbers []incomingNumber `json:"incoming_phone_numbers"`
	}
	q := url.Values{"PhoneNumber": {ep.Address}}
	if err := a.get(ctx, ep, a.origin()+base+"/IncomingPhoneNumbers.json?"+q.Encode(), &page); err != nil {
		return incomingNumber{}, newSetupError(err, phoneNumberField)
	}
	for _, n := range page.Numbers {
		if n.PhoneNumber != ep.Address || !isResourceID(n.SID, "PN") {
			continue // Twilio matches parts of a number as well
		}
		if n.Capabilities != nil && !n.Capabilities.SMS {
			return incomingNumber{}, newInputError(phoneNumberField, "The number cannot receive SMS")
		}
		return n, nil
	}
	return incomingNumber{}, newInputError(phoneNumberField, "number not in this account")
}

// Connect makes the number post its messages to ep.WebhookURL. The fragment asks
// Twilio to try again whatever went wrong, which it does not do by itself; the
// fallback URL gets what still failed. A WhatsApp sender is connected in Twilio's
// console, as the warning of Check says.
func (a Adapter) Connect(ctx context.Context, ep adapters.Endpoint) error {
	if a.Name == adapters.WhatsApp {
		return nil
	}
	return a.setWebhook(ctx, ep, stripFragment(ep.WebhookURL)+"#rc=5&rp=all", stripFragment(ep.WebhookURL))
}

// Disconnect takes the webhook off the number if it is still ep's.
func (a Adapter) Disconnect(ctx context.Context, ep adapters.Endpoint) error {
	if a.Name == adapters.WhatsApp {
		return nil
	}
	n, err := a.findNumber(ctx, ep)
	var gone *adapters.SetupError
	if errors.As(err, &gone) && gone.Reason == adapters.Refused {
		return nil
	}
	if err != nil {
		return err
	}
	ours := stripFragment(ep.WebhookURL)
	if stripFragment(n.SMSURL) != ours {
		return nil
	}
	fallback := n.SMSFallbackURL
	if stripFragment(fallback) == ours {
		fallback = ""
	}
	ep.Settings = map[string]string{adapters.NumberSID: n.SID}
	return a.setWebhook(ctx, ep, "", fallback)
}

func (a Adapter) setWebhook(ctx context.Context, ep adapters.Endpoint, u, fallback string) error {
	base, err := accountPath(ep)
	if err != nil {
		return newSetupError(err, adapters.AuthToken)
	}
	sid := ep.Settings[adapters.NumberSID]
	if !isResourceID(sid, "PN") {
		n, err := a.findNumber(ctx, ep)
		if err != nil {
			return err
		}
		sid = n.SID
	}
	form := url.Values{
		"SmsUrl": {u}, "SmsMethod": {"POST"},
		"SmsFallbackUrl": {fallback}, "SmsFallbackMethod": {"POST"},
	}
	if u != "" {
		form.Set("SmsApplicationSid", "") // an application would override the URL
	}
	var updated incomingNumber
	if err := a.post(ctx, ep, a.origin()+base+"/IncomingPhoneNumbers/"+sid+".json", form, &updated); err != nil {
		return newSetupError(err, phoneNumberField)
	}
	return nil
}

func stripFragment(u string) string {
	u, _, _ = strings.Cut(u, "#")
	return u
}

func newInputError(field, message string) *adapters.SetupError {
	return &adapters.SetupError{Reason: adapters.Refused, Field: field, Message: message}
}

// newSetupError says err to staff; field is the input that a refusal speaks of.
func newSetupError(err error, field string) *adapters.SetupError {
	e := &adapters.SetupError{Reason: adapters.Unreachable, Message: "Twilio did not answer", Err: err}
	var r *apiError
	if !errors.As(err, &r) {
		return e
	}
	e.Reason, e.Field, e.Message = r.reason(), field, r.message
	switch e.Reason {
	case adapters.BadSecret:
		e.Field = adapters.AuthToken
	case adapters.Unreachable, adapters.Throttled:
		e.Field = ""
	}
	if e.Message == "" {
		e.Message = fmt.Sprintf("Twilio answered %d", r.status)
	}
	return e
}
