package process

import (
	"testing"

	"hydragate/adapters"
	"hydragate/gateway"
)

// TestWorker_JoinedMessages checks which messages may be delivered together, and with which others.
func TestWorker_JoinedMessages(t *testing.T) {
	change := func(f func(*gateway.StoredMessage)) func(*gateway.StoredMessage) {
		return func(in *gateway.StoredMessage) {
			in.AboveLimit = true
			f(in)
		}
	}
	above := change(func(*gateway.StoredMessage) {})
	album := func(in *gateway.StoredMessage) { in.Message.Kind, in.Message.GroupKey = adapters.Media, "g1" }
	for _, tt := range []struct {
		name     string
		text     string
		change   func(*gateway.StoredMessage)
		joinable bool
		likeHead bool // may be joined with an ordinary message above the limit
	}{
		{"below the limit", "hello", func(*gateway.StoredMessage) {}, false, false},
		{"above the limit", "hello", above, true, true},
		{"other text", "bye", above, true, true},
		{"edit", "hello", change(func(in *gateway.StoredMessage) { in.Message.Kind = adapters.Edit }), true, true},
		{"another sender", "hello", change(func(in *gateway.StoredMessage) { in.Message.Sender.ID = "2" }), true, false},
		{"another thread", "hello", change(func(in *gateway.StoredMessage) { in.Message.Chat.Thread = "2" }), true, false},
		{
			"another conversation", "hello", change(func(in *gateway.StoredMessage) { in.ConversationID = gateway.NewID() }),
			true, false,
		},
		{"anonymous", "hello", change(func(in *gateway.StoredMessage) {
			in.Message.Sender = adapters.Sender{Name: "Channel"}
		}), true, false},
		{"command of the application", "/balance", above, false, false},
		{"button", "", change(func(in *gateway.StoredMessage) {
			in.Message.Kind, in.Message.Action = adapters.Callback, "pay"
		}), false, false},
		{"album", "caption", album, true, false},
		{"album above the limit", "caption", change(album), true, false},
		{"edited caption", "caption", func(in *gateway.StoredMessage) {
			album(in)
			in.Message.Kind = adapters.Edit
		}, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newConversation("hello", tt.text)
			above(&s.pending[0])
			tt.change(&s.pending[1])
			run(t, newWorker(s))
			var got []gateway.Delivery
			for _, c := range s.commits {
				got = append(got, c.Deliveries...)
			}
			if len(got) != 2 {
				t.Fatalf("deliveries = %d, want 2", len(got))
			}
			joinable, likeHead := got[1].JoinKey != "", got[1].JoinKey == got[0].JoinKey
			if joinable != tt.joinable || likeHead != tt.likeHead || joinable != (got[1].JoinWait > 0) {
				t.Errorf("joinable = %v, like the first = %v, wait %s, want %v, %v",
					joinable, likeHead, got[1].JoinWait, tt.joinable, tt.likeHead)
			}
		})
	}
}

// TestWorker_CommandsInBurst checks that commands and claims above the limit are handled one by one.
func TestWorker_CommandsInBurst(t *testing.T) {
	s := newConversation("one", "/help", "two", "/claim WDJBMJ", "three")
	for i := range s.pending {
		s.pending[i].AboveLimit = true
	}
	run(t, newWorker(s))
	events, replies := "", 0
	for _, c := range s.commits {
		replies += len(c.Replies)
		for _, d := range c.Deliveries {
			events += d.MessageID + " " + string(d.Type) + "\n"
		}
	}
	const want = "0 message.received\n2 message.received\n identity.verified\n4 message.received\n"
	if events != want || replies < 2 {
		t.Errorf("events = %q with %d replies, want %q and those of both commands", events, replies, want)
	}
}
