// Package adapters defines the contract between the gateway and its channels: the message that
// arrives, the reply that leaves, and the interfaces that a channel implements.
//
// Each subpackage implements one channel, or several of one provider. An adapter knows the protocol
// of its provider and nothing else: it does not store messages, does not know which customer a
// sender is, and does not handle claims or call the application.
//
// A new channel needs a Channel constant and a row of traits here, a subpackage with an Adapter that
// passes the suite of package adaptertest, an entry where package app creates the adapters, and
// set-up operations in package httpapi.
package adapters

import (
	"context"
	"net/http"
)

// A Channel names a way to reach a person. It is stored with every identity, so its values must never
// change.
type Channel string

// The channels that have an adapter. Package sms implements both SMS and WhatsApp, which share an API
// of Twilio.
const (
	Telegram Channel = "telegram"
	SMS      Channel = "sms"
	Slack    Channel = "slack"
	WhatsApp Channel = "whatsapp"
)

// An Adapter implements one channel. Its methods are called concurrently, for any number of
// endpoints.
type Adapter interface {
	// Channel returns the channel that the adapter implements.
	Channel() Channel

	// Limits returns what one message of the channel can contain.
	Limits() Limits

	// Receive authenticates a request to the webhook of ep and decodes its messages and receipts. It
	// must not read more of the body than the channel sends; see ReadBody. webhook is the last
	// element of the request path: "" for the main webhook, or a name such as "status" or "events".
	//
	// It returns ErrUnknownWebhook for any other name, ErrForged for a request that the channel did
	// not make or did not make for ep, ErrNoKey if ep has no key to authenticate requests,
	// ErrTooLarge for a body over the limit of the channel, and ErrMalformed for an authentic
	// request whose envelope cannot be decoded. An authentic message that cannot be decoded is not
	// an error; it is returned with kind Undecodable and its Raw bytes.
	//
	// After ErrForged or ErrNoKey the caller may pass the same request again, with newer
	// credentials in ep.
	Receive(r *http.Request, ep Endpoint, webhook string) (Inbound, error)

	// Send sends one reply and returns the channel's ID of the message. Every error is a
	// *SendError.
	Send(ctx context.Context, ep Endpoint, reply Reply) (providerID string, err error)
}

// An Inbound holds the content of one request from a channel.
type Inbound struct {
	Messages []Message
	Receipts []Receipt
	Notices  []ProviderNotice

	// Ack writes the response in the format that the channel expects. If storeErr is nil, everything
	// above is stored. Otherwise the response must make the channel redeliver the request or, if the
	// channel never does, ask the person to try again. It must not contain the text of storeErr. Ack
	// is never nil and is called once.
	Ack func(w http.ResponseWriter, storeErr error)
}

// A ProviderNotice is something that the provider reports about the app or the account itself, such as
// that the app was uninstalled. The gateway then asks the provider whether the endpoint still works.
type ProviderNotice struct {
	Reason string // from the provider's own small set
	Detail string // for staff; may be empty
}

// Limits describe what one message of a channel can contain.
type Limits struct {
	MaxText     int              // maximum length of a text, in the unit of Measure
	Measure     func(string) int // length of a text as the channel counts it
	Markdown    bool
	Buttons     bool
	Edit        bool
	Attachments bool
}

// A Poller is an Adapter that can also fetch messages, for a gateway that the provider cannot reach.
type Poller interface {
	Adapter

	// Poll fetches messages until ctx ends. It starts at cursor; if cursor is empty, at the oldest
	// message that the channel still has. It passes each batch to handle, in the order of the
	// channel, with the cursor that confirms the batch. A batch may be empty if only the cursor
	// changed. Poll confirms a batch to the channel only after handle returned nil.
	//
	// A channel that redelivers unconfirmed messages by itself needs no cursor; it passes an empty
	// one, and messages that handle rejected arrive again in a later batch.
	//
	// Poll returns ctx.Err(), or a *SendError if retrying cannot help.
	Poll(
		ctx context.Context, ep Endpoint, cursor string,
		handle func(ctx context.Context, batch []Message, cursor string) error,
	) error
}

// A Profiler is an Adapter that can look up the names of a sender, for a channel whose messages do not
// contain them.
type Profiler interface {
	Adapter

	// Profile returns the names of the person with an external ID. Every error is a *SendError.
	Profile(ctx context.Context, ep Endpoint, externalID string) (Sender, error)
}

// An Acknowledger is an Adapter whose provider expects a call for each press of a button, whatever the
// reply is.
type Acknowledger interface {
	Adapter

	// Acknowledge reports to the provider that m was received and stored. It is called once, and does
	// nothing if m needs no such call. Every error is a *SendError.
	Acknowledge(ctx context.Context, ep Endpoint, m Message) error
}

// A Configurer is an Adapter whose provider can be configured through an API. Every error of its
// methods is a *SetupError.
type Configurer interface {
	Adapter

	// Check verifies the credentials of ep with the provider. It returns ep with the Address and
	// Settings that the provider reports. It changes nothing at the provider.
	Check(ctx context.Context, ep Endpoint) (Endpoint, error)

	// Connect makes the provider send messages to ep.WebhookURL, or to no webhook if ep is not in
	// webhook mode, and registers commands. It is idempotent.
	Connect(ctx context.Context, ep Endpoint) error

	// Disconnect reverts Connect if the provider still sends messages to ep.WebhookURL.
	Disconnect(ctx context.Context, ep Endpoint) error
}
