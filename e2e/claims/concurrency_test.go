package claims

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"hydragate/claim"
	"hydragate/e2e/harness"
	"hydragate/identity"
)

// TestCode_ConcurrentRedemption checks that a code that is redeemed in many conversations
// concurrently verifies the identity once, although every worker has seen the code as live. The
// control removes the fence of the row and must see several grants.
func TestCode_ConcurrentRedemption(t *testing.T) {
	harness.ParallelUnlessFull(t)
	n := harness.Scaled(25, 50)
	redeemConcurrently := func(h *harness.ClaimFixture) (harness.LinkedIdentity, map[string]int) {
		p := h.CreateIdentity(h.NewExternalID())
		code := h.IssueCode(p)
		var keys []string
		for i := range n {
			keys = append(keys, h.SendText(p.ExternalID, fmt.Sprintf("chat %d of %s", i, p.ExternalID), "/claim "+code))
		}
		wait := newBarrier(int64(n))
		codes := hookedCodeStore{h.Claims.Codes, func(ctx context.Context) error { wait(ctx); return nil }}
		h.ProcessAll(h.NewWorker(&claim.Service{Store: h.Store, Codes: codes}, h.Store))
		got := map[string]int{}
		for _, k := range keys {
			got[h.Outcome(k)]++
		}
		return p, got
	}
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		p, got := redeemConcurrently(h)
		if got["claimed"] != 1 || got["already_verified"] != n-1 || h.GrantCount(p.IdentityID) != 1 {
			t.Errorf("outcomes = %v, grants = %d; want 1 claimed, %d already_verified, 1 grant",
				got, h.GrantCount(p.IdentityID), n-1)
		}
		t.Logf("%d concurrent redemptions: %v, %d grants", n, got, h.GrantCount(p.IdentityID))
		h.RemoveClaimFence()
		p, got = redeemConcurrently(h)
		if h.GrantCount(p.IdentityID) < 2 {
			t.Errorf("control without the fence: grants = %d (%v), want several", h.GrantCount(p.IdentityID), got)
		}
	})
}

// TestIssueCode_Concurrent checks that of several codes issued concurrently for one identity
// exactly one works. The rate limit allows five of the twenty requests, so the test uses four
// identities.
func TestIssueCode_Concurrent(t *testing.T) {
	harness.ParallelUnlessFull(t)
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		total := 0
		for round := range 4 {
			p := h.CreateIdentity(fmt.Sprint(700_100 + round))
			key := identity.Key{TenantID: harness.TestTenantID, CustomerID: p.CustomerID, IdentityID: p.IdentityID}
			type issueResult struct {
				claim.IssuedCode
				err error
			}
			var codes []string
			for _, got := range harness.Concurrently(20, func(int) issueResult {
				c, err := h.Claims.IssueCode(h.T.Context(), key, identity.Actor("key:"+uuid.NewString()))
				return issueResult{c, err}
			}) {
				var tooMany *claim.TooManyCodesError
				switch {
				case got.err == nil:
					codes = append(codes, got.Code)
				case !errors.As(got.err, &tooMany):
					t.Error(got.err)
				}
			}
			total += len(codes)
			working := 0
			for _, c := range codes {
				r, err := h.Claims.DecideRedemption(t.Context(), h.NewAttempt(p, c))
				if err != nil {
					t.Fatal(err)
				}
				if r.Outcome == claim.Granted {
					working++
				}
			}
			if len(codes) != 5 || working != 1 {
				t.Errorf("round %d: %d codes issued, %d of them work; want 5 and 1", round, len(codes), working)
			}
		}
		if total != 20 {
			t.Errorf("issued codes = %d, want 20", total)
		}
	})
}

// TestCode_AlreadyVerified checks that many codes sent by a verified identity do not change its
// row. An edit shows that the comparison notices changes.
func TestCode_AlreadyVerified(t *testing.T) {
	harness.ParallelUnlessFull(t)
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		p := h.CreateIdentity("700003")
		first := h.SendText(p.ExternalID, p.ExternalID, "/claim "+h.IssueCode(p))
		h.ProcessMessages()
		if got := h.Outcome(first); got != "claimed" {
			t.Fatalf("outcome = %q, want claimed", got)
		}
		row := func() string { return strings.Join(h.Rows("identities", "where id = '"+p.IdentityID+"'"), "") }
		before := row()
		for i := range harness.Scaled(30, 100) {
			text := claim.NewCode()
			if i%2 == 0 {
				text = "/claim " + text
			}
			h.SendText(p.ExternalID, p.ExternalID, text)
		}
		h.ProcessMessages()
		var left int
		h.Scan(`select count(*) from messages where state <> 'done'`, nil, &left)
		if after := row(); after != before || left != 0 {
			t.Errorf("unprocessed messages = %d, want 0; identity row\n%s\nwant\n%s", left, after, before)
		}
		name := "Steve"
		k := identity.Key{TenantID: harness.TestTenantID, CustomerID: p.CustomerID, IdentityID: p.IdentityID}
		edit := identity.Edit{DisplayName: &name}
		if _, err := h.Store.EditIdentity(t.Context(), k, edit, identity.System); err != nil {
			t.Fatal(err)
		}
		if row() == before {
			t.Error("the row is unchanged after an edit: the comparison does not work")
		}
	})
}

// TestCodeExpiry_DatabaseClock checks that the times in the database decide whether a code has
// expired. Neither the clock of this machine nor the time of processing matters.
func TestCodeExpiry_DatabaseClock(t *testing.T) {
	tests := []struct {
		name      string
		expiresIn string // seconds from the receipt of the message to the expiry of the code
		hostOff   time.Duration
		want      string
	}{
		{"in time", "900", 0, "claimed"},
		{"one second left, host clock an hour ahead", "1", time.Hour, "claimed"},
		{"one second left, host clock an hour behind", "1", -time.Hour, "claimed"},
		{"a second late", "-1", 0, "declined"},
		{"a second late, host clock an hour behind", "-1", -time.Hour, "declined"},
		{"an hour late, host clock two hours behind", "-3600", -2 * time.Hour, "declined"},
	}
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		for i, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				defer h.UseT(t)()
				p := h.CreateIdentity(fmt.Sprint(700_200 + i))
				key := h.SendText(p.ExternalID, p.ExternalID, "/claim "+h.IssueCode(p))
				h.Exec(h.ShiftedQuery(`update identities set claim_expires_at =
					(select %s from messages where key = $1) where id = $2`, tt.expiresIn), key, p.IdentityID)
				w := h.NewWorker(h.Claims, h.Store)
				w.Now = func() time.Time { return time.Now().Add(tt.hostOff) }
				h.ProcessAll(w)
				if got := h.Outcome(key); got != tt.want {
					t.Errorf("outcome = %q, want %q", got, tt.want)
				}
			})
		}
	})
}

// TestCodeExpiry_ClockSkew checks codes, from the webhook to the reply, while the clock of the
// database is an hour ahead of or behind the clock of this machine.
func TestCodeExpiry_ClockSkew(t *testing.T) {
	for _, offset := range []string{"1 hour", "-1 hour"} {
		t.Run(offset, func(t *testing.T) {
			h := harness.NewServerClaimFixture(t, func(db *harness.DB) {
				var name string
				db.Scan(`select current_database()`, nil, &name)
				for _, q := range []string{
					`create function public.now() returns timestamptz language sql stable
						as 'select pg_catalog.now() + interval ''` + offset + `'''`,
					`alter database ` + name + ` set search_path = public, pg_catalog`,
				} {
					db.Exec(q)
				}
			})
			p := h.CreateIdentity("700005")
			inTime := h.SendText(p.ExternalID, p.ExternalID, "/claim "+h.IssueCode(p))
			var skewed bool
			h.Scan(`select abs(extract(epoch from received_at - clock_timestamp())) > 3000
				from messages where key = $1`, []any{inTime}, &skewed)
			if !skewed {
				t.Fatal("the clock of the database is not skewed")
			}
			h.ProcessMessages()
			if got := h.Outcome(inTime); got != "claimed" {
				t.Errorf("outcome of a code in time = %q, want claimed", got)
			}
			q := h.CreateIdentity("700006")
			expired := h.SendText(q.ExternalID, q.ExternalID, "/claim "+h.IssueCode(q))
			h.Exec(`update identities set claim_expires_at = (select received_at - interval '1 second'
				from messages where key = $1) where id = $2`, expired, q.IdentityID)
			h.ProcessMessages()
			if got := h.Outcome(expired); got != "declined" {
				t.Errorf("outcome of a code a second late = %q, want declined", got)
			}
		})
	}
}
