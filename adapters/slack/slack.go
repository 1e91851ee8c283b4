// Package slack implements the Slack channel: the Events API, slash commands and interactivity
// over HTTP or, without a public URL, over Socket Mode; replies by chat.postMessage.
//
// An endpoint is one Slack app installed in one workspace. The package does not store anything and
// does not know who a sender is. See https://docs.slack.dev/apis/events-api.
package slack

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"hydragate/adapters"
)

// DefaultAPIURL is the URL of the Slack API.
const DefaultAPIURL = "https://slack.com/api/"

// maxText is the maximum length of a message in characters that Slack recommends. It truncates only
// much longer ones, but since 2024 may answer msg_too_long to texts of about this length.
const maxText = 4000

// An Adapter implements the channel for all endpoints; each call names its endpoint. The zero
// value is ready to use. An Adapter is safe for concurrent use as long as its fields do not
// change.
type Adapter struct {
	// APIURL is the URL of the API server, with a trailing slash. The default is DefaultAPIURL.
	// With another origin, replies to response URLs are posted only to that origin.
	APIURL string

	// HTTP is the client for all calls. The default is a client of the adapter. A call times out
	// after ten seconds if HTTP has no timeout, and redirects are never followed. Socket Mode uses
	// the dial settings of its transport.
	HTTP *http.Client

	// Now returns the current time, against which signatures are checked. The default is time.Now.
	Now func() time.Time

	// Log receives entries about Socket Mode connections. The default discards them.
	Log *slog.Logger

	// Notify is called with what Slack reports about an app over Socket Mode. It may be nil.
	Notify func(ctx context.Context, ep adapters.Endpoint, n adapters.ProviderNotice)
}

var (
	_ adapters.StatusReporter = (*Adapter)(nil)
	_ adapters.Poller         = (*Adapter)(nil)
	_ adapters.Profiler       = (*Adapter)(nil)
)

// Channel returns adapters.Slack.
func (a *Adapter) Channel() adapters.Channel { return adapters.Slack }

// Limits returns the limits of a Slack message.
func (a *Adapter) Limits() adapters.Limits {
	return adapters.Limits{MaxText: maxText, Measure: textLen}
}

// textLen returns the length of a text as Slack counts it: escaped, and in UTF-16 code units, of
// which some characters have two.
func textLen(s string) int { return adapters.UTF16Len(escapeText(s)) }

// Receive parses the webhooks "events", "commands" and "interactivity". It checks the signature
// before it parses the body, also for the verification of the URL by Slack.
func (a *Adapter) Receive(r *http.Request, ep adapters.Endpoint, hook string) (adapters.Inbound, error) {
	var read func([]byte, adapters.Endpoint) (adapters.Inbound, error)
	switch hook {
	case "events":
		read = parseEvent
	case "commands":
		read = a.parseCommandForm
	case "interactivity":
		read = a.parseInteractionForm
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
