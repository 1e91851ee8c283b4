package harness

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"hydragate/adapters/simulator"
	"hydragate/claim"
	"hydragate/identity"
)

// A claimant is one person of the ruin, with what is known of the claim from outside.
type claimant struct {
	*crashFixture
	LinkedIdentity
	sender simulator.TelegramUser
	sent   int // messages so far
}

// runClaimant is the story of one person, told in six ways by turns. It ends when the
// person is verified.
func (r *crashFixture) runClaimant(ctx context.Context, n int64) {
	c, err := r.newClaimant(ctx, n)
	for err != nil && ctx.Err() == nil {
		sleepBriefly(ctx)
		c, err = r.newClaimant(ctx, n)
	}
	if err != nil {
		return
	}
	switch n % 6 {
	case 0: // the code at once, and once more
		c.redeemUntilVerified(ctx, func(code string) []string { return c.sendAndAwait(ctx, "/claim "+code, "/claim "+code) })
	case 1: // a wrong one first
		c.redeemUntilVerified(ctx, func(code string) []string {
			return c.sendAndAwait(ctx, "/claim "+WrongCode(code), "claim "+code[:3]+"-"+code[3:])[1:]
		})
	case 2: // the code before was read out, too
		old, _ := c.issueCode(ctx)
		c.redeemUntilVerified(ctx, func(code string) []string {
			got := c.sendAndAwait(ctx, "/claim "+old, code)
			c.requireNot(got[0], "claimed")
			return got[1:]
		})
	case 3: // verified, taken back, and the same code again
		code := c.redeemUntilVerified(ctx, func(code string) []string { return c.sendAndAwait(ctx, "/claim "+code) })
		if c.unverify(ctx) {
			c.requireNot(c.sendAndAwait(ctx, "/claim "+code)[0], "claimed")
		}
	case 4: // invited, by a link that two people open
		c.redeemInviteTwice(ctx)
	default:
		c.redeemUntilVerified(ctx, func(code string) []string { return c.sendAndAwait(ctx, "/claim "+code) })
	}
	if ctx.Err() == nil {
		r.done.Add(1)
	}
}

func (r *crashFixture) newClaimant(ctx context.Context, n int64) (*claimant, error) {
	c := &claimant{crashFixture: r, sender: simulator.TelegramUser{ID: 500_000 + n, FirstName: "Steve"}}
	customer, err := r.store.CreateCustomer(ctx, identity.Customer{TenantID: TestTenantID, FirstName: "Steve"}, identity.System)
	if err != nil {
		return nil, err
	}
	external := strconv.FormatInt(c.sender.ID, 10)
	i, err := r.store.Link(ctx, identity.Identity{TenantID: TestTenantID, CustomerID: customer.ID, InstanceID: r.instanceID, Channel: "telegram", ExternalID: external}, identity.System)
	c.LinkedIdentity = LinkedIdentity{customer.ID, i.ID, external}
	return c, err
}

// redeemUntilVerified asks for codes and has them typed until one is granted, and judges every
// answer on the way. It gives the code that was granted.
func (c *claimant) redeemUntilVerified(ctx context.Context, types func(code string) []string) string {
	for ctx.Err() == nil {
		code, epoch := c.issueCode(ctx)
		got := types(code)
		for i, outcome := range got {
			switch outcome {
			case "claimed":
				return code
			case "lost":
				c.lostReplies.Add(1)
				if c.redisEpoch.Load() == epoch {
					c.UnexplainedLosses.Add(1)
				}
			case "":
				return code // the end came first
			default:
				// Already verified needs somebody who was: a grant whose answer was another.
				c.WrongReplies.Add(1)
				c.t.Logf("a right code in time is %q (message %d of %s)", outcome, i, c.ExternalID)
			}
		}
	}
	return ""
}

// redeemInviteTwice has two people of whom nobody knows open one invite at the same time, twice
// each. One of the four messages is good, and the next of that person finds them verified;
// no proof is needed that could be lost.
func (c *claimant) redeemInviteTwice(ctx context.Context) {
	code := c.issueInvite(ctx)
	got := Concurrently(2, func(i int) []string {
		opener := *c
		opener.sender.ID += int64(i+1) * 1_000_000
		opener.ExternalID, opener.sent = strconv.FormatInt(opener.sender.ID, 10), 0
		return opener.sendAndAwait(ctx, "/start claim_"+code, "/claim "+code)
	})
	counts := map[string]int{}
	for _, outcome := range append(got[0], got[1]...) {
		counts[outcome]++
	}
	if ctx.Err() == nil && (counts["claimed"] != 1 || counts["already_verified"] != 1 || counts["declined"] != 2) {
		c.WrongReplies.Add(1)
		c.t.Logf("an invite that two people opened: %v", counts)
	}
}

// issueInvite asks for an invite until there is an answer with one.
func (c *claimant) issueInvite(ctx context.Context) string {
	for ctx.Err() == nil {
		// What a lost answer left is live, too: time passes for the limits.
		_, err := c.DB.ExecContext(ctx, `update audit_events set at = at - interval '2 days' where kind = 'invite.issued' and at > now() - interval '1 day'`)
		if err == nil {
			_, err = c.DB.ExecContext(ctx, `update invites set revoked_at = now() where customer_id = $1 and used_msg is null`, c.CustomerID)
		}
		if err != nil {
			sleepBriefly(ctx) // Postgres is down
			continue
		}
		res := c.API.Call(ctx, http.MethodPost, "/v1/customers/"+c.CustomerID+"/invites", map[string]string{"channel": "telegram", "instance_id": c.instanceID})
		var answer struct {
			Code string `json:"code"`
		}
		if res.Status == http.StatusCreated && json.Unmarshal([]byte(res.Body), &answer) == nil {
			c.mu.Lock()
			c.issuedCodes = append(c.issuedCodes, answer.Code)
			c.mu.Unlock()
			return answer.Code
		}
		sleepBriefly(ctx)
	}
	return claim.NewInviteCode()
}

func (c *claimant) requireNot(got, outcome string) {
	if got == outcome {
		c.WrongReplies.Add(1)
		c.t.Logf("a dead code is %q (%s)", outcome, c.ExternalID)
	}
}

// issueCode presses "Generate code" until there is an answer with a code. epoch says what
// had happened to Redis before.
func (c *claimant) issueCode(ctx context.Context) (code string, epoch int64) {
	for ctx.Err() == nil {
		// The limits on codes are not what is tested here: time passes.
		if _, err := c.DB.ExecContext(ctx, `update audit_events set at = at - interval '2 days' where kind in ('claim.issued', 'claim.reissued', 'invite.issued') and at > now() - interval '1 day'`); err != nil {
			sleepBriefly(ctx) // Postgres is down
			continue
		}
		epoch = c.redisEpoch.Load()
		res := c.API.Call(ctx, http.MethodPost, "/v1/customers/"+c.CustomerID+"/identities/"+c.IdentityID+"/claim-code", struct{}{})
		var answer struct {
			Code string `json:"code"`
		}
		if res.Status == http.StatusCreated && json.Unmarshal([]byte(res.Body), &answer) == nil {
			c.mu.Lock()
			c.issuedCodes = append(c.issuedCodes, answer.Code)
			c.mu.Unlock()
			return answer.Code, epoch
		}
		sleepBriefly(ctx)
	}
	return WrongCode(), epoch
}

func (c *claimant) unverify(ctx context.Context) bool {
	for ctx.Err() == nil {
		res := c.API.Call(ctx, http.MethodPatch, "/v1/customers/"+c.CustomerID+"/identities/"+c.IdentityID, map[string]bool{"verified": false})
		if res.Status == http.StatusOK {
			return true
		}
		sleepBriefly(ctx)
	}
	return false
}

// sendAndAwait types texts one after the other, without waiting for answers between, and gives
// what became of each.
func (c *claimant) sendAndAwait(ctx context.Context, texts ...string) []string {
	outcomes := make([]string, len(texts))
	first := c.sent
	for _, text := range texts {
		c.Telegram.SendText(BotUsername, c.sender, text)
		c.sent++
	}
	for ctx.Err() == nil {
		var n int
		err := c.DB.QueryRowContext(ctx, `select count(*) from messages where sender_id = $1 and state <> 'new'`, c.ExternalID).Scan(&n)
		if err == nil && n == c.sent {
			break
		}
		sleepBriefly(ctx)
	}
	for ctx.Err() == nil {
		rows, err := c.DB.QueryContext(ctx, `select outcome from messages where sender_id = $1 order by seq offset $2`, c.ExternalID, first)
		if err != nil {
			sleepBriefly(ctx)
			continue
		}
		i := 0
		for ; rows.Next() && i < len(outcomes); i++ {
			err = rows.Scan(&outcomes[i])
		}
		_ = rows.Close()
		if err == nil && rows.Err() == nil && i == len(outcomes) {
			return outcomes
		}
	}
	return make([]string, len(texts))
}

// DuplicateGrants counts the codes that verified somebody twice, and the customers who got two
// accounts by one invite, by the database's own word.
func (r *crashFixture) DuplicateGrants(t *testing.T) (n int) {
	t.Helper()
	n = r.QueryInt(`select count(*) from (select 1 from granted_claims group by identity_id having count(*) > 1) x`)
	openers := r.QueryInt(`select count(*) from (select 1 from identities where verified_at is not null group by customer_id having count(*) > 1) x`)
	all := int64(r.QueryInt(`select count(distinct identity_id) from granted_claims`))
	if all < r.done.Load() {
		t.Errorf("%d people say they are verified, the database granted %d", r.done.Load(), all)
	}
	return n + openers
}

// RequireNoCodesStored looks for every code of the proof in all that was kept, logged and
// handed on. One that is planted is found.
func (r *crashFixture) RequireNoCodesStored(t *testing.T) {
	t.Helper()
	everything := func() map[string]string {
		return map[string]string{
			"database": strings.Join(r.AllRows(""), "\n"), "redis": dumpRedis(t, r.redis), "log": r.Log.String(), "application": r.App.bodies(),
		}
	}
	if hits := FindCodes(r.issuedCodes, everything()); len(hits) > 0 {
		t.Errorf("of %d codes: %v", len(r.issuedCodes), hits)
	}
	if r.Log.String() == "" || len(r.issuedCodes) == 0 {
		t.Error("there is no log, or there are no codes")
	}
	r.Exec(`update customers set last_name = $1 where id = (select min(id::text)::uuid from customers)`, r.issuedCodes[0])
	if len(FindCodes(r.issuedCodes[:1], everything())) != 1 {
		t.Error("the planted code is not found")
	}
}
