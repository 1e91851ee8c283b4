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

// A Harness is where proofs are kept, with what the suite needs to look into it.
type Harness struct {
	// Under gives Proofs that make proofs with the first key and verify with all.
	// All of them share the store.
	WithKeys func(keys ...[]byte) claim.CodeStore

	// Contents gives everything that is kept, names and values, as one text.
	Dump func(t *testing.T) []byte

	// Pass lets d pass for everything that is kept.
	Advance func(t *testing.T, d time.Duration)
}

// Run runs the suite. The store may hold other things, and is not emptied.
func Run(t *testing.T, store Harness) {
	for _, tt := range []struct {
		name string
		test func(*testing.T, Harness)
	}{
		{"Match", testMatch},
		{"WrongIsCounted", testWrongCounted},
		{"FiveTriesLock", testLockAfterMaxTries},
		{"FiftyWrongAtOnce", testConcurrentWrong},
		{"FiftyRightAtOnce", testConcurrentRight},
		{"SameMessageCountsOnce", testRepeatedMessageCountedOnce},
		{"SameMessageAtOnceCountsOnce", testConcurrentRepeatsCountedOnce},
		{"BoundToItsSubject", testBoundToTarget},
		{"NewCodeReplacesOld", testNewCodeReplacesOld},
		{"OldCodeNeverReplacesNew", testOldCodeNeverReplacesNew},
		{"PutsAtOnce", testConcurrentPuts},
		{"Missing", testMissing},
		{"Whose", testOtherIdentity},
		{"WhoseTenantWide", testOtherIdentityTenantWide},
		{"Expiry", testExpiry},
		{"DropOnlyItsOwn", testDropOwnGeneration},
		{"KeyRotation", testKeyRotation},
		{"NoKeyNoProof", testNoKey},
		{"DisclosesNothing", testNoDisclosure},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, store) })
	}
}

// newTarget makes up somebody new.
func newTarget() claim.Target {
	return claim.Target{
		TenantID:   newID(),
		InstanceID: newID(),
		Channel:    "telegram",
		ExternalID: fmt.Sprint("9", uuid.New().ID(), uuid.New().ID()),
		IdentityID: newID(),
		Gen:        7,
	}
}

// issueCode gives somebody new with a live code, made under key 1.
func issueCode(t *testing.T, store Harness) (claim.CodeStore, claim.Target, string) {
	t.Helper()
	p, s, code := store.WithKeys(testKey(1)), newTarget(), claim.NewCode()
	mustPut(t, p, s, code)
	return p, s, code
}

func mustPut(t *testing.T, p claim.CodeStore, s claim.Target, code string) {
	t.Helper()
	if err := p.Put(t.Context(), s, code); err != nil {
		t.Fatalf("put: %v", err)
	}
}

func mustDrop(t *testing.T, p claim.CodeStore, s claim.Target) {
	t.Helper()
	if err := p.Drop(t.Context(), s); err != nil {
		t.Fatalf("drop: %v", err)
	}
}

// mustCheck checks a code that was typed where s belongs.
func mustCheck(t *testing.T, p claim.CodeStore, s claim.Target, code, message string) claim.CheckResult {
	t.Helper()
	got, err := p.Check(t.Context(), s, s.InstanceID, code, message)
	if err != nil {
		t.Fatalf("check: %v", err)
	}
	return got
}

// runConcurrently runs n calls that start together, and gives what they found.
func runConcurrently(t *testing.T, n int, call func(i int) (claim.CheckResult, error)) []claim.CheckResult {
	t.Helper()
	findings, errs := make([]claim.CheckResult, n), make([]error, n)
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

// differentCode gives a code that is not code.
func differentCode(code string) string {
	if code[0] == 'B' {
		return "C" + code[1:]
	}
	return "B" + code[1:]
}

func testKey(n byte) []byte { return bytes.Repeat([]byte{n}, 32) }

func newID() string { return uuid.NewString() }
