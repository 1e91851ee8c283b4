//go:build unix

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

// A scriptUser is a user with an account on each channel.
type scriptUser struct {
	name     string
	telegram simulator.TelegramUser
	phone    string
	slack    simulator.SlackUser
}

var users = map[string]scriptUser{
	"steve": {
		name:     "steve",
		telegram: simulator.TelegramUser{ID: 7001, FirstName: "Steve", Username: "steve"},
		phone:    "+14155550101",
		slack:    simulator.SlackUser{Team: harness.SlackTeamID, ID: "U0STEVE", Name: "Steve"},
	},
	"stranger": {
		name:     "stranger",
		telegram: simulator.TelegramUser{ID: 7002, FirstName: "Steve", Username: "steve_"},
		phone:    "+14155550102",
		slack:    simulator.SlackUser{Team: harness.SlackTeamID, ID: "U0STRANGER", Name: "Steve"},
	},
}

// An authorship is how the words of a message come to its sender.
type authorship string

const (
	typed     authorship = "send"
	forwarded authorship = "forward"
	automated authorship = "send-via"             // an inline bot of Telegram, or an app of Slack
	visiting  authorship = "send-from-other-team" // a person of another workspace of Slack with the same ID
)

// A channelClient sends messages as a user of a channel.
type channelClient interface {
	// send sends a private message to the bot, whose words are those of the user, or of another as
	// by says. It returns an error if the provider gives up on it; Telegram retries in the
	// background until the message is delivered.
	send(ctx context.Context, p scriptUser, text string, by authorship) error
	// chat returns the ID of the private conversation in the transcript.
	chat(p scriptUser) string
	// externalID returns the external ID of the user in the API.
	externalID(p scriptUser) string
	transcript() *simulator.Transcript
}

type telegramClient struct{ w *scriptFixture }

func (l telegramClient) send(_ context.Context, p scriptUser, text string, by authorship) error {
	var options []simulator.TelegramOption
	switch by {
	case forwarded:
		options = append(options, simulator.TelegramForwarded(users["stranger"].telegram))
	case automated:
		options = append(options, simulator.TelegramViaBot(7003))
	case visiting:
		return fmt.Errorf("the channel does not have %s", by)
	case typed:
	}
	if l.w.Telegram.SendText(harness.TelegramBot, p.telegram, text, options...) == 0 {
		return errors.New("unknown bot")
	}
	return nil
}

func (l telegramClient) chat(p scriptUser) string { return fmt.Sprint(p.telegram.ID) }

func (l telegramClient) externalID(p scriptUser) string { return fmt.Sprint(p.telegram.ID) }

func (l telegramClient) transcript() *simulator.Transcript { return &l.w.Telegram.Transcript }

// A twilioClient sends SMS, or WhatsApp messages if prefix is "whatsapp:".
type twilioClient struct {
	w      *scriptFixture
	prefix string
}

func (l twilioClient) send(_ context.Context, p scriptUser, text string, by authorship) error {
	var options []simulator.TwilioOption
	switch {
	case by == forwarded && l.prefix != "":
		options = append(options, simulator.TwilioParam("Forwarded", "true"))
	case by != typed:
		return fmt.Errorf("the channel does not have %s", by)
	}
	sid := l.w.Twilio.SendText(l.chat(p), l.prefix+harness.SMSBotNumber, text, options...)
	if !l.w.Twilio.Delivered(sid) {
		return fmt.Errorf("message not delivered: %+v", l.w.Twilio.Attempts(sid))
	}
	return nil
}

func (l twilioClient) chat(p scriptUser) string { return l.prefix + p.phone }

func (l twilioClient) externalID(p scriptUser) string { return p.phone }

func (l twilioClient) transcript() *simulator.Transcript { return &l.w.Twilio.Transcript }

type slackClient struct{ w *scriptFixture }

func (l slackClient) send(ctx context.Context, p scriptUser, text string, by authorship) error {
	var options []simulator.SlackOption
	switch by {
	case forwarded:
		options, text = append(options, simulator.SlackShared(users["stranger"].slack.ID, text)), ""
	case automated:
		options = append(options, simulator.SlackViaApp("A0RELAY"))
	case visiting:
		options = append(options, simulator.SlackTeam("T0ELSE"))
	case typed:
	}
	d, err := l.w.Slack.SendText(ctx, harness.SlackAppID, p.slack, text, options...)
	if err == nil && !d.Accepted() {
		err = fmt.Errorf("message not delivered: %+v", d.Attempts)
	}
	return err
}

func (l slackClient) chat(p scriptUser) string { return p.slack.Chat() }

func (l slackClient) externalID(p scriptUser) string { return p.slack.Chat() }

func (l slackClient) transcript() *simulator.Transcript { return &l.w.Slack.Transcript }

// steveCommand implements the command steve.
func (w *scriptFixture) steveCommand(ts *testscript.TestScript, args []string) error {
	return w.userCommand(users["steve"], args)
}

// strangerCommand implements the command stranger: another user with the same display name.
func (w *scriptFixture) strangerCommand(ts *testscript.TestScript, args []string) error {
	return w.userCommand(users["stranger"], args)
}

func (w *scriptFixture) userCommand(p scriptUser, args []string) error {
	switch {
	case len(args) == 3 && args[0] == "slash-command":
		return w.slashCommand(p, args[1], args[2])
	case len(args) == 3 && w.clients[args[1]] != nil:
		switch by := authorship(args[0]); by {
		case typed, forwarded, automated, visiting:
			return w.clients[args[1]].send(w.ctx, p, args[2], by)
		}
	}
	return errors.New("usage: steve|stranger send|forward|send-via|send-from-other-team CHANNEL TEXT | " +
		"slash-command COMMAND TEXT")
}

// slashCommand sends a Slack slash command in a channel. The response must be ephemeral.
func (w *scriptFixture) slashCommand(p scriptUser, command, text string) error {
	a, err := w.Slack.SendCommand(w.ctx, harness.SlackAppID, p.slack, harness.SlackChannelID, command, text)
	if err == nil && (a.Status != 200 || a.ResponseType != "ephemeral") {
		err = fmt.Errorf("response to a slash command = %+v", a)
	}
	return err
}

// replyCommand implements the command expect-reply, which checks the next reply to a user.
func (w *scriptFixture) replyCommand(ts *testscript.TestScript, args []string) error {
	if len(args) != 3 || w.clients[args[0]] == nil {
		return errors.New("usage: expect-reply CHANNEL USER REGEXP")
	}
	want, err := regexp.Compile(`(?s)^(?:` + args[2] + `)$`)
	if err != nil {
		return err
	}
	l, p, place := w.clients[args[0]], users[args[1]], args[0]+" "+args[1]
	ctx, cancel := context.WithTimeout(w.ctx, harness.EventTimeout)
	defer cancel()
	reply, err := l.transcript().WaitReply(ctx, l.chat(p), w.repliesRead[place])
	if err != nil {
		return fmt.Errorf("no further reply: %w", err)
	}
	w.repliesRead[place]++
	if !want.MatchString(reply.Text) {
		return fmt.Errorf("reply = %q, want %s", reply.Text, want)
	}
	return nil
}
