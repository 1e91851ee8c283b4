package process

import (
	"fmt"
	"testing"

	"hydragate/adapters"
)

// TestWorker_DeletedMessage checks that a deletion empties the message before it, also if both are
// processed together, and only for the author of the message.
func TestWorker_DeletedMessage(t *testing.T) {
	for _, tt := range []struct {
		name, deletedBy string
		emptied         int
	}{
		{"author", "1", 1},
		{"another person", "2", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newConversation("secret words", "", "bye")
			s.pending[0].Message.Media = []adapters.Attachment{{Kind: "image", Name: "secret.png"}}
			s.pending[1].Message = adapters.Message{
				Kind: adapters.Delete, Sender: adapters.Sender{ID: tt.deletedBy}, Chat: adapters.Chat{ID: "1"},
			}
			run(t, newWorker(s))
			if got, want := fmt.Sprint(s.outcomes), "[0 forwarded 1 deleted 2 forwarded]"; got != want {
				t.Errorf("outcomes = %s, want %s", got, want)
			}
			emptied := 0
			for _, c := range s.commits {
				for _, m := range c.EmptiedMessages {
					emptied++
					if m.ID != "0" || !m.Message.Deleted || m.Message.Text != "" || len(m.Message.Media) > 0 {
						t.Errorf("emptied message = %+v, want the first without content", m)
					}
				}
			}
			if emptied != tt.emptied {
				t.Errorf("emptied messages = %d, want %d", emptied, tt.emptied)
			}
		})
	}
}
