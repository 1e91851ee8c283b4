//go:build unix

package harness

import (
	"hydragate/adapters/simulator"
)

// The secrets of the tests. Tests search for them where they must not be.
const (
	AdminKey      = "an-admin-key-for-the-tests-0123456789abc"
	TelegramToken = "7000001:AAE0123456789abcdefghijklmnopqrstuv"
	TwilioAccount = "AC0123456789abcdef0123456789abcdef"
	TwilioToken   = "fedcba98765432100123456789abcdef"
	SlackToken    = "xoxb-0123456789-tests"
	SlackSecret   = "8f742231b10e8888abcd99yyyzzz85a5"
	SlackAppToken = "xapp-1-A0ACME-0123456789-tests"
)

// The addresses of the bot.
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
		AppID: SlackAppID, TeamID: SlackTeamID, TeamName: "Acme", BotUserID: "U0BOT",
		Token: SlackToken, SigningSecret: SlackSecret,
		EventsURL: events, CommandsURL: commands,
	}
}
