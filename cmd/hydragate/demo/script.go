package demo

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"hydragate/adapters/simulator"
	"hydragate/claim"
)

// A scriptRun is the state of a running script.
type scriptRun struct {
	*Environment
	*printer
	control *simulator.Control

	issuedCodes           []string
	verifiedOn            []scenario // where Steve is verified
	sentCount, replyCount int
}

// senderID returns the external id of a person.
func senderID(a scenario, person string) string {
	if person == "Steve" {
		return steveAccount(a.channel)
	}
	return strangerAccount(a.channel)
}

// sendAndExpect sends text as a person and waits for one reply, which must contain want.
func (t *scriptRun) sendAndExpect(
	ctx context.Context, a scenario, person, text, want string,
) (reply string, err error) {
	before := t.countReplies(a, person)
	step, cancel := WithStepTimeout(ctx)
	defer cancel()
	name := ""
	if person == "Steve" {
		name = person
	}
	immediate, err := t.control.Send(step, simulator.SendRequest{
		Channel: a.channel, Sender: senderID(a, person), Name: name, Text: text,
	})
	if err != nil {
		return "", fmt.Errorf("send as %s: %w", person, err)
	}
	t.sentCount++
	shown := text
	if a.messageKind != nil {
		shown += "   (" + a.messageKind(text) + ")"
	}
	t.message(person, "bot", shown)
	if immediate != "" {
		t.message("bot", person, immediate)
	}
	reply, err = t.awaitReply(ctx, a, person, before)
	if err != nil {
		return "", fmt.Errorf("%s waits for a reply: %w", person, err)
	}
	if !strings.Contains(reply, want) {
		return "", fmt.Errorf("the reply to %s should contain %q, but is %q", person, want, reply)
	}
	t.message("bot", person, reply)
	return reply, nil
}

// countReplies returns the number of replies to a person so far.
func (t *scriptRun) countReplies(a scenario, person string) int {
	transcript, chat, err := t.control.Conversation(a.channel, senderID(a, person))
	if err != nil {
		return 0 // Send reports the error
	}
	return len(transcript.Replies(chat))
}

// awaitReply waits for reply number n to a person, counted from 0.
func (t *scriptRun) awaitReply(ctx context.Context, a scenario, person string, n int) (string, error) {
	transcript, chat, err := t.control.Conversation(a.channel, senderID(a, person))
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

// checkReceived returns an error unless the application has received the number of messages of
// Steve, the last of them with the role.
func (t *scriptRun) checkReceived(a scenario, messages int, role string) error {
	received := t.App.Messages(string(a.channel), senderID(a, "Steve"))
	if len(received) != messages {
		return fmt.Errorf("the application should have received %d messages of Steve, but received %d",
			messages, len(received))
	}
	last := received[len(received)-1]
	if last.Data.Sender.Role != role || last.Data.Text != question {
		return fmt.Errorf("the application should receive Steve's question with role %s, but received role %s",
			role, last.Data.Sender.Role)
	}
	t.notef("the application receives it from %s, role %s", last.Data.Sender.ExternalID, last.Data.Sender.Role)
	return nil
}

// checkNoCodeLeaked returns an error if the application has received a code, a message of the
// stranger, or a request without a valid signature.
func (t *scriptRun) checkNoCodeLeaked() error {
	for _, a := range scenarios() {
		if n := len(t.App.Messages(string(a.channel), senderID(a, "stranger"))); n != 0 {
			return fmt.Errorf("%s: the application should not have received the message of the stranger", a.title)
		}
	}
	var spellings []string
	for _, c := range t.issuedCodes {
		spellings = append(spellings, c, claim.Group(c), strings.ReplaceAll(claim.Group(c), "-", " "))
	}
	if t.App.receivedAny(spellings...) {
		return errors.New("the application received a code")
	}
	if t.App.rejectedCount() > 0 {
		return errors.New("the application received a request without a valid signature")
	}
	return nil
}

// WithStepTimeout returns a context that bounds one step of the demo.
func WithStepTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, stepTimeout, fmt.Errorf("timeout after %s", stepTimeout))
}
