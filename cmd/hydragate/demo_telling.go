package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"hydragate/adapters"
	"hydragate/adapters/simulator"
	"hydragate/claim"
)

// A telling is the story while it is told.
type telling struct {
	*demo
	*teller
	control *simulator.Control

	codes           []string
	claimed         []act // verified so far
	typed, answered int
}

// account gives the external id of somebody in the story.
func account(a act, who string) string {
	if who == "Steve" {
		return steves(a.channel)
	}
	return strangers(a.channel)
}

// exchange lets somebody say text, and waits for one answer that holds want.
func (t *telling) exchange(ctx context.Context, a act, who, text, want string) (answer string, err error) {
	before := t.answers(a, who)
	step, cancel := inTime(ctx)
	defer cancel()
	name := ""
	if who == "Steve" {
		name = who
	}
	atOnce, err := t.control.Say(step, simulator.Saying{Channel: a.channel, As: account(a, who), Name: name, Text: text})
	if err != nil {
		return "", fmt.Errorf("%s writes: %w", who, err)
	}
	t.typed++
	t.said(who, "bot", text+a.kind(text))
	if atOnce != "" {
		t.said("bot", who, atOnce)
	}
	answer, err = t.answer(ctx, a, who, before)
	if err != nil {
		return "", fmt.Errorf("%s waits for an answer: %w", who, err)
	}
	if !strings.Contains(answer, want) {
		return "", fmt.Errorf("%s should be answered %q, and is answered %q", who, want, answer)
	}
	t.said("bot", who, answer)
	return answer, nil
}

// kind tells the two ways apart in which an app in Slack is written to.
func (a act) kind(text string) string {
	switch {
	case a.channel != adapters.Slack:
		return ""
	case strings.HasPrefix(text, "/"):
		return "   (slash command)"
	}
	return "   (direct message)"
}

// answers counts what the bot has said to somebody.
func (t *telling) answers(a act, who string) int {
	transcript, chat, err := t.control.Conversation(a.channel, account(a, who))
	if err != nil {
		return 0 // Say tells
	}
	return len(transcript.Answers(chat))
}

// answer waits for the bot's answer number n to somebody.
func (t *telling) answer(ctx context.Context, a act, who string, n int) (string, error) {
	transcript, chat, err := t.control.Conversation(a.channel, account(a, who))
	if err != nil {
		return "", err
	}
	step, cancel := inTime(ctx)
	defer cancel()
	line, err := transcript.Answer(step, chat, n)
	if err != nil {
		return "", err
	}
	t.answered++
	return line.Text, nil
}

// agentSaw makes sure that the agent has seen as many messages of Steve as it should,
// and the last in this role.
func (t *telling) agentSaw(a act, messages int, role string) error {
	seen := t.agent.messages(string(a.channel), account(a, "Steve"))
	if len(seen) != messages {
		return fmt.Errorf("the agent should have seen %d messages of Steve, and saw %d", messages, len(seen))
	}
	last := seen[len(seen)-1]
	if last.Data.Sender.Role != role || last.Data.Text != question {
		return fmt.Errorf("the agent should see Steve's question from role %s, and sees role %s", role, last.Data.Sender.Role)
	}
	t.behind("the agent sees %s as %s", last.Data.Sender.ExternalID, last.Data.Sender.Role)
	return nil
}

// agentKnowsNoCode makes sure that no claim was handed to the agent, and nothing that
// was not signed.
func (t *telling) agentKnowsNoCode() error {
	for _, a := range acts() {
		if n := len(t.agent.messages(string(a.channel), account(a, "stranger"))); n != 0 {
			return fmt.Errorf("%s: the agent should not have seen what the stranger wrote", a.title)
		}
	}
	var spellings []string
	for _, c := range t.codes {
		spellings = append(spellings, c, claim.Group(c), strings.ReplaceAll(claim.Group(c), "-", " "))
	}
	if t.agent.said(spellings...) {
		return errors.New("a code was handed to the agent")
	}
	if t.agent.forgeries() > 0 {
		return errors.New("the agent was sent something whose signature is not the gateway's")
	}
	return nil
}

// inTime bounds one step.
func inTime(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, stepTime, fmt.Errorf("nothing came within %s", stepTime))
}
