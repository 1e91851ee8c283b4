package gateway

import (
	"time"

	"hydragate/adapters"
)

// SplitReply returns copies of row that together contain text, split at the limits of the channel of
// a. Only the first refers to the message replied to. The text is not split if a is nil.
func SplitReply(a adapters.Adapter, row OutboxRow, text string) []OutboxRow {
	parts := []string{text}
	if a != nil {
		parts = a.Limits().Split(text)
	}
	var rows []OutboxRow
	for _, p := range parts {
		row.ID, row.Text = NewID(), p
		rows = append(rows, row)
		row.ReplyTo = ""
	}
	return rows
}

// An OutboxRow is a reply, or a part of one, that fits the limits of its channel.
type OutboxRow struct {
	ID             string
	TenantID       string
	ConversationID string
	InstanceID     string
	Channel        adapters.Channel
	Recipient      string // external ID
	Chat           adapters.Chat
	Text           string
	ReplyTo        string
	Cause          string        // "agent", "command", "notice" or "reminder"
	MessageID      string        // of the inbound message that caused it
	MaxPerHour     int           // not zero: dropped beyond this many with its cause per conversation and hour
	MaxPerInstance int           // not zero: dropped beyond this many on paid channels per instance and hour
	Delay          time.Duration // until it may be sent; zero or negative: now

	Status       adapters.Status
	Attempts     int
	PossiblySent bool          // the channel may have accepted it in an earlier attempt
	Age          time.Duration // since it was stored, by the clock of the database
	Err          error         // not nil: the stored chat cannot be read
	OptedOut     bool          // the recipient unsubscribed
	OtherIDs     []string      // provider's IDs of other replies with the same text, if it may have been sent
}

// minPart is the length of the shortest text that is divided if its channel finds it too long.
const minPart = 100

// DivideReply returns row as several parts of at most half its length, for a channel that found it too long.
// The first part has the ID of row and takes its place; the others follow it. It returns nil if row is too
// short to be divided.
func DivideReply(a adapters.Adapter, row OutboxRow) []OutboxRow {
	limits := a.Limits()
	if limits.MaxText = (limits.Measure(row.Text) + 1) / 2; limits.MaxText < minPart {
		return nil
	}
	var rows []OutboxRow
	for _, text := range limits.Split(row.Text) {
		part := row
		part.Text = text
		if len(rows) > 0 {
			part.ID, part.ReplyTo, part.Attempts = NewID(), "", 0
		}
		rows = append(rows, part)
	}
	return rows
}

// A SendResult is the result of one attempt to send a reply.
type SendResult struct {
	Row           OutboxRow
	Rest          []OutboxRow // further parts, if Row was divided and is only the first one now
	Status        adapters.Status
	ProviderID    string
	Reason        adapters.Reason
	Code          string
	Delay         time.Duration // until the next attempt, if Status is adapters.Queued
	PossiblySent  bool          // the channel may have accepted it, if Status is adapters.Queued
	RecipientGone bool          // the account or number no longer exists
}

// Sending is the status of a reply during an attempt to send it. After a crash it means that the
// channel may have accepted the reply.
const Sending adapters.Status = "sending"
