//go:build unix

package main

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"hydragate/claim"
)

// errDown is what a store says that is down.
var errDown = errors.New("down")

// A moody store of proofs does not answer the first times it is asked.
type moody struct {
	claim.Proofs
	silent atomic.Int64
}

func (m *moody) Check(ctx context.Context, s claim.Subject, typedIn, code, message string) (claim.Finding, error) {
	if m.silent.Add(-1) >= 0 {
		return claim.Finding{}, errDown
	}
	return m.Proofs.Check(ctx, s, typedIn, code, message)
}

// A faltering ledger fails when it is asked for the times set.
type faltering struct {
	claim.Ledger
	asked    atomic.Int64
	from, to int64 // fails from this time on, up to this one
}

func (f *faltering) State(ctx context.Context, a claim.Attempt) (claim.State, error) {
	if n := f.asked.Add(1); n >= f.from && n <= f.to {
		return claim.State{}, errDown
	}
	return f.Ledger.State(ctx, a)
}

// TestWaitingLosesNoClaim lets the stores fail a claim many times before they recover:
// a right code in time is granted in the end. A claim that nothing was ever found out
// about is answered, not forgotten.
func TestWaitingLosesNoClaim(t *testing.T) {
	for _, tt := range []struct {
		name             string
		proofs, from, to int64
		looks            int
		want             string
	}{
		{"the proofs are silent for twenty looks", 20, 0, 0, 21, "claimed"},
		{"the database fails once", 0, 1, 1, 2, "claimed"},
		{"the proofs are silent for ten looks, then the database fails once", 10, 11, 11, 12, "claimed"},
		{"control: the proofs are never there", 1000, 0, 0, 30, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onPairs(t, func(t *testing.T, h *proofHouse) {
				p := h.person("700061")
				key := h.say(p.external, p.external, "/claim "+h.issue(p))
				proofs := &moody{Proofs: h.desk.Proofs}
				proofs.silent.Store(tt.proofs)
				w := h.worker(&claim.Desk{Ledger: &faltering{Ledger: h.store, from: tt.from, to: tt.to}, Proofs: proofs}, h.store)
				for range tt.looks {
					h.exec(`update lanes set due_at = lease_until where due_at is not null and lease_until <= due_at`) // the wait is over
					h.look(w)
				}
				if got := h.outcome(key); got != tt.want {
					t.Errorf("outcome %q; want %q", got, tt.want)
				}
			})
		})
	}
}
