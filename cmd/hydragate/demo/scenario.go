package demo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"hydragate/adapters"
	"hydragate/claim"
)

// An scenario is the story on one channel. Each has people with accounts of their own;
// the customer is the same.
type scenario struct {
	channel adapters.Channel
	title   string

	// How people type a code there, which is in six letters.
	strangerText, lateText, validText func(code string) string

	messageKind func(text string) string // how a text reaches the bot, if there are several ways
}

// scenarios are told in this order.
func scenarios() []scenario {
	return []scenario{
		{
			channel: adapters.Telegram, title: "Telegram",
			strangerText: claimCommand, lateText: claimCommand, validText: claimCommand,
		},
		{
			channel: adapters.SMS, title: "SMS",
			strangerText: func(code string) string { return "claim " + strings.ToLower(code) },
			lateText:     func(code string) string { return "/claim " + code },
			validText: func(code string) string {
				return "Claim " + strings.ReplaceAll(strings.ToLower(claim.Group(code)), "-", " ")
			},
		},
		{
			channel: adapters.Slack, title: "Slack",
			strangerText: claimCommand,                                                     // the slash command
			lateText:     func(code string) string { return "claim " + claim.Group(code) }, // a direct message
			validText:    claimCommand,
			messageKind:  slackMessageKind,
		},
	}
}

func slackMessageKind(text string) string {
	if strings.HasPrefix(text, "/") {
		return "slash command"
	}
	return "direct message"
}

func claimCommand(code string) string { return "/claim " + claim.Group(code) }

// runScript plays the story on every channel and prints it. It tells only what it saw.
func (d *Environment) runScript(ctx context.Context) error {
	started := time.Now()
	t := &scriptRun{Environment: d, printer: newPrinter(d.Out), control: d.Providers.NewControl()}
	t.paragraph("Steve is a customer. Matt works for the company and talks to him on the phone. The bot tells balances, but only to the owner of an account.")
	for _, a := range scenarios() {
		t.title(a.title)
		if err := t.runScenario(ctx, a); err != nil {
			if ctx.Err() != nil {
				return errors.New("the story was interrupted")
			}
			return fmt.Errorf("the story did not come out as told: %s: %w", a.title, err)
		}
	}
	if err := t.checkNoCodeLeaked(); err != nil {
		return fmt.Errorf("the story did not come out as told: %w", err)
	}
	t.title("The end")
	t.paragraph(fmt.Sprintf("All of this was seen to happen, in %.1f s: %d messages, %d answers and %d codes, none of which reached the agent.", time.Since(started).Seconds(), t.sentCount, t.replyCount, len(t.issuedCodes)))
	return nil
}

const (
	question = "What is my balance?"

	ReplyDeclined = "That code did not work."
	ReplyVerified = "You are verified"
	replyBalance  = "balance of your account is"
	replyUnknown  = "I do not know you yet"
)

// runScenario tells the story on one channel.
func (t *scriptRun) runScenario(ctx context.Context, a scenario) error {
	id, err := t.linkSender(ctx, a)
	if err != nil {
		return err
	}
	burnt, err := t.issueCode(ctx, a, id, "issues a code and reads it to Steve:")
	if err != nil {
		return err
	}
	if err := t.exposeCode(ctx, a, id, burnt); err != nil {
		return err
	}
	code, err := t.issueCode(ctx, a, id, "issues a new code:")
	if err != nil {
		return err
	}
	if err := t.redeemCode(ctx, a, id, code); err != nil {
		return err
	}
	return t.askAsOwner(ctx, a)
}

// linkSender lets Steve write, whom nobody knows, and has him linked. It gives the id of
// his identity.
func (t *scriptRun) linkSender(ctx context.Context, a scenario) (identityID string, err error) {
	if _, err := t.sendAndExpect(ctx, a, "Steve", question, replyUnknown); err != nil {
		return "", err
	}
	if err := t.checkReceived(a, 1, "unknown"); err != nil {
		return "", err
	}
	found, err := t.API.findUnknown(ctx, t.InstanceID, a.channel, steveAccount(a.channel))
	if err != nil {
		return "", fmt.Errorf("Matt looks for Steve: %w", err)
	}
	if err := t.API.adoptIdentity(ctx, t.CustomerID, found.ID, "Steve"); err != nil {
		return "", fmt.Errorf("Matt links Steve: %w", err)
	}
	now, err := t.API.GetIdentity(ctx, t.CustomerID, found.ID)
	if err != nil {
		return "", fmt.Errorf("Matt looks at what he linked: %w", err)
	}
	if now.Verified || now.CustomerID != t.CustomerID {
		return "", errors.New("Matt links Steve: the identity should be his and not yet verified")
	}
	t.action("Matt", "finds "+found.ExternalID+" among the unknown senders and links it to Steve")
	t.note("linked to the customer, not verified")
	return found.ID, nil
}

// issueCode has Matt issue a code and read it to Steve.
func (t *scriptRun) issueCode(ctx context.Context, a scenario, identityID, doing string) (code string, err error) {
	c, err := t.API.IssueCode(ctx, t.CustomerID, identityID)
	if err != nil {
		return "", fmt.Errorf("Matt issues a code: %w", err)
	}
	if len(c.Code) != 6 || c.ExpiresIn != 900 || !strings.Contains(c.Instructions, claim.Spell(c.Code)) {
		return "", errors.New("Matt issues a code: it should have six letters, last 900 seconds and come with what to say")
	}
	t.issuedCodes = append(t.issuedCodes, c.Code)
	t.action("Matt", doing)
	t.dialogue("Matt", "Steve", "“"+c.Instructions+"”")
	return c.Code, nil
}

// exposeCode lets a stranger type Steve's code: it does not work for the stranger, and
// from then on not for Steve either.
func (t *scriptRun) exposeCode(ctx context.Context, a scenario, identityID, code string) error {
	toStranger, err := t.sendAndExpect(ctx, a, "stranger", a.strangerText(code), ReplyDeclined)
	if err != nil {
		return err
	}
	if err := t.checkUnverified(ctx, identityID); err != nil {
		return err
	}
	t.note("a code opens only the account it was made for")
	toSteve, err := t.sendAndExpect(ctx, a, "Steve", a.lateText(code), ReplyDeclined)
	if err != nil {
		return err
	}
	if toSteve != toStranger {
		return errors.New("Steve and the stranger should be refused in the same words")
	}
	if err := t.checkUnverified(ctx, identityID); err != nil {
		return err
	}
	t.note("the stranger's try has burnt the code, and nobody is told why")
	return nil
}

func (t *scriptRun) checkUnverified(ctx context.Context, identityID string) error {
	i, err := t.API.GetIdentity(ctx, t.CustomerID, identityID)
	if err != nil {
		return fmt.Errorf("Matt looks whether Steve is verified: %w", err)
	}
	if i.Verified || i.RoleOverride != "" {
		return errors.New("Steve's identity is verified and should not be")
	}
	return nil
}

// redeemCode lets Steve type the code that is good.
func (t *scriptRun) redeemCode(ctx context.Context, a scenario, identityID, code string) error {
	before := map[adapters.Channel]int{}
	for _, other := range t.verifiedOn {
		before[other.channel] = t.countReplies(other, "Steve")
	}
	if _, err := t.sendAndExpect(ctx, a, "Steve", a.validText(code), ReplyVerified); err != nil {
		return err
	}
	i, err := t.API.GetIdentity(ctx, t.CustomerID, identityID)
	if err != nil {
		return fmt.Errorf("Matt looks whether Steve is verified: %w", err)
	}
	if !i.Verified || i.VerifiedAt == nil || i.RoleOverride != "owner" {
		return errors.New("Steve is told that he is verified, but his identity is not, or not as owner")
	}
	t.note("verified at %s with role_override %s", i.VerifiedAt.UTC().Format("15:04:05 UTC"), i.RoleOverride)
	step, cancel := WithStepTimeout(ctx)
	defer cancel()
	role, err := t.App.awaitVerified(step, identityID)
	if err != nil {
		return fmt.Errorf("the agent waits to be told of the new owner: %w", err)
	}
	if role != "owner" {
		return fmt.Errorf("the agent should be told of an owner, and is told of role %s", role)
	}
	t.note("the agent is told identity.verified, role %s", role)
	for _, other := range t.verifiedOn {
		notice, err := t.awaitReply(ctx, other, "Steve", before[other.channel])
		if err != nil {
			return fmt.Errorf("Steve's %s waits for the notice: %w", other.title, err)
		}
		if want := "A new " + a.title + " account was just linked to you."; !strings.Contains(notice, want) {
			return fmt.Errorf("Steve's %s should read %q", other.title, want)
		}
		t.dialogue("bot", "Steve", notice)
		t.note("on %s, where Steve is verified already", other.title)
	}
	t.verifiedOn = append(t.verifiedOn, a)
	return nil
}

// askAsOwner lets Steve ask again.
func (t *scriptRun) askAsOwner(ctx context.Context, a scenario) error {
	if _, err := t.sendAndExpect(ctx, a, "Steve", question, replyBalance); err != nil {
		return err
	}
	return t.checkReceived(a, 2, "owner")
}
