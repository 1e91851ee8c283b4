package demo

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"hydragate/adapters/simulator"
	"hydragate/claim"
)

// A scriptRun is the story while it is told.
type scriptRun struct {
	*Environment
	*printer
	control *simulator.Control

	issuedCodes           []string
	verifiedOn            []scenario // verified so far
	sentCount, replyCount int
}

// senderID gives the external id of somebody in the story.
func senderID(a scenario, who string) string {
	if who == "Steve" {
		return steveAccount(a.channel)
	}
	return strangerAccount(a.channel)
}

// sendAndExpect lets somebody say text, and waits for one answer that holds want.
func (t *scriptRun) sendAndExpect(ctx context.Context, a scenario, who, text, want string) (answer string, err error) {
	before := t.countReplies(a, who)
	step, cancel := WithStepTimeout(ctx)
	defer cancel()
	name := ""
	if who == "Steve" {
		name = who
	}
	atOnce, err := t.control.Send(step, simulator.SendRequest{Channel: a.channel, Sender: senderID(a, who), Name: name, Text: text})
	if err != nil {
		return "", fmt.Errorf("%s writes: %w", who, err)
	}
	t.sentCount++
	said := text
	if a.messageKind != nil {
		said += "   (" + a.messageKind(text) + ")"
	}
	t.dialogue(who, "bot", said)
	if atOnce != "" {
		t.dialogue("bot", who, atOnce)
	}
	answer, err = t.awaitReply(ctx, a, who, before)
	if err != nil {
		return "", fmt.Errorf("%s waits for an answer: %w", who, err)
	}
	if !strings.Contains(answer, want) {
		return "", fmt.Errorf("%s should be answered %q, and is answered %q", who, want, answer)
	}
	t.dialogue("bot", who, answer)
	return answer, nil
}

// countReplies counts what the bot has said to somebody.
func (t *scriptRun) countReplies(a scenario, who string) int {
	transcript, chat, err := t.control.Conversation(a.channel, senderID(a, who))
	if err != nil {
		return 0 // Say tells
	}
	return len(transcript.Replies(chat))
}

// awaitReply waits for the bot's answer number n to somebody.
func (t *scriptRun) awaitReply(ctx context.Context, a scenario, who string, n int) (string, error) {
	transcript, chat, err := t.control.Conversation(a.channel, senderID(a, who))
	if err != nil {
		return "", err
	}
	step, cancel := WithStepTimeout(ctx)
	defer cancel()
	line, err := transcript.WaitReply(step, chat, n)
	if err != nil {
		return "", err
	}
	t.replyCount++
	return line.Text, nil
}

// checkReceived makes sure that the agent has seen as many messages of Steve as it should,
// and the last in this role.
func (t *scriptRun) checkReceived(a scenario, messages int, role string) error {
	seen := t.App.Messages(string(a.channel), senderID(a, "Steve"))
	if len(seen) != messages {
		return fmt.Errorf("the agent should have seen %d messages of Steve, and saw %d", messages, len(seen))
	}
	last := seen[len(seen)-1]
	if last.Data.Sender.Role != role || last.Data.Text != question {
		return fmt.Errorf("the agent should see Steve's question from role %s, and sees role %s", role, last.Data.Sender.Role)
	}
	t.note("the agent sees %s as %s", last.Data.Sender.ExternalID, last.Data.Sender.Role)
	return nil
}

// checkNoCodeLeaked makes sure that no claim was handed to the agent, and nothing that
// was not signed.
func (t *scriptRun) checkNoCodeLeaked() error {
	for _, a := range scenarios() {
		if n := len(t.App.Messages(string(a.channel), senderID(a, "stranger"))); n != 0 {
			return fmt.Errorf("%s: the agent should not have seen what the stranger wrote", a.title)
		}
	}
	var spellings []string
	for _, c := range t.issuedCodes {
		spellings = append(spellings, c, claim.Group(c), strings.ReplaceAll(claim.Group(c), "-", " "))
	}
	if t.App.receivedAny(spellings...) {
		return errors.New("a code was handed to the agent")
	}
	if t.App.rejectedCount() > 0 {
		return errors.New("the agent was sent something whose signature is not the gateway's")
	}
	return nil
}

// WithStepTimeout bounds one step.
func WithStepTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, stepTimeout, fmt.Errorf("nothing came within %s", stepTimeout))
}
