//go:build unix

package harness

import (
	"net/http"
	"net/http/httptest"
	"time"

	"hydragate/adapters/simulator"
	"hydragate/cmd/hydragate/app"
)

// Providers are fake Telegram, Twilio and Slack servers.
type Providers struct {
	Telegram *simulator.Telegram
	Twilio   *simulator.Twilio
	Slack    *simulator.Slack

	telegramURL, twilioURL string
}

// StartProviders starts the fake providers. cleanup registers the functions that stop them. Each
// response is delayed.
func StartProviders(cleanup func(func()), delay time.Duration) *Providers {
	p := &Providers{Telegram: simulator.NewTelegram(), Twilio: simulator.NewTwilio(), Slack: simulator.NewSlack()}
	cleanup(p.Telegram.Close)
	cleanup(p.Twilio.Close)
	p.telegramURL = ServeHTTP(cleanup, delayedHandler{p.Telegram, delay})
	p.twilioURL = ServeHTTP(cleanup, delayedHandler{p.Twilio, delay})
	p.Slack.SetURL(ServeHTTP(cleanup, delayedHandler{p.Slack, delay}))
	return p
}

// AddAccounts creates the accounts that are named by the constants of this package.
func (p *Providers) AddAccounts() {
	p.Telegram.AddBot(TelegramToken, TelegramBot)
	p.Twilio.AddAccount(TwilioAccount, TwilioToken)
	p.Twilio.AddNumber(TwilioAccount, SMSBotNumber)
	p.Slack.AddApp(NewSlackApp("", ""))
	p.Slack.AddRoom(SlackChannelID, false)
}

// Settings returns the settings that connect a gateway to the providers.
func (p *Providers) Settings() app.Settings {
	return app.Settings{TelegramAPIURL: p.telegramURL, TwilioAPIURL: p.twilioURL, SlackAPIURL: p.Slack.APIURL()}
}

// Env returns Settings as environment variables.
func (p *Providers) Env() []string { return Env(p.Settings()) }

// ServeHTTP starts an HTTP server for h and returns its URL. cleanup registers the function that
// stops it.
func ServeHTTP(cleanup func(func()), h http.Handler) (url string) {
	s := httptest.NewServer(h)
	cleanup(func() {
		s.CloseClientConnections() // Close would wait for a long poll
		s.Close()
	})
	return s.URL
}

// A delayedHandler delays each response after the request was handled.
type delayedHandler struct {
	http.Handler
	delay time.Duration
}

func (h delayedHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.Handler.ServeHTTP(w, r)
	if h.delay > 0 {
		<-time.After(h.delay)
	}
}
