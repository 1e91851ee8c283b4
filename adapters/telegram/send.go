package telegram

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/go-telegram/bot"
	"github.com/go-telegram/bot/models"

	"hydragate/adapters"
)

const (
	generalTopicID     = 1 // the first topic of a forum, which must not be named when sending to it
	answerQueryTimeout = 3 * time.Second
)

// Acknowledge answers the query of a button press, which ends the progress indicator in the app.
func (a *Adapter) Acknowledge(ctx context.Context, ep adapters.Endpoint, m adapters.Message) error {
	query := m.Chat.ReplyToken
	if query == "" {
		return nil
	}
	return a.call(ctx, ep, answerQueryTimeout, nil, func(ctx context.Context, b *bot.Bot) error {
		_, err := b.AnswerCallbackQuery(ctx, &bot.AnswerCallbackQueryParams{CallbackQueryID: query})
		return err
	})
}

// Send sends one text as plain text without link previews, and returns the ID of the message. If the
// topic was closed or deleted, the text is sent to the chat without it.
func (a *Adapter) Send(ctx context.Context, ep adapters.Endpoint, reply adapters.Reply) (string, error) {
	params, err := sendParams(reply)
	if err != nil {
		return "", err
	}
	id, err := a.sendMessage(ctx, ep, params)
	if params.MessageThreadID != 0 && isThreadRefusal(err) {
		params.MessageThreadID = 0
		id, err = a.sendMessage(ctx, ep, params)
	}
	return id, err
}

func (a *Adapter) sendMessage(
	ctx context.Context,
	ep adapters.Endpoint,
	params *bot.SendMessageParams,
) (string, error) {
	var sent struct {
		ID int64 `json:"message_id"`
	}
	err := a.call(ctx, ep, callTimeout, &sent, func(ctx context.Context, b *bot.Bot) error {
		_, err := b.SendMessage(ctx, params)
		return err
	})
	if err != nil {
		return "", err
	}
	return formatInt(sent.ID), nil
}

// isThreadRefusal reports whether Telegram refused a message because of its topic.
func isThreadRefusal(err error) bool {
	var refusal *apiError
	if !errors.As(err, &refusal) {
		return false
	}
	for _, reason := range [...]string{"message thread not found", "TOPIC_CLOSED", "TOPIC_DELETED", "TOPIC_ID_INVALID"} {
		if strings.Contains(refusal.description, reason) {
			return true
		}
	}
	return false
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
