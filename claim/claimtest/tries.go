package claimtest

import (
	"slices"
	"testing"

	"hydragate/claim"
)

func testMatch(t *testing.T, store Harness) {
	p, s, code := issueCode(t, store)
	for range 3 {
		if got := mustCheck(t, p, s, code, newID()); got.Result != claim.Match || got.Tries != 0 {
			t.Fatalf("right code: %+v", got)
		}
	}
}

func testWrongCounted(t *testing.T, store Harness) {
	p, s, code := issueCode(t, store)
	for n := 1; n <= 3; n++ {
		if got := mustCheck(t, p, s, differentCode(code), newID()); got.Result != claim.Wrong || got.Tries != n {
			t.Fatalf("wrong code %d: %+v", n, got)
		}
	}
	if got := mustCheck(t, p, s, code, newID()); got.Result != claim.Match || got.Tries != 3 {
		t.Fatalf("right code after three wrong ones: %+v", got)
	}
}

func testLockAfterMaxTries(t *testing.T, store Harness) {
	p, s, code := issueCode(t, store)
	last := newID()
	for n := 1; n < claim.MaxTries; n++ {
		mustCheck(t, p, s, differentCode(code), newID())
	}
	if got := mustCheck(t, p, s, differentCode(code), last); got.Result != claim.Wrong || got.Tries != claim.MaxTries {
		t.Fatalf("last try: %+v", got)
	}
	for _, c := range []string{code, differentCode(code)} {
		if got := mustCheck(t, p, s, c, newID()); got.Result != claim.Locked || got.Tries != claim.MaxTries {
			t.Errorf("after the last try: %+v", got)
		}
	}
	if got := mustCheck(t, p, s, differentCode(code), last); got.Result != claim.Wrong || got.Tries != claim.MaxTries {
		t.Errorf("last try repeated: %+v", got)
	}
	s.Gen++
	mustPut(t, p, s, code)
	if got := mustCheck(t, p, s, code, newID()); got.Result != claim.Match || got.Tries != 0 {
		t.Errorf("new code after a lock: %+v", got)
	}
}

func testConcurrentWrong(t *testing.T, store Harness) {
	p, s, code := issueCode(t, store)
	var compared []int
	locked := 0
	for _, got := range runConcurrently(t, 50, func(int) (claim.CheckResult, error) {
		return p.Check(t.Context(), s, s.InstanceID, differentCode(code), newID())
	}) {
		switch got.Result {
		case claim.Wrong:
			compared = append(compared, got.Tries)
		case claim.Locked:
			locked++
		}
	}
	slices.Sort(compared)
	if !slices.Equal(compared, []int{1, 2, 3, 4, 5}) || locked != 45 {
		t.Errorf("tries compared: %v, locked: %d", compared, locked)
	}
}

func testConcurrentRight(t *testing.T, store Harness) {
	p, s, code := issueCode(t, store)
	for _, got := range runConcurrently(t, 50, func(int) (claim.CheckResult, error) {
		return p.Check(t.Context(), s, s.InstanceID, code, newID())
	}) {
		if got.Result != claim.Match {
			t.Fatalf("one of fifty right codes: %+v", got)
		}
	}
}

func testRepeatedMessageCountedOnce(t *testing.T, store Harness) {
	p, s, code := issueCode(t, store)
	first, second := newID(), newID()
	for _, m := range []string{first, first, second, first, second} {
		mustCheck(t, p, s, differentCode(code), m)
	}
	if got := mustCheck(t, p, s, differentCode(code), first); got.Result != claim.Wrong || got.Tries != 2 {
		t.Errorf("two messages checked six times: %+v", got)
	}
	if got := mustCheck(t, p, s, code, first); got.Result != claim.Wrong {
		t.Errorf("right code in a message that was counted: %+v", got)
	}
	if got := mustCheck(t, p, s, code, first[:len(first)-1]); got.Result != claim.Match {
		t.Errorf("message with a similar ID: %+v", got)
	}
}

func testConcurrentRepeatsCountedOnce(t *testing.T, store Harness) {
	p, s, code := issueCode(t, store)
	message := newID()
	for _, got := range runConcurrently(t, 20, func(int) (claim.CheckResult, error) {
		return p.Check(t.Context(), s, s.InstanceID, differentCode(code), message)
	}) {
		if got.Result != claim.Wrong || got.Tries != 1 {
			t.Fatalf("one of twenty repeats: %+v", got)
		}
	}
}

func testBoundToTarget(t *testing.T, store Harness) {
	p, s, code := issueCode(t, store)
	for name, tt := range map[string]struct {
		change func(*claim.Target)
		want   claim.Result
	}{
		"instance":    {func(s *claim.Target) { s.InstanceID = newID() }, claim.Missing},
		"channel":     {func(s *claim.Target) { s.Channel = "sms" }, claim.Wrong},
		"external id": {func(s *claim.Target) { s.ExternalID += "1" }, claim.Wrong},
	} {
		foreign := s
		tt.change(&foreign)
		if got := mustCheck(t, p, foreign, code, newID()); got.Result != tt.want {
			t.Errorf("with another %s: %+v, want %s", name, got, tt.want)
		}
	}
}
