// Package claimtest is what every keeper of proofs must pass, whatever it keeps them
// in: it tells right from wrong, counts every try once and no more than MaxTries of
// them, never lets an old code come back, forgets in time, and gives nothing away.
package claimtest

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"hydragate/claim"
)

// A Store is where proofs are kept, with what the suite needs to look into it.
type Store struct {
	// Under gives Proofs that make proofs with the first key and verify with all.
	// All of them share the store.
	Under func(keys ...[]byte) claim.Proofs

	// Contents gives everything that is kept, names and values, as one text.
	Contents func(t *testing.T) []byte

	// Pass lets d pass for everything that is kept.
	Pass func(t *testing.T, d time.Duration)
}

// Run runs the suite. The store may hold other things, and is not emptied.
func Run(t *testing.T, store Store) {
	for _, tt := range []struct {
		name string
		test func(*testing.T, Store)
	}{
		{"Match", match},
		{"WrongIsCounted", wrongIsCounted},
		{"FiveTriesLock", fiveTriesLock},
		{"FiftyWrongAtOnce", fiftyWrongAtOnce},
		{"FiftyRightAtOnce", fiftyRightAtOnce},
		{"SameMessageCountsOnce", sameMessageCountsOnce},
		{"SameMessageAtOnceCountsOnce", sameMessageAtOnceCountsOnce},
		{"BoundToItsSubject", boundToItsSubject},
		{"NewCodeReplacesOld", newCodeReplacesOld},
		{"OldCodeNeverReplacesNew", oldCodeNeverReplacesNew},
		{"PutsAtOnce", putsAtOnce},
		{"Missing", missing},
		{"Whose", whose},
		{"WhoseTenantWide", whoseTenantWide},
		{"Expiry", expiry},
		{"DropOnlyItsOwn", dropOnlyItsOwn},
		{"KeyRotation", keyRotation},
		{"NoKeyNoProof", noKeyNoProof},
		{"DisclosesNothing", disclosesNothing},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, store) })
	}
}

// subject makes up somebody new.
func subject() claim.Subject {
	return claim.Subject{
		TenantID:   id(),
		InstanceID: id(),
		Channel:    "telegram",
		ExternalID: fmt.Sprint("9", uuid.New().ID(), uuid.New().ID()),
		IdentityID: id(),
		Gen:        7,
	}
}

// issued gives somebody new with a live code, made under key 1.
func issued(t *testing.T, store Store) (claim.Proofs, claim.Subject, string) {
	t.Helper()
	p, s, code := store.Under(key(1)), subject(), claim.NewCode()
	put(t, p, s, code)
	return p, s, code
}

func put(t *testing.T, p claim.Proofs, s claim.Subject, code string) {
	t.Helper()
	if err := p.Put(t.Context(), s, code); err != nil {
		t.Fatalf("put: %v", err)
	}
}

func drop(t *testing.T, p claim.Proofs, s claim.Subject) {
	t.Helper()
	if err := p.Drop(t.Context(), s); err != nil {
		t.Fatalf("drop: %v", err)
	}
}

// check checks a code that was typed where s belongs.
func check(t *testing.T, p claim.Proofs, s claim.Subject, code, message string) claim.Finding {
	t.Helper()
	got, err := p.Check(t.Context(), s, s.InstanceID, code, message)
	if err != nil {
		t.Fatalf("check: %v", err)
	}
	return got
}

// atOnce runs n calls that start together, and gives what they found.
func atOnce(t *testing.T, n int, call func(i int) (claim.Finding, error)) []claim.Finding {
	t.Helper()
	findings, errs := make([]claim.Finding, n), make([]error, n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			findings[i], errs[i] = call(i)
		})
	}
	close(start)
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			t.Fatalf("one of %d at once: %v", n, err)
		}
	}
	return findings
}

// other gives a code that is not code.
func other(code string) string {
	if code[0] == 'B' {
		return "C" + code[1:]
	}
	return "B" + code[1:]
}

func key(n byte) []byte { return bytes.Repeat([]byte{n}, 32) }

func id() string { return uuid.NewString() }
