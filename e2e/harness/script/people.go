package script

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"github.com/rogpeppe/go-internal/testscript"

	"hydragate/adapters/simulator"
	"hydragate/e2e/harness"
)

// An scriptUser has an account everywhere.
type scriptUser struct {
	name     string
	telegram simulator.TelegramUser
	phone    string
	slack    simulator.SlackUser
}

var users = map[string]scriptUser{
	"steve": {
		"steve", simulator.TelegramUser{ID: 7001, FirstName: "Steve", Username: "steve"}, "+14155550101", simulator.SlackUser{Team: harness.SlackTeamID, ID: "U0STEVE", Name: "Steve"},
	},
	"stranger": {
		"stranger", simulator.TelegramUser{ID: 7002, FirstName: "Steve", Username: "steve_"}, "+14155550102", simulator.SlackUser{Team: harness.SlackTeamID, ID: "U0STRANGER", Name: "Steve"},
	},
}

// A channelClient is a channel between people and the bot.
type channelClient interface {
	// says types a text to the bot in private. It gives an error when the channel could
	// not hand it over; Telegram tries for ever, in the background.
	send(ctx context.Context, p scriptUser, text string) error
	// chat names the private conversation in the transcript.
	chat(p scriptUser) string
	// externalID names the person in the API.
	externalID(p scriptUser) string
	transcript() *simulator.Transcript
}

type telegramClient struct{ w *scriptFixture }

func (l telegramClient) send(_ context.Context, p scriptUser, text string) error {
	if l.w.telegram.SendText(harness.TelegramBot, p.telegram, text) == 0 {
		return errors.New("there is no such bot")
	}
	return nil
}

func (l telegramClient) chat(p scriptUser) string { return fmt.Sprint(p.telegram.ID) }

func (l telegramClient) externalID(p scriptUser) string { return fmt.Sprint(p.telegram.ID) }

func (l telegramClient) transcript() *simulator.Transcript { return &l.w.telegram.Transcript }

// A twilioClient is SMS, or WhatsApp with its prefix.
type twilioClient struct {
	w      *scriptFixture
	prefix string
}

func (l twilioClient) send(_ context.Context, p scriptUser, text string) error {
	sid := l.w.twilio.SendText(l.chat(p), l.prefix+harness.SMSBotNumber, text)
	if !l.w.twilio.Delivered(sid) {
		return fmt.Errorf("Twilio could not hand it over: %+v", l.w.twilio.Attempts(sid))
	}
	return nil
}

func (l twilioClient) chat(p scriptUser) string { return l.prefix + p.phone }

func (l twilioClient) externalID(p scriptUser) string { return p.phone }

func (l twilioClient) transcript() *simulator.Transcript { return &l.w.twilio.Transcript }

type slackClient struct{ w *scriptFixture }

func (l slackClient) send(ctx context.Context, p scriptUser, text string) error {
	d, err := l.w.slack.SendText(ctx, harness.SlackAppID, p.slack, text)
	if err == nil && !d.Accepted() {
		err = fmt.Errorf("Slack could not hand it over: %+v", d.Attempts)
	}
	return err
}

func (l slackClient) chat(p scriptUser) string { return p.slack.Chat() }

func (l slackClient) externalID(p scriptUser) string { return p.slack.Chat() }

func (l slackClient) transcript() *simulator.Transcript { return &l.w.slack.Transcript }

// steveCommand says CHANNEL TEXT | types slack COMMAND TEXT
func (w *scriptFixture) steveCommand(ts *testscript.TestScript, args []string) error {
	return w.userCommand(users["steve"], args)
}

// strangerCommand does what steve does, as somebody who calls himself Steve.
func (w *scriptFixture) strangerCommand(ts *testscript.TestScript, args []string) error {
	return w.userCommand(users["stranger"], args)
}

func (w *scriptFixture) userCommand(p scriptUser, args []string) error {
	switch {
	case len(args) == 3 && args[0] == "says" && w.clients[args[1]] != nil:
		return w.clients[args[1]].send(w.ctx, p, args[2])
	case len(args) == 4 && args[0] == "types" && args[1] == "slack":
		return w.slashCommand(p, args[2], args[3])
	}
	return errors.New("usage: steve says CHANNEL TEXT | types slack COMMAND TEXT")
}

// slashCommand types a slash command into a room, where only the person sees it.
func (w *scriptFixture) slashCommand(p scriptUser, command, text string) error {
	a, err := w.slack.SendCommand(w.ctx, harness.SlackAppID, p.slack, harness.SlackChannelID, command, text)
	if err == nil && (a.Status != 200 || a.ResponseType != "ephemeral") {
		err = fmt.Errorf("Slack was answered %+v", a)
	}
	return err
}

// botCommand answers CHANNEL PERSON REGEXP: what the bot says next there is this.
func (w *scriptFixture) botCommand(ts *testscript.TestScript, args []string) error {
	if len(args) != 4 || args[0] != "answers" || w.clients[args[1]] == nil {
		return errors.New("usage: bot answers CHANNEL PERSON REGEXP")
	}
	want, err := regexp.Compile(`(?s)^(?:` + args[3] + `)$`)
	if err != nil {
		return err
	}
	l, p, place := w.clients[args[1]], users[args[2]], args[1]+" "+args[2]
	ctx, cancel := context.WithTimeout(w.ctx, harness.EventTimeout)
	defer cancel()
	said, err := l.transcript().WaitReply(ctx, l.chat(p), w.repliesRead[place])
	if err != nil {
		return fmt.Errorf("the bot says nothing more: %w", err)
	}
	w.repliesRead[place]++
	if !want.MatchString(said.Text) {
		return fmt.Errorf("the bot says %q", said.Text)
	}
	return nil
}
