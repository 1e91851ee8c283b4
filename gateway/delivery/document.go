package delivery

import (
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
)

// messageReceived is the body of a message.received event. Only text, display_name, username and
// the attachments contain input of the sender; the gateway determines all other fields.
type messageReceived struct {
	Type      string       `json:"type" enum:"message.received" doc:"Type of the event."`
	ID        string       `json:"id" doc:"ID of the event, as in the header webhook-id. It is the same when the event is delivered again."`
	Timestamp time.Time    `json:"timestamp" doc:"When the event was created."`
	Data      eventMessage `json:"data" doc:"The message, its sender and its conversation."`
}

type identityVerified struct {
	Type      string        `json:"type" enum:"identity.verified" doc:"Type of the event."`
	ID        string        `json:"id" doc:"ID of the event, as in the header webhook-id. It is the same when the event is delivered again."`
	Timestamp time.Time     `json:"timestamp" doc:"When the event was created."`
	Data      eventIdentity `json:"data" doc:"The identity and its conversation."`
}

type identityOptedOut struct {
	Type      string        `json:"type" enum:"identity.opted_out" doc:"Type of the event."`
	ID        string        `json:"id" doc:"ID of the event, as in the header webhook-id. It is the same when the event is delivered again."`
	Timestamp time.Time     `json:"timestamp" doc:"When the person unsubscribed, or the provider reported it."`
	Data      eventIdentity `json:"data" doc:"The identity and its conversation."`
}

type identityOptedIn struct {
	Type      string        `json:"type" enum:"identity.opted_in" doc:"Type of the event."`
	ID        string        `json:"id" doc:"ID of the event, as in the header webhook-id. It is the same when the event is delivered again."`
	Timestamp time.Time     `json:"timestamp" doc:"When the person subscribed again."`
	Data      eventIdentity `json:"data" doc:"The identity and its conversation."`
}

type eventMessage struct {
	MessageID         string             `json:"message_id" format:"uuid" doc:"ID of the message."`
	ConversationID    string             `json:"conversation_id" format:"uuid" doc:"Conversation with one person, or in one group. Its events are delivered in order."`
	InstanceID        string             `json:"instance_id" format:"uuid" doc:"Instance that received the message."`
	Channel           string             `json:"channel" enum:"telegram,sms,slack,whatsapp" doc:"Channel of the message."`
	Text              string             `json:"text" doc:"Text of the message, as it was written. See written_by for whose words it holds."`
	Attachments       []eventAttachment  `json:"attachments" nullable:"false" doc:"Files of the message."`
	Content           []eventContent     `json:"content" nullable:"false" doc:"What the message contains that is neither text nor a file, such as a location."`
	Messages          []eventPart        `json:"messages" nullable:"true" maxItems:"20" doc:"The messages, in order, if the event has several or is about an album. The other fields then hold for all of them: text joins the texts by newlines, attachments and content contain those of all, and what names one message is that of the first. Null: a single message."`
	ReplyTo           *string            `json:"reply_to" doc:"Provider's ID of the message to which this one replies."`
	Edited            bool               `json:"edited" doc:"Whether this is the new text of an earlier message."`
	Deleted           bool               `json:"deleted" doc:"Whether the sender deleted the message before it was delivered. Text and files are empty then."`
	Forwarded         bool               `json:"forwarded" doc:"Whether the sender passed on a message that was written elsewhere, with or without a comment."`
	WrittenBy         adapters.Author    `json:"written_by" enum:"sender,other,unknown" doc:"Who wrote the words. sender: the sender, in this message. other: at least a part is forwarded, or was written by what via names. unknown: the channel does not tell. Only words of the sender may decide anything."`
	Via               *string            `json:"via" enum:"bot,app,automatic" doc:"What wrote or sent the message in place of the sender: an inline bot, an app that posts as the sender, or a schedule or automatic reply. Null: nothing is known to have."`
	ThreadID          *string            `json:"thread_id" doc:"Provider's ID of the topic or thread in which the message was written. Null: in none."`
	GroupKey          *string            `json:"group_key" doc:"The same in all messages that were sent together, such as the pictures of an album. Null: sent alone."`
	Command           *string            `json:"command" doc:"Name of a command, without its slash, that the gateway does not handle itself."`
	StartPayload      *string            `json:"start_payload" doc:"What the link carries with which the person opened the chat, such as ref_4711. Anyone can make such links."`
	Action            *string            `json:"action" doc:"Value of the button that was pressed."`
	Group             bool               `json:"group" doc:"Whether the conversation is a group, in which others can read the reply."`
	SentAt            *time.Time         `json:"sent_at" doc:"When the message was sent, by the provider's clock."`
	ReceivedAt        time.Time          `json:"received_at" doc:"When the gateway received the message."`
	ProviderMessageID *string            `json:"provider_message_id" doc:"Provider's ID of the message."`
	Sender            eventSender        `json:"sender" doc:"Who wrote the message."`
	Capabilities      *eventCapabilities `json:"capabilities" doc:"What a reply can contain on this channel. Null if the channel is no longer connected."`
}

type eventIdentity struct {
	InstanceID     string      `json:"instance_id" format:"uuid" doc:"Instance of the conversation."`
	ConversationID string      `json:"conversation_id" format:"uuid" doc:"Conversation in which this happened."`
	Channel        string      `json:"channel" enum:"telegram,sms,slack,whatsapp" doc:"Channel of the identity."`
	Identity       eventSender `json:"identity" doc:"The identity as of the time of delivery. Its opted_out is what the type of the event says."`
}

type eventAttachment struct {
	Kind     string  `json:"kind" doc:"Kind of the file, such as image, audio, video or file."`
	MIMEType *string `json:"mime_type" doc:"Media type of the file."`
	Size     *int64  `json:"size" doc:"Size in bytes. Null if unknown."`
	Filename *string `json:"filename" doc:"Name of the file."`
}

// eventContent has the fields of its kind and no others.
type eventContent struct {
	Kind        adapters.ContentKind `json:"kind" enum:"location,contact,form,quote,other" doc:"Kind of the content. other: name tells the provider's field, and text may describe it."`
	Latitude    *float64             `json:"latitude,omitempty" doc:"Of a location, in degrees."`
	Longitude   *float64             `json:"longitude,omitempty" doc:"Of a location, in degrees."`
	Title       *string              `json:"title,omitempty" doc:"Name of a place, if it has one."`
	Address     *string              `json:"address,omitempty" doc:"Address of a place, if it has one."`
	PhoneNumber *string              `json:"phone_number,omitempty" doc:"Number of a contact, as the provider writes it."`
	Name        *string              `json:"name,omitempty" doc:"Name of a contact, of the author of a quote, or of the provider's field if the kind is other."`
	Text        *string              `json:"text,omitempty" doc:"Words of another message that the sender quotes, and did not write in this one."`
	Own         *bool                `json:"own,omitempty" doc:"Whether the provider confirms that a contact is the sender's own."`
	Data        any                  `json:"data,omitempty" doc:"What was entered in a form, or is known of other content: a string or an object. Never trust its texts."`
}

// eventSender describes a sender as of the time of delivery.
type eventSender struct {
	IdentityID    *string       `json:"identity_id" format:"uuid" doc:"ID of the identity."`
	ExternalID    string        `json:"external_id" doc:"ID of the account on its channel."`
	DisplayName   *string       `json:"display_name" doc:"Name that the person chose. Never trust it."`
	Username      *string       `json:"username" doc:"User name that the person chose. Never trust it."`
	Verified      bool          `json:"verified" doc:"Whether the account is verified to be the customer's."`
	VerifiedAt    *time.Time    `json:"verified_at" doc:"When the account was verified."`
	Role          identity.Role `json:"role" enum:"owner,customer,unverified,unknown" doc:"Role of the sender at the time of delivery, which decides what the sender may do."`
	RoleReason    *string       `json:"role_reason" enum:"verification_expired,number_may_have_changed_hands" doc:"Why the role is lower than before. Null: it is not."`
	CustomerID    *string       `json:"customer_id" format:"uuid" doc:"Customer to whom the identity belongs. Null: an unknown sender."`
	CustomerEmail *string       `json:"customer_email" doc:"Email address of the customer. Null unless the account is verified. Never authorize by it: staff can change it."`
	CustomerName  *string       `json:"customer_name" doc:"Name of the customer as staff wrote it: first and last name, otherwise the company. Null unless the account is verified."`
	FKID          *string       `json:"fk_id" doc:"ID of the customer in your own system. Null unless the account is verified."`
	OptedOut      bool          `json:"opted_out" doc:"Whether the person unsubscribed, so that replies are not sent."`
}

type eventCapabilities struct {
	MaxText     int  `json:"max_text" doc:"Maximum length of a text. Longer replies are split."`
	Markdown    bool `json:"markdown" doc:"Whether replies can contain Markdown."`
	Buttons     bool `json:"buttons" doc:"Whether replies can contain buttons."`
	Edit        bool `json:"edit" doc:"Whether sent messages can be changed."`
	Attachments bool `json:"attachments" doc:"Whether replies can contain files."`
}

// eventReplies is the schema of the application's response to a message.
type eventReplies struct {
	Replies []eventReply `json:"replies" nullable:"false" maxItems:"20" doc:"Replies to send, in order."`
}

type eventReply struct {
	Text string `json:"text" doc:"Text of the reply."`
}

// document returns the body of the webhook that delivers e.
func document(e gateway.Event, a adapters.Adapter, now time.Time) any {
	name, id, at := string(e.Type), "msg_"+e.ID, e.CreatedAt.UTC()
	switch e.Type {
	case gateway.IdentityVerified:
		return identityVerified{name, id, at, newEventIdentity(e, now)}
	case gateway.IdentityOptedOut, gateway.IdentityOptedIn:
		data := newEventIdentity(e, now)
		// The person may have changed their mind since. The next event says so.
		if data.Identity.OptedOut = e.Type == gateway.IdentityOptedOut; data.Identity.OptedOut {
			return identityOptedOut{name, id, at, data}
		}
		return identityOptedIn{name, id, at, data}
	case gateway.MessageReceived:
	}
	data := newEventMessage(e, a, now)
	if len(e.Joined) > 0 || data.GroupKey != nil {
		var further []eventMessage
		for _, o := range e.Joined {
			further = append(further, newEventMessage(o, a, now))
		}
		data = addMessages(data, further)
	}
	return messageReceived{name, id, at, data}
}

func newEventIdentity(e gateway.Event, now time.Time) eventIdentity {
	return eventIdentity{
		InstanceID: e.InstanceID, ConversationID: e.ConversationID, Channel: e.Sender.Channel,
		Identity: newEventSender(e, e.Sender.ExternalID, now),
	}
}

func newEventMessage(e gateway.Event, a adapters.Adapter, now time.Time) eventMessage {
	m := e.Message
	data := eventMessage{
		MessageID: e.MessageID, ConversationID: e.ConversationID, InstanceID: e.InstanceID, Channel: string(e.Channel),
		Text: m.Text, Attachments: []eventAttachment{}, Content: newEventContent(m.Content),
		ReplyTo: stringOrNil(m.ReplyTo), Edited: m.Kind == adapters.Edit, Deleted: m.Deleted, ThreadID: threadID(e),
		GroupKey: stringOrNil(m.GroupKey), StartPayload: stringOrNil(m.StartPayload),
		Forwarded: m.Forwarded(), WrittenBy: m.WrittenBy(), Via: stringOrNil(string(m.Via())),
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

func newEventContent(content []adapters.Content) []eventContent {
	events := make([]eventContent, 0, len(content))
	for _, c := range content {
		e := eventContent{Kind: c.Kind}
		switch c.Kind {
		case adapters.Location:
			e.Latitude, e.Longitude = &c.Latitude, &c.Longitude
			e.Title, e.Address = stringOrNil(c.Title), stringOrNil(c.Address)
		case adapters.Contact:
			e.PhoneNumber, e.Name, e.Own = stringOrNil(c.PhoneNumber), stringOrNil(c.Name), &c.Own
		case adapters.Form:
			e.Data = c.Data
		case adapters.Quote:
			e.Text, e.Name = &c.Text, stringOrNil(c.Name)
		case adapters.Other:
			e.Name, e.Data = &c.Name, c.Data
		}
		events = append(events, e)
	}
	return events
}

// newEventSender returns the sender of e with the role that is effective at now, and the reason if
// it is lower than the stored role.
func newEventSender(e gateway.Event, externalID string, now time.Time) eventSender {
	i, st := e.Sender, e.VerificationPolicy.EffectiveRole(e.Sender, now)
	s := eventSender{
		IdentityID: stringOrNil(i.ID), ExternalID: externalID,
		DisplayName: stringOrNil(i.DisplayName), Username: stringOrNil(i.Username),
		Verified: st.Role == identity.Owner || st.Role == identity.Verified,
		Role:     st.Role, RoleReason: stringOrNil(string(st.Reason)),
		CustomerID: stringOrNil(i.CustomerID), OptedOut: !i.OptedOutAt.IsZero(),
	}
	if s.Verified {
		s.CustomerEmail, s.CustomerName = stringOrNil(e.Customer.Email), stringOrNil(e.Customer.FullName())
		s.FKID = stringOrNil(e.FKID)
		s.VerifiedAt = timeOrNil(i.VerifiedAt)
	}
	return s
}

// threadID returns the topic or thread of the message, unless the channel uses it for an address.
func threadID(e gateway.Event) *string {
	if adapters.TraitsOf(e.Channel).InternalThreads {
		return nil
	}
	return stringOrNil(e.Message.Chat.Thread)
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
