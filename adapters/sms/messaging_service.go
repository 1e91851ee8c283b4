package sms

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"hydragate/adapters"
)

// A messagingService is a Messaging Service: a pool of numbers with one webhook.
type messagingService struct {
	SID        string `json:"sid"`
	InboundURL string `json:"inbound_request_url"`
	UseNumber  bool   `json:"use_inbound_webhook_on_number"`
}

// findService finds the Messaging Service a number belongs to; without one it is empty.
func (a Adapter) findService(ctx context.Context, ep adapters.Endpoint, numberSID string) (messagingService, error) {
	var page struct {
		Services []messagingService `json:"services"`
	}
	base := a.messagingOrigin() + "/v1/Services"
	if err := a.get(ctx, ep, base+"?PageSize=50", &page); err != nil {
		return messagingService{}, err
	}
	for _, s := range page.Services {
		if !isSID(s.SID, "MG") {
			continue
		}
		var member incomingNumber
		err := a.get(ctx, ep, base+"/"+s.SID+"/PhoneNumbers/"+numberSID, &member)
		if err == nil && member.SID == numberSID {
			return s, nil
		}
		if err != nil && !isNotFound(err) {
			return messagingService{}, err
		}
	}
	return messagingService{}, nil
}

// recordService puts into ep's settings what its Messaging Service means for it. Not
// being able to ask is no reason to refuse a set-up; an account without this part of
// the API has no services either.
func (a Adapter) recordService(ctx context.Context, ep adapters.Endpoint) {
	s, err := a.findService(ctx, ep, ep.Settings[adapters.NumberSID])
	if err != nil && !isNotFound(err) {
		ep.Settings[adapters.Warning] = "Twilio did not tell whether the number belongs to a Messaging Service. If it does, save this form again later."
		return
	}
	delete(ep.Settings, MessagingService)
	if s.SID == "" {
		return
	}
	ep.Settings[MessagingService] = s.SID
	if s.UseNumber || stripFragment(s.InboundURL) == stripFragment(ep.WebhookURL) {
		return
	}
	ep.Settings[adapters.Warning] = fmt.Sprintf("The number belongs to the Messaging Service %s, which ignores the number's own webhook: in Twilio's console, choose \"Defer to sender's webhook\" for incoming messages of that service, or enter %s as its request URL.", s.SID, ep.WebhookURL)
}

// messagingOrigin is where the API of Messaging Services lives: beside the main one
// at Twilio, and in it at any other server.
func (a Adapter) messagingOrigin() string {
	u, err := url.Parse(a.origin())
	if err != nil || !strings.HasSuffix(u.Host, ".twilio.com") {
		return a.origin()
	}
	u.Host = "messaging." + strings.TrimPrefix(u.Host, "api.")
	return u.String()
}

// isNotFound reports whether an error says that something is not there, or not for
// this account.
func isNotFound(err error) bool {
	var r *apiError
	var l *callError
	return errors.As(err, &r) && r.reason() == adapters.Refused || errors.As(err, &l) && l.status/100 == 4
}
