package telegram

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"hydragate/adapters"
)

const (
	maxName     = 256
	maxUsername = 64
	maxLocale   = 35   // RFC 5646, §4.4.1
	maxAction   = 1024 // callback data has 64 bytes at most
	maxAnswer   = 256
)

// read turns the bytes of one update into a message. It cannot fail: what it does
// not understand is kept whole.
func read(raw []byte, ep adapters.Endpoint) adapters.Message {
	var u update
	if err := json.Unmarshal(raw, &u); err != nil || u.ID == 0 {
		return undecodable(raw, ep)
	}
	switch {
	case u.Message != nil:
		return u.Message.normalise(adapters.Text, raw, ep)
	case u.Edited != nil:
		return u.Edited.normalise(adapters.Edit, raw, ep)
	case u.ChannelPost != nil:
		return u.ChannelPost.unserved("channel", raw, ep)
	case u.EditedChannelPost != nil:
		return u.EditedChannelPost.unserved("channel", raw, ep)
	case u.Business != nil:
		return u.Business.unserved("business", raw, ep)
	case u.EditedBusiness != nil:
		return u.EditedBusiness.unserved("business", raw, ep)
	case u.Query != nil:
		return u.Query.normalise(raw, ep)
	case u.Member != nil:
		return u.Member.normalise(u.ID, raw, ep)
	}
	return adapters.Message{Key: key(ep, "u", u.ID, digest(raw)), Kind: adapters.Unsupported}
}

// key names one delivery of an endpoint. Update ids are drawn anew after a quiet
// week, so a key never rests on one alone.
func key(ep adapters.Endpoint, parts ...any) string {
	k := ep.Address
	for _, p := range parts {
		k += ":" + fmt.Sprint(p)
	}
	return adapters.Clean(k, maxRef)
}

func digest(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:8])
}

// undecodable keeps an update that cannot be read.
func undecodable(raw []byte, ep adapters.Endpoint) adapters.Message {
	return adapters.Message{Key: key(ep, "x", updateID(raw), digest(raw)), Kind: adapters.Undecodable, Raw: raw}
}

// normalise reads a message; kind is Text or Edit.
func (m *message) normalise(kind adapters.Kind, raw []byte, ep adapters.Endpoint) adapters.Message {
	if m.ID == 0 || m.Chat.ID == 0 {
		return undecodable(raw, ep)
	}
	if m.BusinessConnection != "" {
		return m.unserved("business", raw, ep)
	}
	out := m.envelope(ep)
	out.Text = adapters.Clean(m.Text+m.Caption, adapters.MaxInboundText)
	out.Media = m.attachments()
	out.Unproven = m.unproven()
	out.Kind = kind
	switch {
	case kind == adapters.Edit:
		out.Key = key(ep, "m", m.Chat.ID, m.ID, m.EditDate)
		out.SentAt = sentAt(cmp.Or(m.EditDate, m.Date))
		out.Unproven = cmp.Or(out.Unproven, "edited")
	case len(out.Media) > 0:
		out.Kind = adapters.Media
	}
	if out.Text == "" && len(out.Media) == 0 || out.Unproven == "bot" || m.Automatic {
		out.Kind = adapters.Unsupported
		return out
	}
	if c, ok := adapters.ParseCommand(out.Text, ep.Settings[adapters.BotUsername]); ok {
		out.Command = &c
	}
	return out
}

// unserved reads a message from where the bot does not answer, for the reason why.
// Its place cannot be mistaken for a private chat with the bot, whose number a
// business chat may share.
func (m *message) unserved(why string, raw []byte, ep adapters.Endpoint) adapters.Message {
	if m.ID == 0 || m.Chat.ID == 0 {
		return undecodable(raw, ep)
	}
	out := m.envelope(ep)
	out.Kind, out.Unproven = adapters.Unsupported, why
	out.Key = key(ep, "b", m.BusinessConnection, m.Chat.ID, m.ID, m.EditDate)
	out.Place = adapters.Place{ID: adapters.Clean(why+":"+m.BusinessConnection+":"+decimal(m.Chat.ID), maxRef), Group: true}
	return out
}

// envelope reads what all messages have: ids, sender and place.
func (m *message) envelope(ep adapters.Endpoint) adapters.Message {
	return adapters.Message{
		Key:        key(ep, "m", m.Chat.ID, m.ID),
		ProviderID: decimal(m.ID),
		Sender:     m.sender(),
		Place:      m.place(),
		ReplyTo:    m.replyTo(),
		SentAt:     sentAt(m.Date),
	}
}

// sender names the person, unless the message speaks for a chat: then its "from" is
// an account that all such messages share.
func (m *message) sender() adapters.Sender {
	if m.SenderChat != nil {
		return adapters.Sender{Name: adapters.Clean(m.SenderChat.Title, maxName)}
	}
	return m.From.sender()
}

func (u *user) sender() adapters.Sender {
	if u == nil || u.ID == 0 {
		return adapters.Sender{}
	}
	return adapters.Sender{
		ID:       decimal(u.ID),
		Name:     fullName(u.FirstName, u.LastName),
		Username: adapters.Clean(u.Username, maxUsername),
		Locale:   adapters.Clean(u.Language, maxLocale),
	}
}

// place takes every chat but a private one for a group, also those of a type that
// Telegram has yet to invent.
func (m *message) place() adapters.Place {
	p := adapters.Place{ID: decimal(m.Chat.ID), Group: m.Chat.Type != "private"}
	if m.InTopic && m.ThreadID != 0 {
		p.Thread = decimal(m.ThreadID)
	}
	return p
}

// replyTo leaves out what every message of a topic answers: the one that opened it.
func (m *message) replyTo() string {
	if m.ReplyTo == nil || m.ReplyTo.ID == 0 || m.InTopic && m.ReplyTo.ID == m.ThreadID {
		return ""
	}
	return decimal(m.ReplyTo.ID)
}

// unproven says what makes it doubtful that the sender wrote the message, here and
// now.
func (m *message) unproven() string {
	switch {
	case m.Automatic:
		return "channel"
	case m.SenderChat != nil || m.From == nil || m.From.ID == 0:
		return "anonymous"
	case m.From.IsBot:
		return "bot"
	case m.forwarded():
		return "forwarded"
	case m.ViaBot != nil:
		return "via_bot"
	case m.Offline:
		return "scheduled"
	case m.Caption != "":
		return "caption"
	}
	return ""
}

// normalise reads the press of a button. Place.Answer holds the id that ends the
// waiting in the person's app.
func (q *query) normalise(raw []byte, ep adapters.Endpoint) adapters.Message {
	if q.ID == "" || q.From == nil || q.From.ID == 0 {
		return undecodable(raw, ep)
	}
	out := adapters.Message{
		Key:    key(ep, "c", q.ID),
		Kind:   adapters.Callback,
		Sender: q.From.sender(),
		Action: adapters.Clean(q.Data, maxAction),
	}
	if q.Message == nil || q.Message.Chat.ID == 0 || q.Message.BusinessConnection != "" || q.Data == "" || q.From.IsBot {
		out.Kind = adapters.Unsupported
		return out
	}
	out.ProviderID = decimal(q.Message.ID)
	out.Place = q.Message.place()
	out.Place.Answer = adapters.Clean(q.ID, maxAnswer)
	return out
}

// normalise reads a change of the bot's own membership: in a private chat, that
// the person blocked the bot or let it in again.
func (c *memberChange) normalise(id int64, raw []byte, ep adapters.Endpoint) adapters.Message {
	if c.Chat.ID == 0 {
		return undecodable(raw, ep)
	}
	out := adapters.Message{
		Key:    key(ep, "u", id, c.Date),
		Kind:   adapters.Unsupported,
		Sender: c.From.sender(),
		Place:  adapters.Place{ID: decimal(c.Chat.ID), Group: c.Chat.Type != "private"},
		SentAt: sentAt(c.Date),
	}
	if out.Place.Group {
		return out
	}
	switch c.New.Status {
	case "kicked":
		out.Kind = adapters.Block
	case "member":
		out.Kind = adapters.Unblock
	}
	return out
}

// lastSecond is the last that RFC 3339 can write.
const lastSecond = 253402300799

// sentAt is zero for a time nobody can write down.
func sentAt(seconds int64) time.Time {
	if seconds <= 0 || seconds > lastSecond {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

func fullName(first, last string) string {
	return adapters.Clean(strings.TrimSpace(first+" "+last), maxName)
}
