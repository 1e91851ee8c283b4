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

// TestCode_FiveAttempts checks that only five of a hundred wrong codes sent concurrently are
// compared, also in two processes if they can share the stores. The control reads the counter
// before the check and increments it after.
func TestCode_FiveAttempts(t *testing.T) {
	harness.ParallelUnlessFull(t)
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		p := h.CreateIdentity("700011")
		wrong := harness.WrongCode(h.IssueCode(p))
		here := &harness.CountingCodeStore{CodeStore: h.Claims.Codes}
		service := &claim.Service{Store: h.Store, Codes: here}
		attempt := func() claim.Attempt { return h.NewAttempt(p, wrong) }
		results := map[claim.Result]int{}
		if h.RedisURL == "" {
			if err := harness.GuessConcurrently(t.Context(), service, 100, attempt); err != nil {
				t.Fatal(err)
			}
		} else {
			in := harness.GuessInput{Database: h.DSN, Redis: h.RedisURL, Keys: h.MasterKey, Attempt: attempt()}
			results = harness.GuessInTwoProcesses(t, service, attempt, in)
		}
		for v, n := range here.Results {
			results[v] += n
		}
		if results[claim.Wrong] != claim.MaxTries || results[claim.Locked] != 100-claim.MaxTries || len(results) != 2 {
			t.Errorf("results = %v, want %d wrong and the rest locked", results, claim.MaxTries)
		}
		t.Logf("100 concurrent wrong codes: %v", results)
	})
	t.Run("control: read, compare, count", func(t *testing.T) {
		harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
			p := h.CreateIdentity("700012")
			wrong := harness.WrongCode(h.IssueCode(p))
			late := &lateCountingCodeStore{CodeStore: h.Claims.Codes, barrier: newCodeStoreBarrier(nil, 50)}
			counted := &harness.CountingCodeStore{CodeStore: late}
			service := &claim.Service{Store: h.Store, Codes: counted}
			attempt := func() claim.Attempt { return h.NewAttempt(p, wrong) }
			if err := harness.GuessConcurrently(t.Context(), service, 50, attempt); err != nil {
				t.Fatal(err)
			}
			if n := counted.Results[claim.Wrong]; n <= claim.MaxTries {
				t.Errorf("compared codes with a late counter = %d, want more than %d", n, claim.MaxTries)
			}
		})
	})
}

// lateCountingCodeStore reads the number of tries, compares, and only then counts the try.
type lateCountingCodeStore struct {
	claim.CodeStore
	tries   atomic.Int64
	barrier *codeStoreBarrier
}

func (c *lateCountingCodeStore) Check(
	ctx context.Context,
	s claim.Target,
	typedIn, code, message string,
) (claim.CheckResult, error) {
	tries := c.tries.Load()
	c.barrier.wait()
	if tries >= claim.MaxTries {
		return claim.CheckResult{Result: claim.Locked, Tries: int(tries)}, nil
	}
	return claim.CheckResult{Result: claim.Wrong, Tries: int(c.tries.Add(1))}, nil
}

// TestGuessing_NoGrants checks that a thousand senders who guess codes of two hundred other
// customers are never granted. A guess revokes a code only if it is that code, and the codes of
// all other customers still work afterwards.
func TestGuessing_NoGrants(t *testing.T) {
	harness.ParallelUnlessFull(t)
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		rounds, tries, owners := 1, 10_000, 200
		switch {
		case harness.FullRun() && h.RedisURL != "": // a round must be shorter than the life of a code
			rounds, tries = 10, 100_000
		case harness.FullRun():
			tries = 100_000
		case h.RedisURL == "": // SQLite is thirty times slower with the race detector
			tries, owners = tries/20, owners/4
		}
		strangers := make([]harness.LinkedIdentity, 1_000)
		for i := range strangers {
			strangers[i] = harness.LinkedIdentity{IdentityID: uuid.NewString(), ExternalID: fmt.Sprint(900_000 + i)}
		}
		for i := range 50 { // some are linked but have no code
			strangers[i] = h.CreateIdentity(strangers[i].ExternalID)
		}
		hits, codes := 0, map[string]string{} // identity by code, over all rounds
		for range rounds {
			hits += attackAndRedeem(h, strangers, codes, owners, tries)
		}
		t.Logf("%d tries by %d strangers with %d live codes: 0 granted, %d codes guessed by chance and revoked",
			rounds*tries, len(strangers), owners, hits)
	})
}

// attackAndRedeem issues codes to new customers, lets strangers guess, and then lets the customers
// redeem their codes. It returns how many codes were guessed by chance.
func attackAndRedeem(
	h *harness.ClaimFixture,
	strangers []harness.LinkedIdentity,
	live map[string]string,
	owners, tries int,
) (hits int) {
	h.T.Helper()
	customers := make([]harness.LinkedIdentity, owners)
	codes := make([]string, owners)
	for i := range customers {
		customers[i] = h.CreateIdentity(h.NewExternalID())
		codes[i] = h.IssueCode(customers[i])
		for live[codes[i]] != "" { // codes may collide by chance
			codes[i] = h.IssueCode(customers[i])
		}
		live[codes[i]] = customers[i].IdentityID
	}
	before := len(revokedIdentities(h))
	hits = len(guessRandomCodes(h, strangers, live, tries))

	// Control: a correct code of another customer is detected, and revokes only that code.
	stranger := strangers[before%len(strangers)] // another one in each round, to avoid throttling
	key := h.SendText(stranger.ExternalID, stranger.ExternalID, "/claim "+codes[0])
	h.ProcessMessages()
	if got := h.Outcome(key); got != "declined" || h.GrantCount(stranger.IdentityID) != 0 {
		h.T.Errorf("outcome of another customer's code = %q, want declined and no grant", got)
	}
	if revoked := revokedIdentities(h); len(revoked) != before+1 || !slices.Contains(revoked, customers[0].IdentityID) {
		h.T.Errorf("revoked identities = %v, want %d, including %s", revoked, before+1, customers[0].IdentityID)
	}
	for i, p := range customers {
		key, want := h.SendText(p.ExternalID, p.ExternalID, "/claim "+codes[i]), "claimed"
		if i == 0 {
			want = "declined"
		}
		h.ProcessMessages()
		if got := h.Outcome(key); got != want {
			h.T.Errorf("owner %d: outcome = %q, want %q", i, got, want)
		}
	}
	return hits
}

// revokedIdentities returns the identities whose code was revoked.
func revokedIdentities(h *harness.ClaimFixture) []string {
	h.T.Helper()
	return h.QueryTexts(`select cast(id as text) from identities where claim_revoked_at is not null`)
}

// guessRandomCodes decides random codes of strangers without applying the decisions, so that no
// sender is throttled. It returns the identities whose codes were guessed by chance.
func guessRandomCodes(
	h *harness.ClaimFixture,
	strangers []harness.LinkedIdentity,
	live map[string]string,
	tries int,
) map[string]bool {
	h.T.Helper()
	revoked := map[string]bool{}
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
				return fmt.Errorf("outcome of a guess = %s, want declined", r.Outcome)
			}
			for _, b := range r.Revoke {
				if live[code] != b.IdentityID {
					return errors.New("a code was revoked that was not guessed")
				}
				mu.Lock()
				revoked[b.IdentityID] = true
				mu.Unlock()
			}
		}
	})...)
	if err != nil {
		h.T.Fatal(err)
	}
	return maps.Clone(revoked)
}

// TestGuessing_NoLockout checks that failed attempts of other senders, applied and counted, do not
// delay the customer who has the right code.
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
			t.Errorf("outcomes of the other senders = %v, want only declined and throttled", outcomes)
		}
		key := h.SendText(p.ExternalID, p.ExternalID, "/claim "+code)
		h.ProcessMessages()
		if got := h.Outcome(key); got != "claimed" {
			t.Errorf("outcome of the right code = %q, want claimed", got)
		}
		t.Logf("%d wrong codes of other senders (%v), then the right code: %s", tries, outcomes, h.Outcome(key))
	})
}
