package slack

import (
	"cmp"
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

// Send posts a reply as plain text: nothing in it mentions, formats or unfurls.
//
// The reply to a slash command, and to an interaction of a person of another workspace, goes to its
// response URL while Slack accepts it there, and is visible only to that person. Any other goes to the
// chat; if Slack does not let the app post there, to the response URL, if there is one, and then to the
// direct conversation. A reply in a thread that is gone is posted without it. A reply that may already
// have been posted is looked up first, if the token permits.
func (a *Adapter) Send(ctx context.Context, ep adapters.Endpoint, reply adapters.Reply) (string, error) {
	tokens := ep.Current(adapters.BotToken)
	if len(tokens) == 0 {
		return "", &adapters.SendError{Reason: adapters.BadSecret, Code: "no_token", Err: errors.New("no bot token")}
	}
	p := post{
		adapter: a, token: tokens[0], ep: ep, reply: reply,
		responseURL: a.isResponseURL(reply.Chat.ReplyToken),
	}
	if p.responseURL && answersPrivately(ep, reply) {
		p.responseURL = false
		taken, err := a.postToResponseURL(ctx, reply)
		if err != nil {
			return "", err
		}
		if taken {
			return "ephemeral:" + reply.ID, nil
		}
	}
	if err := a.checkRecipient(ctx, ep, tokens[0], reply); err != nil {
		return "", err
	}
	ts, err := p.send(ctx, reply.ID, reply.Text, target{conversationID(reply), reply.Chat.Thread})
	if err != nil {
		return "", err
	}
	return ts, nil
}

// answersPrivately reports whether a reply goes to the response URL before anywhere else: if only the
// person sees what it replies to, or if they belong to another workspace, whose people the app cannot
// reach elsewhere.
func answersPrivately(ep adapters.Endpoint, reply adapters.Reply) bool {
	team, _, _ := strings.Cut(reply.To, ":")
	return !reply.Chat.Group && reply.Chat.Address == "" || team != ep.Address
}

// conversationID returns the conversation for a reply: the channel, or the user ID of a person with
// whom the app has no conversation yet.
func conversationID(reply adapters.Reply) string {
	id := cmp.Or(reply.Chat.Address, reply.Chat.ID, reply.To)
	if _, user, ok := strings.Cut(id, ":"); ok {
		return user
	}
	return id
}

// checkRecipient returns an error if a reply would open a direct conversation with a person of another
// workspace than that of the reply. A user ID may belong to someone else in this one.
func (a *Adapter) checkRecipient(ctx context.Context, ep adapters.Endpoint, token string, reply adapters.Reply) error {
	user := conversationID(reply)
	if !isOtherTeam(ep, reply) || !isUserID(user) {
		return nil
	}
	team, _, _ := strings.Cut(reply.To, ":")
	c := a.newCall()
	found, err := c.apiClient(a, token).GetUserInfoContext(ctx, user)
	if err != nil {
		if e := c.sendError(err); e.Retryable() {
			e.Reason = adapters.Unreachable // nothing was posted
			return e
		}
	} else if found.TeamID == team {
		return nil
	}
	return &adapters.SendError{
		Reason: adapters.Refused,
		Code:   "other_team",
		Err:    errors.New("recipient belongs to another workspace"),
	}
}

// isOtherTeam reports whether the recipient of a reply belongs to another workspace.
func isOtherTeam(ep adapters.Endpoint, reply adapters.Reply) bool {
	team, _, named := strings.Cut(reply.To, ":")
	return named && strings.HasPrefix(ep.Address, "T") && team != ep.Address
}

// findSent returns the timestamp of the message that contains the reply's ID. It is empty if there
// is none, or if the token does not permit the lookup. If Slack does not respond, the outcome of
// the reply stays unknown.
func (a *Adapter) findSent(ctx context.Context, token, id string, to target) (string, *adapters.SendError) {
	c := a.newCall()
	messages, err := a.recentMessages(ctx, c.apiClient(a, token), to)
	if err != nil {
		sorted := c.sendError(err)
		if !sorted.Retryable() || sorted.Code == "not_json" {
			return "", nil
		}
		sorted.Reason = adapters.Ambiguous
		return "", sorted
	}
	for _, m := range messages {
		if m.Metadata.EventType == metadataType && m.Metadata.EventPayload[metadataID] == id {
			return m.Timestamp, nil
		}
	}
	return "", nil
}

func (a *Adapter) recentMessages(ctx context.Context, client *api.Client, to target) ([]api.Message, error) {
	channel := to.channel
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
	if to.thread != "" {
		messages, _, _, err := client.GetConversationRepliesContext(ctx, &api.GetConversationRepliesParameters{
			ChannelID: channel, Timestamp: to.thread, Oldest: oldest, Limit: lookupLimit, IncludeAllMetadata: true,
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
