package delivery

import (
	"time"

	"hydragate/adapters"
	"hydragate/identity"
)

// An EventType describes one type of events.
type EventType struct {
	Type, Summary string
	Payload       any // an example of the body, of the same type as the real one
	Response      any // an example of the response that is parsed; nil if it is ignored
}

// EventTypes returns all types of events.
func EventTypes() []EventType {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	steve := eventSender{
		IdentityID: stringOrNil("019b7cd5-60f6-7bb7-a5ab-5f33b2e37dd3"), ExternalID: "12345",
		DisplayName: stringOrNil("Steve"), Username: stringOrNil("steve"),
		Verified: true, VerifiedAt: &at, Role: identity.Owner,
		CustomerID: stringOrNil("019b7cd5-60f1-7b05-8a3f-ed3d3d2d7b7a"), CustomerEmail: stringOrNil("steve@example.com"),
		CustomerName: stringOrNil("Steve Hill"), FKID: stringOrNil("CRM-4711"),
	}
	const instance, conversation = "019b7cd5-60ec-71f0-b7cb-5f3d8aee2d4f", "5c3fb0a5-3a29-5a35-9b8e-0e6a2cb0f5c1"
	unsubscribed := steve
	unsubscribed.OptedOut = true
	changed := func(s eventSender) eventIdentity {
		return eventIdentity{InstanceID: instance, ConversationID: conversation, Channel: "sms", Identity: s}
	}
	return []EventType{
		{
			Type: "message.received", Summary: "A message was received",
			Payload: messageReceived{"message.received", "msg_019b7cd6-4b7a-7c1d-8f0a-7d1f0d3c2b1a", at, eventMessage{
				MessageID: "019b7cd6-4b70-7f6e-9a51-5a0a6d4cf1ee", ConversationID: conversation, InstanceID: instance,
				Channel: "telegram", Text: "what is my balance?", Attachments: []eventAttachment{},
				Content:   []eventContent{},
				WrittenBy: adapters.AuthorSender, SentAt: &at, ReceivedAt: at, ProviderMessageID: stringOrNil("77"),
				Sender: steve, Capabilities: &eventCapabilities{MaxText: 4096},
			}},
			Response: eventReplies{[]eventReply{{"It is 42.00 €."}}},
		},
		{
			Type: "identity.verified", Summary: "An identity was verified",
			Payload: identityVerified{"identity.verified", "msg_019b7cd5-9a3e-75c2-a0b4-2f9d7c6e5b4a", at, eventIdentity{
				InstanceID: instance, ConversationID: conversation, Channel: "telegram", Identity: steve,
			}},
		},
		{
			Type: "identity.opted_out", Summary: "A person unsubscribed",
			Payload: identityOptedOut{
				"identity.opted_out", "msg_019b7cd5-9a3e-75c2-a0b4-2f9d7c6e5b4b", at, changed(unsubscribed),
			},
		},
		{
			Type: "identity.opted_in", Summary: "A person subscribed again",
			Payload: identityOptedIn{"identity.opted_in", "msg_019b7cd5-9a3e-75c2-a0b4-2f9d7c6e5b4c", at, changed(steve)},
		},
	}
}
