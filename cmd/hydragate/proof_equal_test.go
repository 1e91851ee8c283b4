//go:build unix

package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"hydragate/claim"
	"hydragate/gateway"
)

// A witness writes down which calls a worker makes, in order.
type witness struct {
	mu    sync.Mutex
	calls []string
}

func (w *witness) note(call string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, call)
}

func (w *witness) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	calls := w.calls
	w.calls = nil
	return calls
}

type seenLedger struct {
	claim.Ledger
	*witness
}

func (l seenLedger) State(ctx context.Context, a claim.Attempt) (claim.State, error) {
	l.note("state")
	return l.Ledger.State(ctx, a)
}

func (l seenLedger) InviteState(ctx context.Context, a claim.Attempt) (claim.InviteState, error) {
	l.note("invite state")
	return l.Ledger.InviteState(ctx, a)
}

type seenStore struct {
	gateway.WorkStore
	*witness
}

func (s seenStore) Inbound(ctx context.Context, l gateway.Lease) ([]gateway.Inbound, error) {
	s.note("inbound")
	return s.WorkStore.Inbound(ctx, l)
}

func (s seenStore) Settle(ctx context.Context, st gateway.Settlement) error {
	s.note("settle")
	return s.WorkStore.Settle(ctx, st)
}

// seenRedis is a hook that writes down each command.
type seenRedis struct{ *witness }

func (r seenRedis) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (r seenRedis) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		r.note(cmd.Name())
		return next(ctx, cmd)
	}
}

func (r seenRedis) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			r.note(cmd.Name())
		}
		return next(ctx, cmds)
	}
}

// A wayToFail is a way in which a code does not work.
type wayToFail struct {
	name    string
	prepare func(h *proofHouse) (external, code string) // gives who types what
	want    string
}

// waysToFail are all of them, and one control that is none.
var waysToFail = []wayToFail{
	{"unknown sender", func(h *proofHouse) (string, string) { return h.newcomer(), claim.NewCode() }, "declined"},
	{"no code", func(h *proofHouse) (string, string) { return h.person(h.newcomer()).external, claim.NewCode() }, "declined"},
	{"wrong", func(h *proofHouse) (string, string) {
		p := h.person(h.newcomer())
		return p.external, otherThan(h.issue(p))
	}, "declined"},
	{"expired", func(h *proofHouse) (string, string) {
		p := h.person(h.newcomer())
		code := h.issue(p)
		h.exec(`update identities set claim_expires_at = '2020-01-01 00:00:00.000+00:00' where id = $1`, p.identity)
		return p.external, code
	}, "declined"},
	{"expired, and the proof is gone", func(h *proofHouse) (string, string) {
		p := h.person(h.newcomer())
		code := h.issue(p)
		h.exec(`update identities set claim_expires_at = '2020-01-01 00:00:00.000+00:00' where id = $1`, p.identity)
		h.forgetProof(p)
		return p.external, code
	}, "declined"},
	{"used", func(h *proofHouse) (string, string) {
		p := h.person(h.newcomer())
		code := h.issue(p)
		h.exec(`update identities set claim_used_msg = $1 where id = $2`, uuid.NewString(), p.identity)
		h.forgetProof(p)
		return p.external, code
	}, "declined"},
	{"revoked", func(h *proofHouse) (string, string) {
		p := h.person(h.newcomer())
		code := h.issue(p)
		h.exec(`update identities set claim_revoked_at = claim_expires_at where id = $1`, p.identity)
		h.forgetProof(p)
		return p.external, code
	}, "declined"},
	{"replaced", func(h *proofHouse) (string, string) {
		p := h.person(h.newcomer())
		code := h.issue(p)
		h.issue(p)
		return p.external, code
	}, "declined"},
	{"locked", func(h *proofHouse) (string, string) {
		p := h.person(h.newcomer())
		code := h.issue(p)
		if err := guess(h.t.Context(), h.desk, claim.MaxTries, func() claim.Attempt { return h.attempt(p, otherThan(code)) }); err != nil {
			h.t.Fatal(err)
		}
		return p.external, code
	}, "declined"},
	{"somebody else's", func(h *proofHouse) (string, string) {
		p := h.person(h.newcomer())
		h.issue(p)
		return p.external, h.issue(h.person(h.newcomer()))
	}, "declined"},
	{"somebody else's, by a stranger", func(h *proofHouse) (string, string) {
		return h.newcomer(), h.issue(h.person(h.newcomer()))
	}, "declined"},
	{"control: a verified person", func(h *proofHouse) (string, string) {
		p := h.person(h.newcomer())
		h.say(p.external, p.external, "/claim "+h.issue(p))
		h.works()
		return p.external, claim.NewCode()
	}, "already_verified"},
}

// TestFailuresLookAlike fails in every way there is: the answer is the same to the
// byte, and so are the calls to both stores up to the one that stores the answer. What
// comes after it (a proof that is dropped) nobody waits for.
func TestFailuresLookAlike(t *testing.T) {
	onPairs(t, func(t *testing.T, h *proofHouse) {
		seen := &witness{}
		h.redis.AddHook(seenRedis{seen})
		for _, tt := range waysToFail {
			t.Run(tt.name, func(t *testing.T) {
				defer h.within(t)()
				w := h.worker(&claim.Desk{Ledger: seenLedger{h.store, seen}, Proofs: h.desk.Proofs}, seenStore{h.store, seen})
				external, code := tt.prepare(h)
				h.say(external, "warm", "hello") // an unknown sender is met
				h.work(w)
				if _, err := h.desk.Rule(t.Context(), h.attempt(person{identity: uuid.NewString()}, code)); err != nil { // scripts are loaded
					t.Fatal(err)
				}
				seen.take()
				key := h.say(external, external, "/claim "+code)
				h.work(w)
				calls := seen.take()
				if at := slices.Index(calls, "settle"); at >= 0 {
					calls = calls[:at+1]
				}
				same := slices.Equal(calls, []string{"inbound", "state", "evalsha", "get", "get", "state", "settle"}) && h.answers(key) == "That code did not work. Codes last 15 minutes and work once; please ask for a new one."
				if got := h.outcome(key); got != tt.want || same != (tt.want == "declined") {
					t.Errorf("%s: outcome %q, calls %q, answer %q", tt.name, got, calls, h.answers(key))
				}
			})
		}
	})
}

// forgetProof drops the proof of a person's last code.
func (h *proofHouse) forgetProof(p person) {
	h.t.Helper()
	var gen int64
	h.scan(`select claim_gen from identities where id = $1`, []any{p.identity}, &gen)
	if err := h.desk.Proofs.Drop(h.t.Context(), claim.Subject{IdentityID: p.identity, Gen: gen}); err != nil {
		h.t.Fatal(err)
	}
}

// newcomer gives an account that was never seen.
func (h *proofHouse) newcomer() string { return fmt.Sprint(720_000_000 + h.typed.Add(1)) }

// burns reports whether a failure of this kind ends a code that was live: that is
// more to write, and no news to who typed the letters.
func (w wayToFail) burns() bool {
	return w.name == "locked" || strings.HasPrefix(w.name, "somebody else's")
}

// TestFailuresTakeAsLong works failures of every kind by turns: the medians of the
// times they take are within a tenth of each other, and within a third where a code
// dies. A failure that skips the proofs on the way is quicker than all.
func TestFailuresTakeAsLong(t *testing.T) {
	rounds, slack, burning := 5, 2.0, 2.0 // few rounds beside other work tell only gross differences
	if long() {
		rounds, slack, burning = 500, 0.1, 1./3
	}
	onPairs(t, func(t *testing.T, h *proofHouse) {
		w := h.worker(h.desk, h.store)
		skips := h.worker(&claim.Desk{Ledger: h.store, Proofs: unasked{h.desk.Proofs}}, h.store)
		times := map[string][]time.Duration{}
		for range rounds {
			for _, tt := range waysToFail {
				if tt.want == "declined" {
					times[tt.name] = append(times[tt.name], h.timed(w, tt.prepare))
				}
			}
			times["control"] = append(times["control"], h.timed(skips, waysToFail[0].prepare))
		}
		medians := map[string]time.Duration{}
		for name, all := range times {
			slices.Sort(all)
			medians[name] = all[len(all)/2]
		}
		var alike []time.Duration
		for _, tt := range waysToFail {
			if tt.want == "declined" && !tt.burns() {
				alike = append(alike, medians[tt.name])
			}
		}
		slices.Sort(alike)
		middle := alike[len(alike)/2]
		off := func(m time.Duration) float64 { return float64(m-middle) / float64(middle) }
		for _, tt := range waysToFail {
			most := slack
			if tt.burns() {
				most = burning
			}
			if d := off(medians[tt.name]); tt.want == "declined" && (d > most || d < -most) {
				t.Errorf("%s takes %v; the median of all kinds is %v", tt.name, medians[tt.name], middle)
			}
		}
		if long() && medians["control"] >= alike[0] {
			t.Errorf("a failure that skips the proofs takes %v, others from %v: the test sees nothing", medians["control"], alike[0])
		}
		t.Logf("%d rounds: medians %+.1f %% to %+.1f %% from their middle of %v; where a code dies %+.1f %%; control without the proofs %+.1f %%", rounds,
			100*off(alike[0]), 100*off(alike[len(alike)-1]), middle, 100*off(max(medians["locked"], medians["somebody else's"])), 100*off(medians["control"]))
	})
}

// unasked proofs answer without looking.
type unasked struct{ claim.Proofs }

func (unasked) Check(context.Context, claim.Subject, string, string, string) (claim.Finding, error) {
	return claim.Finding{Verdict: claim.Missing}, nil
}

// timed gives the time that a worker takes for a code that prepare wants typed.
func (h *proofHouse) timed(w *gateway.Worker, prepare func(h *proofHouse) (external, code string)) time.Duration {
	h.t.Helper()
	external, code := prepare(h)
	h.say(external, external, "hello") // an unknown sender is met
	h.work(w)
	h.say(external, external, "/claim "+code)
	leases, err := h.store.Lease(h.t.Context(), gateway.InboxLane, h.holder, 2)
	if err != nil || len(leases) != 1 {
		h.t.Fatalf("%d lanes to work, %v", len(leases), err)
	}
	turn := gateway.NewTurn(h.t.Context(), time.Minute)
	started := time.Now()
	err = w.Work(h.t.Context(), leases[0], turn)
	took := time.Since(started)
	if err != nil {
		h.t.Fatal(err)
	}
	return took
}
