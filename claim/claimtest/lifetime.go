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
	s, fresh := old, differentCode(code)
	s.Gen += 3
	mustPut(t, p, s, fresh)
	for _, tt := range []struct {
		s    claim.Target
		code string
		want claim.Result
	}{
		{s, fresh, claim.Match},
		{s, code, claim.Wrong},
		{old, code, claim.Stale},
		{old, fresh, claim.Stale},
	} {
		got := mustCheck(t, p, tt.s, tt.code, newID())
		if got.Result != tt.want {
			t.Errorf("generation %d: %+v, want %s", tt.s.Gen, got, tt.want)
		}
		if got.Result == claim.Match && got.Tries != 0 {
			t.Errorf("a new code starts with %d tries", got.Tries)
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
		t.Errorf("the newer code: %+v", got)
	}
	ahead := s
	ahead.Gen++
	if got := mustCheck(t, p, ahead, code, newID()); got.Result != claim.Stale {
		t.Errorf("a generation that was never put: %+v", got)
	}
}

func testConcurrentPuts(t *testing.T, store Harness) {
	p, s := store.WithKeys(testKey(1)), newTarget()
	codes := make([]string, 20)
	for i := range codes {
		codes[i] = claim.NewCode()
	}
	runConcurrently(t, len(codes), func(i int) (claim.CheckResult, error) {
		mine := s
		mine.Gen = int64(i + 1)
		return claim.CheckResult{}, p.Put(t.Context(), mine, codes[i])
	})
	for i, code := range codes {
		mine, want := s, claim.Stale
		mine.Gen = int64(i + 1)
		if i == len(codes)-1 {
			want = claim.Match
		}
		if got := mustCheck(t, p, mine, code, newID()); got.Result != want {
			t.Errorf("generation %d of %d: %+v", mine.Gen, len(codes), got)
		}
	}
}

func testMissing(t *testing.T, store Harness) {
	p := store.WithKeys(testKey(1))
	never := newTarget()
	if got := mustCheck(t, p, never, "WDJBMJ", newID()); got.Result != claim.Missing || got.Tries != 0 {
		t.Errorf("a proof never put: %+v", got)
	}
	never.Gen = 0
	if got := mustCheck(t, p, never, "WDJBMJ", newID()); got.Result != claim.Missing {
		t.Errorf("an identity without any code: %+v", got)
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
		t.Errorf("just before the end: %+v", got)
	}
	if got := mustCheck(t, p, stranger, code, newID()); got.OtherIdentityID != s.IdentityID {
		t.Errorf("whose it is, just before the end: %+v", got)
	}
	store.Advance(t, 6*time.Second)
	if got := mustCheck(t, p, s, code, newID()); got.Result != claim.Missing {
		t.Errorf("after the end: %+v", got)
	}
	if got := mustCheck(t, p, stranger, code, newID()); got.OtherIdentityID != "" {
		t.Errorf("whose it was, after the end: %+v", got)
	}
	if bytes.Contains(store.Dump(t), []byte(s.IdentityID)) {
		t.Error("something is kept for ever")
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
		t.Fatalf("after drops of other generations: %+v", got)
	}
	mustDrop(t, p, s)
	mustDrop(t, p, s)
	if got := mustCheck(t, p, s, code, newID()); got.Result != claim.Missing {
		t.Errorf("after its own drop: %+v", got)
	}
}
