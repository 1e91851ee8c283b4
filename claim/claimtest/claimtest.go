// Package claimtest is the conformance suite of claim.CodeStore: it distinguishes right from wrong
// codes, counts every try once and at most MaxTries, never restores an old code, expires codes in
// time, and discloses nothing.
package claimtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"hydragate/claim"
)

// A Harness provides the suite with access to a code store.
type Harness struct {
	// WithKeys returns a CodeStore that hashes codes with the first key and verifies with all. All
	// of them share one store.
	WithKeys func(keys ...[]byte) claim.CodeStore

	// Dump returns everything that is stored, keys and values, as one text.
	Dump func(t *testing.T) []byte

	// Advance lets d pass for everything that is stored.
	Advance func(t *testing.T, d time.Duration)
}

// Run runs the suite. The store may contain other data, and is not emptied.
func Run(t *testing.T, store Harness) {
	withKeys := store.WithKeys
	store.WithKeys = func(keys ...[]byte) claim.CodeStore { return patientStore{withKeys(keys...)} }
	for _, tt := range []struct {
		name string
		test func(*testing.T, Harness)
	}{
		{"right code", testMatch},
		{"wrong code counted", testWrongCounted},
		{"locked after five tries", testLockAfterMaxTries},
		{"fifty concurrent wrong codes", testConcurrentWrong},
		{"fifty concurrent right codes", testConcurrentRight},
		{"repeated message counted once", testRepeatedMessageCountedOnce},
		{"concurrent repeats counted once", testConcurrentRepeatsCountedOnce},
		{"bound to its target", testBoundToTarget},
		{"new code replaces old", testNewCodeReplacesOld},
		{"old code never replaces new", testOldCodeNeverReplacesNew},
		{"concurrent puts", testConcurrentPuts},
		{"missing", testMissing},
		{"other identity", testOtherIdentity},
		{"other identity in the tenant", testOtherIdentityTenantWide},
		{"find", testFind},
		{"find after changes", testFindAfterChanges},
		{"peek", testPeek},
		{"expiry", testExpiry},
		{"drop only its own generation", testDropOwnGeneration},
		{"key rotation", testKeyRotation},
		{"no key", testNoKey},
		{"no disclosure", testNoDisclosure},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, store) })
	}
}

// A patientStore repeats calls that time out, as they may on a busy machine. No call has another result
// for being repeated.
type patientStore struct{ claim.CodeStore }

func (p patientStore) Put(ctx context.Context, s claim.Target, code string) error {
	_, err := repeat(func() (struct{}, error) { return struct{}{}, p.CodeStore.Put(ctx, s, code) })
	return err
}

func (p patientStore) Drop(ctx context.Context, s claim.Target) error {
	_, err := repeat(func() (struct{}, error) { return struct{}{}, p.CodeStore.Drop(ctx, s) })
	return err
}

func (p patientStore) Check(
	ctx context.Context, s claim.Target, typedIn, code, message string,
) (claim.CheckResult, error) {
	return repeat(func() (claim.CheckResult, error) { return p.CodeStore.Check(ctx, s, typedIn, code, message) })
}

func (p patientStore) Find(ctx context.Context, s claim.Target, codes []string) (map[string]claim.Target, error) {
	return repeat(func() (map[string]claim.Target, error) { return p.CodeStore.Find(ctx, s, codes) })
}

func (p patientStore) Peek(ctx context.Context, s claim.Target, code string) (claim.Result, error) {
	return repeat(func() (claim.Result, error) { return p.CodeStore.Peek(ctx, s, code) })
}

// repeat calls call until it does not time out, up to twenty times.
func repeat[T any](call func() (T, error)) (result T, err error) {
	for range 20 {
		result, err = call()
		if !os.IsTimeout(err) && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.DeadlineExceeded) {
			break
		}
	}
	return result, err
}

// newTarget returns the target of a new identity.
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

// issueCode stores a code for a new identity with key 1.
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

// mustCheck checks a code that was typed to the instance of s.
func mustCheck(t *testing.T, p claim.CodeStore, s claim.Target, code, message string) claim.CheckResult {
	t.Helper()
	got, err := p.Check(t.Context(), s, s.InstanceID, code, message)
	if err != nil {
		t.Fatalf("check: %v", err)
	}
	return got
}

// runConcurrently runs n calls that start together, and returns their results.
func runConcurrently(t *testing.T, n int, call func(i int) (claim.CheckResult, error)) []claim.CheckResult {
	t.Helper()
	results, errs := make([]claim.CheckResult, n), make([]error, n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			results[i], errs[i] = call(i)
		})
	}
	close(start)
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			t.Fatalf("one of %d concurrent calls: %v", n, err)
		}
	}
	return results
}

// differentCode returns a code other than code.
func differentCode(code string) string {
	if code[0] == 'B' {
		return "C" + code[1:]
	}
	return "B" + code[1:]
}

func testKey(n byte) []byte { return bytes.Repeat([]byte{n}, 32) }

func newID() string { return uuid.NewString() }
