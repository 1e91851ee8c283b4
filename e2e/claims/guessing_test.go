package claims

import (
	"context"
	"errors"
	"fmt"
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

		p = h.CreateIdentity("700012")
		wrong = harness.WrongCode(h.IssueCode(p))
		late := &harness.CountingCodeStore{CodeStore: &lateCountingCodeStore{h.Claims.Codes, newBarrier(50), atomic.Int64{}}}
		service = &claim.Service{Store: h.Store, Codes: late}
		if err := harness.GuessConcurrently(t.Context(), service, 50, attempt); err != nil {
			t.Fatal(err)
		}
		if n := late.Results[claim.Wrong]; n <= claim.MaxTries {
			t.Errorf("control: compared codes with a late counter = %d, want more than %d", n, claim.MaxTries)
		}
	})
}

// lateCountingCodeStore reads the number of tries, compares, and only then counts the try.
type lateCountingCodeStore struct {
	claim.CodeStore
	wait  func(context.Context) // for the other callers
	tries atomic.Int64
}

func (c *lateCountingCodeStore) Check(
	ctx context.Context, _ claim.Target, _, _, _ string,
) (claim.CheckResult, error) {
	tries := c.tries.Load()
	c.wait(context.WithoutCancel(ctx))
	if tries >= claim.MaxTries {
		return claim.CheckResult{Result: claim.Locked, Tries: int(tries)}, nil
	}
	return claim.CheckResult{Result: claim.Wrong, Tries: int(c.tries.Add(1))}, nil
}

// TestGuessing_NoGrants checks that a thousand senders who guess codes of other customers are never
// granted. A guess revokes a code only if it is that code, and the codes of all other customers still
// work afterwards.
func TestGuessing_NoGrants(t *testing.T) {
	harness.ParallelUnlessFull(t)
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		rounds, tries, owners := 1, harness.Scaled(250, 100_000), harness.Scaled(20, 200)
		if h.IsPostgres() { // in a full run, a round must be shorter than the life of a code
			rounds, tries = harness.Scaled(1, 10), harness.Scaled(600, 100_000)
		}
		strangers := make([]harness.LinkedIdentity, 1_000)
		for i := range strangers {
			strangers[i] = harness.LinkedIdentity{IdentityID: uuid.NewString(), ExternalID: fmt.Sprint(900_000 + i)}
		}
		for i := range harness.Scaled(10, 50) { // some are linked but have no code
			strangers[i] = h.CreateIdentity(strangers[i].ExternalID)
		}
		revokedIdentities := func() []string {
			return h.QueryTexts(`select cast(id as text) from identities where claim_revoked_at is not null`)
		}
		hits, live := 0, map[string]string{} // identity by code, over all rounds
		for round := range rounds {
			customers, codes := make([]harness.LinkedIdentity, owners), make([]string, owners)
			for i := range customers {
				customers[i] = h.CreateIdentity(h.NewExternalID())
				codes[i] = h.IssueCode(customers[i])
				for live[codes[i]] != "" { // codes may collide by chance
					codes[i] = h.IssueCode(customers[i])
				}
				live[codes[i]] = customers[i].IdentityID
			}
			hits += guessRandomCodes(h, strangers, live, tries)

			// Control: a correct code of another customer is detected, and revokes only that code.
			stranger := strangers[round] // another one in each round, to avoid throttling
			key := h.SendText(stranger.ExternalID, stranger.ExternalID, "/claim "+codes[0])
			h.ProcessMessages()
			if got := h.Outcome(key); got != "declined" || h.GrantCount(stranger.IdentityID) != 0 {
				t.Errorf("outcome of another customer's code = %q, want declined and no grant", got)
			}
			revoked := revokedIdentities()
			if len(revoked) != round+1 || !slices.Contains(revoked, customers[0].IdentityID) {
				t.Errorf("revoked identities = %v, want %d, including %s", revoked, round+1, customers[0].IdentityID)
			}
			keys := make([]string, owners)
			for i, p := range customers {
				keys[i] = h.SendText(p.ExternalID, p.ExternalID, "/claim "+codes[i])
			}
			h.ProcessMessages()
			for i, key := range keys {
				want := "claimed"
				if i == 0 {
					want = "declined"
				}
				if got := h.Outcome(key); got != want {
					t.Errorf("owner %d: outcome = %q, want %q", i, got, want)
				}
			}
		}
		t.Logf("%d tries by %d strangers with %d live codes: 0 granted, %d codes guessed by chance and revoked",
			rounds*tries, len(strangers), owners, hits)
	})
}

// guessRandomCodes decides random codes of strangers without applying the decisions, so that no
// sender is throttled. It returns the number of identities whose codes were guessed by chance.
func guessRandomCodes(
	h *harness.ClaimFixture, strangers []harness.LinkedIdentity, live map[string]string, tries int,
) int {
	h.T.Helper()
	var revoked sync.Map // identities
	var next atomic.Int64
	err := errors.Join(harness.Concurrently(4, func(int) error {
		for n := next.Add(1); n <= int64(tries); n = next.Add(1) {
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
				revoked.Store(b.IdentityID, true)
			}
		}
		return nil
	})...)
	if err != nil {
		h.T.Fatal(err)
	}
	hits := 0
	revoked.Range(func(any, any) bool { hits++; return true })
	return hits
}

// TestGuessing_NoLockout checks that failed attempts of other senders, applied and counted, do not
// delay the customer who has the right code.
func TestGuessing_NoLockout(t *testing.T) {
	harness.ParallelUnlessFull(t)
	tries, each := harness.Scaled(100, 10_000), 8
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
