package simulator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"strings"
	"sync"
)

// ErrSlackCommand means that a text begins with "/", which makes it a slash command in Slack.
var ErrSlackCommand = errors.New("simulator: a text that begins with / is a command in Slack")

// A SlackOption changes the event of a message.
type SlackOption func(event slackFields)

// SlackShared makes a message forward a text of another person. The text of the message itself is the
// comment of its sender.
func SlackShared(author, text string) SlackOption {
	return func(event slackFields) {
		event["attachments"] = []slackFields{{
			"id": 1, "is_share": true, "is_msg_unfurl": true, "author_id": author, "text": escapeSlackText(text),
			"channel_id": "C0ELSEWHERE", "fallback": "[no preview]", "mrkdwn_in": []string{"text"},
		}}
	}
}

// SlackViaApp makes an app post a message with the token of its sender. Slack marks it like a post of
// the app's bot, and it has no client_msg_id.
func SlackViaApp(appID string) SlackOption {
	return func(event slackFields) {
		delete(event, "client_msg_id")
		event["app_id"], event["bot_id"] = appID, "B"+appID[1:]
		event["bot_profile"] = slackFields{"id": event["bot_id"], "app_id": appID, "name": "Relay", "deleted": false}
	}
}

// SlackTeam makes an event name another workspace as that of its sender.
func SlackTeam(team string) SlackOption {
	return func(event slackFields) { event["user_team"], event["source_team"] = team, team }
}

// SendText sends a text to the app in the direct conversation and delivers its event, with retries.
// It returns ErrSlackCommand if the text begins with "/".
func (s *Slack) SendText(
	ctx context.Context, appID string, u SlackUser, text string, options ...SlackOption,
) (SlackDelivery, error) {
	app, err := s.findApp(appID)
	if err != nil {
		return SlackDelivery{}, err
	}
	if strings.HasPrefix(text, "/") {
		return SlackDelivery{}, ErrSlackCommand
	}
	event := s.addMessage(u, s.DM(appID, u), escapeSlackText(text))
	event["channel_type"] = "im"
	for _, option := range options {
		option(event)
	}
	return s.deliverEvent(ctx, app, u, event), nil
}

// SendMention sends a text that mentions the app in a channel. As on Slack, the app receives two
// events concurrently, "message" and "app_mention".
func (s *Slack) SendMention(
	ctx context.Context, appID string, u SlackUser, channel, text string,
) (message, mention SlackDelivery, err error) {
	app, err := s.findApp(appID)
	if err != nil {
		return SlackDelivery{}, SlackDelivery{}, err
	}
	s.addMember(u, channel)
	messageEvent := s.addMessage(u, channel, "<@"+app.BotUserID+"> "+escapeSlackText(text))
	mentionEvent := maps.Clone(messageEvent)
	messageEvent["channel_type"] = "channel"
	mentionEvent["type"] = "app_mention"
	var wg sync.WaitGroup
	wg.Go(func() { mention = s.deliverEvent(ctx, app, u, mentionEvent) })
	message = s.deliverEvent(ctx, app, u, messageEvent)
	wg.Wait()
	return message, mention, nil
}

// SendEvent delivers an inner event unchanged, as an event of the app's workspace.
func (s *Slack) SendEvent(ctx context.Context, appID string, inner json.RawMessage) (SlackDelivery, error) {
	app, err := s.findApp(appID)
	if err != nil {
		return SlackDelivery{}, err
	}
	return s.deliverEvent(ctx, app, SlackUser{Team: app.TeamID}, inner), nil
}

// A SlackResponse is the immediate response of an app to a slash command. Only the sender sees it
// unless ResponseType is "in_channel".
type SlackResponse struct {
	Status       int
	ResponseType string
	Text         string
}

// SendCommand sends a slash command, such as "/claim", with a text. If channel is empty, it is sent in
// the direct conversation. It returns the immediate response of the app; later responses to the
// response URL are lines in the transcript. Slack retries slash commands only over Socket Mode.
func (s *Slack) SendCommand(
	ctx context.Context, appID string, u SlackUser, channel, command, text string,
) (SlackResponse, error) {
	app, err := s.findApp(appID)
	if err != nil {
		return SlackResponse{}, err
	}
	form := s.commandForm(app, u, channel, command, text)
	status, body, err := s.deliverCommand(ctx, app, form)
	if err != nil {
		return SlackResponse{}, fmt.Errorf("slash command: %w", err)
	}
	response := SlackResponse{Status: status, ResponseType: "ephemeral", Text: string(body)}
	var doc struct {
		ResponseType string `json:"response_type"`
		Text         string `json:"text"`
	}
	if json.Unmarshal(body, &doc) == nil {
		response.Text = renderSlackText(doc.Text)
		if doc.ResponseType != "" {
			response.ResponseType = doc.ResponseType
		}
	}
	return response, nil
}

// deliverCommand delivers a slash command and returns the response of the app.
func (s *Slack) deliverCommand(
	ctx context.Context, app SlackApp, form url.Values,
) (status int, response []byte, err error) {
	if app.AppToken == "" {
		return s.post(ctx, app, app.CommandsURL, slackForm, []byte(form.Encode()), nil)
	}
	fields := slackFields{}
	for k := range form {
		fields[k] = form.Get(k)
	}
	payload, err := json.Marshal(fields)
	if err != nil {
		return 0, nil, fmt.Errorf("encode command: %w", err)
	}
	d, response := s.deliverPayload(ctx, app, SlackCommands, payload)
	if !d.Accepted() {
		return 0, nil, fmt.Errorf("the app did not respond: %+v", d.Attempts)
	}
	return 200, response, nil
}

func (s *Slack) commandForm(app SlackApp, u SlackUser, channel, command, text string) url.Values {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := "general"
	direct := s.openDirect(app.AppID, u)
	if channel == "" || channel == direct {
		channel, name = direct, "directmessage"
	}
	line := strings.TrimSpace(command + " " + text)
	s.Add(Line{ID: s.nextTimestamp(), Chat: u.Chat(), Sender: u.Chat(), Text: line, Private: true})
	return url.Values{
		"token": {"deprecated"}, "team_id": {u.Team}, "team_domain": {"example"},
		"channel_id": {channel}, "channel_name": {name},
		"user_id": {u.ID}, "user_name": {strings.ToLower(u.Name)},
		"command": {command}, "text": {escapeSlackText(text)},
		"api_app_id": {app.AppID}, "is_enterprise_install": {"false"},
		"response_url": {s.newResponseURL(u, channel)}, "trigger_id": {s.nextID("1.")},
	}
}

// PressButton presses a button with a value on a message of the app in a channel. If channel is empty,
// the message is in the direct conversation. Slack retries interactions only over Socket Mode.
func (s *Slack) PressButton(
	ctx context.Context, appID string, u SlackUser, channel, value string,
) (SlackAttempt, error) {
	app, err := s.findApp(appID)
	if err != nil {
		return SlackAttempt{}, err
	}
	return s.deliverInteraction(ctx, app, s.buttonPayload(app, u, channel, value))
}

// deliverInteraction delivers an interaction and returns the last attempt.
func (s *Slack) deliverInteraction(ctx context.Context, app SlackApp, fields slackFields) (SlackAttempt, error) {
	payload, err := json.Marshal(fields)
	if err != nil {
		return SlackAttempt{}, fmt.Errorf("encode interaction: %w", err)
	}
	if app.AppToken != "" {
		d, _ := s.deliverPayload(ctx, app, SlackInteractive, payload)
		if len(d.Attempts) == 0 {
			return SlackAttempt{Err: ctx.Err()}, nil
		}
		return d.Attempts[len(d.Attempts)-1], nil
	}
	form := url.Values{"payload": {string(payload)}}
	status, _, err := s.post(ctx, app, app.InteractivityURL, slackForm, []byte(form.Encode()), nil)
	return SlackAttempt{Status: status, Err: err}, nil
}

// SendPayload sends a message event or an interaction of any kind as a person: payload has the form of
// Slack's, with a type such as message, block_actions or view_submission. The fields that payload does
// not have and that identify the person, the direct conversation and the app are added. accepted
// reports whether the app accepted it.
func (s *Slack) SendPayload(
	ctx context.Context, appID string, u SlackUser, payload json.RawMessage,
) (accepted bool, err error) {
	app, err := s.findApp(appID)
	if err != nil {
		return false, err
	}
	var fields slackFields
	if err := json.Unmarshal(payload, &fields); err != nil || fields["type"] == nil {
		return false, errors.New("simulator: the payload must be an object with a type")
	}
	if fields["type"] == "message" || fields["type"] == "app_mention" {
		text, _ := fields["text"].(string)
		event := s.addMessage(u, s.DM(appID, u), text)
		event["channel_type"] = "im"
		delete(event, "blocks")
		maps.Copy(event, fields)
		return s.deliverEvent(ctx, app, u, event).Accepted(), nil
	}
	interaction := s.buttonPayload(app, u, "", "")
	if fields["type"] != "block_actions" {
		for _, name := range []string{"actions", "container", "channel"} {
			delete(interaction, name)
		}
	}
	maps.Copy(interaction, fields)
	attempt, err := s.deliverInteraction(ctx, app, interaction)
	return attempt.accepted(), err
}

func (s *Slack) buttonPayload(app SlackApp, u SlackUser, channel, value string) slackFields {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := "general"
	direct := s.openDirect(app.AppID, u)
	if channel == "" || channel == direct {
		channel, name = direct, "directmessage"
	}
	message, userName := s.nextTimestamp(), strings.ToLower(u.Name)
	return slackFields{
		"type": "block_actions", "api_app_id": app.AppID, "token": "deprecated", "trigger_id": s.nextID("2."),
		"user":      slackFields{"id": u.ID, "username": userName, "name": userName, "team_id": u.Team},
		"team":      slackFields{"id": app.TeamID, "domain": "example"},
		"container": slackFields{"type": "message", "message_ts": message, "channel_id": channel, "is_ephemeral": false},
		"channel":   slackFields{"id": channel, "name": name}, "enterprise": nil, "is_enterprise_install": false,
		"response_url": s.newResponseURL(u, channel),
		"actions": []slackFields{{
			"type": "button", "action_id": "press", "block_id": "b", "value": value, "action_ts": s.nextTimestamp(),
		}},
	}
}

// addMember adds a person and a channel if they are unknown.
func (s *Slack) addMember(u SlackUser, channel string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users[u.Chat()] = u
	if _, ok := s.rooms[channel]; !ok {
		s.rooms[channel] = slackRoom{}
	}
}

// addMessage adds a message of a person to the history and returns its event. text is escaped.
func (s *Slack) addMessage(u SlackUser, channel, text string) slackFields {
	s.mu.Lock()
	defer s.mu.Unlock()
	ts := s.nextTimestamp()
	s.posts = append(s.posts, slackPost{channel: channel, ts: ts, user: u.ID, text: text})
	s.Add(Line{ID: ts, Chat: s.transcriptChat(channel), Sender: u.Chat(), Text: renderSlackText(text)})
	return slackFields{
		"type": "message", "user": u.ID, "text": text, "ts": ts, "event_ts": ts, "channel": channel,
		"team": u.Team, "user_team": u.Team, "source_team": u.Team, "client_msg_id": s.nextID("c"),
		"blocks": []slackFields{{"type": "rich_text", "block_id": "b", "elements": []slackFields{}}},
	}
}

// escapeSlackText escapes a text as Slack does in events.
func escapeSlackText(text string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(text)
}

// renderSlackText returns a text as people see it. Unescaped entities take effect: "<!channel>"
// becomes a mention, and the label of a link replaces it.
func renderSlackText(text string) string {
	var b strings.Builder
	for {
		before, rest, open := strings.Cut(text, "<")
		entity, after, closed := strings.Cut(rest, ">")
		if !open || !closed {
			b.WriteString(text)
			break
		}
		b.WriteString(before)
		b.WriteString(renderSlackEntity(entity))
		text = after
	}
	return strings.NewReplacer("&lt;", "<", "&gt;", ">", "&amp;", "&").Replace(b.String())
}

func renderSlackEntity(entity string) string {
	target, label, hasLabel := strings.Cut(entity, "|")
	switch {
	case hasLabel:
		return label
	case strings.HasPrefix(target, "!"):
		return "@" + target[1:]
	}
	return target
}
