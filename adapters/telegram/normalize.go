package telegram

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"hydragate/adapters"
)

const (
	maxName     = 256
	maxUsername = 64
	maxLocale   = 35   // RFC 5646, §4.4.1
	maxAction   = 1024 // callback data has at most 64 bytes
	maxQueryID  = 256

	unknownContent = "unknown" // name of content of a message without any field for it
)

// parseUpdate returns the message in one update. It does not fail: an update that cannot be
// decoded becomes an Undecodable message with all its bytes.
func parseUpdate(raw []byte, ep adapters.Endpoint) adapters.Message {
	var u update
	if err := json.Unmarshal(raw, &u); err != nil || u.ID == 0 {
		return undecodableMessage(raw, ep)
	}
	switch {
	case u.Message != nil:
		return u.Message.normalize(adapters.Text, raw, ep)
	case u.EditedMessage != nil:
		return u.EditedMessage.normalize(adapters.Edit, raw, ep)
	case u.ChannelPost != nil:
		return u.ChannelPost.normalizeUnserved(adapters.UnprovenChannel, raw, ep)
	case u.EditedChannelPost != nil:
		return u.EditedChannelPost.normalizeUnserved(adapters.UnprovenChannel, raw, ep)
	case u.BusinessMessage != nil:
		return u.BusinessMessage.normalizeUnserved(adapters.UnprovenBusiness, raw, ep)
	case u.EditedBusinessMessage != nil:
		return u.EditedBusinessMessage.normalizeUnserved(adapters.UnprovenBusiness, raw, ep)
	case u.CallbackQuery != nil:
		return u.CallbackQuery.normalize(raw, ep)
	case u.MyChatMember != nil:
		return u.MyChatMember.normalize(u.ID, raw, ep)
	}
	return adapters.Message{Key: messageKey(ep, "u", u.ID, digest(raw)), Kind: adapters.Unsupported}
}

// messageKey returns the deduplication key of an update. Update IDs may repeat after a week
// without updates, so they are never the only part.
func messageKey(ep adapters.Endpoint, parts ...any) string {
	var k strings.Builder
	k.WriteString(ep.Address)
	for _, p := range parts {
		k.WriteString(":" + fmt.Sprint(p))
	}
	return adapters.Sanitize(k.String(), maxRef)
}

func digest(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:8])
}

// undecodableMessage returns a message with the bytes of an update that cannot be decoded.
func undecodableMessage(raw []byte, ep adapters.Endpoint) adapters.Message {
	return adapters.Message{Key: messageKey(ep, "x", updateID(raw), digest(raw)), Kind: adapters.Undecodable, Raw: raw}
}

// normalize returns m as a message of kind Text or Edit.
func (m *message) normalize(kind adapters.Kind, raw []byte, ep adapters.Endpoint) adapters.Message {
	if m.ID == 0 || m.Chat.ID == 0 {
		return undecodableMessage(raw, ep)
	}
	if m.BusinessConnectionID != "" {
		return m.normalizeUnserved(adapters.UnprovenBusiness, raw, ep)
	}
	out, c := m.baseMessage(ep), m.contents()
	out.Text = adapters.Sanitize(c.text, adapters.MaxInboundText)
	out.Media, out.Content = c.media, slices.Concat(c.content, m.quotes())
	out.UnprovenReason = m.unprovenReason()
	out.Kind, out.Version = kind, c.version(raw, ep)
	switch {
	case kind == adapters.Edit:
		// The date has a precision of one second and may be missing; the number of the update may
		// repeat after a week.
		out.Key = messageKey(ep, "m", m.Chat.ID, m.ID, m.EditDate, out.Version, updateID(raw))
		out.SentAt = unixTime(cmp.Or(m.EditDate, m.Date))
		out.UnprovenReason = cmp.Or(out.UnprovenReason, adapters.UnprovenEdited)
	case len(c.media)+len(c.content) > 0:
		out.Kind = adapters.Media
	}
	if kind == adapters.Text {
		out.Moved = m.move()
	}
	switch {
	case out.UnprovenReason == adapters.UnprovenBot, m.IsAutomaticForward, m.isService():
		out.Kind = adapters.Unsupported
		return out
	case kind == adapters.Edit && m.Location != nil: // the person moves
		out.Kind = adapters.Unsupported
		return out
	case c.isEmpty(): // sent in a way that this version of the Bot API cannot express
		if kind == adapters.Text {
			out.Kind = adapters.Media
		}
		out.Content = append(out.Content, adapters.Content{Kind: adapters.Other, Name: unknownContent})
		c.unknown = true
	}
	if c.unknown {
		out.Raw = raw
	}
	name := ep.Settings[adapters.BotUsername]
	if !out.Chat.Group {
		name = adapters.AnyBot
	}
	if c, ok := adapters.ParseCommand(c.words, name); ok {
		out.Command = &c
		out.StartPayload = startPayload(out)
	}
	return out
}

// startPayload returns the parameter of the link with which the sender opened the chat, or "".
func startPayload(m adapters.Message) string {
	if m.Command.Name != "start" || m.Kind != adapters.Text || m.UnprovenReason != "" {
		return ""
	}
	payload, _, more := strings.Cut(m.Command.Args, " ")
	if more {
		return ""
	}
	return adapters.Sanitize(payload, maxName)
}

// normalizeUnserved returns a message from a chat in which the bot does not reply, for the given
// reason. The ID of its chat is distinct from those of private chats with the bot, because a
// business chat may have the same one.
func (m *message) normalizeUnserved(
	reason adapters.UnprovenReason, raw []byte, ep adapters.Endpoint,
) adapters.Message {
	if m.ID == 0 || m.Chat.ID == 0 {
		return undecodableMessage(raw, ep)
	}
	out := m.baseMessage(ep)
	out.Kind, out.UnprovenReason = adapters.Unsupported, reason
	out.Key = messageKey(ep, "b", m.BusinessConnectionID, m.Chat.ID, m.ID, m.EditDate)
	out.Chat = adapters.Chat{
		ID:    adapters.Sanitize(string(reason)+":"+m.BusinessConnectionID+":"+formatInt(m.Chat.ID), maxRef),
		Group: true,
	}
	return out
}

// baseMessage returns the fields that all messages have.
func (m *message) baseMessage(ep adapters.Endpoint) adapters.Message {
	return adapters.Message{
		Key:        messageKey(ep, "m", m.Chat.ID, m.ID),
		ProviderID: formatInt(m.ID),
		Sender:     m.sender(),
		Chat:       m.toChat(),
		ReplyTo:    m.replyTo(),
		GroupKey:   adapters.Sanitize(m.MediaGroupID, maxName),
		SentAt:     unixTime(m.Date),
	}
}

// sender returns the person who wrote the message. If the message was sent on behalf of a chat,
// only its title is returned, because all such messages share one "from" account.
func (m *message) sender() adapters.Sender {
	if m.SenderChat != nil {
		return adapters.Sender{Name: adapters.Sanitize(m.SenderChat.Title, maxName)}
	}
	return m.From.sender()
}

func (u *user) sender() adapters.Sender {
	if u == nil || u.ID == 0 {
		return adapters.Sender{}
	}
	return adapters.Sender{
		ID:       formatInt(u.ID),
		Name:     fullName(u.FirstName, u.LastName),
		Username: adapters.Sanitize(u.Username, maxUsername),
		Locale:   adapters.Sanitize(u.Language, maxLocale),
	}
}

// toChat returns the chat. Every chat that is not private is a group, including types added later.
func (m *message) toChat() adapters.Chat {
	p := adapters.Chat{ID: formatInt(m.Chat.ID), Group: m.Chat.Type != "private"}
	if m.IsTopicMessage && m.ThreadID != 0 {
		p.Thread = formatInt(m.ThreadID)
	}
	return p
}

// replyTo returns the ID of the message that m replies to. In a topic it ignores the message that
// opened the topic, which every message refers to.
func (m *message) replyTo() string {
	if m.ReplyTo == nil || m.ReplyTo.ID == 0 || m.IsTopicMessage && m.ReplyTo.ID == m.ThreadID {
		return ""
	}
	return formatInt(m.ReplyTo.ID)
}

// unprovenReason returns why it is uncertain that the sender wrote the message now; empty if it is
// certain. Of several reasons it returns the one that says most about the author.
func (m *message) unprovenReason() adapters.UnprovenReason {
	anonymous := m.SenderChat != nil || m.From == nil || m.From.ID == 0
	switch {
	case m.IsAutomaticForward:
		return adapters.UnprovenChannel
	case !anonymous && m.From.IsBot:
		return adapters.UnprovenBot
	case m.isForwarded():
		return adapters.UnprovenForwarded
	case m.ViaBot != nil || m.SenderBusinessBot != nil:
		return adapters.UnprovenViaBot
	case m.IsFromOffline:
		return adapters.UnprovenScheduled
	case anonymous:
		return adapters.UnprovenAnonymous
	case m.Caption != "":
		return adapters.UnprovenCaption
	}
	return ""
}

// normalize returns the press of a button as a message. Its ReplyToken is the ID with which the
// query is answered.
func (q *callbackQuery) normalize(raw []byte, ep adapters.Endpoint) adapters.Message {
	if q.ID == "" || q.From == nil || q.From.ID == 0 {
		return undecodableMessage(raw, ep)
	}
	out := adapters.Message{
		Key:    messageKey(ep, "c", q.ID),
		Kind:   adapters.Callback,
		Sender: q.From.sender(),
		Action: adapters.Sanitize(q.Data, maxAction),
		Chat:   adapters.Chat{ReplyToken: adapters.Sanitize(q.ID, maxQueryID)},
	}
	if q.Message == nil || q.Message.Chat.ID == 0 || q.Message.BusinessConnectionID != "" || q.Data == "" || q.From.IsBot {
		out.Kind = adapters.Unsupported
		return out
	}
	out.ProviderID = formatInt(q.Message.ID)
	out.Chat = q.Message.toChat()
	out.Chat.ReplyToken = adapters.Sanitize(q.ID, maxQueryID)
	return out
}

// normalize returns a change of the membership of the bot. In a private chat it means that the
// person blocked or unblocked the bot.
func (c *chatMemberUpdated) normalize(id int64, raw []byte, ep adapters.Endpoint) adapters.Message {
	if c.Chat.ID == 0 {
		return undecodableMessage(raw, ep)
	}
	out := adapters.Message{
		Key:    messageKey(ep, "u", id, c.Date),
		Kind:   adapters.Unsupported,
		Sender: c.From.sender(),
		Chat:   adapters.Chat{ID: formatInt(c.Chat.ID), Group: c.Chat.Type != "private"},
		SentAt: unixTime(c.Date),
	}
	if out.Chat.Group {
		return out
	}
	switch c.NewMember.Status {
	case "kicked":
		out.Kind = adapters.Block
	case "member":
		out.Kind = adapters.Unblock
	}
	return out
}

// maxUnixSeconds is the latest time that RFC 3339 can represent.
const maxUnixSeconds = 253402300799

// unixTime returns a time in UTC, or the zero time if it is out of range.
func unixTime(seconds int64) time.Time {
	if seconds <= 0 || seconds > maxUnixSeconds {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}

func formatInt(n int64) string { return strconv.FormatInt(n, 10) }

func fullName(first, last string) string {
	return adapters.Sanitize(strings.TrimSpace(first+" "+last), maxName)
}
