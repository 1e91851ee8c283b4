package gateway

import (
	"time"

	"hydragate/adapters"
)

// SplitReply makes the rows that carry text within the limits of a's channel, all like
// row. Only the first carries a short-lived address.
func SplitReply(a adapters.Adapter, row OutboxRow, text string) []OutboxRow {
	parts := []string{text}
	if a != nil {
		parts = a.Limits().Split(text)
	}
	var rows []OutboxRow
	for _, p := range parts {
		row.ID, row.Text = NewID(), p
		rows = append(rows, row)
		row.Chat.ReplyToken, row.ReplyTo = "", ""
	}
	return rows
}

// An OutboxRow is one message to a person, already within the channel's limits.
type OutboxRow struct {
	ID             string
	TenantID       string
	ConversationID string
	InstanceID     string
	Channel        adapters.Channel
	Recipient      string // external id
	Chat           adapters.Chat
	Text           string
	ReplyTo        string
	Cause          string        // "agent", "command", "notice"
	MessageID      string        // the inbound message answered
	MaxPerHour     int           // not zero: not stored when so many of its cause were, in its conversation within an hour
	Delay          time.Duration // until it may be sent; nothing or less: now

	Status       adapters.Status
	Attempts     int
	PossiblySent bool          // an earlier attempt may have reached the channel
	Age          time.Duration // since it was stored, by the database's clock
	Err          error         // the stored place cannot be read
	OptedOut     bool          // the person does not want messages any more
}

// A SendResult is the end of one attempt to send a reply.
type SendResult struct {
	Row           OutboxRow
	Status        adapters.Status
	ProviderID    string
	Reason        adapters.Reason
	Code          string
	Delay         time.Duration // until the next attempt, when still Queued
	PossiblySent  bool          // when still Queued: the channel may have taken it
	RecipientGone bool          // the account or number does not exist any more
}

// Sending is the state of a reply while the channel is asked to take it: found after
// a crash, it says that the channel may have taken it.
const Sending adapters.Status = "sending"
