package delivery

import (
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
)

// The event as the runtime reads it. What strangers write stands in text, display_name
// and username alone; everything else is the gateway's own word.
type event struct {
	Type      string    `json:"type"`
	ID        string    `json:"id"`
	Timestamp time.Time `json:"timestamp"`
	Data      any       `json:"data"`
}

type message struct {
	MessageID         string        `json:"message_id"`
	ConversationID    string        `json:"conversation_id"`
	InstanceID        string        `json:"instance_id"`
	Channel           string        `json:"channel"`
	Text              string        `json:"text"`
	Attachments       []attachment  `json:"attachments"`
	ReplyTo           *string       `json:"reply_to"`
	Edited            bool          `json:"edited"`
	Command           *string       `json:"command"`
	Action            *string       `json:"action"`
	Group             bool          `json:"group"`
	SentAt            *time.Time    `json:"sent_at"`
	ReceivedAt        time.Time     `json:"received_at"`
	ProviderMessageID *string       `json:"provider_message_id"`
	Sender            sender        `json:"sender"`
	Capabilities      *capabilities `json:"capabilities"`
}

type attachment struct {
	Kind     string  `json:"kind"`
	MIMEType *string `json:"mime_type"`
	Size     *int64  `json:"size"`
	Filename *string `json:"filename"`
}

type sender struct {
	IdentityID    *string       `json:"identity_id"`
	ExternalID    string        `json:"external_id"`
	DisplayName   *string       `json:"display_name"`
	Username      *string       `json:"username"`
	Verified      bool          `json:"verified"`
	VerifiedAt    *time.Time    `json:"verified_at"`
	Role          identity.Role `json:"role"`
	RoleReason    *string       `json:"role_reason"`
	CustomerID    *string       `json:"customer_id"`
	CustomerEmail *string       `json:"customer_email"`
}

type capabilities struct {
	MaxText     int  `json:"max_text"`
	Markdown    bool `json:"markdown"`
	Buttons     bool `json:"buttons"`
	Edit        bool `json:"edit"`
	Attachments bool `json:"attachments"`
}

// document gives the event that is posted for e.
func document(e gateway.Event, a adapters.Adapter, now time.Time) event {
	doc := event{Type: e.Type, ID: "msg_" + e.ID, Timestamp: e.CreatedAt.UTC()}
	if e.MessageID == "" {
		doc.Data = struct {
			InstanceID     string `json:"instance_id"`
			ConversationID string `json:"conversation_id"`
			Channel        string `json:"channel"`
			Identity       sender `json:"identity"`
		}{e.InstanceID, e.ConversationID, e.Sender.Channel, senderOf(e, e.Sender.ExternalID, now)}
		return doc
	}
	m := e.Message
	data := message{
		MessageID: e.MessageID, ConversationID: e.ConversationID, InstanceID: e.InstanceID, Channel: string(e.Channel),
		Text: m.Text, Attachments: []attachment{}, ReplyTo: orNull(m.ReplyTo), Edited: m.Kind == adapters.Edit,
		Action: orNull(m.Action), Group: m.Place.Group, SentAt: timeOrNull(m.SentAt), ReceivedAt: e.ReceivedAt,
		ProviderMessageID: orNull(m.ProviderID), Sender: senderOf(e, m.Sender.ID, now),
	}
	if m.Command != nil {
		data.Command = &m.Command.Name
	}
	for _, f := range m.Media {
		at := attachment{Kind: f.Kind, MIMEType: orNull(f.MIME), Filename: orNull(f.Name)}
		if f.Size > 0 {
			at.Size = &f.Size
		}
		data.Attachments = append(data.Attachments, at)
	}
	if a != nil {
		l := a.Limits()
		data.Capabilities = &capabilities{l.MaxText, l.Markdown, l.Buttons, l.Edit, l.Attachments}
	}
	doc.Data = data
	return doc
}

// senderOf says who speaks, and with what right now. A right that was lowered comes
// with the reason.
func senderOf(e gateway.Event, externalID string, now time.Time) sender {
	i, st := e.Sender, e.Freshness.Standing(e.Sender, now)
	s := sender{
		IdentityID: orNull(i.ID), ExternalID: externalID, DisplayName: orNull(i.DisplayName), Username: orNull(i.Username),
		Verified: st.Role == identity.Owner || st.Role == identity.Verified, Role: st.Role, RoleReason: orNull(string(st.Reason)),
		CustomerID: orNull(i.CustomerID), CustomerEmail: orNull(e.CustomerEmail),
	}
	if s.Verified {
		s.VerifiedAt = timeOrNull(i.VerifiedAt)
	}
	return s
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
