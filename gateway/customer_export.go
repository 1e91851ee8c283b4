package gateway

import (
	"time"

	"hydragate/adapters"
)

// A CustomerConversation is a conversation with one of a customer's identities.
type CustomerConversation struct {
	ID         string
	TenantID   string
	InstanceID string
	Channel    string
	ExternalID string // of the identity
	Group      bool
}

// A CustomerConversationQuery selects the conversations of a customer.
type CustomerConversationQuery struct {
	TenantID   string
	CustomerID string
	InstanceID string // empty for all instances
}

// A ReceivedMessage is a stored message from a customer. It contains neither claim codes nor the
// references with which attachments are fetched.
type ReceivedMessage struct {
	Seq          int64
	ID           string
	Kind         string
	Text         string
	Action       string             // value of a pressed button
	Content      []adapters.Content // such as a place or a contact
	StartPayload string             // what the link carries with which the person opened the chat
	Attachments  []ReceivedFile
	SentAt       time.Time // by the clock of the channel; zero if unknown
	ReceivedAt   time.Time
}

// A ReceivedFile describes an attachment of a received message.
type ReceivedFile struct {
	Kind, MIME, Name string
	Size             int64
}

// A SentMessage is a reply to a customer, sent or not.
type SentMessage struct {
	Seq       int64
	ID        string
	Text      string
	Cause     string
	Status    string
	CreatedAt time.Time
}
