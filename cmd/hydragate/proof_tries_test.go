//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"hydragate/claim"
	"hydragate/claim/redisproof"
	"hydragate/store"
)

// A tally counts what comparisons found.
type tally struct {
	claim.Proofs
	mu       sync.Mutex
	verdicts map[claim.Verdict]int
}

func (c *tally) Check(ctx context.Context, s claim.Subject, typedIn, code, message string) (claim.Finding, error) {
	f, err := c.Proofs.Check(ctx, s, typedIn, code, message)
	if err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.verdicts == nil {
			c.verdicts = map[claim.Verdict]int{}
		}
		c.verdicts[f.Verdict]++
	}
	return f, err
}

// guess types n wrong codes at the same time, none of them settled, so that only the
// count beside the proof stands between the guesser and the code.
func guess(ctx context.Context, d *claim.Desk, n int, attempt func() claim.Attempt) error {
	return errors.Join(atOnce(n, func(int) error {
		a := attempt()
		for {
			r, err := d.Rule(ctx, a)
			if errors.Is(err, claim.ErrNoProofs) && ctx.Err() == nil {
				continue // asked again: the message counts once
			}
			if err == nil && r.Outcome != claim.Declined {
				err = fmt.Errorf("a wrong code is %s", r.Outcome)
			}
			return err
		}
	})...)
}

// TestFiveTriesAreCompared types a hundred wrong codes at once, in two processes where
// two can share the stores: five are compared. A count that is read first and raised
// after lets more through.
func TestFiveTriesAreCompared(t *testing.T) {
	alongside(t)
	onPairs(t, func(t *testing.T, h *proofHouse) {
		p := h.person("700011")
		wrong := otherThan(h.issue(p))
		here := &tally{Proofs: h.desk.Proofs}
		desk := &claim.Desk{Ledger: h.store, Proofs: here}
		attempt := func() claim.Attempt { return h.attempt(p, wrong) }
		all := map[claim.Verdict]int{}
		if h.redisURL == "" {
			if err := guess(t.Context(), desk, 100, attempt); err != nil {
				t.Fatal(err)
			}
		} else {
			other := startProofChild(t, "guess", guessOrder{h.url, h.redisURL, h.masterK, attempt()})
			other.begin()
			if err := guess(t.Context(), desk, 50, attempt); err != nil {
				t.Fatal(err)
			}
			other.result(&all)
		}
		for v, n := range here.verdicts {
			all[v] += n
		}
		if all[claim.Wrong] != claim.MaxTries || all[claim.Locked] != 100-claim.MaxTries || len(all) != 2 {
			t.Errorf("verdicts %v; want %d wrong and the rest locked", all, claim.MaxTries)
		}
		t.Logf("100 wrong codes at once: %v", all)
	})
	t.Run("control: read, compare, count", func(t *testing.T) {
		onPairs(t, func(t *testing.T, h *proofHouse) {
			p := h.person("700012")
			wrong := otherThan(h.issue(p))
			counted := &tally{Proofs: &lateCount{Proofs: h.desk.Proofs, gathered: newGathering(nil, 50)}}
			if err := guess(t.Context(), &claim.Desk{Ledger: h.store, Proofs: counted}, 50, func() claim.Attempt { return h.attempt(p, wrong) }); err != nil {
				t.Fatal(err)
			}
			if n := counted.verdicts[claim.Wrong]; n <= claim.MaxTries {
				t.Errorf("only %d were compared: the test does not see a count that comes late", n)
			}
		})
	})
}

// A lateCount reads the count of tries, compares, and counts only then.
type lateCount struct {
	claim.Proofs
	tries    atomic.Int64
	gathered *gathering
}

func (c *lateCount) Check(ctx context.Context, s claim.Subject, typedIn, code, message string) (claim.Finding, error) {
	tries := c.tries.Load()
	c.gathered.wait()
	if tries >= claim.MaxTries {
		return claim.Finding{Verdict: claim.Locked, Tries: int(tries)}, nil
	}
	return claim.Finding{Verdict: claim.Wrong, Tries: int(c.tries.Add(1))}, nil
}

// A guessOrder tells a second process what to guess at.
type guessOrder struct {
	Database, Redis, Keys string
	Attempt               claim.Attempt
}

// guessBeside is the second process of TestFiveTriesAreCompared.
func guessBeside(t *testing.T, c *proofChild) {
	var o guessOrder
	c.order(t, &o)
	keys, err := store.ParseKeyRing(o.Keys)
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), o.Database, keys)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	client, err := redisproof.NewClient(o.Redis)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	here := &tally{Proofs: &redisproof.Proofs{Redis: client, Keys: claimKeys(keys)}}
	c.ready(t)
	err = guess(t.Context(), &claim.Desk{Ledger: s, Proofs: here}, 50, func() claim.Attempt {
		a := o.Attempt
		a.MessageID = uuid.NewString()
		return a
	})
	if err != nil {
		t.Fatal(err)
	}
	c.say(t, here.verdicts)
}

// long reports whether the whole of a proof is to be run, which takes hours.
func long() bool { return os.Getenv("HYDRAGATE_TEST_LONG") == "1" }

// TestStrangersGetNowhere lets a thousand senders try codes while two hundred other
// people's are live. Nobody is granted, no code dies but one that was really typed,
// and every owner's code works afterwards.
func TestStrangersGetNowhere(t *testing.T) {
	alongside(t)
	onPairs(t, func(t *testing.T, h *proofHouse) {
		rounds, tries, owners := 1, 10_000, 200
		switch {
		case long() && h.redisURL != "": // no round lasts as long as a code
			rounds, tries = 10, 100_000
		case long():
			tries = 100_000
		case h.redisURL == "": // the race detector makes the database in this process thirty times slower
			tries, owners = tries/20, owners/4
		}
		strangers := make([]person, 1_000)
		for i := range strangers {
			strangers[i] = person{identity: uuid.NewString(), external: fmt.Sprint(900_000 + i)}
		}
		for i := range 50 { // some are known, and have no code
			strangers[i] = h.person(strangers[i].external)
		}
		hits, codes := 0, map[string]string{} // identities by code, of all rounds
		for range rounds {
			hits += h.strangersAndOwners(strangers, codes, owners, tries)
		}
		t.Logf("%d tries by %d strangers at %d live codes: 0 granted; by chance the letters were %d times a live code's, which burns it", rounds*tries, len(strangers), owners, hits)
	})
}

// strangersAndOwners gives new people codes, lets strangers try, and then the owners.
// It gives how often letters were right by chance.
func (h *proofHouse) strangersAndOwners(strangers []person, live map[string]string, owners, tries int) (hits int) {
	h.t.Helper()
	people := make([]person, owners)
	codes := make([]string, owners)
	for i := range people {
		people[i] = h.person(h.newcomer())
		codes[i] = h.issue(people[i])
		for live[codes[i]] != "" { // one in a thousand times two are alike
			codes[i] = h.issue(people[i])
		}
		live[codes[i]] = people[i].identity
	}
	before := len(h.revoked())
	hits = len(h.strangersTry(strangers, live, tries))

	// Control: really right letters are seen, and burn that one code.
	teller := strangers[before%len(strangers)] // another in each round: nobody is told to wait
	told := h.say(teller.external, teller.external, "/claim "+codes[0])
	h.works()
	if got := h.outcome(told); got != "declined" || h.grants(teller.identity) != 0 {
		h.t.Errorf("somebody else's code was %q", got)
	}
	if revoked := h.revoked(); len(revoked) != before+1 || !slices.Contains(revoked, people[0].identity) {
		h.t.Errorf("revoked: %v; want one more, whose code was typed", revoked)
	}
	for i, p := range people {
		key, want := h.say(p.external, p.external, "/claim "+codes[i]), "claimed"
		if i == 0 {
			want = "declined"
		}
		h.works()
		if got := h.outcome(key); got != want {
			h.t.Errorf("owner %d afterwards: %q; want %s", i, got, want)
		}
	}
	return hits
}

// revoked gives the identities whose code was burnt.
func (h *proofHouse) revoked() []string {
	h.t.Helper()
	return h.texts(`select cast(id as text) from identities where claim_revoked_at is not null`)
}

// strangersTry rules on tries of strangers. They are not settled, so nobody is ever
// told to wait. It gives the identities whose codes were hit by chance.
func (h *proofHouse) strangersTry(strangers []person, live map[string]string, tries int) map[string]bool {
	h.t.Helper()
	burnt := map[string]bool{}
	var mu sync.Mutex
	var next atomic.Int64
	err := errors.Join(atOnce(4, func(int) error {
		for {
			n := next.Add(1)
			if n > int64(tries) {
				return nil
			}
			code := claim.NewCode()
			r, err := h.desk.Rule(h.t.Context(), h.attempt(strangers[int(n)%len(strangers)], code))
			switch {
			case errors.Is(err, claim.ErrNoProofs):
				next.Add(-1)
				continue
			case err != nil:
				return err
			case r.Grant != nil || r.Outcome != claim.Declined:
				return fmt.Errorf("a stranger is %s", r.Outcome)
			}
			for _, b := range r.Burn {
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
		h.t.Fatal(err)
	}
	return maps.Clone(burnt)
}

// TestOthersLockNobodyOut lets other people fail in earnest, settled and counted: the
// right one is not kept waiting.
func TestOthersLockNobodyOut(t *testing.T) {
	alongside(t)
	tries, each := 200, 8
	if long() {
		tries = 10_000
	}
	onPairs(t, func(t *testing.T, h *proofHouse) {
		p := h.person("700021")
		code := h.issue(p)
		outcomes := map[string]int{}
		for i := 0; i < tries; i += 100 {
			var keys []string
			for n := range 100 {
				who := fmt.Sprint(910_000 + (i+n)/each)
				keys = append(keys, h.say(who, who, "/claim "+otherThan(code)))
			}
			h.works()
			for _, k := range keys {
				outcomes[h.outcome(k)]++
			}
		}
		if outcomes["declined"]+outcomes["throttled"] != tries || outcomes["throttled"] == 0 {
			t.Errorf("outcomes of the others: %v", outcomes)
		}
		key := h.say(p.external, p.external, "/claim "+code)
		h.works()
		if got := h.outcome(key); got != "claimed" {
			t.Errorf("the right one is %q", got)
		}
		t.Logf("%d wrong tries of others (%v), then the right one: %s", tries, outcomes, h.outcome(key))
	})
}

// decode reads what a child said.
func decode(t *testing.T, line string, v any) {
	t.Helper()
	if err := json.NewDecoder(strings.NewReader(line)).Decode(v); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
}
