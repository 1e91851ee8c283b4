// Package telegram implements the Telegram channel: webhooks or long polling in, the Bot API out.
//
// It accepts only updates with the secret token of the endpoint, reports who wrote a message and
// what makes that uncertain, and never drops an update that it cannot decode. It does not store
// anything. See https://core.telegram.org/bots/api.
package telegram

import (
	"log/slog"
	"net/http"
	"sync"
	"time"

	"hydragate/adapters"
)

// An Adapter implements the channel for all endpoints; each call names its endpoint. The zero
// value is ready to use. An Adapter must not be copied after first use.
type Adapter struct {
	// APIURL is the origin of the Bot API server, without a trailing slash. The default is
	// https://api.telegram.org.
	APIURL string

	// HTTP is the client for all calls. The default is a client of the adapter. Redirects are
	// never followed.
	HTTP *http.Client

	// Log receives entries about failed polls. The default discards them.
	Log *slog.Logger

	// Now returns the current time. The default is time.Now.
	Now func() time.Time

	clientOnce sync.Once
	client     *http.Client
}

var (
	_ adapters.Poller         = (*Adapter)(nil)
	_ adapters.StatusReporter = (*Adapter)(nil)
	_ adapters.Acknowledger   = (*Adapter)(nil)
)

// Channel returns adapters.Telegram.
func (a *Adapter) Channel() adapters.Channel { return adapters.Telegram }

// maxText is the maximum length of a text in UTF-16 code units.
const maxText = 4096

// Limits returns the limits of a Telegram message.
func (a *Adapter) Limits() adapters.Limits {
	return adapters.Limits{MaxText: maxText, Measure: adapters.UTF16Len}
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

// allowedUpdates returns the kinds of updates that the gateway processes.
func allowedUpdates() []string {
	return []string{"message", "edited_message", "callback_query", "my_chat_member"}
}
