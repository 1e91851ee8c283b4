package adapters

import "time"

// A Kind is the kind of an inbound message.
type Kind string

// The kinds of messages. OptOut, OptIn and Help are keywords to which the carrier itself responds.
// Block and Unblock report that the person closed or reopened the chat.
const (
	Text        Kind = "text"
	Media       Kind = "media" // has attachments or content; Text holds the caption
	Edit        Kind = "edit"  // a new version of an earlier message
	Callback    Kind = "callback"
	OptOut      Kind = "opt_out"
	OptIn       Kind = "opt_in"
	Help        Kind = "help"
	Block       Kind = "block"
	Unblock     Kind = "unblock"
	Delete      Kind = "deleted"     // the sender deleted the message with ProviderID
	Unsupported Kind = "unsupported" // decoded, but of no use to an application
	Undecodable Kind = "undecodable" // authentic, but not decoded; Raw holds it
)

// A Message is an inbound message. All its strings must be valid UTF-8 without NUL, and texts must be
// at most MaxInboundText bytes long; see Sanitize.
type Message struct {
	// Key identifies the message within its endpoint: redeliveries have the same key, and different
	// messages have different keys. AltKey is a second key, for channels that announce one message
	// in two ways. It may be empty.
	Key    string `json:"key"`
	AltKey string `json:"alt_key,omitempty"`

	Kind       Kind         `json:"kind"`
	ProviderID string       `json:"provider_id,omitempty"` // the channel's ID of the message
	Sender     Sender       `json:"sender"`
	Chat       Chat         `json:"place"`
	Text       string       `json:"text,omitempty"`
	Command    *Command     `json:"command,omitempty"` // set if the text is a command to this bot
	Action     string       `json:"action,omitempty"`  // value of a pressed button
	Media      []Attachment `json:"media,omitempty"`
	Content    []Content    `json:"content,omitempty"`
	ReplyTo    string       `json:"reply_to,omitempty"`  // ProviderID of the message that this one replies to
	GroupKey   string       `json:"group_key,omitempty"` // the same in all messages of an album
	SentAt     time.Time    `json:"sent_at,omitzero"`    // by the channel's clock; informational

	// Version is the same in all versions of a message with the same content. It reveals nothing about the
	// content. It may be empty.
	Version string `json:"version,omitempty"`

	// StartPayload is what the link with which the person opened the chat carries, such as the
	// parameter of Telegram's "/start".
	StartPayload string `json:"start_payload,omitempty"`

	// Moved is set if the message reports that the ID of a chat changed, such as that of a group that became a
	// supergroup. Both chats are one conversation.
	Moved *ChatMove `json:"moved,omitempty"`

	Deleted bool `json:"deleted,omitempty"` // the sender deleted the message before it was delivered

	// UnprovenReason says why the message does not prove that its sender wrote it. It is empty if the
	// sender wrote the message now, in this chat, with their own account. A claim requires that it is
	// empty and that Chat.Group is false.
	UnprovenReason UnprovenReason `json:"unproven,omitempty"`

	// Raw is the whole message as the channel sent it. It is set if Kind is Undecodable, and may be
	// set if Content has an item of kind Other.
	Raw []byte `json:"raw,omitempty"`
}

// ReplyAnchor returns the ProviderID of m if replies must refer to it, so that the others in a group, or
// below a post, see whom the bot answers; otherwise "".
func (m Message) ReplyAnchor() string {
	if !m.Chat.Group || m.Kind == Callback {
		return ""
	}
	return m.ProviderID
}

// A Sender is the person as the channel knows them. Only ID and Aliases identify the person; names can
// change and are informational. The gateway normalizes the ID.
type Sender struct {
	ID       string `json:"id"` // as the channel writes it; empty if it does not identify the sender
	Name     string `json:"name,omitempty"`
	Username string `json:"username,omitempty"`
	Locale   string `json:"locale,omitempty"`

	// Aliases are other IDs of the same account, which may appear in place of ID in other messages.
	Aliases []string `json:"aliases,omitempty"`
}

// A Chat is where a message was written, and where replies are sent.
type Chat struct {
	ID     string `json:"id"` // each chat is one conversation; a chat that is not a group has one person
	Group  bool   `json:"group,omitempty"`
	Thread string `json:"thread,omitempty"`

	// Address is where replies are sent, if that is not ID. Unlike ID it may change, and be missing.
	Address string `json:"address,omitempty"`

	// ReplyToken is a short-lived address that replaces ID for the reply to this message, such as
	// Slack's response_url. It is a secret.
	ReplyToken string `json:"answer,omitempty"`
}

// A ChatMove is a change of the ID of a chat.
type ChatMove struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// A Command is a message of the form "/name args". The name is in lower case and does not include
// "@bot".
type Command struct {
	Name string `json:"name"`
	Args string `json:"args,omitempty"`
}

// An Attachment is a file in a message. Ref identifies it to the adapter and may be a private URL: it
// is stored, but never shown.
type Attachment struct {
	Kind     string `json:"kind"` // "image", "audio", "video", "voice", "sticker", "location", "contact" or "file"
	Ref      string `json:"ref"`
	MIME     string `json:"mime,omitempty"`
	Name     string `json:"name,omitempty"`
	Size     int64  `json:"size,omitempty"`
	Duration int    `json:"duration,omitempty"` // seconds
}

// A ContentKind is the kind of a Content.
type ContentKind string

// The kinds of content. Other is anything that a person sent and that has no kind of its own.
const (
	Location ContentKind = "location" // Latitude, Longitude, Title and Address
	Contact  ContentKind = "contact"  // PhoneNumber, Name and Own
	Form     ContentKind = "form"     // Data
	Quote    ContentKind = "quote"    // Text of another message, and Name of its author
	Other    ContentKind = "other"    // Name is that of the channel's field
)

// A Content is a part of a message that is neither text nor a file. Its kind determines which fields
// are set.
type Content struct {
	Kind        ContentKind `json:"kind"`
	Latitude    float64     `json:"latitude,omitempty"`
	Longitude   float64     `json:"longitude,omitempty"`
	Title       string      `json:"title,omitempty"`
	Address     string      `json:"address,omitempty"`
	PhoneNumber string      `json:"phone_number,omitempty"`
	Name        string      `json:"name,omitempty"`
	Text        string      `json:"text,omitempty"`
	Own         bool        `json:"own,omitempty"`  // a contact: the channel confirms that it is the sender's own
	Data        any         `json:"data,omitempty"` // a string, or what encoding/json decodes an object to
}
