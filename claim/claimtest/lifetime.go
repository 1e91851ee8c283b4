package claimtest

import (
	"bytes"
	"testing"
	"time"

	"hydragate/claim"
)

func testNewCodeReplacesOld(t *testing.T, store Harness) {
	p, old, code := issueCode(t, store)
	mustCheck(t, p, old, differentCode(code), newID())
	s, newer := old, differentCode(code)
	s.Gen += 3
	mustPut(t, p, s, newer)
	for _, tt := range []struct {
		s    claim.Target
		code string
		want claim.Result
	}{
		{s, newer, claim.Match},
		{s, code, claim.Wrong},
		{old, code, claim.Stale},
		{old, newer, claim.Stale},
	} {
		got := mustCheck(t, p, tt.s, tt.code, newID())
		if got.Result != tt.want {
			t.Errorf("generation %d: %+v, want %s", tt.s.Gen, got, tt.want)
		}
		if got.Result == claim.Match && got.Tries != 0 {
			t.Errorf("a new code has %d tries, want 0", got.Tries)
		}
	}
}

func testOldCodeNeverReplacesNew(t *testing.T, store Harness) {
	p, s, code := issueCode(t, store)
	mustCheck(t, p, s, differentCode(code), newID())
	old := s
	old.Gen--
	mustPut(t, p, old, differentCode(code))
	mustPut(t, p, s, code)
	if got := mustCheck(t, p, s, code, newID()); got.Result != claim.Match || got.Tries != 1 {
		t.Errorf("newer code: %+v", got)
	}
	ahead := s
	ahead.Gen++
	if got := mustCheck(t, p, ahead, code, newID()); got.Result != claim.Stale {
		t.Errorf("generation that was never stored: %+v", got)
	}
}

func testConcurrentPuts(t *testing.T, store Harness) {
	p, s := store.WithKeys(testKey(1)), newTarget()
	codes := make([]string, 20)
	for i := range codes {
		codes[i] = claim.NewCode()
	}
	runConcurrently(t, len(codes), func(i int) (claim.CheckResult, error) {
		target := s
		target.Gen = int64(i + 1)
		return claim.CheckResult{}, p.Put(t.Context(), target, codes[i])
	})
	for i, code := range codes {
		target, want := s, claim.Stale
		target.Gen = int64(i + 1)
		if i == len(codes)-1 {
			want = claim.Match
		}
		if got := mustCheck(t, p, target, code, newID()); got.Result != want {
			t.Errorf("generation %d of %d: %+v", target.Gen, len(codes), got)
		}
	}
}

func testMissing(t *testing.T, store Harness) {
	p := store.WithKeys(testKey(1))
	never := newTarget()
	if got := mustCheck(t, p, never, "WDJBMJ", newID()); got.Result != claim.Missing || got.Tries != 0 {
		t.Errorf("identity that never had a code: %+v", got)
	}
	never.Gen = 0
	if got := mustCheck(t, p, never, "WDJBMJ", newID()); got.Result != claim.Missing {
		t.Errorf("generation 0: %+v", got)
	}
	_, s, code := issueCode(t, store)
	s.Gen = 0
	if got := mustCheck(t, p, s, code, newID()); got.Result != claim.Missing {
		t.Errorf("generation 0 of an identity with a code: %+v", got)
	}
}

func testExpiry(t *testing.T, store Harness) {
	p, s, code := issueCode(t, store)
	stranger := newTarget()
	stranger.InstanceID = s.InstanceID
	mustCheck(t, p, s, differentCode(code), newID())
	store.Advance(t, claim.CodeTTL+claim.CodeGracePeriod-5*time.Second)
	if got := mustCheck(t, p, s, code, newID()); got.Result != claim.Match || got.Tries != 1 {
		t.Errorf("just before expiry: %+v", got)
	}
	if got := mustCheck(t, p, stranger, code, newID()); got.Other.IdentityID != s.IdentityID {
		t.Errorf("other identity just before expiry: %+v", got)
	}
	store.Advance(t, 6*time.Second)
	if got := mustCheck(t, p, s, code, newID()); got.Result != claim.Missing {
		t.Errorf("after expiry: %+v", got)
	}
	if got := mustCheck(t, p, stranger, code, newID()); got.Other.IdentityID != "" {
		t.Errorf("other identity after expiry: %+v", got)
	}
	if got := mustFind(t, p, s, code); len(got) > 0 {
		t.Errorf("found after expiry: %v", got)
	}
	if bytes.Contains(store.Dump(t), []byte(s.IdentityID)) {
		t.Error("the store keeps data after expiry")
	}
}

func testDropOwnGeneration(t *testing.T, store Harness) {
	p, s, code := issueCode(t, store)
	for _, gen := range []int64{s.Gen - 1, s.Gen + 1, 0} {
		foreign := s
		foreign.Gen = gen
		mustDrop(t, p, foreign)
	}
	if got := mustCheck(t, p, s, code, newID()); got.Result != claim.Match {
		t.Fatalf("after dropping other generations: %+v", got)
	}
	mustDrop(t, p, s)
	mustDrop(t, p, s)
	if got := mustCheck(t, p, s, code, newID()); got.Result != claim.Missing {
		t.Errorf("after dropping it: %+v", got)
	}
}
