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

// Message types text to the app in the direct conversation and delivers the event,
// with every retry it takes.
func (s *Slack) Message(ctx context.Context, appID string, u SlackUser, text string) (SlackDelivery, error) {
	app, err := s.app(appID)
	if err != nil {
		return SlackDelivery{}, err
	}
	if strings.HasPrefix(text, "/") {
		return SlackDelivery{}, ErrSlackCommand
	}
	event := s.say(u, s.DM(appID, u), slackTyped(text))
	event["channel_type"] = "im"
	return s.deliver(ctx, app, u, event), nil
}

// Mention types a text that mentions the app into a channel. Slack tells the app
// twice, as a message and as a mention, in no order; the deliveries come in this
// one.
func (s *Slack) Mention(ctx context.Context, appID string, u SlackUser, channel, text string) (message, mention SlackDelivery, err error) {
	app, err := s.app(appID)
	if err != nil {
		return SlackDelivery{}, SlackDelivery{}, err
	}
	s.enter(u, channel)
	said := s.say(u, channel, "<@"+app.BotUserID+"> "+slackTyped(text))
	twin := slackFields{}
	for k, v := range said {
		twin[k] = v
	}
	said["channel_type"] = "channel"
	twin["type"] = "app_mention"
	var wg sync.WaitGroup
	wg.Go(func() { mention = s.deliver(ctx, app, u, twin) })
	message = s.deliver(ctx, app, u, said)
	wg.Wait()
	return message, mention, nil
}

// Event delivers an inner event as it is given, in the envelope of the app's own
// workspace.
func (s *Slack) Event(ctx context.Context, appID string, inner json.RawMessage) (SlackDelivery, error) {
	app, err := s.app(appID)
	if err != nil {
		return SlackDelivery{}, err
	}
	return s.deliver(ctx, app, SlackUser{Team: app.TeamID}, inner), nil
}

// A SlackAnswer is what an app answers to a slash command at once. The person who
// typed it sees the text, and nobody else does.
type SlackAnswer struct {
	Status       int
	ResponseType string
	Text         string
}

// Slash types a slash command, such as "/claim" with a text; channel "" is the
// direct conversation with the app. It gives what the app answers at once; what it
// posts to the response_url later is a private line of the person's chat. Slack
// never posts a slash command twice; over Socket Mode it may deliver it again.
func (s *Slack) Slash(ctx context.Context, appID string, u SlackUser, channel, command, text string) (SlackAnswer, error) {
	app, err := s.app(appID)
	if err != nil {
		return SlackAnswer{}, err
	}
	form := s.slash(app, u, channel, command, text)
	status, body, err := s.command(ctx, app, form)
	if err != nil {
		return SlackAnswer{}, fmt.Errorf("slash command: %w", err)
	}
	answer := SlackAnswer{Status: status, ResponseType: "ephemeral", Text: string(body)}
	var said struct {
		ResponseType string `json:"response_type"`
		Text         string `json:"text"`
	}
	if json.Unmarshal(body, &said) == nil {
		answer.Text = slackShown(said.Text)
		if said.ResponseType != "" {
			answer.ResponseType = said.ResponseType
		}
	}
	return answer, nil
}

// command delivers a slash command and gives what the app answers.
func (s *Slack) command(ctx context.Context, app App, form url.Values) (status int, answer []byte, err error) {
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
	d, answer := s.wrap(ctx, app, SlackCommands, payload)
	if !d.Taken() {
		return 0, nil, fmt.Errorf("the app did not respond: %+v", d.Attempts)
	}
	return 200, answer, nil
}

func (s *Slack) slash(app App, u SlackUser, channel, command, text string) url.Values {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := "general"
	direct := s.open(app.AppID, u)
	if channel == "" || channel == direct {
		channel, name = direct, "directmessage"
	}
	s.Add(Line{ID: s.stamp(), Chat: u.Chat(), Sender: u.Chat(), Text: strings.TrimSpace(command + " " + text), Private: true})
	return url.Values{
		"token": {"deprecated"}, "team_id": {u.Team}, "team_domain": {"example"}, "channel_id": {channel}, "channel_name": {name},
		"user_id": {u.ID}, "user_name": {strings.ToLower(u.Name)}, "command": {command}, "text": {slackTyped(text)},
		"api_app_id": {app.AppID}, "is_enterprise_install": {"false"}, "response_url": {s.answerURL(u, channel)}, "trigger_id": {s.id("1.")},
	}
}

// Press presses a button with a value on a message of the app in a channel; ""
// is the direct conversation. Slack posts an interaction once; over Socket Mode it may
// deliver it again.
func (s *Slack) Press(ctx context.Context, appID string, u SlackUser, channel, value string) (SlackAttempt, error) {
	app, err := s.app(appID)
	if err != nil {
		return SlackAttempt{}, err
	}
	payload, err := json.Marshal(s.press(app, u, channel, value))
	if err != nil {
		return SlackAttempt{}, fmt.Errorf("encode interaction: %w", err)
	}
	if app.AppToken != "" {
		d, _ := s.wrap(ctx, app, SlackInteractive, payload)
		if len(d.Attempts) == 0 {
			return SlackAttempt{Err: ctx.Err()}, nil
		}
		return d.Attempts[len(d.Attempts)-1], nil
	}
	form := url.Values{"payload": {string(payload)}}
	status, _, err := s.post(ctx, app, app.InteractivityURL, slackForm, []byte(form.Encode()), nil)
	return SlackAttempt{Status: status, Err: err}, nil
}

func (s *Slack) press(app App, u SlackUser, channel, value string) slackFields {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := "general"
	direct := s.open(app.AppID, u)
	if channel == "" || channel == direct {
		channel, name = direct, "directmessage"
	}
	on := s.stamp()
	return slackFields{
		"type": "block_actions", "api_app_id": app.AppID, "token": "deprecated", "trigger_id": s.id("2."),
		"user":      slackFields{"id": u.ID, "username": strings.ToLower(u.Name), "name": strings.ToLower(u.Name), "team_id": u.Team},
		"team":      slackFields{"id": app.TeamID, "domain": "example"},
		"container": slackFields{"type": "message", "message_ts": on, "channel_id": channel, "is_ephemeral": false},
		"channel":   slackFields{"id": channel, "name": name}, "enterprise": nil, "is_enterprise_install": false,
		"response_url": s.answerURL(u, channel),
		"actions":      []slackFields{{"type": "button", "action_id": "press", "block_id": "b", "value": value, "action_ts": s.stamp()}},
	}
}

// enter makes a person and a room known.
func (s *Slack) enter(u SlackUser, channel string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users[u.Chat()] = u
	if _, ok := s.rooms[channel]; !ok {
		s.rooms[channel] = slackRoom{}
	}
}

// say keeps a message of a person and gives the event of it; text is as Slack
// writes it.
func (s *Slack) say(u SlackUser, channel, text string) slackFields {
	s.mu.Lock()
	defer s.mu.Unlock()
	ts := s.stamp()
	s.posts = append(s.posts, slackPost{channel: channel, ts: ts, user: u.ID, text: text})
	s.Add(Line{ID: ts, Chat: s.chat(channel), Sender: u.Chat(), Text: slackShown(text)})
	return slackFields{
		"type": "message", "user": u.ID, "text": text, "ts": ts, "event_ts": ts, "channel": channel,
		"team": u.Team, "user_team": u.Team, "source_team": u.Team, "client_msg_id": s.id("c"),
		"blocks": []slackFields{{"type": "rich_text", "block_id": "b", "elements": []slackFields{}}},
	}
}
