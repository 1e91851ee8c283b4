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
	generalTopicID     = 1 // a forum's first topic, which has no number when one writes there
	answerQueryTimeout = 3 * time.Second
)

// Send says one text in a chat, as plain text and without link previews. After the
// press of a button it first ends the waiting in the person's app; when that fails,
// the reply is sent all the same.
func (a *Adapter) Send(ctx context.Context, ep adapters.Endpoint, reply adapters.Reply) (string, error) {
	params, err := sendParams(reply)
	if err != nil {
		return "", err
	}
	if query := reply.Chat.ReplyToken; query != "" {
		_ = a.call(ctx, ep, answerQueryTimeout, "answerCallbackQuery", &bot.AnswerCallbackQueryParams{CallbackQueryID: query}, nil)
	}
	var sent struct {
		ID int64 `json:"message_id"`
	}
	if err := a.call(ctx, ep, callTimeout, "sendMessage", params, &sent); err != nil {
		return "", err
	}
	return formatInt(sent.ID), nil
}

func sendParams(reply adapters.Reply) (*bot.SendMessageParams, error) {
	place := reply.Chat.ID
	if place == "" {
		place = reply.To // a private chat has the number of its person
	}
	chat, err := strconv.ParseInt(place, 10, 64)
	if err != nil || formatInt(chat) != place {
		return nil, newSendError(adapters.Refused, "", errors.New("the place is not a Telegram chat"))
	}
	p := &bot.SendMessageParams{ChatID: chat, Text: reply.Text, LinkPreviewOptions: &models.LinkPreviewOptions{IsDisabled: bot.True()}}
	thread, err := strconv.Atoi(reply.Chat.Thread)
	if err == nil && (thread != generalTopicID || !reply.Chat.Group) {
		p.MessageThreadID = thread
	}
	if id, err := strconv.Atoi(reply.ReplyTo); err == nil {
		p.ReplyParameters = &models.ReplyParameters{MessageID: id, AllowSendingWithoutReply: true}
	}
	return p, nil
}
