//go:build unix

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"hydragate/claim"
	"hydragate/identity"
	"hydragate/store"
)

// atOnce runs f n times at the same time and gives what each gave.
func atOnce[T any](n int, f func(i int) T) []T {
	out := make([]T, n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			out[i] = f(i)
		})
	}
	close(start)
	wg.Wait()
	return out
}

// A gathering holds every comparison back until all who are expected have looked at the
// ledger: whatever they decide next rests on the same old news.
type gathering struct {
	claim.Proofs
	mu      sync.Mutex
	waiting int
	all     chan struct{}
}

func newGathering(p claim.Proofs, n int) *gathering {
	return &gathering{Proofs: p, waiting: n, all: make(chan struct{})}
}

func (c *gathering) Check(ctx context.Context, s claim.Subject, typedIn, code, message string) (claim.Finding, error) {
	c.wait()
	return c.Proofs.Check(ctx, s, typedIn, code, message)
}

// wait returns when all are there.
func (c *gathering) wait() { c.waitWithin(context.Background()) }

// waitWithin is wait for as long as ctx has.
func (c *gathering) waitWithin(ctx context.Context) {
	c.mu.Lock()
	c.waiting--
	if c.waiting == 0 {
		close(c.all)
	}
	c.mu.Unlock()
	select {
	case <-c.all:
	case <-ctx.Done():
	}
}

// TestFiftyRightCodesGrantOnce types the right code into fifty conversations, all
// worked at the same time, each convinced that the code is still good. Without the
// fence of the row, the same fifty are granted many times.
func TestFiftyRightCodesGrantOnce(t *testing.T) {
	alongside(t)
	const n = 50
	fifty := func(h *proofHouse) (person, map[string]int) {
		p := h.person("700001")
		code := h.issue(p)
		var keys []string
		for i := range n {
			keys = append(keys, h.say(p.external, fmt.Sprintf("place %d", i), "/claim "+code))
		}
		h.work(h.worker(&claim.Desk{Ledger: h.store, Proofs: newGathering(h.desk.Proofs, n)}, stubborn{h.store}))
		got := map[string]int{}
		for _, k := range keys {
			got[h.outcome(k)]++
		}
		return p, got
	}
	onPairs(t, func(t *testing.T, h *proofHouse) {
		p, got := fifty(h)
		if got["claimed"] != 1 || got["already_verified"] != n-1 || h.grants(p.identity) != 1 {
			t.Errorf("outcomes %v, %d grants; want 1 claimed, %d already verified", got, h.grants(p.identity), n-1)
		}
		t.Logf("%d right codes at once: %v, %d granted", n, got, h.grants(p.identity))
	})
	t.Run("control: no fence", func(t *testing.T) {
		onPairs(t, func(t *testing.T, h *proofHouse) {
			h.pullFence()
			p, got := fifty(h)
			if h.grants(p.identity) < 2 {
				t.Errorf("the test does not see what the fence is for: %v", got)
			}
		})
	})
}

// pullFence takes the check away that undoes a grant which the row refuses.
func (h *proofHouse) pullFence() {
	h.t.Helper()
	h.pull("identities", "identities_claim", "constraint identities_claim check (claim_gen >= 0)")
}

// pull takes a named check from a table.
func (h *proofHouse) pull(table, name, check string) {
	h.t.Helper()
	if store.IsPostgres(h.url) {
		h.exec(`alter table ` + table + ` drop constraint ` + name)
		return
	}
	conn, err := h.sql.Conn(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	for _, q := range []string{
		`pragma writable_schema = 1`,
		`update sqlite_master set sql = replace(sql, '` + check + `', '') where name = '` + table + `'`,
		`pragma writable_schema = reset`,
		`create table proof_pulled (x)`, // a new version of the schema, so that others read it again
	} {
		if _, err := conn.ExecContext(h.t.Context(), q); err != nil {
			h.t.Fatal(q, err)
		}
	}
}

// TestTwentyPressesOneCode presses "Generate code" twenty times at once: of all the
// codes read out exactly one works. The limit on codes lets five of twenty through,
// so there are four people.
func TestTwentyPressesOneCode(t *testing.T) {
	alongside(t)
	onPairs(t, func(t *testing.T, h *proofHouse) {
		all := 0
		for round := range 4 {
			p := h.person(fmt.Sprint(700_100 + round))
			type press struct {
				claim.Issued
				err error
			}
			var codes []string
			for _, got := range atOnce(20, func(int) press {
				c, err := h.desk.Issue(h.t.Context(), proofTenant, p.customer, p.identity, identity.Actor("key:"+uuid.NewString()))
				return press{c, err}
			}) {
				var many *claim.TooMany
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
				r, err := h.desk.Rule(t.Context(), h.attempt(p, c))
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

// TestVerifiedTypesCodes lets a verified person type a hundred codes: nothing of the
// identity changes, not one byte of its row. One edit by staff shows that the
// comparison sees.
func TestVerifiedTypesCodes(t *testing.T) {
	alongside(t)
	onPairs(t, func(t *testing.T, h *proofHouse) {
		p := h.person("700003")
		first := h.say(p.external, p.external, "/claim "+h.issue(p))
		h.works()
		if got := h.outcome(first); got != "claimed" {
			t.Fatalf("the claim was %q", got)
		}
		before := h.row(p.identity)
		for i := range 100 {
			text := claim.NewCode()
			if i%2 == 0 {
				text = "/claim " + text
			}
			h.say(p.external, p.external, text)
		}
		h.works()
		var left int
		h.scan(`select count(*) from messages where state <> 'done'`, nil, &left)
		if after := h.row(p.identity); after != before || left != 0 {
			t.Errorf("%d messages are left, and the row was\n%s\nand is\n%s", left, before, after)
		}
		name := "Steve"
		if _, err := h.store.EditIdentity(t.Context(), proofTenant, p.customer, p.identity, identity.Edit{DisplayName: &name}, identity.System); err != nil {
			t.Fatal(err)
		}
		if h.row(p.identity) == before {
			t.Error("an edit is not seen")
		}
	})
}

// TestDatabaseDecidesExpiry moves the times in the database about: they decide, and
// neither how late the message is worked nor the clock of this machine does.
func TestDatabaseDecidesExpiry(t *testing.T) {
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
	onPairs(t, func(t *testing.T, h *proofHouse) {
		for i, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				defer h.within(t)()
				p := h.person(fmt.Sprint(700_200 + i))
				key := h.say(p.external, p.external, "/claim "+h.issue(p))
				h.exec(h.moved(`update identities set claim_expires_at = (select %s from messages where key = $1) where id = $2`, tt.move), key, p.identity)
				w := h.worker(h.desk, h.store)
				w.Now = func() time.Time { return time.Now().Add(tt.hostOff) }
				h.work(w)
				if got := h.outcome(key); got != tt.want {
					t.Errorf("outcome %q; want %q", got, tt.want)
				}
			})
		}
	})
}

// moved puts into query the time received_at plus so many seconds.
func (h *proofHouse) moved(query, seconds string) string {
	if store.IsPostgres(h.url) {
		return fmt.Sprintf(query, "received_at + interval '"+seconds+" seconds'")
	}
	return fmt.Sprintf(query, "strftime('%Y-%m-%d %H:%M:%f+00:00', received_at, '"+seconds+" seconds')")
}

// TestClocksDiffer runs a whole claim, from the hook to the answer, while the clock of
// the database is an hour away from this machine's.
func TestClocksDiffer(t *testing.T) {
	for _, off := range []string{"1 hour", "-1 hour"} {
		t.Run(strings.ReplaceAll(off, " ", "_"), func(t *testing.T) {
			h := serverHouse(t, func(db *sql.DB) {
				var name string
				if err := db.QueryRow(`select current_database()`).Scan(&name); err != nil {
					t.Fatal(err)
				}
				for _, q := range []string{
					`create function public.now() returns timestamptz language sql stable as 'select pg_catalog.now() + interval ''` + off + `'''`,
					`alter database ` + name + ` set search_path = public, pg_catalog`,
				} {
					if _, err := db.Exec(q); err != nil {
						t.Fatal(err)
					}
				}
			})
			p := h.person("700005")
			good := h.say(p.external, p.external, "/claim "+h.issue(p))
			var here bool
			h.scan(`select abs(extract(epoch from received_at - clock_timestamp())) > 3000 from messages where key = $1`, []any{good}, &here)
			if !here {
				t.Fatal("the clock of the database was not moved")
			}
			h.works()
			if got := h.outcome(good); got != "claimed" {
				t.Errorf("outcome of a right code in time: %q", got)
			}
			q := h.person("700006")
			late := h.say(q.external, q.external, "/claim "+h.issue(q))
			h.exec(`update identities set claim_expires_at = (select received_at - interval '1 second' from messages where key = $1) where id = $2`, late, q.identity)
			h.works()
			if got := h.outcome(late); got != "declined" {
				t.Errorf("outcome of a right code a second late: %q", got)
			}
		})
	}
}
