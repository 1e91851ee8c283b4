package sms

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"strings"

	api "github.com/twilio/twilio-go/rest/api/v2010"

	"hydragate/adapters"
)

const phoneNumberField = "phone_number" // the name of the input in the API

// Check verifies with Twilio that account, auth token and number belong together. The number of a
// WhatsApp sender that Twilio does not list is not verified.
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
		return ep, a.recordSender(ctx, ep)
	}
	n, err := a.findNumber(ctx, ep)
	if err != nil {
		return ep, err
	}
	ep.Settings[adapters.NumberSID] = *n.Sid
	a.recordService(ctx, ep)
	return ep, nil
}

// validateInputs validates the inputs of staff and returns the number as Twilio writes it.
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
		return "", newInputError(phoneNumberField,
			"A phone number is + and its digits with the country, such as +15550001111")
	}
	return address, nil
}

func (a Adapter) checkAccount(ctx context.Context, ep adapters.Endpoint) error {
	_, err := a.fetchAccount(ctx, ep)
	return err
}

// fetchAccount returns the account of ep, which is active.
func (a Adapter) fetchAccount(ctx context.Context, ep adapters.Endpoint) (*api.ApiV2010Account, error) {
	twilio, err := a.newAPI(ctx, ep)
	if err != nil {
		return nil, newSetupError(err, adapters.AuthToken)
	}
	account, err := twilio.FetchAccount(ep.Credentials[adapters.AccountSID])
	if err != nil {
		return nil, newSetupError(err, adapters.AccountSID)
	}
	if status := deref(account.Status); status != "active" {
		return nil, newInputError(adapters.AccountSID, "The account is "+adapters.Sanitize(status, 20)+", not active")
	}
	return account, nil
}

// findNumber returns the number of ep in its account. Its Sid is valid.
func (a Adapter) findNumber(ctx context.Context, ep adapters.Endpoint) (*api.ApiV2010IncomingPhoneNumber, error) {
	twilio, err := a.newAPI(ctx, ep)
	if err != nil {
		return nil, newSetupError(err, adapters.AuthToken)
	}
	filter := (&api.ListIncomingPhoneNumberParams{}).SetPhoneNumber(ep.Address)
	page, err := twilio.PageIncomingPhoneNumber(filter, "", "")
	if err != nil {
		return nil, newSetupError(err, phoneNumberField)
	}
	for _, n := range page.IncomingPhoneNumbers {
		if deref(n.PhoneNumber) != ep.Address || !isResourceID(deref(n.Sid), "PN") {
			continue // Twilio matches parts of a number as well
		}
		if n.Capabilities != nil && !n.Capabilities.Sms {
			return nil, newInputError(phoneNumberField, "The number cannot receive SMS")
		}
		return &n, nil
	}
	return nil, newInputError(phoneNumberField, "number not in this account")
}

// Connect sets the webhook of the number to ep.WebhookURL. By default, Twilio retries only failed
// connections; the fragment of the URL asks it to retry all failures. What still fails goes to the
// fallback URL. Connect does nothing for a WhatsApp sender that Twilio does not list; the warning of Check
// says how to connect it in Twilio's console.
func (a Adapter) Connect(ctx context.Context, ep adapters.Endpoint) error {
	if a.Name == adapters.WhatsApp {
		return a.setSenderWebhook(ctx, ep, ep.WebhookURL, ep.WebhookURL)
	}
	return a.setWebhook(ctx, ep, stripFragment(ep.WebhookURL)+"#rc=5&rp=all", stripFragment(ep.WebhookURL))
}

// Disconnect removes the webhook of the number if it is still that of ep.
func (a Adapter) Disconnect(ctx context.Context, ep adapters.Endpoint) error {
	if a.Name == adapters.WhatsApp {
		return a.disconnectSender(ctx, ep)
	}
	n, err := a.findNumber(ctx, ep)
	var se *adapters.SetupError
	if errors.As(err, &se) && se.Reason == adapters.Refused {
		return nil // the account no longer has the number
	}
	if err != nil {
		return err
	}
	ours := stripFragment(ep.WebhookURL)
	if stripFragment(deref(n.SmsUrl)) != ours {
		return nil
	}
	fallback := deref(n.SmsFallbackUrl)
	if stripFragment(fallback) == ours {
		fallback = ""
	}
	ep.Settings = map[string]string{adapters.NumberSID: *n.Sid}
	return a.setWebhook(ctx, ep, "", fallback)
}

// setWebhook sets the webhook and the fallback URL of ep's number. An empty webhook removes it.
func (a Adapter) setWebhook(ctx context.Context, ep adapters.Endpoint, webhook, fallback string) error {
	twilio, err := a.newAPI(ctx, ep)
	if err != nil {
		return newSetupError(err, adapters.AuthToken)
	}
	sid := ep.Settings[adapters.NumberSID]
	if !isResourceID(sid, "PN") {
		n, err := a.findNumber(ctx, ep)
		if err != nil {
			return err
		}
		sid = *n.Sid
	}
	params := &api.UpdateIncomingPhoneNumberParams{}
	params.SetSmsUrl(webhook).SetSmsMethod(http.MethodPost)
	params.SetSmsFallbackUrl(fallback).SetSmsFallbackMethod(http.MethodPost)
	if webhook != "" {
		params.SetSmsApplicationSid("") // an application would override the URL
	}
	if _, err := twilio.UpdateIncomingPhoneNumber(sid, params); err != nil {
		return newSetupError(err, phoneNumberField)
	}
	return nil
}

func stripFragment(u string) string {
	u, _, _ = strings.Cut(u, "#")
	return u
}
