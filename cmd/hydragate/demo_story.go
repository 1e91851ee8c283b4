package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"hydragate/adapters"
	"hydragate/adapters/simulator"
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
			return fmt.Errorf("the story did not come out as told: %s: %w", a.title, err)
		}
	}
	if err := t.agentKnowsNoCode(); err != nil {
		return fmt.Errorf("the story did not come out as told: %w", err)
	}
	t.title("The end")
	t.plain(fmt.Sprintf("All came out as told: %d messages, %d answers, %d codes, of which the agent saw none, in %.1f s.", t.typed, t.answered, len(t.codes), time.Since(started).Seconds()))
	return nil
}

// A telling is the story while it is told.
type telling struct {
	*demo
	*teller
	control *simulator.Control

	codes           []string
	claimed         []act // verified so far
	typed, answered int
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
	burnt, err := t.issue(ctx, a, id, "issues a code for it and reads it to Steve:")
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
	if err := t.exchange(ctx, a, "Steve", question, saysStranger); err != nil {
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
	if err := t.exchange(ctx, a, "stranger", a.stranger(code), saysDeclined); err != nil {
		return err
	}
	if err := t.notVerified(ctx, identityID); err != nil {
		return err
	}
	t.behind("a code opens only the account it was made for")
	if err := t.exchange(ctx, a, "Steve", a.tooLate(code), saysDeclined); err != nil {
		return err
	}
	if err := t.notVerified(ctx, identityID); err != nil {
		return err
	}
	t.behind("the same answer: the stranger's try burnt the code")
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
	if err := t.exchange(ctx, a, "Steve", a.inTime(code), saysVerified); err != nil {
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
	if err := t.exchange(ctx, a, "Steve", question, saysBalance); err != nil {
		return err
	}
	return t.agentSaw(a, 2, "owner")
}

// account gives the external id of somebody in the story.
func account(a act, who string) string {
	if who == "Steve" {
		return steves(a.channel)
	}
	return strangers(a.channel)
}

// exchange lets somebody say text, and waits for one answer that holds want.
func (t *telling) exchange(ctx context.Context, a act, who, text, want string) error {
	before := t.answers(a, who)
	step, cancel := inTime(ctx)
	defer cancel()
	name := ""
	if who == "Steve" {
		name = who
	}
	at := account(a, who)
	atOnce, err := t.control.Say(step, person(a.channel, at, name, text))
	if err != nil {
		return fmt.Errorf("%s writes: %w", who, err)
	}
	t.typed++
	t.said(who, "bot", text)
	if atOnce != "" {
		t.said("bot", who, atOnce)
	}
	answer, err := t.answer(ctx, a, who, before)
	if err != nil {
		return fmt.Errorf("%s waits for an answer: %w", who, err)
	}
	if !strings.Contains(answer, want) {
		return fmt.Errorf("%s should be answered %q, and is answered %q", who, want, answer)
	}
	t.said("bot", who, answer)
	return nil
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
	t.agent.mu.Lock()
	defer t.agent.mu.Unlock()
	if t.agent.forged > 0 {
		return errors.New("the agent was sent something whose signature is not the gateway's")
	}
	return nil
}
