package slack

import (
	"encoding/json"
	"strings"

	"hydragate/adapters"
)

// An event is a message event, or the message in an event that reports a change. Blocks are not
// decoded.
type event struct {
	Type            string          `json:"type"`
	Subtype         string          `json:"subtype"`
	Channel         string          `json:"channel"`
	ChannelType     string          `json:"channel_type"`
	User            string          `json:"user"`
	Team            string          `json:"team"`
	UserTeam        string          `json:"user_team"`
	SourceTeam      string          `json:"source_team"`
	BotID           string          `json:"bot_id"`
	AppID           string          `json:"app_id"`
	BotProfile      json.RawMessage `json:"bot_profile"`
	Text            string          `json:"text"`
	TS              string          `json:"ts"`
	ThreadTS        string          `json:"thread_ts"`
	ClientMsgID     string          `json:"client_msg_id"`
	Files           json.RawMessage `json:"files"`
	Attachments     json.RawMessage `json:"attachments"`
	Edited          edited          `json:"edited"`
	Message         *event          `json:"message"`
	PreviousMessage *event          `json:"previous_message"`
}

type edited struct {
	TS string `json:"ts"`
}

// message returns what a person wrote, or what an app posted as that person. It returns false for
// joins, deletions, unfurled links and everything posted by bots, including this one.
func (e envelope) message(ev event, ep adapters.Endpoint) (adapters.Message, bool) {
	if ev.Subtype == "message_changed" {
		return e.edit(ev, ep)
	}
	if !e.isUserMessage(ev, ev, ep) {
		return adapters.Message{}, false
	}
	m := e.buildMessage(ev, ev, ep)
	m.Key = "m:" + ev.Channel + ":" + ev.TS
	if isKeyPart(ev.ClientMsgID) {
		m.AltKey = "cm:" + ev.ClientMsgID
	}
	return m, m.Text != "" || len(m.Media) > 0
}

// edit returns the new version of a message. Slack also reports a change after it has unfurled a
// link; the text is then the same, and edit returns false.
func (e envelope) edit(ev event, ep adapters.Endpoint) (adapters.Message, bool) {
	now, before := ev.Message, ev.PreviousMessage
	if now == nil || !isTimestamp(now.TS) || !e.isUserMessage(*now, ev, ep) {
		return adapters.Message{}, false
	}
	if before == nil && now.Edited.TS == "" || before != nil && before.Text == now.Text {
		return adapters.Message{}, false
	}
	at := now.Edited.TS
	if !isTimestamp(at) {
		at = ev.TS
	}
	m := e.buildMessage(*now, ev, ep)
	m.Key, m.Kind = "e:"+ev.Channel+":"+now.TS+":"+at, adapters.Edit
	m.SentAt = parseTimestamp(at)
	if m.UnprovenReason == "" {
		m.UnprovenReason = adapters.UnprovenEdited
	}
	return m, true
}

// isUserMessage reports whether ev, in the channel of the enclosing event, has the account of a
// person as its author. An app can post with that account as well. Slack marks such a post like one
// of the app's own bot, so only in a direct conversation, where no other bot can write, is it known
// to be the person's.
func (e envelope) isUserMessage(ev, outer event, ep adapters.Endpoint) bool {
	switch ev.Subtype {
	case "", "file_share", "thread_broadcast", "me_message":
	default:
		return false
	}
	bot := e.botUserID(ep)
	if !isUserID(ev.User) || ev.User == "USLACKBOT" || ev.User == bot {
		return false
	}
	return ev.BotID == "" ||
		isDirect(outer.Channel, outer.ChannelType) && bot != "" && ev.BotID != ep.Settings[adapters.BotID]
}

// isFromApp reports whether an app posted ev. Slack marks every post through its API, also those
// with the token of a person.
func (ev event) isFromApp() bool {
	return ev.BotID != "" || ev.AppID != "" || len(ev.BotProfile) > 0 && string(ev.BotProfile) != "null"
}

// buildMessage returns ev as a message in the channel of the enclosing event. A message and the
// app_mention of the same post yield the same message.
func (e envelope) buildMessage(ev, outer event, ep adapters.Endpoint) adapters.Message {
	direct := isDirect(outer.Channel, outer.ChannelType)
	team, shared := e.actorTeam(ev), sharedTexts(ev.Attachments)
	m := adapters.Message{
		Kind:       adapters.Text,
		ProviderID: ev.TS,
		Sender:     adapters.Sender{ID: externalID(team, ev.User)},
		Chat:       adapters.Chat{ID: outer.Channel, Group: !direct, Thread: threadTS(ev, direct)},
		Text:       decodeText(joinTexts(ev.Text, shared), e.botUserID(ep)),
		Media:      attachments(ev.Files),
		SentAt:     parseTimestamp(ev.TS),
	}
	if len(m.Media) > 0 {
		m.Kind = adapters.Media
	}
	switch {
	case ev.isFromApp():
		m.UnprovenReason = adapters.UnprovenViaApp
	case len(shared) > 0:
		m.UnprovenReason = adapters.UnprovenForwarded
	case m.Sender.ID == "" || e.IsExtSharedChannel && team != ep.Address || e.namesOtherTeam(ev, ep):
		m.UnprovenReason = adapters.UnprovenExternal
	}
	if isTimestamp(ev.ThreadTS) && ev.ThreadTS != ev.TS {
		m.ReplyTo = ev.ThreadTS
	}
	if cmd, ok := adapters.ParseCommand(m.Text, ""); ok {
		m.Command = &cmd
	}
	return m
}

// isDirect reports whether a channel is a direct conversation with the bot. An app_mention has no
// channel type, but the ID shows it.
func isDirect(channel, channelType string) bool {
	return strings.HasPrefix(channel, "D") && (channelType == "im" || channelType == "")
}

// threadTS returns the thread for replies: that of ev or, in a channel, the thread that ev can
// start.
func threadTS(ev event, direct bool) string {
	if isTimestamp(ev.ThreadTS) {
		return ev.ThreadTS
	}
	if direct {
		return ""
	}
	return ev.TS
}

// A file is a file of a message. Its URLs are not decoded, because those of a remote file are
// chosen by its creator.
type file struct {
	ID         string  `json:"id"`
	Name       string  `json:"name"`
	MIME       string  `json:"mimetype"`
	Subtype    string  `json:"subtype"`
	Mode       string  `json:"mode"`
	Size       int64   `json:"size"`
	DurationMS float64 `json:"duration_ms"`
}

const maxName = 255

// attachments returns the files of a message with their IDs. Deleted files and those of unknown
// form are omitted.
func attachments(raw json.RawMessage) []adapters.Attachment {
	var entries []json.RawMessage
	if json.Unmarshal(raw, &entries) != nil {
		return nil
	}
	var as []adapters.Attachment
	for _, entry := range entries {
		var f file
		if json.Unmarshal(entry, &f) != nil || !isID(f.ID) || f.Mode == "tombstone" || f.Mode == "hidden_by_limit" {
			continue
		}
		as = append(as, adapters.Attachment{
			Kind:     f.kind(),
			Ref:      f.ID,
			MIME:     adapters.Sanitize(f.MIME, maxName),
			Name:     adapters.Sanitize(f.Name, maxName),
			Size:     max(0, f.Size),
			Duration: int(min(max(0, f.DurationMS/1000), 1<<30)),
		})
	}
	return as
}

func (f file) kind() string {
	if f.Subtype == "slack_audio" {
		return "voice"
	}
	switch kind, _, _ := strings.Cut(f.MIME, "/"); kind {
	case "image", "audio", "video":
		return kind
	}
	return "file"
}
