// Package slack speaks with people in Slack workspaces: it reads the Events API,
// slash commands and interactivity over HTTP or, where no hook can be reached, over
// Socket Mode, and answers with chat.postMessage.
//
// One endpoint is one Slack app installed in one workspace. The package knows
// Slack's protocol and nothing of who a sender is to us.
package slack

import (
	"log/slog"
	"net/http"
	"time"
	"unicode/utf8"

	"hydragate/adapters"
)

// DefaultAPIURL is the API of Slack itself.
const DefaultAPIURL = "https://slack.com/api/"

// maxText is what Slack recommends as the longest text of one message, in
// characters.
const maxText = 4000

// An Adapter speaks Slack. The zero value is ready and speaks with Slack itself;
// an Adapter is safe for concurrent use while its fields stay as they are.
type Adapter struct {
	// APIURL is the API server, with its last slash; empty means DefaultAPIURL.
	// With another origin than Slack's, answers to slash commands are posted to
	// that origin alone.
	APIURL string

	// HTTP makes the calls; nil means a plain client. Whatever it says, a call ends
	// after ten seconds where it sets no time, and no redirect is followed. Socket Mode
	// dials as its transport does.
	HTTP *http.Client

	// Now is the clock that signatures are checked against; nil means time.Now.
	Now func() time.Time

	// Log hears why Socket Mode waits or starts anew; nil means nowhere.
	Log *slog.Logger
}

var (
	_ adapters.Configurer = (*Adapter)(nil)
	_ adapters.Poller     = (*Adapter)(nil)
)

// Channel is adapters.Slack.
func (a *Adapter) Channel() adapters.Channel { return adapters.Slack }

// Limits says that Slack carries plain text of 4000 characters.
func (a *Adapter) Limits() adapters.Limits {
	return adapters.Limits{MaxText: maxText, Measure: utf8.RuneCountInString}
}

// Receive reads the hooks "events", "commands" and "interactivity". Nothing of a
// body is believed before its signature is; that holds for Slack's own checks of
// the URL too.
func (a *Adapter) Receive(r *http.Request, ep adapters.Endpoint, hook string) (adapters.Inbound, error) {
	var read func([]byte, adapters.Endpoint) (adapters.Inbound, error)
	switch hook {
	case "events":
		read = parseEvent
	case "commands":
		read = a.parseCommandForm
	case "interactivity":
		read = parseInteractionForm
	default:
		return adapters.Inbound{}, adapters.ErrUnknownWebhook
	}
	body, err := a.authenticate(r, ep)
	if err != nil {
		return adapters.Inbound{}, err
	}
	return read(body, ep)
}

func (a *Adapter) now() time.Time {
	if a.Now != nil {
		return a.Now()
	}
	return time.Now()
}

func (a *Adapter) log() *slog.Logger {
	if a.Log != nil {
		return a.Log
	}
	return slog.New(slog.DiscardHandler)
}

func (a *Adapter) apiURL() string {
	if a.APIURL != "" {
		return a.APIURL
	}
	return DefaultAPIURL
}
