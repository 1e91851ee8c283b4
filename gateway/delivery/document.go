package delivery

import (
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
)

// The events as the runtime reads them. What strangers write stands in text,
// display_name and username alone; everything else is the gateway's own word.
type messageReceived struct {
	Type      string       `json:"type" enum:"message.received"`
	ID        string       `json:"id" doc:"That of the header webhook-id. The same when an event comes again."`
	Timestamp time.Time    `json:"timestamp"`
	Data      eventMessage `json:"data"`
}

type identityVerified struct {
	Type      string        `json:"type" enum:"identity.verified"`
	ID        string        `json:"id" doc:"That of the header webhook-id. The same when an event comes again."`
	Timestamp time.Time     `json:"timestamp"`
	Data      eventIdentity `json:"data"`
}

type eventMessage struct {
	MessageID         string             `json:"message_id" format:"uuid"`
	ConversationID    string             `json:"conversation_id" format:"uuid" doc:"The thread with one person, or of one group. Its events come in order."`
	InstanceID        string             `json:"instance_id" format:"uuid"`
	Channel           string             `json:"channel" enum:"telegram,sms,slack,whatsapp"`
	Text              string             `json:"text" doc:"As it was written."`
	Attachments       []eventAttachment  `json:"attachments" nullable:"false"`
	ReplyTo           *string            `json:"reply_to" doc:"The provider's id of the message that this one answers."`
	Edited            bool               `json:"edited" doc:"A message from before, as it reads now."`
	Command           *string            `json:"command" doc:"A command without its slash, that is none of the gateway's."`
	Action            *string            `json:"action" doc:"The value of the button that was pressed."`
	Group             bool               `json:"group" doc:"Others read along."`
	SentAt            *time.Time         `json:"sent_at" doc:"By the provider's clock."`
	ReceivedAt        time.Time          `json:"received_at"`
	ProviderMessageID *string            `json:"provider_message_id"`
	Sender            eventSender        `json:"sender"`
	Capabilities      *eventCapabilities `json:"capabilities"`
}

type eventIdentity struct {
	InstanceID     string      `json:"instance_id" format:"uuid"`
	ConversationID string      `json:"conversation_id" format:"uuid" doc:"Where the claim was made."`
	Channel        string      `json:"channel" enum:"telegram,sms,slack,whatsapp"`
	Identity       eventSender `json:"identity"`
}

type eventAttachment struct {
	Kind     string  `json:"kind" doc:"image, audio, video, file, …"`
	MIMEType *string `json:"mime_type"`
	Size     *int64  `json:"size" doc:"In bytes, as far as it is known."`
	Filename *string `json:"filename"`
}

// A sender is told of as they are when the event is posted.
type eventSender struct {
	IdentityID    *string       `json:"identity_id" format:"uuid"`
	ExternalID    string        `json:"external_id" doc:"The account on the channel."`
	DisplayName   *string       `json:"display_name" doc:"What they call themselves. Proves nothing."`
	Username      *string       `json:"username" doc:"Proves nothing either."`
	Verified      bool          `json:"verified" doc:"The account is proven to be the customer's."`
	VerifiedAt    *time.Time    `json:"verified_at"`
	Role          identity.Role `json:"role" enum:"owner,customer,unverified,unknown" doc:"What they may know and do, as of when the event is posted."`
	RoleReason    *string       `json:"role_reason" enum:"verification_expired,number_may_have_changed_hands" doc:"Why the role is lower than it was."`
	CustomerID    *string       `json:"customer_id" format:"uuid"`
	CustomerEmail *string       `json:"customer_email"`
}

type eventCapabilities struct {
	MaxText     int  `json:"max_text" doc:"Longer replies are split."`
	Markdown    bool `json:"markdown"`
	Buttons     bool `json:"buttons"`
	Edit        bool `json:"edit"`
	Attachments bool `json:"attachments"`
}

// What a runtime may answer a message with.
type eventReplies struct {
	Replies []eventReply `json:"replies" nullable:"false" maxItems:"20"`
}

type eventReply struct {
	Text string `json:"text"`
}

// document gives the event that is posted for e.
func document(e gateway.Event, a adapters.Adapter, now time.Time) any {
	id, at := "msg_"+e.ID, e.CreatedAt.UTC()
	if e.MessageID == "" {
		return identityVerified{e.Type, id, at, eventIdentity{
			InstanceID: e.InstanceID, ConversationID: e.ConversationID, Channel: e.Sender.Channel, Identity: newEventSender(e, e.Sender.ExternalID, now),
		}}
	}
	return messageReceived{e.Type, id, at, newEventMessage(e, a, now)}
}

func newEventMessage(e gateway.Event, a adapters.Adapter, now time.Time) eventMessage {
	m := e.Message
	data := eventMessage{
		MessageID: e.MessageID, ConversationID: e.ConversationID, InstanceID: e.InstanceID, Channel: string(e.Channel),
		Text: m.Text, Attachments: []eventAttachment{}, ReplyTo: stringOrNil(m.ReplyTo), Edited: m.Kind == adapters.Edit,
		Action: stringOrNil(m.Action), Group: m.Chat.Group, SentAt: timeOrNil(m.SentAt), ReceivedAt: e.ReceivedAt,
		ProviderMessageID: stringOrNil(m.ProviderID), Sender: newEventSender(e, m.Sender.ID, now),
	}
	if m.Command != nil {
		data.Command = &m.Command.Name
	}
	for _, f := range m.Media {
		at := eventAttachment{Kind: f.Kind, MIMEType: stringOrNil(f.MIME), Filename: stringOrNil(f.Name)}
		if f.Size > 0 {
			at.Size = &f.Size
		}
		data.Attachments = append(data.Attachments, at)
	}
	if a != nil {
		l := a.Limits()
		data.Capabilities = &eventCapabilities{l.MaxText, l.Markdown, l.Buttons, l.Edit, l.Attachments}
	}
	return data
}

// newEventSender says who speaks, and with what right now. A right that was lowered comes
// with the reason.
func newEventSender(e gateway.Event, externalID string, now time.Time) eventSender {
	i, st := e.Sender, e.VerificationPolicy.EffectiveRole(e.Sender, now)
	s := eventSender{
		IdentityID: stringOrNil(i.ID), ExternalID: externalID, DisplayName: stringOrNil(i.DisplayName), Username: stringOrNil(i.Username),
		Verified: st.Role == identity.Owner || st.Role == identity.Verified, Role: st.Role, RoleReason: stringOrNil(string(st.Reason)),
		CustomerID: stringOrNil(i.CustomerID), CustomerEmail: stringOrNil(e.CustomerEmail),
	}
	if s.Verified {
		s.VerifiedAt = timeOrNil(i.VerifiedAt)
	}
	return s
}

func stringOrNil(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
