package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net"
	"net/http"
	"strings"
	"time"

	"hydragate/adapters/simulator"
)

// providers are simulated Telegram, Twilio and Slack servers in this process, with which the gateway
// connects its channels. The measured messages do not come from them but from a load, which costs
// less.
type providers struct {
	telegram *simulator.Telegram
	twilio   *simulator.Twilio
	slack    *simulator.Slack

	telegramURL, twilioURL, slackURL string
	servers                          []*http.Server

	botToken       string
	account, token string
	app            simulator.SlackApp
}

const (
	botName     = "hydrabench_bot"
	phoneNumber = "+15005550006"
)

// startProviders starts the servers on loopback, with one bot, one number and one app.
func startProviders(ctx context.Context) (*providers, error) {
	p := &providers{
		telegram: simulator.NewTelegram(), twilio: simulator.NewTwilio(), slack: simulator.NewSlack(),
		botToken: "700000001:" + randomHex(35), account: "AC" + randomHex(32), token: randomHex(32),
		app: simulator.SlackApp{
			AppID: "A0HYDRABENCH", TeamID: "T0HYDRABENCH", TeamName: "Bench", BotUserID: "U0HYDRABOT",
			Token: "xoxb-" + randomHex(24), SigningSecret: randomHex(32),
		},
	}
	p.telegram.AddBot(p.botToken, botName)
	p.twilio.AddAccount(p.account, p.token)
	p.twilio.AddNumber(p.account, phoneNumber)
	p.slack.AddApp(p.app)
	for _, s := range []struct {
		handler http.Handler
		url     *string
	}{{p.telegram, &p.telegramURL}, {p.twilio, &p.twilioURL}, {p.slack, &p.slackURL}} {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			p.close()
			return nil, err
		}
		*s.url = "http://" + l.Addr().String()
		srv := &http.Server{Handler: s.handler, ReadHeaderTimeout: 5 * time.Second}
		p.servers = append(p.servers, srv)
		go func() { _ = srv.Serve(l) }()
	}
	p.slack.SetURL(p.slackURL)
	return p, nil
}

func (p *providers) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for _, s := range p.servers {
		if s.Shutdown(ctx) != nil {
			_ = s.Close()
		}
	}
	p.telegram.Close()
	p.twilio.Close()
}

// webhook returns the webhook of a channel at the URL u.
func (p *providers) webhook(channel, u string) webhook {
	h := webhook{channel: channel, url: u}
	switch channel {
	case telegramChannel:
		_, h.secret = p.telegram.Webhook(botName)
	case smsChannel:
		h.url, _, _ = strings.Cut(u, "#")
		h.secret, h.account, h.number = p.token, p.account, phoneNumber
	case slackChannel:
		h.secret, h.slack = p.app.SigningSecret, slackApp{team: p.app.TeamID, app: p.app.AppID, bot: p.app.BotUserID}
	}
	return h
}

// randomHex returns n random hexadecimal digits.
func randomHex(n int) string {
	b := make([]byte, (n+1)/2)
	_, _ = rand.Read(b) // never fails: crypto/rand crashes the program instead
	return hex.EncodeToString(b)[:n]
}
