package slack

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	api "github.com/slack-go/slack"

	"hydragate/adapters"
)

// Replies contain their ID in the metadata of the message, so that a reply whose outcome is
// unknown can be looked up.
const (
	metadataType = "hydragate_reply"
	metadataID   = "id"

	lookupWindow = 24 * time.Hour
	lookupLimit  = 200
)

// Send posts a reply as plain text: nothing in it mentions, formats or unfurls. The reply to a
// slash command goes to its response URL while Slack accepts it there, and is visible only to that
// person; afterwards it goes to the direct conversation. A reply that may already have been posted
// is looked up first, if the token permits.
func (a *Adapter) Send(ctx context.Context, ep adapters.Endpoint, reply adapters.Reply) (string, error) {
	tokens := ep.Current(adapters.BotToken)
	if len(tokens) == 0 {
		return "", &adapters.SendError{Reason: adapters.BadSecret, Code: "no_token", Err: errors.New("no bot token")}
	}
	if a.isResponseURL(reply.Chat.ReplyToken) {
		taken, err := a.postToResponseURL(ctx, reply)
		if err != nil {
			return "", err
		}
		if taken {
			return "ephemeral:" + reply.ID, nil
		}
	}
	if isOtherTeam(ep, reply) {
		return "", &adapters.SendError{
			Reason: adapters.Refused,
			Code:   "other_team",
			Err:    errors.New("recipient belongs to another workspace"),
		}
	}
	if reply.MaybeSent {
		ts, err := a.findSent(ctx, tokens[0], reply)
		if err != nil {
			return "", err
		}
		if ts != "" {
			return ts, nil
		}
	}
	return a.postMessage(ctx, tokens[0], reply)
}

func (a *Adapter) postMessage(ctx context.Context, token string, reply adapters.Reply) (string, error) {
	c := a.newCall()
	options := []api.MsgOption{
		api.MsgOptionText(reply.Text, true),
		api.MsgOptionDisableMarkdown(),
		api.MsgOptionDisableLinkUnfurl(),
		api.MsgOptionDisableMediaUnfurl(),
		api.MsgOptionMetadata(api.SlackMetadata{EventType: metadataType, EventPayload: map[string]any{metadataID: reply.ID}}),
	}
	if reply.Chat.Thread != "" {
		options = append(options, api.MsgOptionTS(reply.Chat.Thread))
	}
	_, ts, err := c.apiClient(a, token).PostMessageContext(ctx, conversationID(reply), options...)
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

// conversationID returns the conversation for a reply: the channel, or the user ID of a person who
// has not written yet.
func conversationID(reply adapters.Reply) string {
	if reply.Chat.ID != "" {
		return reply.Chat.ID
	}
	_, user, _ := strings.Cut(reply.To, ":")
	return user
}

// isOtherTeam reports whether a reply would open a direct conversation with a person of another
// workspace. Their user ID may belong to someone else in this one.
func isOtherTeam(ep adapters.Endpoint, reply adapters.Reply) bool {
	team, _, named := strings.Cut(reply.To, ":")
	return named && isUserID(conversationID(reply)) && strings.HasPrefix(ep.Address, "T") && team != ep.Address
}

// findSent returns the timestamp of the message that contains the reply's ID. It is empty if there
// is none, or if the token does not permit the lookup. If Slack does not respond, the outcome of
// the reply stays unknown.
func (a *Adapter) findSent(ctx context.Context, token string, reply adapters.Reply) (string, error) {
	c := a.newCall()
	messages, err := a.recentMessages(ctx, c.apiClient(a, token), reply)
	if err != nil {
		sorted := c.sendError(err)
		if !sorted.Retryable() || sorted.Code == "not_json" {
			return "", nil
		}
		sorted.Reason = adapters.Ambiguous
		return "", sorted
	}
	for _, m := range messages {
		if m.Metadata.EventType == metadataType && m.Metadata.EventPayload[metadataID] == reply.ID {
			return m.Timestamp, nil
		}
	}
	return "", nil
}

func (a *Adapter) recentMessages(ctx context.Context, client *api.Client, reply adapters.Reply) ([]api.Message, error) {
	channel := conversationID(reply)
	if isUserID(channel) {
		direct, _, _, err := client.OpenConversationContext(ctx, &api.OpenConversationParameters{Users: []string{channel}})
		if err != nil {
			return nil, err
		}
		if direct == nil {
			return nil, nil
		}
		channel = direct.ID
	}
	oldest := strconv.FormatInt(a.now().Add(-lookupWindow).Unix(), 10)
	if reply.Chat.Thread != "" {
		messages, _, _, err := client.GetConversationRepliesContext(ctx, &api.GetConversationRepliesParameters{
			ChannelID: channel, Timestamp: reply.Chat.Thread, Oldest: oldest, Limit: lookupLimit, IncludeAllMetadata: true,
		})
		return messages, err
	}
	history, err := client.GetConversationHistoryContext(ctx, &api.GetConversationHistoryParameters{
		ChannelID: channel, Oldest: oldest, Limit: lookupLimit, IncludeAllMetadata: true,
	})
	if err != nil {
		return nil, err
	}
	return history.Messages, nil
}
