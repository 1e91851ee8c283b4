package slack

import (
	"context"
	"errors"
	"strings"

	api "github.com/slack-go/slack"

	"hydragate/adapters"
)

// A target is where a message is posted.
type target struct{ channel, thread string }

// A post sends one reply.
type post struct {
	adapter     *Adapter
	token       string
	ep          adapters.Endpoint
	reply       adapters.Reply
	responseURL bool // the reply has a response URL, which was not used yet
}

// send posts text, with id in its metadata, and returns the timestamp of the message. If Slack does
// not accept it at to, send tries the other ways in which it can be delivered.
func (p post) send(ctx context.Context, id, text string, to target) (ts string, err error) {
	ts, first := p.once(ctx, id, text, to)
	switch {
	case first == nil:
		return ts, nil
	case to.thread != "" && isThreadError(first.Code):
		return p.send(ctx, id, text, target{channel: to.channel})
	case isChannelError(first.Code):
		return p.sendElsewhere(ctx, id, text, to, first)
	}
	return "", first
}

// once posts text, unless it is already there.
func (p post) once(ctx context.Context, id, text string, to target) (string, *adapters.SendError) {
	if p.reply.MaybeSent {
		ts, err := p.adapter.findSent(ctx, p.token, id, to)
		if err != nil {
			return "", err
		}
		if ts != "" {
			return ts, nil
		}
	}
	c := p.adapter.newCall()
	options := []api.MsgOption{
		api.MsgOptionText(text, true),
		api.MsgOptionDisableMarkdown(),
		api.MsgOptionDisableLinkUnfurl(),
		api.MsgOptionDisableMediaUnfurl(),
		api.MsgOptionMetadata(api.SlackMetadata{EventType: metadataType, EventPayload: map[string]any{metadataID: id}}),
	}
	if to.thread != "" {
		options = append(options, api.MsgOptionTS(to.thread))
	}
	_, ts, err := c.apiClient(p.adapter, p.token).PostMessageContext(ctx, to.channel, options...)
	if err != nil {
		return "", c.sendError(err)
	}
	if ts == "" {
		return "", &adapters.SendError{
			Reason: adapters.Unreachable,
			Code:   "no_ts",
			Err:    errors.New("response without a timestamp"),
		}
	}
	return ts, nil
}

// sendElsewhere posts text where the app may if it may not post at to, as refused reports: to the
// response URL, or to the person. What was written in a channel is answered to the person only if
// there is a response URL.
func (p post) sendElsewhere(
	ctx context.Context, id, text string, to target, refused *adapters.SendError,
) (string, error) {
	if p.responseURL {
		reply := p.reply
		reply.Text = text
		taken, err := p.adapter.postToResponseURL(ctx, reply)
		if err != nil {
			return "", err
		}
		if taken {
			return "ephemeral:" + id, nil
		}
	}
	_, user, known := strings.Cut(p.reply.To, ":")
	if !known || user == to.channel || p.reply.Chat.Group && p.reply.Chat.ReplyToken == "" {
		return "", refused
	}
	direct := p.reply
	direct.Chat = adapters.Chat{}
	if p.adapter.checkRecipient(ctx, p.ep, p.token, direct) != nil {
		return "", refused
	}
	ts, err := p.once(ctx, id, text, target{channel: user})
	switch {
	case err == nil:
		return ts, nil
	case err.Retryable() || err.Reason == adapters.TooLong:
		return "", err
	}
	return "", refused
}

// isThreadError reports whether Slack refused a message because of its thread, and may accept it
// without.
func isThreadError(code string) bool {
	switch code {
	case "thread_not_found", "cannot_reply_to_message", "message_not_found", "invalid_thread_ts",
		"restricted_action_non_threadable_channel", "restricted_action_thread_locked":
		return true
	}
	return false
}

// isChannelError reports whether Slack refused a message because the app cannot post in the channel.
func isChannelError(code string) bool {
	switch code {
	case "channel_not_found", "not_in_channel", "is_archived", "method_not_supported_for_channel_type":
		return true
	}
	return strings.HasPrefix(code, "restricted_action")
}
