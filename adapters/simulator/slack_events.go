package simulator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
)

// ErrSlackCommand says that a person cannot say this in Slack: what starts with "/"
// is a command there, never a message.
var ErrSlackCommand = errors.New("simulator: Slack reads a text that starts with / as a command")

// SendText types text to the app in the direct conversation and delivers the event,
// with every retry it takes.
func (s *Slack) SendText(ctx context.Context, appID string, u SlackUser, text string) (SlackDelivery, error) {
	app, err := s.findApp(appID)
	if err != nil {
		return SlackDelivery{}, err
	}
	if strings.HasPrefix(text, "/") {
		return SlackDelivery{}, ErrSlackCommand
	}
	event := s.addMessage(u, s.DM(appID, u), escapeSlackText(text))
	event["channel_type"] = "im"
	return s.deliverEvent(ctx, app, u, event), nil
}

// SendMention types a text that mentions the app into a channel. Slack tells the app
// twice, as a message and as a mention, in no order; the deliveries come in this
// one.
func (s *Slack) SendMention(ctx context.Context, appID string, u SlackUser, channel, text string) (message, mention SlackDelivery, err error) {
	app, err := s.findApp(appID)
	if err != nil {
		return SlackDelivery{}, SlackDelivery{}, err
	}
	s.addMember(u, channel)
	said := s.addMessage(u, channel, "<@"+app.BotUserID+"> "+escapeSlackText(text))
	twin := slackFields{}
	for k, v := range said {
		twin[k] = v
	}
	said["channel_type"] = "channel"
	twin["type"] = "app_mention"
	var wg sync.WaitGroup
	wg.Go(func() { mention = s.deliverEvent(ctx, app, u, twin) })
	message = s.deliverEvent(ctx, app, u, said)
	wg.Wait()
	return message, mention, nil
}

// SendEvent delivers an inner event as it is given, in the envelope of the app's own
// workspace.
func (s *Slack) SendEvent(ctx context.Context, appID string, inner json.RawMessage) (SlackDelivery, error) {
	app, err := s.findApp(appID)
	if err != nil {
		return SlackDelivery{}, err
	}
	return s.deliverEvent(ctx, app, SlackUser{Team: app.TeamID}, inner), nil
}

// A SlackResponse is what an app answers to a slash command at once. The person who
// typed it sees the text, and nobody else does.
type SlackResponse struct {
	Status       int
	ResponseType string
	Text         string
}

// SendCommand types a slash command, such as "/claim" with a text; channel "" is the
// direct conversation with the app. It gives what the app answers at once; what it
// posts to the response_url later is a private line of the person's chat. Slack
// never posts a slash command twice; over Socket Mode it may deliver it again.
func (s *Slack) SendCommand(ctx context.Context, appID string, u SlackUser, channel, command, text string) (SlackResponse, error) {
	app, err := s.findApp(appID)
	if err != nil {
		return SlackResponse{}, err
	}
	form := s.commandForm(app, u, channel, command, text)
	status, body, err := s.deliverCommand(ctx, app, form)
	if err != nil {
		return SlackResponse{}, fmt.Errorf("slash command: %w", err)
	}
	answer := SlackResponse{Status: status, ResponseType: "ephemeral", Text: string(body)}
	var said struct {
		ResponseType string `json:"response_type"`
		Text         string `json:"text"`
	}
	if json.Unmarshal(body, &said) == nil {
		answer.Text = renderSlackText(said.Text)
		if said.ResponseType != "" {
			answer.ResponseType = said.ResponseType
		}
	}
	return answer, nil
}

// deliverCommand delivers a slash command and gives what the app answers.
func (s *Slack) deliverCommand(ctx context.Context, app SlackApp, form url.Values) (status int, answer []byte, err error) {
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
	d, answer := s.deliverPayload(ctx, app, SlackCommands, payload)
	if !d.Accepted() {
		return 0, nil, fmt.Errorf("the app did not respond: %+v", d.Attempts)
	}
	return 200, answer, nil
}

func (s *Slack) commandForm(app SlackApp, u SlackUser, channel, command, text string) url.Values {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := "general"
	direct := s.openDirect(app.AppID, u)
	if channel == "" || channel == direct {
		channel, name = direct, "directmessage"
	}
	s.Add(Line{ID: s.nextTimestamp(), Chat: u.Chat(), Sender: u.Chat(), Text: strings.TrimSpace(command + " " + text), Private: true})
	return url.Values{
		"token": {"deprecated"}, "team_id": {u.Team}, "team_domain": {"example"}, "channel_id": {channel}, "channel_name": {name},
		"user_id": {u.ID}, "user_name": {strings.ToLower(u.Name)}, "command": {command}, "text": {escapeSlackText(text)},
		"api_app_id": {app.AppID}, "is_enterprise_install": {"false"}, "response_url": {s.newResponseURL(u, channel)}, "trigger_id": {s.nextID("1.")},
	}
}

// PressButton presses a button with a value on a message of the app in a channel; ""
// is the direct conversation. Slack posts an interaction once; over Socket Mode it may
// deliver it again.
func (s *Slack) PressButton(ctx context.Context, appID string, u SlackUser, channel, value string) (SlackAttempt, error) {
	app, err := s.findApp(appID)
	if err != nil {
		return SlackAttempt{}, err
	}
	payload, err := json.Marshal(s.buttonPayload(app, u, channel, value))
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

func (s *Slack) buttonPayload(app SlackApp, u SlackUser, channel, value string) slackFields {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := "general"
	direct := s.openDirect(app.AppID, u)
	if channel == "" || channel == direct {
		channel, name = direct, "directmessage"
	}
	on := s.nextTimestamp()
	return slackFields{
		"type": "block_actions", "api_app_id": app.AppID, "token": "deprecated", "trigger_id": s.nextID("2."),
		"user":      slackFields{"id": u.ID, "username": strings.ToLower(u.Name), "name": strings.ToLower(u.Name), "team_id": u.Team},
		"team":      slackFields{"id": app.TeamID, "domain": "example"},
		"container": slackFields{"type": "message", "message_ts": on, "channel_id": channel, "is_ephemeral": false},
		"channel":   slackFields{"id": channel, "name": name}, "enterprise": nil, "is_enterprise_install": false,
		"response_url": s.newResponseURL(u, channel),
		"actions":      []slackFields{{"type": "button", "action_id": "press", "block_id": "b", "value": value, "action_ts": s.nextTimestamp()}},
	}
}

// addMember makes a person and a room known.
func (s *Slack) addMember(u SlackUser, channel string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users[u.Chat()] = u
	if _, ok := s.rooms[channel]; !ok {
		s.rooms[channel] = slackRoom{}
	}
}

// addMessage keeps a message of a person and gives the event of it; text is as Slack
// writes it.
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

// escapeSlackText writes what a person typed as Slack passes it on.
func escapeSlackText(text string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(text)
}

// renderSlackText writes a text as people see it. What was not escaped takes effect:
// "<!channel>" calls everybody, and a label hides its link.
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
	target, label, labelled := strings.Cut(entity, "|")
	switch {
	case labelled:
		return label
	case strings.HasPrefix(target, "!"):
		return "@" + target[1:]
	}
	return target
}
