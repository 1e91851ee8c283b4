package slack

import (
	"cmp"
	"encoding/json"
	"strings"

	"hydragate/adapters"
)

// An event is a message event, or the message in an event that reports a change.
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
	Blocks          json.RawMessage `json:"blocks"`
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
	switch {
	case ev.Subtype == "message_deleted", ev.Subtype == "message_changed" && isTombstone(ev.Message):
		return e.deletion(ev, ep)
	case ev.Subtype == "message_changed":
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
	return m, true
}

// edit returns the new version of a message. Slack also reports a change after it has unfurled a
// link; the words are then the same, and edit returns false.
func (e envelope) edit(ev event, ep adapters.Endpoint) (adapters.Message, bool) {
	now, before := ev.Message, ev.PreviousMessage
	if now == nil || !isTimestamp(now.TS) || !e.isUserMessage(*now, ev, ep) {
		return adapters.Message{}, false
	}
	if before == nil && now.Edited.TS == "" || before != nil && before.markup() == now.markup() {
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

// isTombstone reports whether ev stands for a deleted message with a thread.
func isTombstone(ev *event) bool { return ev != nil && ev.Subtype == "tombstone" }

// deletion returns the report that a message of a person was deleted.
func (e envelope) deletion(ev event, ep adapters.Endpoint) (adapters.Message, bool) {
	before := ev.PreviousMessage
	if before == nil || !isTimestamp(before.TS) || !e.isUserMessage(*before, ev, ep) {
		return adapters.Message{}, false
	}
	m := e.buildMessage(*before, ev, ep)
	return adapters.Message{
		Key: "d:" + ev.Channel + ":" + before.TS, Kind: adapters.Delete, ProviderID: m.ProviderID,
		Sender: adapters.Sender{ID: m.Sender.ID}, Chat: m.Chat, UnprovenReason: m.UnprovenReason,
	}, true
}

// unknownPart returns the name of the field with which a message without words and files came.
func (ev event) unknownPart() string {
	var entries []json.RawMessage
	switch {
	case json.Unmarshal(ev.Files, &entries) == nil && len(entries) > 0:
		return "files"
	case json.Unmarshal(ev.Attachments, &entries) == nil && len(entries) > 0:
		return "attachments"
	}
	return adapters.Sanitize(cmp.Or(ev.Subtype, "blocks"), maxName)
}

// serviceSubtypes are the subtypes of messages that Slack writes itself, or that are not messages of
// a person. A message with any other subtype is one. The list is that of testdata/subtypes.tsv.
var serviceSubtypes = map[string]bool{
	"app_conversation_join": true, "app_conversation_leave": true, "assistant_app_thread": true,
	"bot_add": true, "bot_disable": true, "bot_enable": true, "bot_message": true, "bot_remove": true,
	"channel_archive": true, "channel_canvas_updated": true, "channel_convert_to_private": true,
	"channel_convert_to_public": true, "channel_join": true, "channel_leave": true, "channel_name": true,
	"channel_posting_permissions": true, "channel_purpose": true, "channel_topic": true,
	"channel_unarchive": true, "ekm_access_denied": true, "emoji_changed": true, "group_archive": true,
	"group_join": true, "group_leave": true, "group_name": true, "group_purpose": true, "group_topic": true,
	"group_unarchive": true, "huddle_thread": true, "joiner_notification": true,
	"joiner_notification_for_inviter": true, "message_deleted": true, "message_replied": true,
	"pinned_item": true, "reminder_add": true, "reply_broadcast": true, "sh_room_created": true,
	"sh_room_shared": true, "slackbot_response": true, "tabbed_canvas_updated": true, "tombstone": true,
	"unpinned_item": true,
}

// isUserMessage reports whether ev, in the channel of the enclosing event, has the account of a
// person as its author. An app can post with that account as well. Slack marks such a post like one
// of the app's own bot, so only in a direct conversation, where no other bot can write, is it known
// to be the person's.
func (e envelope) isUserMessage(ev, outer event, ep adapters.Endpoint) bool {
	bot := e.botUserID(ep)
	if serviceSubtypes[ev.Subtype] || !isUserID(ev.User) || ev.User == "USLACKBOT" || ev.User == bot {
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
	team, shared := e.actorTeam(ev, ep), ev.shares()
	m := adapters.Message{
		Kind:       adapters.Text,
		ProviderID: ev.TS,
		Sender:     adapters.Sender{ID: externalID(team, ev.User)},
		Text:       decodeText(ev.markup(), e.botUserID(ep)),
		Media:      attachments(ev.Files),
		SentAt:     parseTimestamp(ev.TS),
	}
	m.Chat = chat(ep, m.Sender.ID, outer.Channel, direct)
	m.Chat.Thread = threadTS(ev, direct)
	for _, s := range shared {
		m.Media = append(m.Media, attachments(s.Files)...)
	}
	if m.Text == "" && len(m.Media) == 0 {
		m.Content = []adapters.Content{{Kind: adapters.Other, Name: ev.unknownPart()}}
	}
	if len(m.Media) > 0 || len(m.Content) > 0 {
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
// channel type, but the ID shows it. What people write in the app's Messages tab may have the type
// app_home.
func isDirect(channel, channelType string) bool {
	return strings.HasPrefix(channel, "D") &&
		(channelType == "im" || channelType == "app_home" || channelType == "")
}

// chat returns the chat of a person and the bot, or of a channel. All that a person writes to the bot
// alone is one chat, whether in the direct conversation, as a slash command elsewhere or in a form:
// its ID is that of the person.
func chat(ep adapters.Endpoint, sender, channel string, direct bool) adapters.Chat {
	team, user, known := strings.Cut(sender, ":")
	switch {
	case !direct || !known:
		return adapters.Chat{ID: channel, Group: !direct}
	case team == ep.Address:
		return adapters.Chat{ID: user, Address: channel}
	}
	return adapters.Chat{ID: sender, Address: channel}
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
	Title      string  `json:"title"`
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
			Name:     adapters.Sanitize(cmp.Or(f.Name, f.Title), maxName),
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
