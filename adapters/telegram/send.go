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
	generalTopic  = 1 // a forum's first topic, which has no number when one writes there
	answerTimeout = 3 * time.Second
)

// Send says one text in a chat, as plain text and without link previews. After the
// press of a button it first ends the waiting in the person's app; when that fails,
// the reply is sent all the same.
func (a *Adapter) Send(ctx context.Context, ep adapters.Endpoint, reply adapters.Reply) (string, error) {
	params, err := sendParams(reply)
	if err != nil {
		return "", err
	}
	if query := reply.Place.Answer; query != "" {
		_ = a.call(ctx, ep, answerTimeout, "answerCallbackQuery", &bot.AnswerCallbackQueryParams{CallbackQueryID: query}, nil)
	}
	var sent struct {
		ID int64 `json:"message_id"`
	}
	if err := a.call(ctx, ep, callTimeout, "sendMessage", params, &sent); err != nil {
		return "", err
	}
	return decimal(sent.ID), nil
}

func sendParams(reply adapters.Reply) (*bot.SendMessageParams, error) {
	place := reply.Place.ID
	if place == "" {
		place = reply.To // a private chat has the number of its person
	}
	chat, err := strconv.ParseInt(place, 10, 64)
	if err != nil || decimal(chat) != place {
		return nil, fault(adapters.Refused, "", errors.New("the place is not a Telegram chat"))
	}
	p := &bot.SendMessageParams{ChatID: chat, Text: reply.Text, LinkPreviewOptions: &models.LinkPreviewOptions{IsDisabled: bot.True()}}
	thread, err := strconv.Atoi(reply.Place.Thread)
	if err == nil && (thread != generalTopic || !reply.Place.Group) {
		p.MessageThreadID = thread
	}
	if id, err := strconv.Atoi(reply.ReplyTo); err == nil {
		p.ReplyParameters = &models.ReplyParameters{MessageID: id, AllowSendingWithoutReply: true}
	}
	return p, nil
}
