package telegram

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-telegram/bot"

	"hydragate/adapters"
)

const (
	// deliveryErrorAge is the age up to which a delivery error of Telegram counts. It is longer than
	// Telegram waits before it tries again.
	deliveryErrorAge = 30 * time.Minute
	// lastEventResolution is the resolution with which the last event of an endpoint is stored.
	lastEventResolution = 10 * time.Second
	// manyPending is the number of waiting updates that staff should know of.
	manyPending = 100
)

// webhookInfo is the part of Telegram's WebhookInfo that Status reads.
type webhookInfo struct {
	URL       string   `json:"url"`
	Pending   int      `json:"pending_update_count"`
	ErrorDate int64    `json:"last_error_date"`
	Error     string   `json:"last_error_message"`
	Allowed   []string `json:"allowed_updates"`
}

// Status calls getMe and getWebhookInfo. The endpoint does not work if the webhook is not that of
// ep, or if Telegram could not deliver an update since the last event, and is still holding it back.
// Whether another program polls the same bot is known only to the poller.
func (a *Adapter) Status(
	ctx context.Context, ep adapters.Endpoint, lastEvent time.Time,
) (adapters.Report, error) {
	checked, err := a.Check(ctx, ep)
	if err != nil {
		return adapters.Report{}, err
	}
	if checked.Address != ep.Address && ep.Address != "" {
		return adapters.Report{}, &adapters.SetupError{
			Reason: adapters.BadSecret, Field: adapters.BotToken, Message: "The token belongs to another bot now.",
		}
	}
	var info webhookInfo
	if err := a.call(ctx, ep, callTimeout, &info, func(ctx context.Context, b *bot.Bot) error {
		_, err := b.GetWebhookInfo(ctx)
		return err
	}); err != nil {
		return adapters.Report{}, newSetupError(err, ep)
	}
	report := adapters.Report{Settings: checked.Settings}
	if w := ep.Settings[adapters.Warning]; w != "" { // the commands were not set
		report.Warnings, report.RepairInterval = append(report.Warnings, w), time.Hour
	}
	if ep.Mode == adapters.Polling {
		return judgePolling(report, info, ep), nil
	}
	return a.judgeDelivery(report, info, ep, lastEvent), nil
}

// judgePolling reports a webhook, with which Telegram rejects getUpdates.
func judgePolling(report adapters.Report, info webhookInfo, ep adapters.Endpoint) adapters.Report {
	if info.URL == "" {
		return report
	}
	_, report.RepairInterval = adapters.JudgeWebhook(info.URL, ep.WebhookURL)
	report.RepairInterval = max(report.RepairInterval, adapters.RepairOwn)
	report.Fault = "The bot cannot be polled, because a webhook is set: " + adapters.Origin(info.URL) + "."
	return report
}

// judgeDelivery reports a webhook that is not that of ep, and updates that Telegram cannot deliver.
func (a *Adapter) judgeDelivery(
	report adapters.Report, info webhookInfo, ep adapters.Endpoint, lastEvent time.Time,
) adapters.Report {
	failedAt := time.Unix(info.ErrorDate, 0)
	isCurrent := info.ErrorDate > 0 && a.now().Sub(failedAt) < deliveryErrorAge
	fault, repair := adapters.JudgeWebhook(info.URL, ep.WebhookURL)
	switch {
	case fault != "":
		report.Fault, report.RepairInterval = fault, repair
	case isCurrent && info.Pending > 0 && failedAt.Add(lastEventResolution).After(lastEvent):
		report.Fault = fmt.Sprintf("Telegram cannot deliver %d updates: %s", info.Pending, redactSecrets(info.Error, ep))
		if strings.Contains(info.Error, "403") { // perhaps another program has set the webhook with another secret
			report.RepairInterval = adapters.RepairMissing
		}
	case isCurrent:
		report.Warnings = append(report.Warnings, fmt.Sprintf("Telegram's last failed delivery, at %s: %s",
			failedAt.UTC().Format(time.RFC3339), redactSecrets(info.Error, ep)))
	}
	if info.Pending >= manyPending {
		report.Warnings = append(report.Warnings, fmt.Sprintf("%d updates wait at Telegram.", info.Pending))
	}
	if report.Fault == "" && len(info.Allowed) > 0 && !containsAll(info.Allowed, allowedUpdates()) {
		report.Warnings = append(report.Warnings, "Telegram does not send all kinds of updates to this bot: "+
			"the webhook was set by another program or version.")
		report.RepairInterval = adapters.RepairMissing
	}
	return report
}

func containsAll(have, want []string) bool {
	return !slices.ContainsFunc(want, func(w string) bool { return !slices.Contains(have, w) })
}
