// Package telegram speaks to people through a Telegram bot: by webhook or by long
// polling in, by the Bot API out.
//
// It takes only what Telegram signed with the endpoint's secret, tells who wrote a
// message and what makes that doubtful, and never loses an update it cannot read.
package telegram

import (
	"log/slog"
	"net/http"
	"sync"
	"time"

	"hydragate/adapters"
)

// An Adapter speaks Telegram for every endpoint; each call brings its own. The zero
// value is ready and speaks to Telegram's own servers. It must not be copied after
// first use.
type Adapter struct {
	// APIURL is the origin of the Bot API server, without a slash at the end; empty
	// means https://api.telegram.org.
	APIURL string

	// HTTP makes the calls; nil means a client of the adapter's own. Redirects are
	// never followed.
	HTTP *http.Client

	// Log tells of a poll that has to wait; nil means nowhere.
	Log *slog.Logger

	// Now is the clock; nil means time.Now.
	Now func() time.Time

	clientOnce sync.Once
	client     *http.Client
}

var (
	_ adapters.Poller     = (*Adapter)(nil)
	_ adapters.Configurer = (*Adapter)(nil)
)

// Channel gives adapters.Telegram.
func (a *Adapter) Channel() adapters.Channel { return adapters.Telegram }

// maxText is the longest text of one message, in UTF-16 units.
const maxText = 4096

// Limits gives what a Telegram message can carry.
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

// allowedUpdates are the kinds of update that Telegram is asked for.
func allowedUpdates() []string {
	return []string{"message", "edited_message", "callback_query", "my_chat_member"}
}
