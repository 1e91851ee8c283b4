package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"github.com/rogpeppe/go-internal/testscript"

	"hydragate/adapters/simulator"
)

// An actor has an account everywhere.
type actor struct {
	name     string
	telegram simulator.Person
	phone    string
	slack    simulator.SlackUser
}

var cast = map[string]actor{
	"steve": {
		"steve", simulator.Person{ID: 7001, First: "Steve", Username: "steve"}, "+14155550101", simulator.SlackUser{Team: slackTeam, ID: "U0STEVE", Name: "Steve"},
	},
	"stranger": {
		"stranger", simulator.Person{ID: 7002, First: "Steve", Username: "steve_"}, "+14155550102", simulator.SlackUser{Team: slackTeam, ID: "U0STRANGER", Name: "Steve"},
	},
}

// Where the bot is.
const (
	telegramBot = "acme_bot"
	phoneBot    = "+14155550100"
	slackApp    = "A0ACME"
	slackTeam   = "T0ACME"
	slackRoom   = "C0GENERAL"
)

// A line is a channel between people and the bot.
type line interface {
	// says types a text to the bot in private. It gives an error when the channel could
	// not hand it over; Telegram tries for ever, in the background.
	says(ctx context.Context, p actor, text string) error
	// chat names the private conversation in the transcript.
	chat(p actor) string
	// externalID names the person in the API.
	externalID(p actor) string
	transcript() *simulator.Transcript
}

type telegramLine struct{ w *world }

func (l telegramLine) says(_ context.Context, p actor, text string) error {
	if l.w.telegram.Say(telegramBot, p.telegram, text) == 0 {
		return errors.New("there is no such bot")
	}
	return nil
}
func (l telegramLine) chat(p actor) string               { return fmt.Sprint(p.telegram.ID) }
func (l telegramLine) externalID(p actor) string         { return fmt.Sprint(p.telegram.ID) }
func (l telegramLine) transcript() *simulator.Transcript { return &l.w.telegram.Transcript }

// A twilioLine is SMS, or WhatsApp with its prefix.
type twilioLine struct {
	w      *world
	prefix string
}

func (l twilioLine) says(_ context.Context, p actor, text string) error {
	sid := l.w.twilio.Text(l.chat(p), l.prefix+phoneBot, text)
	if !l.w.twilio.Delivered(sid) {
		return fmt.Errorf("Twilio could not hand it over: %+v", l.w.twilio.Attempts(sid))
	}
	return nil
}
func (l twilioLine) chat(p actor) string               { return l.prefix + p.phone }
func (l twilioLine) externalID(p actor) string         { return p.phone }
func (l twilioLine) transcript() *simulator.Transcript { return &l.w.twilio.Transcript }

type slackLine struct{ w *world }

func (l slackLine) says(ctx context.Context, p actor, text string) error {
	d, err := l.w.slack.Message(ctx, slackApp, p.slack, text)
	if err == nil && !d.Taken() {
		err = fmt.Errorf("Slack could not hand it over: %+v", d.Attempts)
	}
	return err
}
func (l slackLine) chat(p actor) string               { return p.slack.Chat() }
func (l slackLine) externalID(p actor) string         { return p.slack.Chat() }
func (l slackLine) transcript() *simulator.Transcript { return &l.w.slack.Transcript }

// steve says CHANNEL TEXT | types slack COMMAND TEXT
func (w *world) steve(ts *testscript.TestScript, args []string) error {
	return w.actor(cast["steve"], args)
}

// stranger does what steve does, as somebody who calls himself Steve.
func (w *world) stranger(ts *testscript.TestScript, args []string) error {
	return w.actor(cast["stranger"], args)
}

func (w *world) actor(p actor, args []string) error {
	switch {
	case len(args) == 3 && args[0] == "says" && w.lines[args[1]] != nil:
		return w.lines[args[1]].says(w.ctx, p, args[2])
	case len(args) == 4 && args[0] == "types" && args[1] == "slack":
		return w.slash(p, args[2], args[3])
	}
	return errors.New("usage: steve says CHANNEL TEXT | types slack COMMAND TEXT")
}

// slash types a slash command into a room, where only the person sees it.
func (w *world) slash(p actor, command, text string) error {
	a, err := w.slack.Slash(w.ctx, slackApp, p.slack, slackRoom, command, text)
	if err == nil && (a.Status != 200 || a.ResponseType != "ephemeral") {
		err = fmt.Errorf("Slack was answered %+v", a)
	}
	return err
}

// bot answers CHANNEL PERSON REGEXP: what the bot says next there is this.
func (w *world) bot(ts *testscript.TestScript, args []string) error {
	if len(args) != 4 || args[0] != "answers" || w.lines[args[1]] == nil {
		return errors.New("usage: bot answers CHANNEL PERSON REGEXP")
	}
	want, err := regexp.Compile(`(?s)^(?:` + args[3] + `)$`)
	if err != nil {
		return err
	}
	l, p, place := w.lines[args[1]], cast[args[2]], args[1]+" "+args[2]
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	said, err := l.transcript().Answer(ctx, l.chat(p), w.read[place])
	if err != nil {
		return fmt.Errorf("the bot says nothing more: %w", err)
	}
	w.read[place]++
	if !want.MatchString(said.Text) {
		return fmt.Errorf("the bot says %q", said.Text)
	}
	return nil
}
