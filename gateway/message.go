package gateway

import (
	"cmp"
	"slices"
	"time"

	"github.com/google/uuid"

	"hydragate/adapters"
	"hydragate/identity"
)

// A StoredMessage is a stored message with the data needed to process it.
type StoredMessage struct {
	ID                   string
	TenantID             string
	InstanceID           string
	ConversationID       string
	Channel              adapters.Channel
	Message              adapters.Message // includes the decrypted Secret
	Encrypted            bool             // texts are stored encrypted, and redacted in the message
	Attempts             int
	ReceivedAt           time.Time     // by the clock of the database
	Age                  time.Duration // since ReceivedAt, by the same clock
	Err                  error         // not nil: the stored message cannot be read
	Sender               identity.Identity
	ConversationIdentity string // ID of the identity that the conversation is with, as last stored
	HasLiveCode          bool   // there is a live claim code for the sender
	LiveCodes            bool   // a claim code could be redeemed at the instance and channel when it was received
	LiveInvites          bool   // an invite could be redeemed there
	UnlinkRequested      bool   // an /unlink waits for its confirmation
	UnlinkWord           string // confirms it; empty if no word is needed
	UnlinkFailures       int    // wrong words within UnlinkFailureWindow
	ReclaimNotified      bool   // the sender was asked to claim the account again
	SenderBlocked        bool   // staff blocked the unknown sender
	AboveLimit           bool   // the sender wrote MessagesPerMinute messages in the minute before
	Instance             Instance
}

// SenderAddress returns the address of the sender on the channel.
func (in StoredMessage) SenderAddress() identity.Address {
	return identity.Address{
		TenantID: in.TenantID, InstanceID: in.InstanceID, Channel: string(in.Channel), ExternalID: in.Message.Sender.ID,
	}
}

// EffectiveRole returns the effective role of the sender at the instance.
func (in StoredMessage) EffectiveRole(now time.Time) identity.EffectiveRole {
	return in.Instance.VerificationPolicy.EffectiveRole(in.Sender, now)
}

// NewID returns a random, time-ordered ID: a version 7 UUID.
func NewID() string { return uuid.Must(uuid.NewV7()).String() }

// An IncomingMessage is a received message that is to be stored.
type IncomingMessage struct {
	ID             string
	TenantID       string
	InstanceID     string
	Channel        adapters.Channel
	ConversationID string
	Message        adapters.Message  // without the data in Secret
	Secret         *Secret           // nil if nothing needs encryption
	ReceivedAt     time.Time         // by the monotonic clock of this process; zero: now
	Move           *ConversationMove // nil unless the message reports that a chat has another ID
}

// A Secret is the part of a message that is stored encrypted until the message is processed, and
// then deleted: texts that may contain a claim code, a body that could not be decoded, and a reply
// token, which authorizes its holder to reply.
type Secret struct {
	// Message is the whole message if a string other than its text may contain a code.
	Message *adapters.Message `json:"message,omitempty"`

	Text       string            `json:"text,omitempty"`
	Command    *adapters.Command `json:"command,omitempty"`
	Raw        []byte            `json:"raw,omitempty"`
	ReplyToken string            `json:"answer,omitempty"`
}

// ReplaceSender makes account the sender of a, whose ID becomes an alias. In a direct chat, the message
// belongs to the conversation in the chat chatID. Its own chat remains an address for replies.
func (a *IncomingMessage) ReplaceSender(account, chatID string) {
	replace := func(m *adapters.Message) {
		others := slices.DeleteFunc(slices.Clone(m.Sender.Aliases), func(id string) bool { return id == account })
		m.Sender.ID, m.Sender.Aliases = account, append([]string{m.Sender.ID}, others...)
		if !m.Chat.Group && m.Chat.ID != chatID {
			m.Chat.ID, m.Chat.Address = chatID, cmp.Or(m.Chat.Address, m.Chat.ID)
		}
	}
	replace(&a.Message)
	if a.Secret != nil && a.Secret.Message != nil {
		secret, whole := *a.Secret, *a.Secret.Message
		replace(&whole)
		secret.Message = &whole
		a.Secret = &secret
	}
	a.ConversationID = ConversationOf(a.InstanceID, a.Channel, a.Message.Chat)
}

// ConversationOf returns the ID of the conversation to which a message in a chat belongs. On a channel
// with topics, each topic of a chat is a conversation, so that topics do not wait for each other.
func ConversationOf(instanceID string, channel adapters.Channel, chat adapters.Chat) string {
	id := chat.ID
	if chat.Thread != "" && adapters.TraitsOf(channel).Topics {
		id += "\x1f" + chat.Thread
	}
	return ConversationID(instanceID, channel, id)
}

// A ConversationMove says that the chat of a conversation has another ID, such as a group that became a
// supergroup. From is the conversation before and after; To is the one that messages with the new ID would
// belong to otherwise.
type ConversationMove struct {
	TenantID   string
	InstanceID string
	Channel    adapters.Channel
	From, To   string // IDs of conversations
	Chat       adapters.ChatMove
}

// NewConversationMove returns the move of the conversation in a chat.
func NewConversationMove(tenant, instance string, channel adapters.Channel, chat adapters.ChatMove) ConversationMove {
	return ConversationMove{
		TenantID: tenant, InstanceID: instance, Channel: channel, Chat: chat,
		From: ConversationID(instance, channel, chat.From), To: ConversationID(instance, channel, chat.To),
	}
}

// ConversationID returns the ID of the conversation in a chat. It is derived from the arguments, so
// that the same chat always has the same conversation.
func ConversationID(instanceID string, channel adapters.Channel, chatID string) string {
	ns, err := uuid.Parse(instanceID)
	if err != nil {
		ns = uuid.NameSpaceOID
	}
	return uuid.NewSHA1(ns, []byte(string(channel)+"\x1f"+chatID)).String()
}
