package claimtest

import (
	"bytes"
	"testing"
	"time"

	"hydragate/claim"
)

func newCodeReplacesOld(t *testing.T, store Store) {
	p, old, code := issued(t, store)
	check(t, p, old, other(code), id())
	s, fresh := old, other(code)
	s.Gen += 3
	put(t, p, s, fresh)
	for _, tt := range []struct {
		s    claim.Subject
		code string
		want claim.Verdict
	}{
		{s, fresh, claim.Match},
		{s, code, claim.Wrong},
		{old, code, claim.Stale},
		{old, fresh, claim.Stale},
	} {
		got := check(t, p, tt.s, tt.code, id())
		if got.Verdict != tt.want {
			t.Errorf("generation %d: %+v, want %s", tt.s.Gen, got, tt.want)
		}
		if got.Verdict == claim.Match && got.Tries != 0 {
			t.Errorf("a new code starts with %d tries", got.Tries)
		}
	}
}

func oldCodeNeverReplacesNew(t *testing.T, store Store) {
	p, s, code := issued(t, store)
	check(t, p, s, other(code), id())
	old := s
	old.Gen--
	put(t, p, old, other(code))
	put(t, p, s, code)
	if got := check(t, p, s, code, id()); got.Verdict != claim.Match || got.Tries != 1 {
		t.Errorf("the newer code: %+v", got)
	}
	ahead := s
	ahead.Gen++
	if got := check(t, p, ahead, code, id()); got.Verdict != claim.Stale {
		t.Errorf("a generation that was never put: %+v", got)
	}
}

func putsAtOnce(t *testing.T, store Store) {
	p, s := store.Under(key(1)), subject()
	codes := make([]string, 20)
	for i := range codes {
		codes[i] = claim.NewCode()
	}
	atOnce(t, len(codes), func(i int) (claim.Finding, error) {
		mine := s
		mine.Gen = int64(i + 1)
		return claim.Finding{}, p.Put(t.Context(), mine, codes[i])
	})
	for i, code := range codes {
		mine, want := s, claim.Stale
		mine.Gen = int64(i + 1)
		if i == len(codes)-1 {
			want = claim.Match
		}
		if got := check(t, p, mine, code, id()); got.Verdict != want {
			t.Errorf("generation %d of %d: %+v", mine.Gen, len(codes), got)
		}
	}
}

func missing(t *testing.T, store Store) {
	p := store.Under(key(1))
	never := subject()
	if got := check(t, p, never, "WDJBMJ", id()); got.Verdict != claim.Missing || got.Tries != 0 {
		t.Errorf("a proof never put: %+v", got)
	}
	never.Gen = 0
	if got := check(t, p, never, "WDJBMJ", id()); got.Verdict != claim.Missing {
		t.Errorf("an identity without any code: %+v", got)
	}
	_, s, code := issued(t, store)
	s.Gen = 0
	if got := check(t, p, s, code, id()); got.Verdict != claim.Missing {
		t.Errorf("generation 0 of an identity with a code: %+v", got)
	}
}

func expiry(t *testing.T, store Store) {
	p, s, code := issued(t, store)
	stranger := subject()
	stranger.InstanceID = s.InstanceID
	check(t, p, s, other(code), id())
	store.Pass(t, claim.Life+claim.Grace-5*time.Second)
	if got := check(t, p, s, code, id()); got.Verdict != claim.Match || got.Tries != 1 {
		t.Errorf("just before the end: %+v", got)
	}
	if got := check(t, p, stranger, code, id()); got.Whose != s.IdentityID {
		t.Errorf("whose it is, just before the end: %+v", got)
	}
	store.Pass(t, 6*time.Second)
	if got := check(t, p, s, code, id()); got.Verdict != claim.Missing {
		t.Errorf("after the end: %+v", got)
	}
	if got := check(t, p, stranger, code, id()); got.Whose != "" {
		t.Errorf("whose it was, after the end: %+v", got)
	}
	if bytes.Contains(store.Contents(t), []byte(s.IdentityID)) {
		t.Error("something is kept for ever")
	}
}

func dropOnlyItsOwn(t *testing.T, store Store) {
	p, s, code := issued(t, store)
	for _, gen := range []int64{s.Gen - 1, s.Gen + 1, 0} {
		foreign := s
		foreign.Gen = gen
		drop(t, p, foreign)
	}
	if got := check(t, p, s, code, id()); got.Verdict != claim.Match {
		t.Fatalf("after drops of other generations: %+v", got)
	}
	drop(t, p, s)
	drop(t, p, s)
	if got := check(t, p, s, code, id()); got.Verdict != claim.Missing {
		t.Errorf("after its own drop: %+v", got)
	}
}
