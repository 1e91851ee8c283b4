package telegram

import (
	"encoding/json"

	"hydragate/adapters"
)

// The types below decode only what the gateway needs of an update. Fields to which Telegram adds
// new values over time are kept as raw JSON or ignored, so that an unknown value does not make a
// message undecodable.

type update struct {
	ID                    int64              `json:"update_id"`
	Message               *message           `json:"message"`
	EditedMessage         *message           `json:"edited_message"`
	ChannelPost           *message           `json:"channel_post"`
	EditedChannelPost     *message           `json:"edited_channel_post"`
	BusinessMessage       *message           `json:"business_message"`
	EditedBusinessMessage *message           `json:"edited_business_message"`
	CallbackQuery         *callbackQuery     `json:"callback_query"`
	MyChatMember          *chatMemberUpdated `json:"my_chat_member"`
}

type user struct {
	ID        int64  `json:"id"`
	IsBot     bool   `json:"is_bot"`
	FirstName string `json:"first_name"`
	LastName  string `json:"last_name"`
	Username  string `json:"username"`
	Language  string `json:"language_code"`
}

type chat struct {
	ID    int64  `json:"id"`
	Type  string `json:"type"`
	Title string `json:"title"`
}

type message struct {
	ID                 int64 `json:"message_id"`
	From               *user `json:"from"`
	Chat               chat  `json:"chat"`
	Date               int64 `json:"date"`
	EditDate           int64 `json:"edit_date"`
	ThreadID           int64 `json:"message_thread_id"`
	IsTopicMessage     bool  `json:"is_topic_message"`
	IsAutomaticForward bool  `json:"is_automatic_forward"`
	IsFromOffline      bool  `json:"is_from_offline"`

	SenderChat           *chat           `json:"sender_chat"`
	ViaBot               *user           `json:"via_bot"`
	SenderBusinessBot    *user           `json:"sender_business_bot"`
	BusinessConnectionID string          `json:"business_connection_id"`
	ForwardOrigin        json.RawMessage `json:"forward_origin"`
	ForwardDate          int64           `json:"forward_date"` // servers before Bot API 7.0
	ReplyTo              *repliedMessage `json:"reply_to_message"`
	ExternalReply        json.RawMessage `json:"external_reply"`
	Quote                *textQuote      `json:"quote"`
	MediaGroupID         string          `json:"media_group_id"`
	MigrateTo            int64           `json:"migrate_to_chat_id"`
	MigrateFrom          int64           `json:"migrate_from_chat_id"`

	Text            string          `json:"text"`
	Entities        []entity        `json:"entities"`
	Caption         string          `json:"caption"`
	CaptionEntities []entity        `json:"caption_entities"`
	RichMessage     json.RawMessage `json:"rich_message"`
	Location        *location       `json:"location"`
	Venue           *venue          `json:"venue"`
	Contact         *contact        `json:"contact"`
	WebAppData      *struct {
		Data string `json:"data"`
	} `json:"web_app_data"`
	media

	fields map[string]json.RawMessage // all, by their names
}

// UnmarshalJSON implements json.Unmarshaler. It keeps the fields that the type does not have.
func (m *message) UnmarshalJSON(data []byte) error {
	type plain message
	if err := json.Unmarshal(data, (*plain)(m)); err != nil {
		return err
	}
	return json.Unmarshal(data, &m.fields)
}

// A repliedMessage is the message to which another replies.
type repliedMessage struct {
	ID         int64 `json:"message_id"`
	From       *user `json:"from"`
	SenderChat *chat `json:"sender_chat"`
}

func (m repliedMessage) sender() adapters.Sender {
	return (&message{From: m.From, SenderChat: m.SenderChat}).sender()
}

type callbackQuery struct {
	ID      string   `json:"id"`
	From    *user    `json:"from"`
	Message *message `json:"message"`
	Data    string   `json:"data"`
}

type chatMemberUpdated struct {
	Chat      chat       `json:"chat"`
	From      *user      `json:"from"`
	Date      int64      `json:"date"`
	NewMember chatMember `json:"new_chat_member"`
}

type chatMember struct {
	Status string `json:"status"`
}

// move returns the change of the ID of its chat that a service message reports, or nil. A group that becomes a
// supergroup reports it twice: in the chat with its previous ID, and in the one with the new ID.
func (m *message) move() *adapters.ChatMove {
	switch {
	case m.MigrateTo != 0:
		return &adapters.ChatMove{From: formatInt(m.Chat.ID), To: formatInt(m.MigrateTo)}
	case m.MigrateFrom != 0:
		return &adapters.ChatMove{From: formatInt(m.MigrateFrom), To: formatInt(m.Chat.ID)}
	}
	return nil
}

// isForwarded reports whether someone else may have written the message.
func (m *message) isForwarded() bool {
	return m.ForwardDate != 0 || len(m.ForwardOrigin) > 0 && string(m.ForwardOrigin) != "null"
}
