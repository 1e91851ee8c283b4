package claims

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"hydragate/claim"
	"hydragate/e2e/harness"
)

// TestCode_FiveAttempts types a hundred wrong codes at once, in two processes where
// two can share the stores: five are compared. A count that is read first and raised
// after lets more through.
func TestCode_FiveAttempts(t *testing.T) {
	harness.ParallelUnlessFull(t)
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		p := h.CreateIdentity("700011")
		wrong := harness.WrongCode(h.IssueCode(p))
		here := &harness.CountingCodeStore{CodeStore: h.Claims.Codes}
		desk := &claim.Service{Store: h.Store, Codes: here}
		attempt := func() claim.Attempt { return h.NewAttempt(p, wrong) }
		all := map[claim.Result]int{}
		if h.RedisURL == "" {
			if err := harness.GuessConcurrently(t.Context(), desk, 100, attempt); err != nil {
				t.Fatal(err)
			}
		} else {
			in := harness.GuessInput{Database: h.DSN, Redis: h.RedisURL, Keys: h.MasterKey, Attempt: attempt()}
			all = harness.GuessInTwoProcesses(t, desk, attempt, in)
		}
		for v, n := range here.Results {
			all[v] += n
		}
		if all[claim.Wrong] != claim.MaxTries || all[claim.Locked] != 100-claim.MaxTries || len(all) != 2 {
			t.Errorf("verdicts %v; want %d wrong and the rest locked", all, claim.MaxTries)
		}
		t.Logf("100 wrong codes at once: %v", all)
	})
	t.Run("control: read, compare, count", func(t *testing.T) {
		harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
			p := h.CreateIdentity("700012")
			wrong := harness.WrongCode(h.IssueCode(p))
			counted := &harness.CountingCodeStore{CodeStore: &lateCountingCodeStore{CodeStore: h.Claims.Codes, barrier: newCodeStoreBarrier(nil, 50)}}
			if err := harness.GuessConcurrently(t.Context(), &claim.Service{Store: h.Store, Codes: counted}, 50, func() claim.Attempt { return h.NewAttempt(p, wrong) }); err != nil {
				t.Fatal(err)
			}
			if n := counted.Results[claim.Wrong]; n <= claim.MaxTries {
				t.Errorf("only %d were compared: the test does not see a count that comes late", n)
			}
		})
	})
}

// A lateCountingCodeStore reads the count of tries, compares, and counts only then.
type lateCountingCodeStore struct {
	claim.CodeStore
	tries   atomic.Int64
	barrier *codeStoreBarrier
}

func (c *lateCountingCodeStore) Check(ctx context.Context, s claim.Target, typedIn, code, message string) (claim.CheckResult, error) {
	tries := c.tries.Load()
	c.barrier.wait()
	if tries >= claim.MaxTries {
		return claim.CheckResult{Result: claim.Locked, Tries: int(tries)}, nil
	}
	return claim.CheckResult{Result: claim.Wrong, Tries: int(c.tries.Add(1))}, nil
}

// TestGuessing_NoGrants lets a thousand senders try codes while two hundred other
// people's are live. Nobody is granted, no code dies but one that was really typed,
// and every owner's code works afterwards.
func TestGuessing_NoGrants(t *testing.T) {
	harness.ParallelUnlessFull(t)
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		rounds, tries, owners := 1, 10_000, 200
		switch {
		case harness.FullRun() && h.RedisURL != "": // no round lasts as long as a code
			rounds, tries = 10, 100_000
		case harness.FullRun():
			tries = 100_000
		case h.RedisURL == "": // the race detector makes the database in this process thirty times slower
			tries, owners = tries/20, owners/4
		}
		strangers := make([]harness.LinkedIdentity, 1_000)
		for i := range strangers {
			strangers[i] = harness.LinkedIdentity{IdentityID: uuid.NewString(), ExternalID: fmt.Sprint(900_000 + i)}
		}
		for i := range 50 { // some are known, and have no code
			strangers[i] = h.CreateIdentity(strangers[i].ExternalID)
		}
		hits, codes := 0, map[string]string{} // identities by code, of all rounds
		for range rounds {
			hits += attackAndRedeem(h, strangers, codes, owners, tries)
		}
		t.Logf("%d tries by %d strangers at %d live codes: 0 granted; by chance the letters were %d times a live code's, which burns it", rounds*tries, len(strangers), owners, hits)
	})
}

// attackAndRedeem gives new people codes, lets strangers try, and then the owners.
// It gives how often letters were right by chance.
func attackAndRedeem(h *harness.ClaimFixture, strangers []harness.LinkedIdentity, live map[string]string, owners, tries int) (hits int) {
	h.T.Helper()
	people := make([]harness.LinkedIdentity, owners)
	codes := make([]string, owners)
	for i := range people {
		people[i] = h.CreateIdentity(h.NewExternalID())
		codes[i] = h.IssueCode(people[i])
		for live[codes[i]] != "" { // one in a thousand times two are alike
			codes[i] = h.IssueCode(people[i])
		}
		live[codes[i]] = people[i].IdentityID
	}
	before := len(revokedIdentities(h))
	hits = len(guessRandomCodes(h, strangers, live, tries))

	// Control: really right letters are seen, and burn that one code.
	teller := strangers[before%len(strangers)] // another in each round: nobody is told to wait
	told := h.SendText(teller.ExternalID, teller.ExternalID, "/claim "+codes[0])
	h.ProcessMessages()
	if got := h.Outcome(told); got != "declined" || h.GrantCount(teller.IdentityID) != 0 {
		h.T.Errorf("somebody else's code was %q", got)
	}
	if revoked := revokedIdentities(h); len(revoked) != before+1 || !slices.Contains(revoked, people[0].IdentityID) {
		h.T.Errorf("revoked: %v; want one more, whose code was typed", revoked)
	}
	for i, p := range people {
		key, want := h.SendText(p.ExternalID, p.ExternalID, "/claim "+codes[i]), "claimed"
		if i == 0 {
			want = "declined"
		}
		h.ProcessMessages()
		if got := h.Outcome(key); got != want {
			h.T.Errorf("owner %d afterwards: %q; want %s", i, got, want)
		}
	}
	return hits
}

// revokedIdentities gives the identities whose code was burnt.
func revokedIdentities(h *harness.ClaimFixture) []string {
	h.T.Helper()
	return h.QueryTexts(`select cast(id as text) from identities where claim_revoked_at is not null`)
}

// guessRandomCodes rules on tries of strangers. They are not settled, so nobody is ever
// told to wait. It gives the identities whose codes were hit by chance.
func guessRandomCodes(h *harness.ClaimFixture, strangers []harness.LinkedIdentity, live map[string]string, tries int) map[string]bool {
	h.T.Helper()
	burnt := map[string]bool{}
	var mu sync.Mutex
	var next atomic.Int64
	err := errors.Join(harness.Concurrently(4, func(int) error {
		for {
			n := next.Add(1)
			if n > int64(tries) {
				return nil
			}
			code := claim.NewCode()
			r, err := h.Claims.DecideRedemption(h.T.Context(), h.NewAttempt(strangers[int(n)%len(strangers)], code))
			switch {
			case errors.Is(err, claim.ErrCodeStoreUnavailable):
				next.Add(-1)
				continue
			case err != nil:
				return err
			case r.Grant != nil || r.Outcome != claim.Declined:
				return fmt.Errorf("a stranger is %s", r.Outcome)
			}
			for _, b := range r.Revoke {
				if live[code] != b.IdentityID {
					return fmt.Errorf("a code dies that was not typed")
				}
				mu.Lock()
				burnt[b.IdentityID] = true
				mu.Unlock()
			}
		}
	})...)
	if err != nil {
		h.T.Fatal(err)
	}
	return maps.Clone(burnt)
}

// TestGuessing_NoLockout lets other people fail in earnest, settled and counted: the
// right one is not kept waiting.
func TestGuessing_NoLockout(t *testing.T) {
	harness.ParallelUnlessFull(t)
	tries, each := 200, 8
	if harness.FullRun() {
		tries = 10_000
	}
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		p := h.CreateIdentity("700021")
		code := h.IssueCode(p)
		outcomes := map[string]int{}
		for i := 0; i < tries; i += 100 {
			var keys []string
			for n := range 100 {
				who := fmt.Sprint(910_000 + (i+n)/each)
				keys = append(keys, h.SendText(who, who, "/claim "+harness.WrongCode(code)))
			}
			h.ProcessMessages()
			for _, k := range keys {
				outcomes[h.Outcome(k)]++
			}
		}
		if outcomes["declined"]+outcomes["throttled"] != tries || outcomes["throttled"] == 0 {
			t.Errorf("outcomes of the others: %v", outcomes)
		}
		key := h.SendText(p.ExternalID, p.ExternalID, "/claim "+code)
		h.ProcessMessages()
		if got := h.Outcome(key); got != "claimed" {
			t.Errorf("the right one is %q", got)
		}
		t.Logf("%d wrong tries of others (%v), then the right one: %s", tries, outcomes, h.Outcome(key))
	})
}
