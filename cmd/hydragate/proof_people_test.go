//go:build unix

package main

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"hydragate/adapters/simulator"
	"hydragate/claim"
	"hydragate/identity"
)

// A claimant is one person of the ruin, with what is known of the claim from outside.
type claimant struct {
	*ruin
	person
	who  simulator.Person
	said int // messages so far
}

// claim is the story of one person, told in six ways by turns. It ends when the
// person is verified.
func (r *ruin) claim(ctx context.Context, n int64) {
	c, err := r.claimant(ctx, n)
	for err != nil && ctx.Err() == nil {
		pause(ctx)
		c, err = r.claimant(ctx, n)
	}
	if err != nil {
		return
	}
	switch n % 6 {
	case 0: // the code at once, and once more
		c.claimed(ctx, func(code string) []string { return c.says(ctx, "/claim "+code, "/claim "+code) })
	case 1: // a wrong one first
		c.claimed(ctx, func(code string) []string {
			return c.says(ctx, "/claim "+otherThan(code), "claim "+code[:3]+"-"+code[3:])[1:]
		})
	case 2: // the code before was read out, too
		old, _ := c.press(ctx)
		c.claimed(ctx, func(code string) []string {
			got := c.says(ctx, "/claim "+old, code)
			c.mustNot(got[0], "claimed")
			return got[1:]
		})
	case 3: // verified, taken back, and the same code again
		code := c.claimed(ctx, func(code string) []string { return c.says(ctx, "/claim "+code) })
		if c.unverify(ctx) {
			c.mustNot(c.says(ctx, "/claim "+code)[0], "claimed")
		}
	case 4: // invited, by a link that two people open
		c.opened(ctx)
	default:
		c.claimed(ctx, func(code string) []string { return c.says(ctx, "/claim "+code) })
	}
	if ctx.Err() == nil {
		r.done.Add(1)
	}
}

func (r *ruin) claimant(ctx context.Context, n int64) (*claimant, error) {
	c := &claimant{ruin: r, who: simulator.Person{ID: 500_000 + n, First: "Steve"}}
	customer, err := r.store.CreateCustomer(ctx, identity.Customer{TenantID: proofTenant, FirstName: "Steve"}, identity.System)
	if err != nil {
		return nil, err
	}
	external := strconv.FormatInt(c.who.ID, 10)
	i, err := r.store.Link(ctx, identity.Identity{TenantID: proofTenant, CustomerID: customer.ID, InstanceID: r.instance, Channel: "telegram", ExternalID: external}, identity.System)
	c.person = person{customer.ID, i.ID, external}
	return c, err
}

// claimed asks for codes and has them typed until one is granted, and judges every
// answer on the way. It gives the code that was granted.
func (c *claimant) claimed(ctx context.Context, types func(code string) []string) string {
	for ctx.Err() == nil {
		code, epoch := c.press(ctx)
		got := types(code)
		for i, outcome := range got {
			switch outcome {
			case "claimed":
				return code
			case "lost":
				c.told.Add(1)
				if c.epoch.Load() == epoch {
					c.lost.Add(1)
				}
			case "":
				return code // the end came first
			default:
				// Already verified needs somebody who was: a grant whose answer was another.
				c.wrong.Add(1)
				c.t.Logf("a right code in time is %q (message %d of %s)", outcome, i, c.external)
			}
		}
	}
	return ""
}

// opened has two people of whom nobody knows open one invite at the same time, twice
// each. One of the four messages is good, and the next of that person finds them verified;
// no proof is needed that could be lost.
func (c *claimant) opened(ctx context.Context) {
	code := c.invited(ctx)
	got := atOnce(2, func(i int) []string {
		opener := *c
		opener.who.ID += int64(i+1) * 1_000_000
		opener.external, opener.said = strconv.FormatInt(opener.who.ID, 10), 0
		return opener.says(ctx, "/start claim_"+code, "/claim "+code)
	})
	counts := map[string]int{}
	for _, outcome := range append(got[0], got[1]...) {
		counts[outcome]++
	}
	if ctx.Err() == nil && (counts["claimed"] != 1 || counts["already_verified"] != 1 || counts["declined"] != 2) {
		c.wrong.Add(1)
		c.t.Logf("an invite that two people opened: %v", counts)
	}
}

// invited asks for an invite until there is an answer with one.
func (c *claimant) invited(ctx context.Context) string {
	for ctx.Err() == nil {
		// What a lost answer left is live, too: time passes for the limits.
		_, err := c.sql.ExecContext(ctx, `update audit_events set at = at - interval '2 days' where kind = 'invite.issued' and at > now() - interval '1 day'`)
		if err == nil {
			_, err = c.sql.ExecContext(ctx, `update invites set revoked_at = now() where customer_id = $1 and used_msg is null`, c.customer)
		}
		if err != nil {
			pause(ctx) // Postgres is down
			continue
		}
		status, body := c.call(ctx, http.MethodPost, "/v1/customers/"+c.customer+"/invites", map[string]string{"channel": "telegram", "instance_id": c.instance})
		var answer struct {
			Code string `json:"code"`
		}
		if status == http.StatusCreated && json.Unmarshal(body, &answer) == nil {
			c.mu.Lock()
			c.codes = append(c.codes, answer.Code)
			c.mu.Unlock()
			return answer.Code
		}
		pause(ctx)
	}
	return claim.NewInvite()
}

func (c *claimant) mustNot(got, outcome string) {
	if got == outcome {
		c.wrong.Add(1)
		c.t.Logf("a dead code is %q (%s)", outcome, c.external)
	}
}

// press presses "Generate code" until there is an answer with a code. epoch says what
// had happened to Redis before.
func (c *claimant) press(ctx context.Context) (code string, epoch int64) {
	for ctx.Err() == nil {
		// The limits on codes are not what is tested here: time passes.
		if _, err := c.sql.ExecContext(ctx, `update audit_events set at = at - interval '2 days' where kind in ('claim.issued', 'claim.reissued', 'invite.issued') and at > now() - interval '1 day'`); err != nil {
			pause(ctx) // Postgres is down
			continue
		}
		epoch = c.epoch.Load()
		status, body := c.call(ctx, http.MethodPost, "/v1/customers/"+c.customer+"/identities/"+c.identity+"/claim-code", struct{}{})
		var answer struct {
			Code string `json:"code"`
		}
		if status == http.StatusCreated && json.Unmarshal(body, &answer) == nil {
			c.mu.Lock()
			c.codes = append(c.codes, answer.Code)
			c.mu.Unlock()
			return answer.Code, epoch
		}
		pause(ctx)
	}
	return otherThan(), epoch
}

func (c *claimant) unverify(ctx context.Context) bool {
	for ctx.Err() == nil {
		status, _ := c.call(ctx, http.MethodPatch, "/v1/customers/"+c.customer+"/identities/"+c.identity, map[string]bool{"verified": false})
		if status == http.StatusOK {
			return true
		}
		pause(ctx)
	}
	return false
}

// says types texts one after the other, without waiting for answers between, and gives
// what became of each.
func (c *claimant) says(ctx context.Context, texts ...string) []string {
	outcomes := make([]string, len(texts))
	first := c.said
	for _, text := range texts {
		c.telegram.Say(botName, c.who, text)
		c.said++
	}
	for ctx.Err() == nil {
		var n int
		err := c.sql.QueryRowContext(ctx, `select count(*) from messages where sender_id = $1 and state <> 'new'`, c.external).Scan(&n)
		if err == nil && n == c.said {
			break
		}
		pause(ctx)
	}
	for ctx.Err() == nil {
		rows, err := c.sql.QueryContext(ctx, `select outcome from messages where sender_id = $1 order by seq offset $2`, c.external, first)
		if err != nil {
			pause(ctx)
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

func pause(ctx context.Context) {
	select {
	case <-time.After(15 * time.Millisecond):
	case <-ctx.Done():
	}
}

// doubled counts the codes that verified somebody twice, and the customers who got two
// accounts by one invite, by the database's own word.
func (r *ruin) doubled(t *testing.T) (n int) {
	t.Helper()
	if err := r.sql.QueryRowContext(context.Background(), `select count(*) from (select 1 from proof_grants group by identity_id having count(*) > 1) x`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	var openers int
	if err := r.sql.QueryRowContext(context.Background(), `select count(*) from (select 1 from identities where verified_at is not null group by customer_id having count(*) > 1) x`).Scan(&openers); err != nil {
		t.Fatal(err)
	}
	var all int64
	if err := r.sql.QueryRowContext(context.Background(), `select count(distinct identity_id) from proof_grants`).Scan(&all); err != nil {
		t.Fatal(err)
	}
	if all < r.done.Load() {
		t.Errorf("%d people say they are verified, the database granted %d", r.done.Load(), all)
	}
	return n + openers
}

// heldNowhere looks for every code of the proof in all that was kept, logged and
// handed on. One that is planted is found.
func (r *ruin) heldNowhere(t *testing.T) {
	t.Helper()
	everything := func() map[string]string {
		h := &proofHouse{t: t, sql: r.sql}
		return map[string]string{
			"database": strings.Join(h.texts(tablesText(h)), "\n"), "redis": redisText(t, r.redis), "log": r.log.String(), "agent": r.events.String(),
		}
	}
	if hits := found(r.codes, everything()); len(hits) > 0 {
		t.Errorf("of %d codes: %v", len(r.codes), hits)
	}
	if r.log.String() == "" || len(r.codes) == 0 {
		t.Error("there is no log, or there are no codes")
	}
	if _, err := r.sql.ExecContext(t.Context(), `update customers set last_name = $1 where id = (select min(id::text)::uuid from customers)`, r.codes[0]); err != nil {
		t.Fatal(err)
	}
	if len(found(r.codes[:1], everything())) != 1 {
		t.Error("the planted code is not found")
	}
}
