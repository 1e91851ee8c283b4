package simulator

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"hydragate/adapters"
)

// A Server is an HTTP server on loopback.
type Server struct {
	URL    string
	server *http.Server
	done   chan struct{}
}

// StartServer serves h at addr, which must be a loopback address, until Close.
func StartServer(addr string, h http.Handler) (*Server, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("%s must be host:port", addr)
	}
	if a, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !a.IsLoopback()) {
		return nil, fmt.Errorf("%s must be a loopback address, such as 127.0.0.1", host)
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, err
	}
	s := &Server{
		URL:    "http://" + l.Addr().String(),
		server: &http.Server{Handler: h, ReadHeaderTimeout: 2 * time.Second},
		done:   make(chan struct{}),
	}
	go func() {
		defer close(s.done)
		if err := s.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			_ = l.Close()
		}
	}()
	return s, nil
}

// Close stops the server immediately and closes all connections.
func (s *Server) Close() {
	_ = s.server.Close()
	<-s.done
}

// The accounts of the demo. The phone numbers are in the range that is reserved for fiction.
const (
	DemoBot            = "hydragate_demo_bot"
	DemoSMSNumber      = "+12025550100"
	demoWhatsAppNumber = "+12025550101"
	DemoTeam           = "T0DEMO"
	demoTeamName       = "Hydragate Demo"
	DemoApp            = "A0DEMO"
	DemoSocketApp      = "A0SOCKET"
	DemoBotUser        = "U0BOT"
)

// Providers holds the providers of the demo, each with an account. The secrets are random.
type Providers struct {
	Telegram *Telegram
	Twilio   *Twilio
	Slack    *Slack
	Servers  map[string]*Server // by name of the provider

	TelegramToken, SlackToken, SlackSecret string
	TwilioSID, TwilioToken                 string
	socket                                 SlackApp // uses Socket Mode
}

// StartProviders starts the providers. They listen on port and the ports after it, or on free ports
// if port is 0.
func StartProviders(port int) (p *Providers, err error) {
	p = &Providers{
		Telegram: NewTelegram(), Twilio: NewTwilio(), Slack: NewSlack(), Servers: map[string]*Server{},
		TelegramToken: "700000001:" + (rand.Text() + rand.Text())[:35],
		SlackToken:    "xoxb-" + rand.Text(), SlackSecret: rand.Text(),
		TwilioSID: "AC" + RandomHex(), TwilioToken: RandomHex(),
		socket: SlackApp{
			AppID: DemoSocketApp, TeamID: DemoTeam, TeamName: demoTeamName, BotUserID: DemoBotUser,
			Token: "xoxb-" + rand.Text(), SigningSecret: rand.Text(),
			AppToken: "xapp-1-" + DemoSocketApp + "-" + rand.Text(),
		},
	}
	defer func() {
		if err != nil {
			p.Close()
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
	if p.Servers["Telegram"], err = StartServer(at(0), p.Telegram); err != nil {
		return p, fmt.Errorf("start simulated Telegram: %w", err)
	}
	if p.Servers["Twilio"], err = StartServer(at(1), p.Twilio); err != nil {
		return p, fmt.Errorf("start simulated Twilio: %w", err)
	}
	if p.Servers["Slack"], err = StartServer(at(2), p.Slack); err != nil {
		return p, fmt.Errorf("start simulated Slack: %w", err)
	}
	p.Telegram.AddBot(p.TelegramToken, DemoBot)
	p.Twilio.AddAccount(p.TwilioSID, p.TwilioToken)
	p.Twilio.AddNumber(p.TwilioSID, DemoSMSNumber)
	p.Slack.SetURL(p.Servers["Slack"].URL)
	p.Slack.AddApp(p.slackApp(""))
	p.Slack.AddApp(p.socket)
	return p, nil
}

// RandomHex returns 32 random hexadecimal digits.
func RandomHex() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// slackApp returns the Slack app with its webhooks below baseURL. If baseURL is empty, it has none.
func (p *Providers) slackApp(baseURL string) SlackApp {
	app := SlackApp{
		AppID: DemoApp, TeamID: DemoTeam, TeamName: demoTeamName, BotUserID: DemoBotUser,
		Token: p.SlackToken, SigningSecret: p.SlackSecret,
	}
	if baseURL != "" {
		app.EventsURL, app.CommandsURL = baseURL+"/events", baseURL+"/commands"
		app.InteractivityURL = baseURL + "/interactivity"
	}
	return app
}

// A ChannelAccount is an account at a provider. Body is the request body that sets up its channel in
// the gateway's API.
type ChannelAccount struct {
	Name    string
	Channel adapters.Channel
	Body    map[string]any
}

// ChannelAccounts returns the accounts at the providers.
func (p *Providers) ChannelAccounts() []ChannelAccount {
	twilio := func(number string) map[string]any {
		return map[string]any{"account_sid": p.TwilioSID, "auth_token": p.TwilioToken, "phone_number": number}
	}
	return []ChannelAccount{
		{"Telegram", adapters.Telegram, map[string]any{"bot_token": p.TelegramToken}},
		{"Telegram, polled", adapters.Telegram, map[string]any{"bot_token": p.TelegramToken, "mode": "polling"}},
		{"SMS", adapters.SMS, twilio(DemoSMSNumber)},
		{"WhatsApp", adapters.WhatsApp, twilio(demoWhatsAppNumber)},
		{"Slack", adapters.Slack, map[string]any{"bot_token": p.SlackToken, "signing_secret": p.SlackSecret}},
		{"Slack, connected", adapters.Slack, map[string]any{
			"bot_token": p.socket.Token, "signing_secret": p.socket.SigningSecret, "app_token": p.socket.AppToken,
		}},
	}
}

// SetWebhookURLs sets the webhooks that are entered in the consoles of Slack and Twilio, because
// their APIs cannot set them.
func (p *Providers) SetWebhookURLs(urls map[adapters.Channel]string) {
	p.Slack.AddApp(p.slackApp(strings.TrimSuffix(urls[adapters.Slack], "/events")))
	p.Twilio.SetWhatsAppURL(p.TwilioSID, demoWhatsAppNumber, urls[adapters.WhatsApp], urls[adapters.WhatsApp])
}

// NewControl returns a Control of the providers.
func (p *Providers) NewControl() *Control {
	return &Control{
		Telegram: p.Telegram, Bot: DemoBot,
		Twilio: p.Twilio, SMSNumber: DemoSMSNumber, WhatsAppNumber: demoWhatsAppNumber,
		Slack: p.Slack, AppID: DemoApp, SocketAppID: DemoSocketApp, Team: DemoTeam,
	}
}

// Close stops the providers and their servers.
func (p *Providers) Close() {
	p.Telegram.Close()
	p.Twilio.Close()
	for _, s := range p.Servers {
		if s != nil {
			s.Close()
		}
	}
}
