package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"hydragate/adapters"
	"hydragate/claim"
)

// An act is the story on one channel. Each has people with accounts of their own;
// the customer is the same.
type act struct {
	channel adapters.Channel
	title   string

	// How people type a code there, which is in six letters.
	stranger, tooLate, inTime func(code string) string
}

// acts are told in this order.
func acts() []act {
	return []act{
		{
			channel: adapters.Telegram, title: "Telegram",
			stranger: slashClaim, tooLate: slashClaim, inTime: slashClaim,
		},
		{
			channel: adapters.SMS, title: "SMS",
			stranger: func(code string) string { return "claim " + strings.ToLower(code) },
			tooLate:  func(code string) string { return "/claim " + code },
			inTime: func(code string) string {
				return "Claim " + strings.ReplaceAll(strings.ToLower(claim.Group(code)), "-", " ")
			},
		},
		{
			channel: adapters.Slack, title: "Slack",
			stranger: slashClaim,                                                       // the slash command
			tooLate:  func(code string) string { return "claim " + claim.Group(code) }, // a direct message
			inTime:   slashClaim,
		},
	}
}

func slashClaim(code string) string { return "/claim " + claim.Group(code) }

// script plays the story on every channel and prints it. It tells only what it saw.
func (d *demo) script(ctx context.Context) error {
	started := time.Now()
	t := &telling{demo: d, teller: newTeller(d.out), control: d.pretence.control()}
	t.plain("Steve is a customer. Matt works for the company and talks to him on the phone. The bot tells balances, but only to the owner of an account.")
	for _, a := range acts() {
		t.title(a.title)
		if err := t.play(ctx, a); err != nil {
			if ctx.Err() != nil {
				return errors.New("the story was interrupted")
			}
			return fmt.Errorf("the story did not come out as told: %s: %w", a.title, err)
		}
	}
	if err := t.agentKnowsNoCode(); err != nil {
		return fmt.Errorf("the story did not come out as told: %w", err)
	}
	t.title("The end")
	t.plain(fmt.Sprintf("All of this was seen to happen, in %.1f s: %d messages, %d answers and %d codes, none of which reached the agent.", time.Since(started).Seconds(), t.typed, t.answered, len(t.codes)))
	return nil
}

const (
	question = "What is my balance?"

	saysDeclined = "That code did not work."
	saysVerified = "you are verified"
	saysBalance  = "balance of your account is"
	saysStranger = "I do not know you yet"
)

// play tells the story on one channel.
func (t *telling) play(ctx context.Context, a act) error {
	id, err := t.meet(ctx, a)
	if err != nil {
		return err
	}
	burnt, err := t.issue(ctx, a, id, "issues a code and reads it to Steve:")
	if err != nil {
		return err
	}
	if err := t.burn(ctx, a, id, burnt); err != nil {
		return err
	}
	code, err := t.issue(ctx, a, id, "issues a new code:")
	if err != nil {
		return err
	}
	if err := t.redeem(ctx, a, id, code); err != nil {
		return err
	}
	return t.askAsOwner(ctx, a)
}

// meet lets Steve write, whom nobody knows, and has him linked. It gives the id of
// his identity.
func (t *telling) meet(ctx context.Context, a act) (identityID string, err error) {
	if _, err := t.exchange(ctx, a, "Steve", question, saysStranger); err != nil {
		return "", err
	}
	if err := t.agentSaw(a, 1, "unknown"); err != nil {
		return "", err
	}
	found, err := t.staff.unknown(ctx, t.instance, a.channel, steves(a.channel))
	if err != nil {
		return "", fmt.Errorf("Matt looks for Steve: %w", err)
	}
	if err := t.staff.adopt(ctx, t.steve, found.ID, "Steve"); err != nil {
		return "", fmt.Errorf("Matt links Steve: %w", err)
	}
	now, err := t.staff.identity(ctx, t.steve, found.ID)
	if err != nil {
		return "", fmt.Errorf("Matt looks at what he linked: %w", err)
	}
	if now.Verified || now.CustomerID != t.steve {
		return "", errors.New("Matt links Steve: the identity should be his and not yet verified")
	}
	t.did("Matt", "finds "+found.ExternalID+" among the unknown senders and links it to Steve")
	t.behind("linked to the customer, not verified")
	return found.ID, nil
}

// issue has Matt issue a code and read it to Steve.
func (t *telling) issue(ctx context.Context, a act, identityID, doing string) (code string, err error) {
	c, err := t.staff.issue(ctx, t.steve, identityID)
	if err != nil {
		return "", fmt.Errorf("Matt issues a code: %w", err)
	}
	if len(c.Code) != 6 || c.ExpiresIn != 900 || !strings.Contains(c.Instructions, claim.Spell(c.Code)) {
		return "", errors.New("Matt issues a code: it should have six letters, last 900 seconds and come with what to say")
	}
	t.codes = append(t.codes, c.Code)
	t.did("Matt", doing)
	t.said("Matt", "Steve", "“"+c.Instructions+"”")
	return c.Code, nil
}

// burn lets a stranger type Steve's code: it does not work for the stranger, and
// from then on not for Steve either.
func (t *telling) burn(ctx context.Context, a act, identityID, code string) error {
	toStranger, err := t.exchange(ctx, a, "stranger", a.stranger(code), saysDeclined)
	if err != nil {
		return err
	}
	if err := t.notVerified(ctx, identityID); err != nil {
		return err
	}
	t.behind("a code opens only the account it was made for")
	toSteve, err := t.exchange(ctx, a, "Steve", a.tooLate(code), saysDeclined)
	if err != nil {
		return err
	}
	if toSteve != toStranger {
		return errors.New("Steve and the stranger should be refused in the same words")
	}
	if err := t.notVerified(ctx, identityID); err != nil {
		return err
	}
	t.behind("the stranger's try has burnt the code, and nobody is told why")
	return nil
}

func (t *telling) notVerified(ctx context.Context, identityID string) error {
	i, err := t.staff.identity(ctx, t.steve, identityID)
	if err != nil {
		return fmt.Errorf("Matt looks whether Steve is verified: %w", err)
	}
	if i.Verified || i.RoleOverride != "" {
		return errors.New("Steve's identity is verified and should not be")
	}
	return nil
}

// redeem lets Steve type the code that is good.
func (t *telling) redeem(ctx context.Context, a act, identityID, code string) error {
	before := map[adapters.Channel]int{}
	for _, other := range t.claimed {
		before[other.channel] = t.answers(other, "Steve")
	}
	if _, err := t.exchange(ctx, a, "Steve", a.inTime(code), saysVerified); err != nil {
		return err
	}
	i, err := t.staff.identity(ctx, t.steve, identityID)
	if err != nil {
		return fmt.Errorf("Matt looks whether Steve is verified: %w", err)
	}
	if !i.Verified || i.VerifiedAt == nil || i.RoleOverride != "owner" {
		return errors.New("Steve is told that he is verified, but his identity is not, or not as owner")
	}
	t.behind("verified at %s with role_override %s", i.VerifiedAt.UTC().Format("15:04:05 UTC"), i.RoleOverride)
	step, cancel := inTime(ctx)
	defer cancel()
	role, err := t.agent.verified(step, identityID)
	if err != nil {
		return fmt.Errorf("the agent waits to be told of the new owner: %w", err)
	}
	if role != "owner" {
		return fmt.Errorf("the agent should be told of an owner, and is told of role %s", role)
	}
	t.behind("the agent is told identity.verified, role %s", role)
	for _, other := range t.claimed {
		notice, err := t.answer(ctx, other, "Steve", before[other.channel])
		if err != nil {
			return fmt.Errorf("Steve's %s waits for the notice: %w", other.title, err)
		}
		if want := "A new " + a.title + " account was just linked to you."; !strings.Contains(notice, want) {
			return fmt.Errorf("Steve's %s should read %q", other.title, want)
		}
		t.said("bot", "Steve", notice)
		t.behind("on %s, where Steve is verified already", other.title)
	}
	t.claimed = append(t.claimed, a)
	return nil
}

// askAsOwner lets Steve ask again.
func (t *telling) askAsOwner(ctx context.Context, a act) error {
	if _, err := t.exchange(ctx, a, "Steve", question, saysBalance); err != nil {
		return err
	}
	return t.agentSaw(a, 2, "owner")
}
