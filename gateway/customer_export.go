package gateway

import (
	"time"
)

// A CustomerConversation is a conversation in which a customer speaks from one account.
type CustomerConversation struct {
	ID         string
	TenantID   string
	InstanceID string
	Channel    string
	ExternalID string // of the account
	Group      bool
}

// A ReceivedMessage is one that came from a customer, as it is kept: without codes,
// and without how files are fetched.
type ReceivedMessage struct {
	Seq         int64
	ID          string
	Kind        string
	Text        string
	Attachments []ReceivedFile
	SentAt      time.Time // by the channel's clock; zero when it does not say
	ReceivedAt  time.Time
}

// A ReceivedFile describes a file that came with a message.
type ReceivedFile struct {
	Kind, MIME, Name string
	Size             int64
}

// A SentMessage is one that went, or was to go, to a customer.
type SentMessage struct {
	Seq       int64
	ID        string
	Text      string
	Cause     string
	Status    string
	CreatedAt time.Time
}
