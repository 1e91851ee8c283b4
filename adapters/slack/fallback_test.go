package slack_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hydragate/adapters"
	"hydragate/adapters/simulator"
	"hydragate/adapters/slack"
)

// guest is a person of another workspace in a shared channel.
var guest = simulator.SlackUser{Team: "T0EXTERN1", ID: "U0EXTERN2", Name: "Guest"}

// TestSend_Fallback checks where replies go that Slack does not accept where they belong.
func TestSend_Fallback(t *testing.T) {
	const direct, room = "D0LAN2Q65", "C1"
	group := func(thread string) adapters.Chat { return adapters.Chat{ID: room, Group: true, Thread: thread} }
	for name, c := range map[string]struct {
		chat  adapters.Chat
		to    simulator.SlackUser
		token bool     // the reply has a response URL
		codes []string // of the responses to the first calls of chat.postMessage
		want  []string // chats of the messages in the transcript, with " privately" for a response URL
		fails string   // code of the error
	}{
		"in the room": {chat: group("1.1"), to: steve, want: []string{room}},
		"thread gone": {
			chat: group("1.1"), to: steve, codes: []string{"thread_not_found"}, want: []string{room},
		},
		"not a message to reply to": {
			chat: group("1.1"), to: steve, codes: []string{"cannot_reply_to_message"}, want: []string{room},
		},
		"room without threads": {
			chat: group("1.1"), to: steve, codes: []string{"restricted_action_non_threadable_channel"}, want: []string{room},
		},
		"thread error without a thread": {
			chat: group(""), to: steve, codes: []string{"thread_not_found"}, fails: "thread_not_found",
		},
		"threads only": {
			chat: group(""), to: steve, codes: []string{"restricted_action_thread_only_channel"},
			fails: "restricted_action_thread_only_channel",
		},
		"direct conversation closed": {
			chat: adapters.Chat{ID: steve.ID, Address: direct}, to: steve, codes: []string{"channel_not_found"},
			want: []string{steve.Chat()},
		},
		"stored direct conversation": {
			chat: adapters.Chat{ID: direct}, to: steve, codes: []string{"channel_not_found"}, want: []string{steve.Chat()},
		},
		"not found twice": {
			chat: adapters.Chat{ID: direct}, to: steve, codes: []string{"channel_not_found", "channel_not_found"},
			fails: "channel_not_found",
		},
		"too long for the person": {
			chat: adapters.Chat{ID: direct}, to: steve, codes: []string{"channel_not_found", "msg_too_long"},
			fails: "msg_too_long",
		},
		"room left by the app": {chat: group("1.1"), to: steve, codes: []string{"not_in_channel"}, fails: "not_in_channel"},
		"button in a room without the app": {
			chat: group("1.1"), to: steve, token: true, codes: []string{"not_in_channel"},
			want: []string{steve.Chat() + " privately"},
		},
		"button in a private room without the app": {
			chat: group(""), to: steve, token: true, codes: []string{"channel_not_found"},
			want: []string{steve.Chat() + " privately"},
		},
		"button in a room with the app": {chat: group("1.1"), to: steve, token: true, want: []string{room}},
		"button in direct conversation": {
			chat: adapters.Chat{ID: steve.ID, Address: direct}, to: steve, token: true, want: []string{steve.Chat()},
		},
		"command": {
			chat: adapters.Chat{ID: steve.ID}, to: steve, token: true, want: []string{steve.Chat() + " privately"},
		},
		"button of a guest": {
			chat: group("1.1"), to: guest, token: true, want: []string{guest.Chat() + " privately"},
		},
		"command of a guest": {
			chat: adapters.Chat{ID: guest.Chat()}, to: guest, token: true, want: []string{guest.Chat() + " privately"},
		},
		"command of a guest, no URL": {chat: adapters.Chat{ID: guest.Chat()}, to: guest, want: []string{guest.Chat()}},
		"user ID of another workspace": {
			chat: adapters.Chat{ID: "T0EXTERN9:" + guest.ID}, to: simulator.SlackUser{Team: "T0EXTERN9", ID: guest.ID},
			fails: "other_team",
		},
		"message of a guest in the room": {chat: group("1.1"), to: guest, want: []string{room}},
	} {
		t.Run(name, func(t *testing.T) {
			s, a := newSimulator(t)
			s.AddRoom(room, false)
			s.AddUser(steve)
			s.AddUser(guest)
			for _, d := range []*string{&c.chat.ID, &c.chat.Address} {
				if *d == direct {
					*d = s.DM(appID, c.to)
				}
			}
			if c.token {
				c.chat.ReplyToken = s.NewResponseURL(c.to, room)
			}
			for _, code := range c.codes {
				s.Arm("chat.postMessage", simulator.Fault{Status: 200, Body: `{"ok":false,"error":"` + code + `"}`})
			}
			id, err := a.Send(t.Context(), endpoint(), adapters.Reply{ID: "r1", To: c.to.Chat(), Chat: c.chat, Text: "hello"})
			var se *adapters.SendError
			if errors.As(err, &se) && se.Code != c.fails || (err == nil) != (c.fails == "") || (id == "") != (err != nil) {
				t.Errorf("Send() = %q, %v, want code %q", id, err, c.fails)
			}
			if d := cmp.Diff(c.want, repliedTo(s)); d != "" {
				t.Errorf("replies differ (-want +got):\n%s", d)
			}
		})
	}
}

func repliedTo(s *simulator.Slack) (chats []string) {
	for _, l := range s.Replies("") {
		if l.Private {
			l.Chat += " privately"
		}
		chats = append(chats, l.Chat)
	}
	return chats
}

// TestSend_ResponseURLUsedUp checks that a guest is answered five times through the response URL, and
// then in the direct conversation.
func TestSend_ResponseURLUsedUp(t *testing.T) {
	s, a := newSimulator(t)
	s.AddUser(guest)
	chat := adapters.Chat{ID: guest.Chat(), ReplyToken: s.NewResponseURL(guest, "C1")}
	for range 6 {
		reply := adapters.Reply{ID: "r1", To: guest.Chat(), Chat: chat, Text: "hello"}
		if _, err := a.Send(t.Context(), endpoint(), reply); err != nil {
			t.Fatal(err)
		}
	}
	private := guest.Chat() + " privately"
	if d := cmp.Diff([]string{private, private, private, private, private, guest.Chat()}, repliedTo(s)); d != "" {
		t.Errorf("replies differ (-want +got):\n%s", d)
	}
}

// TestSend_TooLong checks that a text that Slack finds too long is neither posted nor tried elsewhere, so that the
// gateway sends it in parts.
func TestSend_TooLong(t *testing.T) {
	for name, chat := range map[string]adapters.Chat{
		"room": {ID: "C1", Group: true}, "thread": {ID: "C1", Group: true, Thread: "1.1"}, "direct": {ID: steve.ID},
	} {
		s, a := newSimulator(t)
		s.AddRoom("C1", false)
		s.Arm("chat.postMessage", simulator.Fault{Status: 200, Body: `{"ok":false,"error":"msg_too_long"}`})
		_, err := a.Send(t.Context(), endpoint(), adapters.Reply{ID: "r1", To: steve.Chat(), Chat: chat, Text: "long"})
		var se *adapters.SendError
		if !errors.As(err, &se) || se.Reason != adapters.TooLong || len(s.Replies("")) != 0 {
			t.Errorf("Send() to a %s = %v with replies %v, want too long", name, err, s.Replies(""))
		}
	}
}

// TestLimits_Measure checks that texts are measured as Slack counts them.
func TestLimits_Measure(t *testing.T) {
	limits := (&slack.Adapter{}).Limits()
	for text, want := range map[string]int{"abc": 3, "<&>": 13, "Ж": 1, "漢字": 2, "😀": 2} {
		if got := limits.Measure(text); got != want {
			t.Errorf("Measure(%q) = %d, want %d", text, got, want)
		}
	}
}
