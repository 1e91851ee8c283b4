package sms

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	messaging "github.com/twilio/twilio-go/rest/messaging/v1"

	"hydragate/adapters"
)

const servicePageSize = 50

// findService returns the Messaging Service to which a number or a WhatsApp sender belongs, and whether
// there is one.
func (a Adapter) findService(
	ctx context.Context, ep adapters.Endpoint, memberSID string,
) (service messaging.MessagingV1Service, ok bool, err error) {
	twilio, err := a.newMessagingAPI(ctx, ep)
	if err != nil {
		return service, false, err
	}
	page, err := twilio.PageService((&messaging.ListServiceParams{}).SetPageSize(servicePageSize), "", "")
	if err != nil {
		return service, false, err
	}
	for _, s := range page.Services {
		if !isSID(deref(s.Sid), "MG") {
			continue
		}
		isMember, err := a.isMember(twilio, *s.Sid, memberSID)
		if isMember {
			return s, true, nil
		}
		if err != nil && !isNotFound(err) {
			return service, false, err
		}
	}
	return service, false, nil
}

// isMember reports whether a number or a WhatsApp sender belongs to a Messaging Service.
func (a Adapter) isMember(twilio *messaging.ApiService, serviceSID, memberSID string) (bool, error) {
	if a.Name == adapters.WhatsApp {
		sender, err := twilio.FetchChannelSender(serviceSID, memberSID)
		return err == nil && deref(sender.Sid) == memberSID, err
	}
	number, err := twilio.FetchPhoneNumber(serviceSID, memberSID)
	return err == nil && deref(number.Sid) == memberSID, err
}

// recordService writes what the Messaging Service of ep's number means for ep to its settings. A
// failed request does not fail the set-up. An account without this API has no services either.
func (a Adapter) recordService(ctx context.Context, ep adapters.Endpoint) {
	s, ok, err := a.findService(ctx, ep, ep.Settings[adapters.NumberSID])
	if err != nil && !isNotFound(err) {
		ep.Settings[adapters.Warning] = "Could not check whether the number belongs to a Messaging Service. " +
			"If it does, save this form again later."
		return
	}
	delete(ep.Settings, adapters.MessagingService)
	if !ok {
		return
	}
	ep.Settings[adapters.MessagingService] = *s.Sid
	if w := overrideWarning(s, ep); w != "" {
		ep.Settings[adapters.Warning] = w
	}
}

// overrideWarning returns what staff must do if a Messaging Service sends the messages of ep's number
// elsewhere, and "" if it does not.
func overrideWarning(s messaging.MessagingV1Service, ep adapters.Endpoint) string {
	if isOwnService(s, ep) || deref(s.UseInboundWebhookOnNumber) {
		return ""
	}
	return fmt.Sprintf("The number belongs to the Messaging Service %s, "+
		"which ignores the number's own webhook: in Twilio's console, choose \"Defer to sender's webhook\" "+
		"for incoming messages of that service, or enter %s as its request URL.", *s.Sid, ep.WebhookURL)
}

// isOwnService reports whether a Messaging Service calls the webhook of ep.
func isOwnService(s messaging.MessagingV1Service, ep adapters.Endpoint) bool {
	return stripFragment(deref(s.InboundRequestUrl)) == stripFragment(ep.WebhookURL)
}

// messagingOrigin returns the origin of the API of Messaging Services. Twilio has a host for it;
// other servers have one origin for both APIs.
func (a Adapter) messagingOrigin() string {
	u, err := url.Parse(a.origin())
	if err != nil || !strings.HasSuffix(u.Host, ".twilio.com") {
		return a.origin()
	}
	u.Host = "messaging." + strings.TrimPrefix(u.Host, "api.")
	return u.String()
}
