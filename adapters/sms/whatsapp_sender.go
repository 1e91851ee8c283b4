package sms

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	messaging "github.com/twilio/twilio-go/rest/messaging/v2"

	"hydragate/adapters"
)

const (
	senderPageSize = 100
	maxSenderPages = 20
)

// A whatsAppSender is a WhatsApp sender as Twilio's Senders API shows it. See
// https://www.twilio.com/docs/whatsapp/api/senders.
type whatsAppSender = messaging.MessagingV2ChannelsSenderResponse

// newSendersAPI returns the API of WhatsApp senders for the account of ep.
func (a Adapter) newSendersAPI(ctx context.Context, ep adapters.Endpoint) (*messaging.ApiService, error) {
	c, err := a.newRESTClient(ctx, ep, a.messagingOrigin())
	if err != nil {
		return nil, err
	}
	return messaging.NewApiServiceWithClient(c), nil
}

// findSender returns the WhatsApp sender of ep, and whether Twilio lists it. It does not list the sandbox,
// and senders of accounts that do not have the API. Such a sender is set up in Twilio's console.
func (a Adapter) findSender(ctx context.Context, ep adapters.Endpoint) (s whatsAppSender, ok bool, err error) {
	twilio, err := a.newSendersAPI(ctx, ep)
	if err != nil {
		return s, false, newSetupError(err, adapters.AuthToken)
	}
	params := (&messaging.ListChannelsSenderParams{}).SetChannel("whatsapp").SetPageSize(senderPageSize)
	token, number := "", ""
	for range maxSenderPages {
		page, err := twilio.PageChannelsSender(params, token, number)
		if isNotFound(err) {
			return s, false, nil
		}
		if err != nil {
			return s, false, newSetupError(err, "")
		}
		for _, s := range page.Senders {
			if deref(s.SenderId) == a.twilioAddress(ep.Address) && isSID(deref(s.Sid), "XE") {
				return s, true, nil
			}
		}
		next, err := url.Parse(deref(page.Meta.NextPageUrl))
		if err != nil || next.Query().Get("PageToken") == "" {
			return s, false, nil //nolint:nilerr // an empty page is the last
		}
		token, number = next.Query().Get("PageToken"), next.Query().Get("Page")
	}
	return s, false, nil
}

// recordSender writes a warning to the settings of ep that says what staff must do, if the gateway cannot
// set the webhook of the sender itself.
func (a Adapter) recordSender(ctx context.Context, ep adapters.Endpoint) error {
	_, ok, err := a.findSender(ctx, ep)
	if err == nil && !ok {
		ep.Settings[adapters.Warning] = fmt.Sprintf("Twilio does not list this WhatsApp sender, so that it cannot be set "+
			"up from here: in Twilio's console, open the WhatsApp sender %s and enter %s (HTTP POST) as the webhook URL "+
			"for incoming messages and as the fallback URL.", ep.Address, ep.WebhookURL)
	}
	return err
}

// setSenderWebhook sets the webhook of the WhatsApp sender of ep and its fallback URL, if Twilio lists the
// sender. Other URLs of the sender remain.
func (a Adapter) setSenderWebhook(ctx context.Context, ep adapters.Endpoint, webhook, fallback string) error {
	s, ok, err := a.findSender(ctx, ep)
	if err != nil || !ok {
		return err
	}
	twilio, err := a.newSendersAPI(ctx, ep)
	if err != nil {
		return newSetupError(err, adapters.AuthToken)
	}
	method, urls := http.MethodPost, deref(s.Webhook)
	urls.CallbackUrl, urls.CallbackMethod, urls.FallbackUrl, urls.FallbackMethod = &webhook, &method, &fallback, &method
	params := &messaging.UpdateChannelsSenderParams{}
	params.SetMessagingV2Update(messaging.MessagingV2Update{Webhook: &urls})
	if _, err := twilio.UpdateChannelsSender(*s.Sid, params); err != nil {
		return newSetupError(err, phoneNumberField)
	}
	return nil
}

// disconnectSender removes the webhook of the WhatsApp sender of ep if it is still that of ep.
func (a Adapter) disconnectSender(ctx context.Context, ep adapters.Endpoint) error {
	s, ok, err := a.findSender(ctx, ep)
	if err != nil || !ok {
		return err
	}
	urls := deref(s.Webhook)
	if deref(urls.CallbackUrl) != ep.WebhookURL {
		return nil
	}
	fallback := deref(urls.FallbackUrl)
	if fallback == ep.WebhookURL {
		fallback = ""
	}
	return a.setSenderWebhook(ctx, ep, "", fallback)
}

// senderStatus adds to report whether the WhatsApp sender of ep is online, and where Twilio sends its
// messages.
func (a Adapter) senderStatus(
	ctx context.Context, ep adapters.Endpoint, lastEvent time.Time, report adapters.Report,
) (adapters.Report, error) {
	s, ok, err := a.findSender(ctx, ep)
	if err != nil {
		return report, err
	}
	if !ok {
		if w := ep.Settings[adapters.Warning]; w != "" {
			report.Warnings = append(report.Warnings, w)
		}
		return report, nil
	}
	delete(report.Settings, adapters.Warning)
	if status := deref(s.Status); !strings.HasPrefix(status, "ONLINE") {
		report.Fault = "The WhatsApp sender is " + adapters.Sanitize(status, maxLabel) + offlineReasons(s) + "."
		return report, nil
	}
	if isOverridden, err := a.checkService(ctx, ep, *s.Sid, lastEvent, &report); isOverridden || err != nil {
		return report, err
	}
	callback := stripFragment(deref(deref(s.Webhook).CallbackUrl))
	report.Fault, report.RepairInterval = adapters.JudgeWebhook(callback, ep.WebhookURL)
	return report, nil
}

// offlineReasons returns why a sender is offline, in the words of Twilio.
func offlineReasons(s whatsAppSender) string {
	var reasons []string
	for _, r := range deref(s.OfflineReasons) {
		reasons = append(reasons, adapters.Sanitize(deref(r.Code)+" "+deref(r.Message), maxLabel))
	}
	if len(reasons) == 0 {
		return ""
	}
	return ": " + strings.Join(reasons, "; ")
}
