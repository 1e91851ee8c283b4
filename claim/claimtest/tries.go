package claimtest

import (
	"slices"
	"testing"

	"hydragate/claim"
)

func match(t *testing.T, store Store) {
	p, s, code := issued(t, store)
	for range 3 {
		if got := check(t, p, s, code, id()); got.Verdict != claim.Match || got.Tries != 0 {
			t.Fatalf("right code: %+v", got)
		}
	}
}

func wrongIsCounted(t *testing.T, store Store) {
	p, s, code := issued(t, store)
	for n := 1; n <= 3; n++ {
		if got := check(t, p, s, other(code), id()); got.Verdict != claim.Wrong || got.Tries != n {
			t.Fatalf("wrong code %d: %+v", n, got)
		}
	}
	if got := check(t, p, s, code, id()); got.Verdict != claim.Match || got.Tries != 3 {
		t.Fatalf("right code after three wrong ones: %+v", got)
	}
}

func fiveTriesLock(t *testing.T, store Store) {
	p, s, code := issued(t, store)
	last := id()
	for n := 1; n < claim.MaxTries; n++ {
		check(t, p, s, other(code), id())
	}
	if got := check(t, p, s, other(code), last); got.Verdict != claim.Wrong || got.Tries != claim.MaxTries {
		t.Fatalf("last try: %+v", got)
	}
	for _, c := range []string{code, other(code)} {
		if got := check(t, p, s, c, id()); got.Verdict != claim.Locked || got.Tries != claim.MaxTries {
			t.Errorf("after the last try: %+v", got)
		}
	}
	if got := check(t, p, s, other(code), last); got.Verdict != claim.Wrong || got.Tries != claim.MaxTries {
		t.Errorf("last try asked again: %+v", got)
	}
	s.Gen++
	put(t, p, s, code)
	if got := check(t, p, s, code, id()); got.Verdict != claim.Match || got.Tries != 0 {
		t.Errorf("new code after a lock: %+v", got)
	}
}

func fiftyWrongAtOnce(t *testing.T, store Store) {
	p, s, code := issued(t, store)
	var compared []int
	locked := 0
	for _, got := range atOnce(t, 50, func(int) (claim.Finding, error) {
		return p.Check(t.Context(), s, s.InstanceID, other(code), id())
	}) {
		switch got.Verdict {
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

func fiftyRightAtOnce(t *testing.T, store Store) {
	p, s, code := issued(t, store)
	for _, got := range atOnce(t, 50, func(int) (claim.Finding, error) {
		return p.Check(t.Context(), s, s.InstanceID, code, id())
	}) {
		if got.Verdict != claim.Match {
			t.Fatalf("one of fifty right ones: %+v", got)
		}
	}
}

func sameMessageCountsOnce(t *testing.T, store Store) {
	p, s, code := issued(t, store)
	first, second := id(), id()
	for _, m := range []string{first, first, second, first, second} {
		check(t, p, s, other(code), m)
	}
	if got := check(t, p, s, other(code), first); got.Verdict != claim.Wrong || got.Tries != 2 {
		t.Errorf("two messages asked six times: %+v", got)
	}
	if got := check(t, p, s, code, first); got.Verdict != claim.Wrong {
		t.Errorf("a counted message got a second guess: %+v", got)
	}
	if got := check(t, p, s, code, first[:len(first)-1]); got.Verdict != claim.Match {
		t.Errorf("a message with a similar id: %+v", got)
	}
}

func sameMessageAtOnceCountsOnce(t *testing.T, store Store) {
	p, s, code := issued(t, store)
	message := id()
	for _, got := range atOnce(t, 20, func(int) (claim.Finding, error) {
		return p.Check(t.Context(), s, s.InstanceID, other(code), message)
	}) {
		if got.Verdict != claim.Wrong || got.Tries != 1 {
			t.Fatalf("one of twenty: %+v", got)
		}
	}
}

func boundToItsSubject(t *testing.T, store Store) {
	p, s, code := issued(t, store)
	for name, change := range map[string]func(*claim.Subject){
		"instance":    func(s *claim.Subject) { s.InstanceID = id() },
		"channel":     func(s *claim.Subject) { s.Channel = "sms" },
		"external id": func(s *claim.Subject) { s.ExternalID += "1" },
	} {
		foreign := s
		change(&foreign)
		if got := check(t, p, foreign, code, id()); got.Verdict != claim.Wrong {
			t.Errorf("with another %s: %+v", name, got)
		}
	}
}
