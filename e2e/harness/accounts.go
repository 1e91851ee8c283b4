package harness

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"hydragate/adapters/simulator"
	"hydragate/cmd/hydragate/app"
)

// StartFakeProviders serves Telegram, Twilio and Slack, who know the account that each
// set-up of this house names.
func StartFakeProviders(t *testing.T) app.Settings {
	telegram, twilio, slack := simulator.NewTelegram(), simulator.NewTwilio(), simulator.NewSlack()
	serve := func(h http.Handler) string {
		s := httptest.NewServer(h)
		t.Cleanup(func() {
			s.CloseClientConnections()
			s.Close()
		})
		return s.URL
	}
	telegram.AddBot(TelegramToken, TelegramBot)
	twilio.AddAccount(TwilioAccount, TwilioToken)
	twilio.AddNumber(TwilioAccount, SMSBotNumber)
	slack.SetURL(serve(slack))
	slack.AddApp(NewSlackApp("", ""))
	t.Cleanup(telegram.Close)
	t.Cleanup(twilio.Close)
	return app.Settings{TelegramAPIURL: serve(telegram), TwilioAPIURL: serve(twilio), SlackAPIURL: slack.APIURL()}
}

// Every secret of the stories, so that a leak is found.
const (
	AdminKey      = "an-admin-key-for-the-stories-0123456789"
	TelegramToken = "7000001:AAE0123456789abcdefghijklmnopqrstuv"
	TwilioAccount = "AC0123456789abcdef0123456789abcdef"
	TwilioToken   = "fedcba98765432100123456789abcdef"
	SlackToken    = "xoxb-0123456789-stories"
	SlackSecret   = "8f742231b10e8888abcd99yyyzzz85a5"
	SlackAppToken = "xapp-1-A0ACME-0123456789-stories"
)

// Where the bot is.
const (
	TelegramBot    = "acme_bot"
	SMSBotNumber   = "+14155550100"
	SlackAppID     = "A0ACME"
	SlackTeamID    = "T0ACME"
	SlackChannelID = "C0GENERAL"
)

// NewSlackApp returns the Slack app of the tests, with the URLs given.
func NewSlackApp(events, commands string) simulator.SlackApp {
	return simulator.SlackApp{
		AppID: SlackAppID, TeamID: SlackTeamID, TeamName: "Acme", BotUserID: "U0BOT", Token: SlackToken, SigningSecret: SlackSecret,
		EventsURL: events, CommandsURL: commands,
	}
}
