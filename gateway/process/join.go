package process

import (
	"time"

	"github.com/google/uuid"

	"hydragate/adapters"
	"hydragate/gateway"
)

// How long an event waits for further messages after each of its messages.
const (
	albumWait = time.Second     // the parts of an album arrive together
	burstWait = 2 * time.Second // so that an application receives few events from a sender who exceeds the limit
)

// setJoinKey lets a message be delivered in one event with others: the parts of an album, and what a
// sender writes above gateway.MessagesPerMinute. Commands and presses of buttons are delivered alone.
func setJoinKey(d *gateway.Delivery, in gateway.StoredMessage) {
	m := in.Message
	switch {
	case m.GroupKey != "" && m.Kind != adapters.Edit:
		d.JoinKey, d.JoinWait = joinKey(in, "album", m.GroupKey), albumWait
	case m.Command != nil || m.Action != "" || m.Kind == adapters.Callback:
	case in.AboveLimit:
		d.JoinKey, d.JoinWait = joinKey(in, "burst", ""), burstWait
	}
}

// joinKey returns the key of the messages of one sender in one thread that have the same group.
func joinKey(in gateway.StoredMessage, kind, group string) string {
	conversation, err := uuid.Parse(in.ConversationID)
	if err != nil {
		conversation = uuid.NameSpaceOID
	}
	m := in.Message
	name := ""
	if m.Sender.ID == "" {
		name = m.Sender.Name
	}
	key := kind + "\x1f" + group + "\x1f" + m.Sender.ID + "\x1f" + name + "\x1f" + m.Chat.Thread
	return uuid.NewSHA1(conversation, []byte(key)).String()
}
