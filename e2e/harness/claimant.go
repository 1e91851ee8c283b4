//go:build unix

package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"hydragate/adapters/simulator"
	"hydragate/claim"
	"hydragate/identity"
)

// A claimant is a user who claims an identity.
type claimant struct {
	*CrashFixture
	LinkedIdentity
	sender simulator.TelegramUser
	sent   int // messages so far
}

// runClaimant runs one of six scenarios, by n. It ends when the user is verified.
func (r *CrashFixture) runClaimant(ctx context.Context, n int64) {
	c, err := r.newClaimant(ctx, n)
	for err != nil && ctx.Err() == nil {
		sleepBriefly(ctx)
		c, err = r.newClaimant(ctx, n)
	}
	if err != nil {
		return
	}
	switch n % 6 {
	case 0: // the same code twice
		c.redeemUntilVerified(ctx, func(code string) []string { return c.sendAndAwait(ctx, "/claim "+code, "/claim "+code) })
	case 1: // a wrong code first
		c.redeemUntilVerified(ctx, func(code string) []string {
			return c.sendAndAwait(ctx, "/claim "+WrongCode(code), "claim "+code[:3]+"-"+code[3:])[1:]
		})
	case 2: // a code that was replaced
		old, _ := c.issueCode(ctx)
		c.redeemUntilVerified(ctx, func(code string) []string {
			got := c.sendAndAwait(ctx, "/claim "+old, code)
			c.requireNot(got[0], "claimed")
			return got[1:]
		})
	case 3: // a used code after the identity was unverified
		code := c.redeemUntilVerified(ctx, func(code string) []string { return c.sendAndAwait(ctx, "/claim "+code) })
		if c.unverify(ctx) {
			c.requireNot(c.sendAndAwait(ctx, "/claim "+code)[0], "claimed")
		}
	case 4: // an invite that two users redeem
		c.redeemInviteTwice(ctx)
	default:
		c.redeemUntilVerified(ctx, func(code string) []string { return c.sendAndAwait(ctx, "/claim "+code) })
	}
	if ctx.Err() == nil {
		r.done.Add(1)
	}
}

func (r *CrashFixture) newClaimant(ctx context.Context, n int64) (*claimant, error) {
	c := &claimant{CrashFixture: r, sender: simulator.TelegramUser{ID: 500_000 + n, FirstName: "Steve"}}
	customer, err := r.store.CreateCustomer(
		ctx,
		identity.Customer{TenantID: TestTenantID, FirstName: "Steve"},
		identity.System,
	)
	if err != nil {
		return nil, err
	}
	external := strconv.FormatInt(c.sender.ID, 10)
	i, err := r.store.Link(
		ctx,
		identity.Identity{
			TenantID:   TestTenantID,
			CustomerID: customer.ID,
			InstanceID: r.instanceID,
			Channel:    "telegram",
			ExternalID: external,
		},
		identity.System,
	)
	c.LinkedIdentity = LinkedIdentity{customer.ID, i.ID, external}
	return c, err
}

// redeemUntilVerified issues codes and sends them until one is accepted. It counts unexpected outcomes
// and returns the code that was accepted.
func (c *claimant) redeemUntilVerified(ctx context.Context, send func(code string) []string) string {
	for ctx.Err() == nil {
		code, epoch := c.issueCode(ctx)
		got := send(code)
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
				return code // the test has ended
			default:
				c.WrongReplies.Add(1)
				c.t.Logf("outcome of a valid code = %q (message %d of %s)\n%s", outcome, i, c.ExternalID, c.state(ctx))
			}
		}
		if c.stopsEarly() {
			c.stop()
		}
	}
	return ""
}

// redeemInviteTwice has two unknown users redeem an invite concurrently, twice each. One of the four
// messages is accepted, and the other message of that user is already verified.
func (c *claimant) redeemInviteTwice(ctx context.Context) {
	code := c.issueInvite(ctx)
	got := Concurrently(2, func(i int) []string {
		user := *c
		user.sender.ID += int64(i+1) * 1_000_000
		user.ExternalID, user.sent = strconv.FormatInt(user.sender.ID, 10), 0
		return user.sendAndAwait(ctx, "/start claim_"+code, "/claim "+code)
	})
	counts := map[string]int{}
	for _, outcome := range append(got[0], got[1]...) {
		counts[outcome]++
	}
	if ctx.Err() == nil && (counts["claimed"] != 1 || counts["already_verified"] != 1 || counts["declined"] != 2) {
		c.WrongReplies.Add(1)
		c.t.Logf("outcomes of an invite that two users redeemed: %v\n%s", counts, c.state(ctx))
	}
}

// issueInvite creates an invite, with retries until ctx ends.
func (c *claimant) issueInvite(ctx context.Context) string {
	for ctx.Err() == nil {
		// Invites whose responses were lost count for the limits, too.
		_, err := c.DB.ExecContext(
			ctx,
			`update audit_events set at = at - interval '2 days' where kind = 'invite.issued' and at > now() - interval '1 day'`,
		)
		if err == nil {
			_, err = c.DB.ExecContext(
				ctx,
				`update invites set revoked_at = now() where customer_id = $1 and used_msg is null`,
				c.CustomerID,
			)
		}
		if err != nil {
			sleepBriefly(ctx) // Postgres is down
			continue
		}
		res := c.API.Call(
			ctx,
			http.MethodPost,
			"/v1/customers/"+c.CustomerID+"/invites",
			map[string]string{"channel": "telegram", "instance_id": c.instanceID},
		)
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
		c.t.Logf("outcome of a dead code = %q (%s)\n%s", outcome, c.ExternalID, c.state(c.t.Context()))
	}
}

// state returns what is stored about the codes of a claimant, which shows the cause of a wrong outcome.
func (c *claimant) state(ctx context.Context) string {
	var b strings.Builder
	for name, query := range map[string]string{
		"identity": `select concat_ws(' ', 'generation', claim_gen, 'expires', claim_expires_at, 'used by', claim_used_msg,
			'revoked', claim_revoked_at, 'verified', verified_at) from identities where id = $1`,
		"messages": `select concat_ws(' ', m.seq, m.id, m.outcome, m.attempts, m.received_at, m.sender_id)
			from messages m join identities i on i.external_id like '%' || right(m.sender_id, 6) where i.id = $1 order by m.seq`,
		"events": `select concat_ws(' ', seq, at, kind, message_id, detail) from audit_events where identity_id = $1
			or customer_id = (select customer_id from identities where id = $1) order by seq`,
	} {
		err := forEachRow(ctx, c.DB.DB, query, []any{c.IdentityID}, func(_ []string, values []any) {
			fmt.Fprintf(&b, "%s: %s\n", name, joinValues(values))
		})
		if err != nil {
			fmt.Fprintf(&b, "%s: %v\n", name, err)
		}
	}
	key := "hg:{instance/" + c.instanceID + "}:claim:" + c.IdentityID
	stored, err := c.redis.HMGet(ctx, key, "g", "f").Result()
	fmt.Fprintf(&b, "redis: generation and wrong tries %v, TTL %s, %v; epoch %d, now %s",
		stored, c.redis.TTL(ctx, key).Val(), err, c.redisEpoch.Load(), time.Now().UTC().Format(time.RFC3339Nano))
	return b.String()
}

// issueCode issues a code, with retries until ctx ends. epoch is the epoch of Redis before.
func (c *claimant) issueCode(ctx context.Context) (code string, epoch int64) {
	for ctx.Err() == nil {
		// Age the events that limit the number of codes.
		_, err := c.DB.ExecContext(ctx, `update audit_events set at = at - interval '2 days'
			where kind in ('claim.issued', 'claim.reissued', 'invite.issued') and at > now() - interval '1 day'`)
		if err == nil { // and the wrong codes of earlier rounds
			_, err = c.DB.ExecContext(ctx, `update claim_failures set at = at - interval '2 days'
				where sender_id = $1 and at > now() - interval '1 day'`, c.ExternalID)
		}
		if err != nil {
			sleepBriefly(ctx) // Postgres is down
			continue
		}
		epoch = c.redisEpoch.Load()
		res := c.API.Call(
			ctx,
			http.MethodPost,
			"/v1/customers/"+c.CustomerID+"/identities/"+c.IdentityID+"/claim-code",
			struct{}{},
		)
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

// unverify sets the identity to not verified, with retries until ctx ends.
func (c *claimant) unverify(ctx context.Context) bool {
	for ctx.Err() == nil {
		res := c.API.Call(
			ctx,
			http.MethodPatch,
			"/v1/customers/"+c.CustomerID+"/identities/"+c.IdentityID,
			map[string]bool{"verified": false},
		)
		if res.Status == http.StatusOK {
			return true
		}
		sleepBriefly(ctx)
	}
	return false
}

// sendAndAwait sends texts without waiting for the replies, and returns their outcomes.
func (c *claimant) sendAndAwait(ctx context.Context, texts ...string) []string {
	first := c.sent
	for _, text := range texts {
		c.Telegram.SendText(BotUsername, c.sender, text)
		c.sent++
	}
	for ctx.Err() == nil {
		var n int
		query := `select count(*) from messages where sender_id = $1 and state <> 'new'`
		err := c.DB.QueryRowContext(ctx, query, c.ExternalID).Scan(&n)
		if err == nil && n == c.sent {
			break
		}
		sleepBriefly(ctx)
	}
	for ctx.Err() == nil {
		var outcomes []string
		query := `select outcome from messages where sender_id = $1 order by seq offset $2`
		err := forEachRow(ctx, c.DB.DB, query, []any{c.ExternalID, first}, func(_ []string, values []any) {
			outcomes = append(outcomes, joinValues(values))
		})
		if err == nil && len(outcomes) >= len(texts) {
			return outcomes[:len(texts)]
		}
		sleepBriefly(ctx)
	}
	return make([]string, len(texts))
}

// DuplicateGrants returns the number of codes that were accepted twice and of customers with two
// identities from one invite, as recorded by the trigger.
func (r *CrashFixture) DuplicateGrants(t *testing.T) (n int) {
	t.Helper()
	n = r.QueryInt(`select count(*) from (select 1 from granted_claims group by identity_id having count(*) > 1) x`)
	redeemers := r.QueryInt(
		`select count(*) from (select 1 from identities where verified_at is not null
			group by customer_id having count(*) > 1) x`,
	)
	all := int64(r.QueryInt(`select count(distinct identity_id) from granted_claims`))
	if all < r.done.Load() {
		t.Errorf("%d users are verified, but %d claims are recorded", r.done.Load(), all)
	}
	return n + redeemers
}

// RequireNoCodesStored searches for all codes in what was stored, logged and delivered. It must find a
// planted code.
func (r *CrashFixture) RequireNoCodesStored(t *testing.T) {
	t.Helper()
	places := func() map[string]string {
		return map[string]string{
			"database": strings.Join(
				r.AllRows(""),
				"\n",
			), "redis": DumpRedis(t, r.redis), "log": r.Log.String(), "application": r.App.bodies(),
		}
	}
	if hits := FindCodes(r.issuedCodes, places()); len(hits) > 0 {
		t.Errorf("of %d codes: %v", len(r.issuedCodes), hits)
	}
	if r.Log.String() == "" || len(r.issuedCodes) == 0 {
		t.Error("the log is empty or no code was issued, so the check is void")
	}
	r.Exec(`update customers set last_name = $1 where id = (select min(id::text)::uuid from customers)`, r.issuedCodes[0])
	if len(FindCodes(r.issuedCodes[:1], places())) != 1 {
		t.Error("FindCodes did not find a code that was written to the database")
	}
}
