package sms

import (
	"context"
	"maps"
	"slices"
	"time"

	api "github.com/twilio/twilio-go/rest/api/v2010"

	"hydragate/adapters"
)

// serviceCheckAge is the time since the last message after which Status looks for a Messaging Service.
// That takes a request for each service of the account.
const serviceCheckAge = time.Hour

const secondaryTokenFault = "Twilio signs webhooks with the primary auth token of the account, and this channel was " +
	"set up with the secondary one: promote it in Twilio's console, or connect the channel with the primary token."

const applicationFault = "A TwiML or messaging application overrides the webhook of the number."

// Status asks Twilio whether the account is active, with which auth token it signs, and where it sends
// the messages of the number.
func (a Adapter) Status(
	ctx context.Context, ep adapters.Endpoint, lastEvent time.Time,
) (adapters.Report, error) {
	account, err := a.fetchAccount(ctx, ep)
	if err != nil {
		return adapters.Report{}, err
	}
	report := adapters.Report{Settings: maps.Clone(ep.Settings)}
	if a.Name == adapters.WhatsApp {
		report, err = a.senderStatus(ctx, ep, lastEvent, report)
	} else {
		report, err = a.numberStatus(ctx, ep, lastEvent, report)
	}
	if err != nil {
		return adapters.Report{}, err
	}
	if report.Fault == "" && !signsWith(account, ep) {
		report.Fault, report.RepairInterval = secondaryTokenFault, 0
	}
	return report, nil
}

// signsWith reports whether Twilio signs webhooks with a token of ep. It signs with the primary token
// of the account, which the API returns; it accepts calls with the secondary one, too.
func signsWith(account *api.ApiV2010Account, ep adapters.Endpoint) bool {
	primary := deref(account.AuthToken)
	return !isHex32(primary) || slices.Contains(ep.Current(adapters.AuthToken), primary)
}

// numberStatus adds to report where Twilio sends the messages of the number of ep.
func (a Adapter) numberStatus(
	ctx context.Context, ep adapters.Endpoint, lastEvent time.Time, report adapters.Report,
) (adapters.Report, error) {
	n, err := a.findNumber(ctx, ep)
	if err != nil {
		return report, err
	}
	if report.Settings == nil {
		report.Settings = map[string]string{}
	}
	report.Settings[adapters.NumberSID] = *n.Sid
	if isOverridden, err := a.checkService(ctx, ep, *n.Sid, lastEvent, &report); isOverridden || err != nil {
		return report, err
	}
	if deref(n.SmsApplicationSid) != "" {
		report.Fault, report.RepairInterval = applicationFault, adapters.RepairForeign
		return report, nil
	}
	report.Fault, report.RepairInterval = adapters.JudgeWebhook(
		stripFragment(deref(n.SmsUrl)),
		stripFragment(ep.WebhookURL),
	)
	return report, nil
}

// checkService reports whether a Messaging Service decides where the messages of a number or a WhatsApp
// sender go, and not the webhook of that. It adds a fault to report if they go elsewhere.
func (a Adapter) checkService(
	ctx context.Context, ep adapters.Endpoint, sid string, lastEvent time.Time, report *adapters.Report,
) (isOverridden bool, err error) {
	if ep.Settings[adapters.MessagingService] == "" && time.Since(lastEvent) <= serviceCheckAge {
		return false, nil
	}
	s, ok, err := a.findService(ctx, ep, sid)
	if err != nil && !isNotFound(err) {
		return false, newSetupError(err, "")
	}
	if !ok {
		return false, nil
	}
	report.Fault = overrideWarning(s, ep)
	return report.Fault != "" || isOwnService(s, ep), nil
}
