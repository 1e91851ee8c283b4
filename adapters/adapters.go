// Package adapters holds the words every channel shares: the message that comes
// in, the reply that goes out, and the contract an adapter keeps.
//
// One subpackage speaks one channel. An adapter knows its channel's protocol and
// nothing else: not who the sender is, not what a claim is, not where agents live.
package adapters

import (
	"context"
	"net/http"
	"time"
)

// A Channel names a way to reach a person. It is stored with every identity, so
// its values never change meaning.
type Channel string

// The channels that have an adapter. WhatsApp is spoken by package sms: both are
// Twilio's, and differ in the prefix of an address.
const (
	Telegram Channel = "telegram"
	SMS      Channel = "sms"
	Slack    Channel = "slack"
	WhatsApp Channel = "whatsapp"
)

// An Adapter speaks one channel. Its methods are safe for concurrent use.
type Adapter interface {
	Channel() Channel

	// Limits says what the channel can carry.
	Limits() Limits

	// Receive checks that r comes from the channel and reads what it carries. hook
	// is the last part of the path: "" for the main hook, else "status", "events",
	// "commands" or "interactivity"; another value gives ErrNoHook.
	//
	// A request that is not the channel's, or not meant for ep, gives ErrForged; an
	// endpoint without the key that would tell gives ErrNoKey; a body over the
	// channel's limit gives ErrTooLarge; a body that is not what the channel sends
	// even as an envelope gives ErrMalformed. Nothing of an error may be shown to
	// the caller. What is authentic and cannot be read is no error: it comes as a
	// Message of kind Undecodable with its Raw bytes. A request that gave ErrForged or
	// ErrNoKey can be received again, for an endpoint that has other keys.
	Receive(r *http.Request, ep Endpoint, hook string) (Inbound, error)

	// Send hands one reply to the channel and gives the channel's own id of it.
	// Every error it returns is a *SendError.
	Send(ctx context.Context, ep Endpoint, reply Reply) (providerID string, err error)
}

// An Inbound is what one request of a channel carries.
type Inbound struct {
	Messages []Message
	Receipts []Receipt

	// Ack answers the channel in the channel's own words, once everything above is
	// stored; taken is nil then. With an error it answers so that the channel
	// delivers again. It is never nil, and is called once.
	Ack func(w http.ResponseWriter, taken error)
}

// Limits say what one message of a channel can carry.
type Limits struct {
	MaxText     int              // in units of Measure
	Measure     func(string) int // the length of a text as the channel counts it
	Markdown    bool
	Buttons     bool
	Edit        bool
	Attachments bool
}

// A Kind says what happened on the channel.
type Kind string

// The kinds of message. OptOut, OptIn and Help are keywords the carrier acts on by
// itself; Block and Unblock say that the person closed or reopened the chat.
const (
	Text        Kind = "text"
	Media       Kind = "media" // has attachments; Text holds the caption
	Edit        Kind = "edit"  // a new version of an earlier message
	Callback    Kind = "callback"
	OptOut      Kind = "opt_out"
	OptIn       Kind = "opt_in"
	Help        Kind = "help"
	Block       Kind = "block"
	Unblock     Kind = "unblock"
	Unsupported Kind = "unsupported" // understood, and nothing a runtime could use
	Undecodable Kind = "undecodable" // authentic, but not understood; Raw holds it
)

// A Message is what somebody said on a channel, in words every channel shares.
// Its texts are valid UTF-8 without NUL, cut to MaxInboundText.
type Message struct {
	// Key names this delivery: the same message delivered twice has the same Key,
	// and no two messages of one endpoint share one. AltKey is a second such name,
	// for channels that announce one message in two ways; it may be empty.
	Key    string `json:"key"`
	AltKey string `json:"alt_key,omitempty"`

	Kind       Kind         `json:"kind"`
	ProviderID string       `json:"provider_id,omitempty"` // the channel's own id of the message
	Sender     Sender       `json:"sender"`
	Chat       Chat         `json:"place"`
	Text       string       `json:"text,omitempty"`
	Command    *Command     `json:"command,omitempty"` // set when the text is a command addressed to this bot
	Action     string       `json:"action,omitempty"`  // the value of a pressed button
	Media      []Attachment `json:"media,omitempty"`
	ReplyTo    string       `json:"reply_to,omitempty"` // ProviderID of the message answered
	SentAt     time.Time    `json:"sent_at,omitzero"`   // by the channel's clock; never used to decide anything

	// Unproven says why this message cannot prove who sent it, in one word for the
	// log ("forwarded", "edited", "caption", …). Empty: the person wrote it, here,
	// now, with the own account. A claim needs it empty and Place.Group false.
	UnprovenReason string `json:"unproven,omitempty"`

	Raw []byte `json:"raw,omitempty"` // only of an Undecodable message
}

// A Sender is the person as the channel knows them. Only ID says who it is: names
// change hands, and are for staff to read.
type Sender struct {
	ID       string `json:"id"` // normalised; empty when the channel names nobody
	Name     string `json:"name,omitempty"`
	Username string `json:"username,omitempty"`
	Locale   string `json:"locale,omitempty"`
}

// A Chat is where a message was said, and so where an answer belongs.
type Chat struct {
	ID     string `json:"id"` // one place is one conversation; a direct place has one person
	Group  bool   `json:"group,omitempty"`
	Thread string `json:"thread,omitempty"`

	// Answer is a short-lived address that overrides ID for the answer to this one
	// message, such as Slack's response_url. It is a secret.
	ReplyToken string `json:"answer,omitempty"`
}

// A Command is "/name args", the name in lower case and without "@bot".
type Command struct {
	Name string `json:"name"`
	Args string `json:"args,omitempty"`
}

// An Attachment is a file somebody sent. Ref is how the adapter fetches it and may
// hold a private URL: it is stored, and never shown.
type Attachment struct {
	Kind     string `json:"kind"` // "image", "audio", "video", "voice", "sticker", "location", "contact" or "file"
	Ref      string `json:"ref"`
	MIME     string `json:"mime,omitempty"`
	Name     string `json:"name,omitempty"`
	Size     int64  `json:"size,omitempty"`
	Duration int    `json:"duration,omitempty"` // seconds
}

// A Receipt is the channel's word on a reply sent earlier. Receipts come twice and
// out of order; Status.Rank orders them.
type Receipt struct {
	ProviderID string
	Status     Status
	Code       string // the channel's own code, when it failed
	Gone       bool   `json:",omitempty"` // the account or number does not exist any more: another person may get it
}

// A Status says how far a reply has come.
type Status string

// The states of a reply, from first to last. Unknown: the channel may have taken it.
const (
	Queued    Status = "queued"
	Sent      Status = "sent"
	Delivered Status = "delivered"
	Failed    Status = "failed"
	Unknown   Status = "unknown"
)

// Rank orders the states a channel reports: a later one replaces an earlier one,
// never the other way round.
func (s Status) Rank() int {
	switch s {
	case Unknown:
		return 1
	case Sent:
		return 2
	case Delivered, Failed:
		return 3
	}
	return 0
}

// A Reply is one message to a person. Its text is within Limits, plain, and not
// empty.
type Reply struct {
	ID      string // ours; stable over retries
	Chat    Chat
	To      string // external id of the person
	Text    string
	ReplyTo string // ProviderID of the message answered

	// Again says that an earlier attempt may have reached the channel: an adapter
	// that can look it up does so before it sends.
	MaybeSent bool

	// StatusURL is where the channel may post receipts; empty when it need not.
	StatusURL string
}

// A Poller is an Adapter that can also fetch its messages, for a machine no
// webhook can reach.
type Poller interface {
	Adapter

	// Poll fetches until ctx ends. It starts at cursor (empty: from the oldest the
	// channel still has) and hands over each batch, in the channel's order, with the
	// cursor that confirms it; a batch may be empty with a new cursor. Only when take
	// returns nil does Poll confirm the batch to the channel. A channel that delivers
	// again what is not confirmed has no use for a cursor; it stays empty then, and what
	// take refuses comes back in another batch.
	// It returns ctx.Err(), or a *SendError when going on is senseless.
	Poll(ctx context.Context, ep Endpoint, cursor string, take func(ctx context.Context, batch []Message, cursor string) error) error
}

// A Configurer is an Adapter whose provider can be set up through its API.
type Configurer interface {
	Adapter

	// Check asks the provider whether ep's credentials are good and returns ep with
	// what the provider tells: Address and Settings. It changes nothing there.
	// Every error is a *SetupError.
	Check(ctx context.Context, ep Endpoint) (Endpoint, error)

	// Connect points the provider at ep.WebhookURL (or, for polling, away from any
	// webhook) and registers commands. Doing it twice is doing it once. Every error
	// is a *SetupError.
	Connect(ctx context.Context, ep Endpoint) error

	// Disconnect undoes Connect where the provider still points at ep.WebhookURL.
	Disconnect(ctx context.Context, ep Endpoint) error
}
