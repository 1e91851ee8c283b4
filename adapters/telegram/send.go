package telegram

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/go-telegram/bot"
	"github.com/go-telegram/bot/models"

	"hydragate/adapters"
)

const (
	generalTopicID     = 1 // the first topic of a forum, which must not be named when sending to it
	answerQueryTimeout = 3 * time.Second
)

// Send sends one text as plain text without link previews, and returns the ID of the message. If
// the chat contains the query of a button press, Send answers the query first, which ends the
// progress indicator in the app; a failure of that is ignored.
func (a *Adapter) Send(ctx context.Context, ep adapters.Endpoint, reply adapters.Reply) (string, error) {
	params, err := sendParams(reply)
	if err != nil {
		return "", err
	}
	if query := reply.Chat.ReplyToken; query != "" {
		_ = a.call(ctx, ep, answerQueryTimeout, nil, func(ctx context.Context, b *bot.Bot) error {
			_, err := b.AnswerCallbackQuery(ctx, &bot.AnswerCallbackQueryParams{CallbackQueryID: query})
			return err
		})
	}
	var sent struct {
		ID int64 `json:"message_id"`
	}
	err = a.call(ctx, ep, callTimeout, &sent, func(ctx context.Context, b *bot.Bot) error {
		_, err := b.SendMessage(ctx, params)
		return err
	})
	if err != nil {
		return "", err
	}
	return formatInt(sent.ID), nil
}

func sendParams(reply adapters.Reply) (*bot.SendMessageParams, error) {
	id := reply.Chat.ID
	if id == "" {
		id = reply.To // the ID of a private chat is that of the user
	}
	chat, err := strconv.ParseInt(id, 10, 64)
	if err != nil || formatInt(chat) != id {
		return nil, newSendError(adapters.Refused, "", errors.New("not the ID of a Telegram chat"))
	}
	p := &bot.SendMessageParams{
		ChatID:             chat,
		Text:               reply.Text,
		LinkPreviewOptions: &models.LinkPreviewOptions{IsDisabled: bot.True()},
	}
	thread, err := strconv.Atoi(reply.Chat.Thread)
	if err == nil && (thread != generalTopicID || !reply.Chat.Group) {
		p.MessageThreadID = thread
	}
	if id, err := strconv.Atoi(reply.ReplyTo); err == nil {
		p.ReplyParameters = &models.ReplyParameters{MessageID: id, AllowSendingWithoutReply: true}
	}
	return p, nil
}
