package telegram

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"hydragate/adapters"
)

// Fields of a message that are not content. A field that is in none of the three lists is content,
// whenever Telegram adds it.
var (
	// envelopeFields describe a message: who wrote it, when, where, and in response to what.
	envelopeFields = fieldSet(`
		message_id message_thread_id direct_messages_topic from sender_chat sender_boost_count
		sender_business_bot sender_tag receiver_user ephemeral_message_id date guest_query_id
		guest_bot_caller_user guest_bot_caller_chat business_connection_id chat forward_origin
		forward_date forward_from forward_from_chat forward_from_message_id forward_sender_name
		forward_signature is_topic_message is_automatic_forward reply_to_message external_reply quote
		reply_to_story reply_to_checklist_task_id reply_to_poll_option_id via_bot edit_date
		has_protected_content is_from_offline is_paid_post media_group_id author_signature
		paid_star_count entities caption_entities link_preview_options suggested_post_info effect_id
		show_caption_above_media has_media_spoiler reply_markup`)

	// decodedFields are content that has fields of its own in a message of the gateway.
	decodedFields = fieldSet(`
		text caption rich_message animation audio document photo sticker video video_note voice
		live_photo location venue contact web_app_data`)

	// serviceFields report what happened in a chat. Such messages are not delivered.
	serviceFields = fieldSet(`
		new_chat_members new_chat_member new_chat_participant left_chat_member left_chat_participant
		new_chat_title new_chat_photo delete_chat_photo group_chat_created supergroup_chat_created
		channel_chat_created message_auto_delete_timer_changed migrate_to_chat_id
		migrate_from_chat_id pinned_message boost_added chat_background_set forum_topic_created
		forum_topic_edited forum_topic_closed forum_topic_reopened general_forum_topic_hidden
		general_forum_topic_unhidden video_chat_scheduled video_chat_started video_chat_ended
		video_chat_participants_invited voice_chat_scheduled voice_chat_started voice_chat_ended
		voice_chat_participants_invited chat_owner_left chat_owner_changed community_chat_added
		community_chat_joined community_chat_removed direct_message_price_changed
		paid_message_price_changed`)
)

func fieldSet(names string) map[string]bool {
	set := map[string]bool{}
	for name := range strings.FieldsSeq(names) {
		set[name] = true
	}
	return set
}

type location struct {
	Latitude  float64 `json:"latitude"`
	Longitude float64 `json:"longitude"`
}

func (l location) content() adapters.Content {
	return adapters.Content{Kind: adapters.Location, Latitude: l.Latitude, Longitude: l.Longitude}
}

type venue struct {
	Location location `json:"location"`
	Title    string   `json:"title"`
	Address  string   `json:"address"`
}

func (v venue) content() adapters.Content {
	c := v.Location.content()
	c.Title, c.Address = adapters.Sanitize(v.Title, maxName), adapters.Sanitize(v.Address, maxName)
	return c
}

type contact struct {
	Phone     string `json:"phone_number"`
	FirstName string `json:"first_name"`
	LastName  string `json:"last_name"`
	UserID    int64  `json:"user_id"`
}

type textQuote struct {
	Text     string   `json:"text"`
	Entities []entity `json:"entities"`
}

// A messageContent is what a message says.
type messageContent struct {
	words   string // what was typed, without the addresses of links
	text    string // everything in it that can be read
	media   []adapters.Attachment
	content []adapters.Content
	unknown bool // there is content that could not be decoded completely
}

// contents returns the content of m. It is empty if m is a service message.
func (m *message) contents() messageContent {
	c := messageContent{words: m.Text + m.Caption, media: m.attachments()}
	c.text = expandLinks(m.Text, m.Entities) + expandLinks(m.Caption, m.CaptionEntities)
	r := readable{}
	if c.words == "" && len(m.RichMessage) > 0 {
		c.words = r.read(m.RichMessage)
		c.text = c.words
	}
	c.content = m.decodedContent()
	empty := c.isEmpty() && len(r.media)+len(r.content) == 0
	names := m.otherFields(empty)
	if empty && !isNothing(m.RichMessage) {
		names = append(names, "rich_message")
	}
	for _, name := range names {
		if s := r.read(m.fields[name]); s != "" {
			c.text = strings.TrimSpace(c.text + "\n" + s)
		}
		c.unknown = true
		c.content = append(c.content, adapters.Content{Kind: adapters.Other, Name: adapters.Sanitize(name, maxName)})
	}
	c.media, c.content = append(c.media, r.media...), append(c.content, r.content...)
	return c
}

// isEmpty reports whether a message says nothing.
func (c messageContent) isEmpty() bool { return c.text == "" && len(c.media)+len(c.content) == 0 }

// fileIDs matches the IDs of files that stay the same in all versions of a message.
var fileIDs = regexp.MustCompile(`"file_unique_id"\s*:\s*"[^"]*"`)

// version returns a keyed hash of the content, for adapters.Message.Version.
func (c messageContent) version(raw []byte, ep adapters.Endpoint) string {
	h := hmac.New(sha256.New, []byte(ep.Credentials[adapters.BotToken]))
	if err := json.NewEncoder(h).Encode([]any{c.text, c.content}); err != nil {
		return "" // unknown, so that the edit is delivered
	}
	for _, id := range fileIDs.FindAll(raw, -1) {
		_, _ = h.Write(id)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// isService reports whether m only reports what happened in its chat.
func (m *message) isService() bool {
	for name, value := range m.fields {
		if serviceFields[name] && !isNothing(value) {
			return true
		}
	}
	return false
}

// decodedContent returns the content of m that is not text, a file or an unknown field.
func (m *message) decodedContent() (content []adapters.Content) {
	switch {
	case m.Venue != nil:
		content = append(content, m.Venue.content())
	case m.Location != nil:
		content = append(content, m.Location.content())
	}
	if p := m.Contact; p != nil {
		content = append(content, adapters.Content{
			Kind: adapters.Contact, PhoneNumber: adapters.Sanitize(p.Phone, maxUsername),
			Name: fullName(p.FirstName, p.LastName),
			Own:  p.UserID != 0 && m.From != nil && p.UserID == m.From.ID && m.unprovenReason() == "",
		})
	}
	if m.WebAppData != nil {
		content = append(content, adapters.Content{
			Kind: adapters.Form, Data: adapters.Sanitize(m.WebAppData.Data, adapters.MaxInboundText),
		})
	}
	return content
}

// quotes returns the words of other messages to which m refers, and does not contain itself.
func (m *message) quotes() []adapters.Content {
	if m.Quote == nil && len(m.ExternalReply) == 0 {
		return nil
	}
	q := adapters.Content{Kind: adapters.Quote}
	if m.ReplyTo != nil {
		q.Name = m.ReplyTo.sender().Name
	}
	if len(m.ExternalReply) > 0 {
		var from struct {
			Origin json.RawMessage `json:"origin"`
		}
		_ = json.Unmarshal(m.ExternalReply, &from) // without an origin the quote has no author
		q.Name = originName(from.Origin)
		q.Text = new(readable).external(m.ExternalReply)
	}
	if m.Quote != nil {
		q.Text = expandLinks(m.Quote.Text, m.Quote.Entities)
	}
	q.Text = adapters.Sanitize(q.Text, adapters.MaxInboundText)
	return []adapters.Content{q}
}

// external returns what can be read of the message that an external_reply describes.
func (r *readable) external(raw json.RawMessage) string {
	var fields map[string]json.RawMessage
	if json.Unmarshal(raw, &fields) != nil {
		return ""
	}
	m := message{fields: fields}
	var lines []string
	for _, name := range m.otherFields(false) {
		if name == "origin" {
			continue
		}
		if s := r.read(fields[name]); s != "" {
			lines = append(lines, s)
		}
	}
	return strings.Join(lines, "\n")
}

// originName returns the name of who wrote a message first.
func originName(raw json.RawMessage) string {
	var o struct {
		User   *user  `json:"sender_user"`
		Hidden string `json:"sender_user_name"`
		Sender *chat  `json:"sender_chat"`
		Chat   *chat  `json:"chat"`
	}
	if json.Unmarshal(raw, &o) != nil {
		return ""
	}
	switch {
	case o.User != nil:
		return o.User.sender().Name
	case o.Sender != nil:
		return adapters.Sanitize(o.Sender.Title, maxName)
	case o.Chat != nil:
		return adapters.Sanitize(o.Chat.Title, maxName)
	}
	return adapters.Sanitize(o.Hidden, maxName)
}

// otherFields returns the names of content that is not decoded, in order. Flags, numbers and words
// that Telegram adds to messages are content only if there is no other.
func (m *message) otherFields(empty bool) (names []string) {
	var scalars []string
	for name, value := range m.fields {
		switch {
		case envelopeFields[name] || decodedFields[name] || serviceFields[name] || isNothing(value):
		case value[0] == '{' || value[0] == '[':
			names = append(names, name)
		default:
			scalars = append(scalars, name)
		}
	}
	if empty && len(names) == 0 {
		names = scalars
	}
	slices.Sort(names)
	return names
}

// isNothing reports whether a JSON value has no content.
func isNothing(value json.RawMessage) bool {
	switch string(value) {
	case "", "null", "false", "0", `""`, "[]":
		return true
	}
	return false
}
