package claims

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"hydragate/claim"
	"hydragate/e2e/harness"
	"hydragate/identity"
)

// A codeStoreBarrier holds every comparison back until all who are expected have looked at the
// ledger: whatever they decide next rests on the same old news.
type codeStoreBarrier struct {
	claim.CodeStore
	mu       sync.Mutex
	waiting  int
	released chan struct{}
}

func newCodeStoreBarrier(p claim.CodeStore, n int) *codeStoreBarrier {
	return &codeStoreBarrier{CodeStore: p, waiting: n, released: make(chan struct{})}
}

func (c *codeStoreBarrier) Check(ctx context.Context, s claim.Target, typedIn, code, message string) (claim.CheckResult, error) {
	c.wait()
	return c.CodeStore.Check(ctx, s, typedIn, code, message)
}

// wait returns when all are there.
func (c *codeStoreBarrier) wait() { c.waitContext(context.Background()) }

// waitContext is wait for as long as ctx has.
func (c *codeStoreBarrier) waitContext(ctx context.Context) {
	c.mu.Lock()
	c.waiting--
	if c.waiting == 0 {
		close(c.released)
	}
	c.mu.Unlock()
	select {
	case <-c.released:
	case <-ctx.Done():
	}
}

// TestCode_ConcurrentRedemption types the right code into fifty conversations, all
// worked at the same time, each convinced that the code is still good. Without the
// fence of the row, the same fifty are granted many times.
func TestCode_ConcurrentRedemption(t *testing.T) {
	harness.ParallelUnlessFull(t)
	const n = 50
	fifty := func(h *harness.ClaimFixture) (harness.LinkedIdentity, map[string]int) {
		p := h.CreateIdentity("700001")
		code := h.IssueCode(p)
		var keys []string
		for i := range n {
			keys = append(keys, h.SendText(p.ExternalID, fmt.Sprintf("place %d", i), "/claim "+code))
		}
		h.ProcessAll(h.NewWorker(&claim.Service{Store: h.Store, Codes: newCodeStoreBarrier(h.Claims.Codes, n)}, retryingStore{h.Store}))
		got := map[string]int{}
		for _, k := range keys {
			got[h.Outcome(k)]++
		}
		return p, got
	}
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		p, got := fifty(h)
		if got["claimed"] != 1 || got["already_verified"] != n-1 || h.GrantCount(p.IdentityID) != 1 {
			t.Errorf("outcomes %v, %d grants; want 1 claimed, %d already verified", got, h.GrantCount(p.IdentityID), n-1)
		}
		t.Logf("%d right codes at once: %v, %d granted", n, got, h.GrantCount(p.IdentityID))
	})
	t.Run("control: no fence", func(t *testing.T) {
		harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
			h.RemoveClaimFence()
			p, got := fifty(h)
			if h.GrantCount(p.IdentityID) < 2 {
				t.Errorf("the test does not see what the fence is for: %v", got)
			}
		})
	})
}

// TestIssueCode_Concurrent presses "Generate code" twenty times at once: of all the
// codes read out exactly one works. The limit on codes lets five of twenty through,
// so there are four people.
func TestIssueCode_Concurrent(t *testing.T) {
	harness.ParallelUnlessFull(t)
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		all := 0
		for round := range 4 {
			p := h.CreateIdentity(fmt.Sprint(700_100 + round))
			type press struct {
				claim.IssuedCode
				err error
			}
			var codes []string
			for _, got := range harness.Concurrently(20, func(int) press {
				c, err := h.Claims.IssueCode(h.T.Context(), identity.Key{TenantID: harness.TestTenantID, CustomerID: p.CustomerID, IdentityID: p.IdentityID}, identity.Actor("key:"+uuid.NewString()))
				return press{c, err}
			}) {
				var many *claim.TooManyCodesError
				switch {
				case got.err == nil:
					codes = append(codes, got.Code)
				case !errors.As(got.err, &many):
					t.Error(got.err)
				}
			}
			all += len(codes)
			good := 0
			for _, c := range codes {
				r, err := h.Claims.DecideRedemption(t.Context(), h.NewAttempt(p, c))
				if err != nil {
					t.Fatal(err)
				}
				if r.Outcome == claim.Granted {
					good++
				}
			}
			if len(codes) != 5 || good != 1 {
				t.Errorf("round %d: %d codes were read out and %d of them work; want 5 and 1", round, len(codes), good)
			}
		}
		if all != 20 {
			t.Errorf("%d codes in all", all)
		}
	})
}

// TestCode_AlreadyVerified lets a verified person type a hundred codes: nothing of the
// identity changes, not one byte of its row. One edit by staff shows that the
// comparison sees.
func TestCode_AlreadyVerified(t *testing.T) {
	harness.ParallelUnlessFull(t)
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		p := h.CreateIdentity("700003")
		first := h.SendText(p.ExternalID, p.ExternalID, "/claim "+h.IssueCode(p))
		h.ProcessMessages()
		if got := h.Outcome(first); got != "claimed" {
			t.Fatalf("the claim was %q", got)
		}
		before := identityRow(h, p.IdentityID)
		for i := range 100 {
			text := claim.NewCode()
			if i%2 == 0 {
				text = "/claim " + text
			}
			h.SendText(p.ExternalID, p.ExternalID, text)
		}
		h.ProcessMessages()
		var left int
		h.Scan(`select count(*) from messages where state <> 'done'`, nil, &left)
		if after := identityRow(h, p.IdentityID); after != before || left != 0 {
			t.Errorf("%d messages are left, and the row was\n%s\nand is\n%s", left, before, after)
		}
		name := "Steve"
		if _, err := h.Store.EditIdentity(t.Context(), identity.Key{TenantID: harness.TestTenantID, CustomerID: p.CustomerID, IdentityID: p.IdentityID}, identity.Edit{DisplayName: &name}, identity.System); err != nil {
			t.Fatal(err)
		}
		if identityRow(h, p.IdentityID) == before {
			t.Error("an edit is not seen")
		}
	})
}

// TestCodeExpiry_DatabaseClock moves the times in the database about: they decide, and
// neither how late the message is worked nor the clock of this machine does.
func TestCodeExpiry_DatabaseClock(t *testing.T) {
	tests := []struct {
		name    string
		move    string // by how many seconds the code expires after the message came
		hostOff time.Duration
		want    string
	}{
		{"in time", "900", 0, "claimed"},
		{"at the last moment, by a machine that is an hour ahead", "1", time.Hour, "claimed"},
		{"at the last moment, by a machine that is an hour behind", "1", -time.Hour, "claimed"},
		{"a second late", "-1", 0, "declined"},
		{"a second late, by a machine that is an hour behind", "-1", -time.Hour, "declined"},
		{"an hour late, by a machine that is two hours behind", "-3600", -2 * time.Hour, "declined"},
	}
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		for i, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				defer h.UseT(t)()
				p := h.CreateIdentity(fmt.Sprint(700_200 + i))
				key := h.SendText(p.ExternalID, p.ExternalID, "/claim "+h.IssueCode(p))
				h.Exec(h.ShiftedQuery(`update identities set claim_expires_at = (select %s from messages where key = $1) where id = $2`, tt.move), key, p.IdentityID)
				w := h.NewWorker(h.Claims, h.Store)
				w.Now = func() time.Time { return time.Now().Add(tt.hostOff) }
				h.ProcessAll(w)
				if got := h.Outcome(key); got != tt.want {
					t.Errorf("outcome %q; want %q", got, tt.want)
				}
			})
		}
	})
}

// TestCodeExpiry_ClockSkew runs a whole claim, from the hook to the answer, while the clock of
// the database is an hour away from this machine's.
func TestCodeExpiry_ClockSkew(t *testing.T) {
	for _, off := range []string{"1 hour", "-1 hour"} {
		t.Run(strings.ReplaceAll(off, " ", "_"), func(t *testing.T) {
			h := harness.NewServerClaimFixture(t, func(db *harness.DB) {
				var name string
				db.Scan(`select current_database()`, nil, &name)
				for _, q := range []string{
					`create function public.now() returns timestamptz language sql stable as 'select pg_catalog.now() + interval ''` + off + `'''`,
					`alter database ` + name + ` set search_path = public, pg_catalog`,
				} {
					db.Exec(q)
				}
			})
			p := h.CreateIdentity("700005")
			good := h.SendText(p.ExternalID, p.ExternalID, "/claim "+h.IssueCode(p))
			var here bool
			h.Scan(`select abs(extract(epoch from received_at - clock_timestamp())) > 3000 from messages where key = $1`, []any{good}, &here)
			if !here {
				t.Fatal("the clock of the database was not moved")
			}
			h.ProcessMessages()
			if got := h.Outcome(good); got != "claimed" {
				t.Errorf("outcome of a right code in time: %q", got)
			}
			q := h.CreateIdentity("700006")
			late := h.SendText(q.ExternalID, q.ExternalID, "/claim "+h.IssueCode(q))
			h.Exec(`update identities set claim_expires_at = (select received_at - interval '1 second' from messages where key = $1) where id = $2`, late, q.IdentityID)
			h.ProcessMessages()
			if got := h.Outcome(late); got != "declined" {
				t.Errorf("outcome of a right code a second late: %q", got)
			}
		})
	}
}

// identityRow returns all columns of an identity.
func identityRow(h *harness.ClaimFixture, id string) string {
	h.T.Helper()
	return strings.Join(h.Rows("identities", "where id = '"+id+"'"), "")
}
