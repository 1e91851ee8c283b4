package slack

import (
	"encoding/json"
	"strings"

	"hydragate/adapters"
)

// unprovenExternal marks what a person of another organisation did: their ids are
// not ours to vouch for.
const unprovenExternal = "external"

// An event is a message event, or the message inside one that reports a change.
// Only what is needed is read: blocks and attachments, which take every shape, are
// not.
type event struct {
	Type            string          `json:"type"`
	Subtype         string          `json:"subtype"`
	Channel         string          `json:"channel"`
	ChannelType     string          `json:"channel_type"`
	User            string          `json:"user"`
	Team            string          `json:"team"`
	UserTeam        string          `json:"user_team"`
	BotID           string          `json:"bot_id"`
	Text            string          `json:"text"`
	TS              string          `json:"ts"`
	ThreadTS        string          `json:"thread_ts"`
	ClientMsgID     string          `json:"client_msg_id"`
	Files           json.RawMessage `json:"files"`
	Edited          edited          `json:"edited"`
	Message         *event          `json:"message"`
	PreviousMessage *event          `json:"previous_message"`
}

type edited struct {
	TS string `json:"ts"`
}

// message reads what somebody said. It is false for what nobody said: joins,
// deletions, unfurled links, and everything that bots post, this one first of all.
func (e envelope) message(ev event, ep adapters.Endpoint) (adapters.Message, bool) {
	if ev.Subtype == "message_changed" {
		return e.edit(ev, ep)
	}
	if !ev.said(e.me(ep), ep) {
		return adapters.Message{}, false
	}
	m := e.post(ev, ev, ep)
	m.Key = "m:" + ev.Channel + ":" + ev.TS
	if isName(ev.ClientMsgID) {
		m.AltKey = "cm:" + ev.ClientMsgID
	}
	return m, m.Text != "" || len(m.Media) > 0
}

// edit reads a new version of a message. Slack also reports a change when it has
// unfurled a link; then the text is the same.
func (e envelope) edit(ev event, ep adapters.Endpoint) (adapters.Message, bool) {
	now, before := ev.Message, ev.PreviousMessage
	if now == nil || !isStamp(now.TS) || !now.said(e.me(ep), ep) {
		return adapters.Message{}, false
	}
	if before == nil && now.Edited.TS == "" || before != nil && before.Text == now.Text {
		return adapters.Message{}, false
	}
	at := now.Edited.TS
	if !isStamp(at) {
		at = ev.TS
	}
	m := e.post(*now, ev, ep)
	m.Key, m.Kind = "e:"+ev.Channel+":"+now.TS+":"+at, adapters.Edit
	m.SentAt = stampTime(at)
	if m.Unproven == "" {
		m.Unproven = "edited"
	}
	return m, true
}

// said reports whether a person wrote ev with an own account.
func (ev event) said(me string, ep adapters.Endpoint) bool {
	switch ev.Subtype {
	case "", "file_share", "thread_broadcast", "me_message":
	default:
		return false
	}
	return isUser(ev.User) && ev.User != "USLACKBOT" && ev.User != me && ev.BotID == ""
}

// post reads ev, which was said at the place of the event around it. A message and
// the app_mention of the same post give the same.
func (e envelope) post(ev, around event, ep adapters.Endpoint) adapters.Message {
	direct := isDirect(around.Channel, around.ChannelType)
	team := e.actorTeam(ev)
	m := adapters.Message{
		Kind:       adapters.Text,
		ProviderID: ev.TS,
		Sender:     adapters.Sender{ID: externalID(team, ev.User)},
		Place:      adapters.Place{ID: around.Channel, Group: !direct, Thread: thread(ev, direct)},
		Text:       readText(ev.Text, e.me(ep)),
		Media:      attachments(ev.Files),
		SentAt:     stampTime(ev.TS),
	}
	if len(m.Media) > 0 {
		m.Kind = adapters.Media
	}
	if m.Sender.ID == "" || e.IsExtSharedChannel && team != ep.Address {
		m.Unproven = unprovenExternal
	}
	if isStamp(ev.ThreadTS) && ev.ThreadTS != ev.TS {
		m.ReplyTo = ev.ThreadTS
	}
	if cmd, ok := adapters.ParseCommand(m.Text, ""); ok {
		m.Command = &cmd
	}
	return m
}

// isDirect reports whether a channel holds one person and the bot. An app_mention
// does not tell the type of its channel; the id does.
func isDirect(channel, channelType string) bool {
	return strings.HasPrefix(channel, "D") && (channelType == "im" || channelType == "")
}

// thread is where an answer belongs: the thread ev is in or, in a room, the one it
// can start.
func thread(ev event, direct bool) string {
	if isStamp(ev.ThreadTS) {
		return ev.ThreadTS
	}
	if direct {
		return ""
	}
	return ev.TS
}
