package gateway

import (
	"time"

	"github.com/google/uuid"

	"hydragate/adapters"
	"hydragate/identity"
)

func (in StoredMessage) SenderAddress() identity.Address {
	return identity.Address{TenantID: in.TenantID, InstanceID: in.InstanceID, Channel: string(in.Channel), ExternalID: in.Message.Sender.ID}
}

// EffectiveRole is the right with which the sender speaks to the instance.
func (in StoredMessage) EffectiveRole(now time.Time) identity.EffectiveRole {
	return in.Instance.VerificationPolicy.EffectiveRole(in.Sender, now)
}

// NewID gives a random, time-ordered id.
func NewID() string { return uuid.Must(uuid.NewV7()).String() }

// An IncomingMessage is one inbound message on its way into the store.
type IncomingMessage struct {
	ID             string
	TenantID       string
	InstanceID     string
	Channel        adapters.Channel
	ConversationID string
	Message        adapters.Message // without what is in Secret
	Secret         *Secret          // nil when nothing needs sealing
	Age            time.Duration    // how long ago it was received, when that is not now
}

// A Secret is the part of a message that is kept sealed until it is worked, and
// wiped then: texts that may hold a claim code, bytes that could not be read, and
// addresses that work without a password.
type Secret struct {
	Text       string            `json:"text,omitempty"`
	Command    *adapters.Command `json:"command,omitempty"`
	Raw        []byte            `json:"raw,omitempty"`
	ReplyToken string            `json:"answer,omitempty"`
}

// ConversationID names the conversation of a place: the same place on the same
// channel of the same instance is always the same conversation.
func ConversationID(instanceID string, channel adapters.Channel, place string) string {
	ns, err := uuid.Parse(instanceID)
	if err != nil {
		ns = uuid.NameSpaceOID
	}
	return uuid.NewSHA1(ns, []byte(string(channel)+"\x1f"+place)).String()
}

// An StoredMessage is a stored message with everything needed to work it.
type StoredMessage struct {
	ID                   string
	TenantID             string
	InstanceID           string
	ConversationID       string
	Channel              adapters.Channel
	Message              adapters.Message // whole again
	Encrypted            bool             // the text was kept sealed: the stored one is redacted
	Attempts             int
	ReceivedAt           time.Time     // by the database's clock
	Age                  time.Duration // since then, by the same clock
	Err                  error         // the stored message cannot be read
	Sender               identity.Identity
	ConversationIdentity string // who the conversation is with, as last known
	HasLiveCode          bool   // a live claim code waits for the sender
	UnlinkRequested      bool   // the question of /unlink stands
	ReclaimNotified      bool   // the sender was told how to claim again
	SenderBlocked        bool   // staff wants to hear nothing from the sender, whom nobody knows
	Instance             Instance
}
