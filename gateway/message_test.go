package gateway

import (
	"slices"
	"testing"

	"hydragate/adapters"
)

// TestConversationOf checks which messages have an order of their own: those of each chat and, on Telegram,
// of each topic.
func TestConversationOf(t *testing.T) {
	const instance = "019b7cd5-60ec-71f0-b7cb-5f3d8aee2d4f"
	for _, channel := range adapters.Channels() {
		chat := ConversationOf(instance, channel, adapters.Chat{ID: "1"})
		topic := ConversationOf(instance, channel, adapters.Chat{ID: "1", Thread: "7"})
		other := ConversationOf(instance, channel, adapters.Chat{ID: "1", Thread: "8"})
		if chat != ConversationID(instance, channel, "1") {
			t.Errorf("%s: conversation of a chat = %s, want that of its ID", channel, chat)
		}
		if topics := channel == adapters.Telegram; (topic != chat) != topics || (topic != other) != topics {
			t.Errorf("%s: conversations = %s, %s and %s, want them different: %v", channel, chat, topic, other, topics)
		}
	}
}

// TestReplaceSender checks that a message from an alias becomes one of the account in each of its parts.
func TestReplaceSender(t *testing.T) {
	const instance = "019b7cd5-60ec-71f0-b7cb-5f3d8aee2d4f"
	whole := adapters.Message{
		Sender: adapters.Sender{ID: "US.1", Aliases: []string{"US.ENT.2", "+14155550101"}},
		Chat:   adapters.Chat{ID: "US.1", Thread: "+15550001111"}, Text: "whole",
	}
	a := IncomingMessage{
		InstanceID: instance, Channel: adapters.WhatsApp, Message: whole, Secret: &Secret{Message: &whole},
	}
	a.ReplaceSender("+14155550101", "+14155550101")
	for _, m := range []adapters.Message{a.Message, *a.Secret.Message} {
		if m.Sender.ID != "+14155550101" || !slices.Equal(m.Sender.Aliases, []string{"US.1", "US.ENT.2"}) ||
			m.Chat.ID != "+14155550101" || m.Chat.Address != "US.1" || m.Chat.Thread != "+15550001111" {
			t.Errorf("message = %+v, want one of the account", m)
		}
	}
	if whole.Sender.ID != "US.1" || a.ConversationID != ConversationID(instance, adapters.WhatsApp, "+14155550101") {
		t.Errorf("original = %+v, conversation %s", whole, a.ConversationID)
	}
	group := IncomingMessage{Message: adapters.Message{
		Sender: adapters.Sender{ID: "US.1"}, Chat: adapters.Chat{ID: "g", Group: true},
	}}
	if group.ReplaceSender("+1", "+1"); group.Message.Sender.ID != "+1" || group.Message.Chat.ID != "g" {
		t.Errorf("message in a group = %+v, want it in the group", group.Message)
	}
}
