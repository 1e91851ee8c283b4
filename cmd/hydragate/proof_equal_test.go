//go:build unix

package main

import (
	"context"
	"net"
	"slices"
	"sync"
	"testing"

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

// TestFailuresLookAlike fails in every way there is: the answer is the same to the
// byte, and so are the calls to both stores up to the one that stores the answer. What
// comes after it (a proof that is dropped) nobody waits for.
func TestFailuresLookAlike(t *testing.T) {
	tests := []struct {
		name string
		// prepare gives who types what.
		prepare func(h *proofHouse) (external, code string)
		want    string
	}{
		{"unknown sender", func(h *proofHouse) (string, string) { return "700031", claim.NewCode() }, "declined"},
		{"no code", func(h *proofHouse) (string, string) { return h.person("700032").external, claim.NewCode() }, "declined"},
		{"wrong", func(h *proofHouse) (string, string) {
			p := h.person("700033")
			return p.external, otherThan(h.issue(p))
		}, "declined"},
		{"expired", func(h *proofHouse) (string, string) {
			p := h.person("700034")
			code := h.issue(p)
			h.exec(`update identities set claim_expires_at = '2020-01-01 00:00:00.000+00:00' where id = $1`, p.identity)
			return p.external, code
		}, "declined"},
		{"expired, and the proof is gone", func(h *proofHouse) (string, string) {
			p := h.person("700035")
			code := h.issue(p)
			h.exec(`update identities set claim_expires_at = '2020-01-01 00:00:00.000+00:00' where id = $1`, p.identity)
			h.forgetProof(p)
			return p.external, code
		}, "declined"},
		{"used", func(h *proofHouse) (string, string) {
			p := h.person("700036")
			code := h.issue(p)
			h.exec(`update identities set claim_used_msg = $1 where id = $2`, uuid.NewString(), p.identity)
			h.forgetProof(p)
			return p.external, code
		}, "declined"},
		{"revoked", func(h *proofHouse) (string, string) {
			p := h.person("700037")
			code := h.issue(p)
			h.exec(`update identities set claim_revoked_at = claim_expires_at where id = $1`, p.identity)
			h.forgetProof(p)
			return p.external, code
		}, "declined"},
		{"replaced", func(h *proofHouse) (string, string) {
			p := h.person("700038")
			code := h.issue(p)
			h.issue(p)
			return p.external, code
		}, "declined"},
		{"locked", func(h *proofHouse) (string, string) {
			p := h.person("700039")
			code := h.issue(p)
			if err := guess(h.t.Context(), h.desk, claim.MaxTries, func() claim.Attempt { return h.attempt(p, otherThan(code)) }); err != nil {
				h.t.Fatal(err)
			}
			return p.external, code
		}, "declined"},
		{"somebody else's", func(h *proofHouse) (string, string) {
			p := h.person("700040")
			h.issue(p)
			return p.external, h.issue(h.person("700041"))
		}, "declined"},
		{"somebody else's, by a stranger", func(h *proofHouse) (string, string) {
			return "700042", h.issue(h.person("700043"))
		}, "declined"},
		{"control: a verified person", func(h *proofHouse) (string, string) {
			p := h.person("700044")
			h.say(p.external, p.external, "/claim "+h.issue(p))
			h.works()
			return p.external, claim.NewCode()
		}, "already_verified"},
	}
	onPairs(t, func(t *testing.T, h *proofHouse) {
		seen := &witness{}
		h.redis.AddHook(seenRedis{seen})
		for _, tt := range tests {
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
