package main

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"strconv"
	"strings"

	"hydragate/adapters"
	"hydragate/adapters/simulator"
)

// The accounts of the demo. The numbers are of the range that is kept for fiction.
const (
	demoBot            = "hydragate_demo_bot"
	demoSMSNumber      = "+12025550100"
	demoWhatsAppNumber = "+12025550101"
	demoTeam           = "T0DEMO"
	demoTeamName       = "Hydragate Demo"
	demoApp            = "A0DEMO"
	demoSocketApp      = "A0SOCKET"
	demoBotUser        = "U0BOT"
)

// steves gives the account of Steve, the demo's customer, on a channel.
func steves(c adapters.Channel) string {
	return map[adapters.Channel]string{
		adapters.Telegram: "12345", adapters.SMS: "+12025550123", adapters.WhatsApp: "+12025550123", adapters.Slack: demoTeam + ":U0STEVE",
	}[c]
}

// strangers gives the account of another person on a channel.
func strangers(c adapters.Channel) string {
	return map[adapters.Channel]string{
		adapters.Telegram: "67890", adapters.SMS: "+12025550167", adapters.WhatsApp: "+12025550167", adapters.Slack: demoTeam + ":U0OTHER",
	}[c]
}

// A pretence is all providers of the demo, with an account at each. The secrets are
// made anew each time.
type pretence struct {
	telegram *simulator.Telegram
	twilio   *simulator.Twilio
	slack    *simulator.Slack
	servers  map[string]*loopback // by the provider's name

	telegramToken, slackToken, slackSecret string
	twilioSID, twilioToken                 string
	socket                                 simulator.App // in Socket Mode
}

// pretend opens the providers; port is where the first listens, with the others at
// the ports after it, and 0 means free ones.
func pretend(port int) (p *pretence, err error) {
	p = &pretence{
		telegram: simulator.NewTelegram(), twilio: simulator.NewTwilio(), slack: simulator.NewSlack(), servers: map[string]*loopback{},
		telegramToken: "700000001:" + (rand.Text() + rand.Text())[:35], slackToken: "xoxb-" + rand.Text(), slackSecret: rand.Text(),
		twilioSID: "AC" + newHex(), twilioToken: newHex(),
		socket: simulator.App{
			AppID: demoSocketApp, TeamID: demoTeam, TeamName: demoTeamName, BotUserID: demoBotUser,
			Token: "xoxb-" + rand.Text(), SigningSecret: rand.Text(), AppToken: "xapp-1-" + demoSocketApp + "-" + rand.Text(),
		},
	}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	at := func(n int) string {
		if port > 0 {
			n += port
		} else {
			n = 0
		}
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(n))
	}
	if p.servers["Telegram"], err = openLoopback(at(0), p.telegram); err != nil {
		return p, fmt.Errorf("open the pretend Telegram: %w", err)
	}
	if p.servers["Twilio"], err = openLoopback(at(1), p.twilio); err != nil {
		return p, fmt.Errorf("open the pretend Twilio: %w", err)
	}
	if p.servers["Slack"], err = openLoopback(at(2), p.slack); err != nil {
		return p, fmt.Errorf("open the pretend Slack: %w", err)
	}
	p.telegram.AddBot(p.telegramToken, demoBot)
	p.twilio.AddAccount(p.twilioSID, p.twilioToken)
	p.twilio.AddNumber(p.twilioSID, demoSMSNumber)
	p.slack.SetURL(p.servers["Slack"].url)
	p.slack.AddApp(p.app(""))
	p.slack.AddApp(p.socket)
	return p, nil
}

func newHex() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// app is the Slack app, with the hooks below the URL hook.
func (p *pretence) app(hook string) simulator.App {
	app := simulator.App{AppID: demoApp, TeamID: demoTeam, TeamName: demoTeamName, BotUserID: demoBotUser, Token: p.slackToken, SigningSecret: p.slackSecret}
	if hook != "" {
		app.EventsURL, app.CommandsURL, app.InteractivityURL = hook+"/events", hook+"/commands", hook+"/interactivity"
	}
	return app
}

// A demoAccount is what a channel of the demo can be set up with.
type demoAccount struct {
	name    string
	channel adapters.Channel
	body    object
}

// accounts are those that the providers know.
func (p *pretence) accounts() []demoAccount {
	twilio := func(number string) object {
		return object{"account_sid": p.twilioSID, "auth_token": p.twilioToken, "phone_number": number}
	}
	return []demoAccount{
		{"Telegram", adapters.Telegram, object{"bot_token": p.telegramToken}},
		{"Telegram, polled", adapters.Telegram, object{"bot_token": p.telegramToken, "mode": "polling"}},
		{"SMS", adapters.SMS, twilio(demoSMSNumber)},
		{"WhatsApp", adapters.WhatsApp, twilio(demoWhatsAppNumber)},
		{"Slack", adapters.Slack, object{"bot_token": p.slackToken, "signing_secret": p.slackSecret}},
		{"Slack, connected", adapters.Slack, object{"bot_token": p.socket.Token, "signing_secret": p.socket.SigningSecret, "app_token": p.socket.AppToken}},
	}
}

// connect does what people do at the consoles of Slack and Twilio: they enter the
// URLs of the hooks, which their APIs have no call for.
func (p *pretence) connect(hooks map[adapters.Channel]string) {
	p.slack.AddApp(p.app(strings.TrimSuffix(hooks[adapters.Slack], "/events")))
	p.twilio.SetWhatsAppURL(p.twilioSID, demoWhatsAppNumber, hooks[adapters.WhatsApp], hooks[adapters.WhatsApp])
}

// control is how people type there.
func (p *pretence) control() *simulator.Control {
	return &simulator.Control{
		Telegram: p.telegram, Bot: demoBot, Twilio: p.twilio, SMSNumber: demoSMSNumber, WhatsAppNumber: demoWhatsAppNumber,
		Slack: p.slack, AppID: demoApp, SocketAppID: demoSocketApp, Team: demoTeam,
	}
}

func (p *pretence) close() {
	p.telegram.Close()
	p.twilio.Close()
	for _, s := range p.servers {
		if s != nil {
			s.close()
		}
	}
}
