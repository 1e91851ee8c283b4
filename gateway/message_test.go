package gateway

import (
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
