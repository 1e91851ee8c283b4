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

// A scenario is the story of a claim on one channel. The accounts differ between scenarios; the
// customer is the same.
type scenario struct {
	channel adapters.Channel
	title   string

	// The text that a person sends for a code of six letters.
	strangerText, lateText, validText func(code string) string

	messageKind func(text string) string // how a text reaches the bot, if there are several ways
}

// scenarios returns the scenarios in the order in which they are played.
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

// runScript plays every scenario. It prints only what it has checked.
func (d *Environment) runScript(ctx context.Context) error {
	started := time.Now()
	t := &scriptRun{Environment: d, printer: newPrinter(d.Out), control: d.Providers.NewControl()}
	t.paragraph("Steve is a customer. Matt works for the company and talks to him on the phone. " +
		"The bot knows balances, but only answers the owner of an account.")
	for _, a := range scenarios() {
		t.title(a.title)
		if err := t.runScenario(ctx, a); err != nil {
			if ctx.Err() != nil {
				return errors.New("the script was interrupted")
			}
			return fmt.Errorf("the script failed: %s: %w", a.title, err)
		}
	}
	if err := t.checkNoCodeLeaked(); err != nil {
		return fmt.Errorf("the script failed: %w", err)
	}
	t.title("Result")
	t.paragraph(fmt.Sprintf("Every step was checked, in %.1f s: %d messages, %d replies and %d codes. "+
		"No code reached the application.",
		time.Since(started).Seconds(), t.sentCount, t.replyCount, len(t.issuedCodes)))
	return nil
}

// Texts of the script. Replies are compared with a part of their text.
const (
	question = "What is my balance?"

	ReplyDeclined = "That code did not work."
	ReplyVerified = "You are now verified as S…e."
	replyBalance  = "balance of your account is"
	replyUnknown  = "I do not know you yet"
)

// runScenario plays one scenario.
func (t *scriptRun) runScenario(ctx context.Context, a scenario) error {
	id, err := t.linkSender(ctx, a)
	if err != nil {
		return err
	}
	exposed, err := t.issueCode(ctx, id, "issues a code and reads it to Steve:")
	if err != nil {
		return err
	}
	if err := t.exposeCode(ctx, a, id, exposed); err != nil {
		return err
	}
	code, err := t.issueCode(ctx, id, "issues a new code:")
	if err != nil {
		return err
	}
	if err := t.redeemCode(ctx, a, id, code); err != nil {
		return err
	}
	return t.askAsOwner(ctx, a)
}

// linkSender sends a message as Steve, who is unknown, and links his identity to the customer. It
// returns the id of the identity.
func (t *scriptRun) linkSender(ctx context.Context, a scenario) (identityID string, err error) {
	if _, err := t.sendAndExpect(ctx, a, "Steve", question, replyUnknown); err != nil {
		return "", err
	}
	if err := t.checkReceived(a, 1, "unknown"); err != nil {
		return "", err
	}
	found, err := t.API.findUnknown(ctx, t.InstanceID, a.channel, steveAccount(a.channel))
	if err != nil {
		return "", fmt.Errorf("list the unknown senders as Matt: %w", err)
	}
	if err := t.API.adoptIdentity(ctx, t.CustomerID, found.ID, "Steve"); err != nil {
		return "", fmt.Errorf("link Steve as Matt: %w", err)
	}
	linked, err := t.API.GetIdentity(ctx, t.CustomerID, found.ID)
	if err != nil {
		return "", fmt.Errorf("read the identity as Matt: %w", err)
	}
	if linked.Verified || linked.CustomerID != t.CustomerID {
		return "", errors.New("link Steve as Matt: the identity should be linked and not verified")
	}
	t.action("Matt", "finds "+found.ExternalID+" among the unknown senders and links it to Steve")
	t.notef("the identity is linked to the customer, but not verified")
	return found.ID, nil
}

// issueCode issues a code, as Matt, who reads it to Steve.
func (t *scriptRun) issueCode(ctx context.Context, identityID, action string) (code string, err error) {
	c, err := t.API.IssueCode(ctx, t.CustomerID, identityID)
	if err != nil {
		return "", fmt.Errorf("issue a code as Matt: %w", err)
	}
	if len(c.Code) != 6 || c.ExpiresIn != 900 || !strings.Contains(c.Instructions, claim.Spell(c.Code)) {
		return "", errors.New("issue a code as Matt: it should have six letters, expire after 900 seconds " +
			"and have instructions")
	}
	t.issuedCodes = append(t.issuedCodes, c.Code)
	t.action("Matt", action)
	t.message("Matt", "Steve", "“"+c.Instructions+"”")
	return c.Code, nil
}

// exposeCode sends Steve's code from the account of a stranger. It must not work, and from then on
// not for Steve either.
func (t *scriptRun) exposeCode(ctx context.Context, a scenario, identityID, code string) error {
	strangerReply, err := t.sendAndExpect(ctx, a, "stranger", a.strangerText(code), ReplyDeclined)
	if err != nil {
		return err
	}
	if err := t.checkUnverified(ctx, identityID); err != nil {
		return err
	}
	t.notef("a code works only for the account that it was issued for")
	steveReply, err := t.sendAndExpect(ctx, a, "Steve", a.lateText(code), ReplyDeclined)
	if err != nil {
		return err
	}
	if steveReply != strangerReply {
		return errors.New("the stranger and Steve should get the same reply")
	}
	if err := t.checkUnverified(ctx, identityID); err != nil {
		return err
	}
	t.notef("the attempt revoked the code; the replies do not say why")
	return nil
}

// checkUnverified returns an error if Steve's identity is verified.
func (t *scriptRun) checkUnverified(ctx context.Context, identityID string) error {
	i, err := t.API.GetIdentity(ctx, t.CustomerID, identityID)
	if err != nil {
		return fmt.Errorf("read the identity as Matt: %w", err)
	}
	if i.Verified || i.RoleOverride != "" {
		return errors.New("the identity of Steve is verified and should not be")
	}
	return nil
}

// redeemCode sends the valid code as Steve. His identity must be verified, the application
// notified, and a notice sent to the accounts that were verified before.
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
		return fmt.Errorf("read the identity as Matt: %w", err)
	}
	if !i.Verified || i.VerifiedAt == nil || i.RoleOverride != "owner" {
		return errors.New("the reply says that Steve is verified, but his identity is not verified as owner")
	}
	t.notef("verified at %s with role_override %s", i.VerifiedAt.UTC().Format("15:04:05 UTC"), i.RoleOverride)
	step, cancel := WithStepTimeout(ctx)
	defer cancel()
	role, err := t.App.awaitVerified(step, identityID)
	if err != nil {
		return fmt.Errorf("wait for the event identity.verified: %w", err)
	}
	if role != "owner" {
		return fmt.Errorf("the event identity.verified should have role owner, but has role %s", role)
	}
	t.notef("the application receives identity.verified, role %s", role)
	for _, other := range t.verifiedOn {
		notice, err := t.awaitReply(ctx, other, "Steve", before[other.channel])
		if err != nil {
			return fmt.Errorf("wait for the notice on Steve's %s: %w", other.title, err)
		}
		if want := "A new " + a.title + " account was just linked to you."; !strings.Contains(notice, want) {
			return fmt.Errorf("the notice on Steve's %s should contain %q", other.title, want)
		}
		t.message("bot", "Steve", notice)
		t.notef("sent on %s, where Steve was verified before", other.title)
	}
	t.verifiedOn = append(t.verifiedOn, a)
	return nil
}

// askAsOwner asks again, as Steve, who is verified now.
func (t *scriptRun) askAsOwner(ctx context.Context, a scenario) error {
	if _, err := t.sendAndExpect(ctx, a, "Steve", question, replyBalance); err != nil {
		return err
	}
	return t.checkReceived(a, 2, "owner")
}
