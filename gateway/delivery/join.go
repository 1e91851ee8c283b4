package delivery

import (
	"slices"
	"strings"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
)

// maxJoinWait is how long an event waits for further messages in total.
const maxJoinWait = 3 * time.Second

// nextEvent returns the first of pending deliveries together with those that are joined with it, and
// the remaining ones. If the event is not formed yet, its Delay is how long to wait for further
// messages.
func nextEvent(pending []gateway.Event) (e gateway.Event, rest []gateway.Event) {
	e, rest = pending[0], pending[1:]
	switch {
	case e.JoinKey == "", e.EventID == "" && e.Err != nil:
		return e, rest
	case e.EventID != "":
		return join(e, rest, func(o gateway.Event) (joins, ends bool) { return o.EventID == e.ID, false })
	}
	// The parts of an album belong together wherever they are. Other messages must remain in order.
	isAlbum, full := e.Message.GroupKey != "", false
	size := len(e.Message.Text)
	e, rest = join(e, rest, func(o gateway.Event) (joins, ends bool) {
		if o.JoinKey != e.JoinKey || o.EventID != "" || o.Err != nil {
			return false, !isAlbum
		}
		size += len(o.Message.Text)
		full = full || size > adapters.MaxInboundText
		return !full, full
	})
	wait := e.Delay
	for _, o := range e.Joined {
		wait = max(wait, o.Delay)
	}
	e.Delay = min(wait, maxJoinWait-e.Age)
	if full || len(e.Joined)+1 == gateway.FetchLimit || !isAlbum && len(rest) > 0 {
		e.Delay = 0
	}
	return e, rest
}

// join moves the deliveries for which belongs returns true from rest to e, up to the first for which it
// reports that the event ends.
func join(
	e gateway.Event, rest []gateway.Event, belongs func(gateway.Event) (joins, ends bool),
) (joined gateway.Event, others []gateway.Event) {
	for i, o := range rest {
		joins, ends := belongs(o)
		if ends {
			return e, append(others, rest[i:]...)
		}
		if joins {
			e.Joined = append(e.Joined, o)
		} else {
			others = append(others, o)
		}
	}
	return e, others
}

// isOpen reports whether further messages may be joined with e.
func isOpen(e gateway.Event) bool { return e.JoinKey != "" && e.EventID == "" }

// deliveryIDs returns the IDs of the deliveries of e.
func deliveryIDs(e gateway.Event) []string {
	ids := []string{e.ID}
	for _, o := range e.Joined {
		ids = append(ids, o.ID)
	}
	return ids
}

// eventPart is one of several messages in an event.
type eventPart struct {
	MessageID         string            `json:"message_id" format:"uuid" doc:"ID of the message."`
	Text              string            `json:"text" doc:"Text of the message."`
	Attachments       []eventAttachment `json:"attachments" nullable:"false" doc:"Files of the message."`
	Content           []eventContent    `json:"content" nullable:"false" doc:"What the message contains that is neither text nor a file."`
	ReplyTo           *string           `json:"reply_to" doc:"Provider's ID of the message to which this one replies."`
	Edited            bool              `json:"edited" doc:"Whether this is the new text of an earlier message."`
	Deleted           bool              `json:"deleted" doc:"Whether the sender deleted the message before it was delivered."`
	Forwarded         bool              `json:"forwarded" doc:"Whether the sender passed on a message that was written elsewhere."`
	WrittenBy         adapters.Author   `json:"written_by" enum:"sender,other,unknown" doc:"Who wrote the words of the message."`
	Via               *string           `json:"via" enum:"bot,app,automatic" doc:"What wrote or sent the message in place of the sender. Null: nothing is known to have."`
	SentAt            *time.Time        `json:"sent_at" doc:"When the message was sent, by the provider's clock."`
	ReceivedAt        time.Time         `json:"received_at" doc:"When the gateway received the message."`
	ProviderMessageID *string           `json:"provider_message_id" doc:"Provider's ID of the message."`
}

func newEventPart(m eventMessage) eventPart {
	return eventPart{
		MessageID: m.MessageID, Text: m.Text, Attachments: m.Attachments, Content: m.Content, ReplyTo: m.ReplyTo,
		Edited: m.Edited, Deleted: m.Deleted, Forwarded: m.Forwarded, WrittenBy: m.WrittenBy, Via: m.Via, SentAt: m.SentAt,
		ReceivedAt: m.ReceivedAt, ProviderMessageID: m.ProviderMessageID,
	}
}

// addMessages adds further messages to the first message of an event. Its other fields then hold for
// all of them, so that an application that ignores the list misses nothing and trusts no words that the
// sender did not write.
func addMessages(first eventMessage, further []eventMessage) eventMessage {
	all := first
	all.Messages = []eventPart{newEventPart(first)}
	texts := []string{first.Text}
	for _, m := range further {
		all.Messages = append(all.Messages, newEventPart(m))
		texts = append(texts, m.Text)
		all.Attachments = append(slices.Clip(all.Attachments), m.Attachments...)
		all.Content = append(slices.Clip(all.Content), m.Content...)
		all.Edited, all.Deleted = all.Edited && m.Edited, all.Deleted && m.Deleted
		all.Forwarded = all.Forwarded || m.Forwarded
		if all.WrittenBy == adapters.AuthorSender || m.WrittenBy == adapters.AuthorOther {
			all.WrittenBy = m.WrittenBy
		}
		if all.Via == nil {
			all.Via = m.Via
		}
		if all.Command == nil {
			all.Command = m.Command
		}
	}
	all.Text = strings.Join(nonEmpty(texts), "\n")
	return all
}

func nonEmpty(texts []string) (kept []string) {
	for _, text := range texts {
		if text != "" {
			kept = append(kept, text)
		}
	}
	return kept
}
