package claimtest

import (
	"testing"

	"hydragate/claim"
)

// mustFind finds codes that were typed to the instance of s.
func mustFind(t *testing.T, p claim.CodeStore, s claim.Target, codes ...string) map[string]claim.Target {
	t.Helper()
	got, err := p.Find(
		t.Context(),
		claim.Target{TenantID: s.TenantID, InstanceID: s.InstanceID, Channel: s.Channel},
		codes,
	)
	if err != nil {
		t.Fatalf("find: %v", err)
	}
	return got
}

// testFind finds codes of the instance and of the tenant among others, in one call.
func testFind(t *testing.T, store Harness) {
	p, here, code := issueCode(t, store)
	wide, wideCode := here, differentCode(code)
	wide.IdentityID, wide.InstanceID = newID(), ""
	mustPut(t, p, wide, wideCode)
	typed := []string{claim.NewCode(), code, claim.NewCode(), wideCode}

	got := mustFind(t, p, here, typed...)
	for code, want := range map[string]claim.Target{code: here, wideCode: wide} {
		want.ExternalID = ""
		if got[code] != want {
			t.Errorf("found %+v, want %+v", got[code], want)
		}
	}
	if len(got) != 2 {
		t.Errorf("found %d codes, want 2", len(got))
	}
	for name, change := range map[string]struct {
		apply func(*claim.Target)
		want  int
	}{
		"instance": {func(s *claim.Target) { s.InstanceID = newID() }, 1}, // that of the tenant
		"tenant":   {func(s *claim.Target) { s.InstanceID, s.TenantID = newID(), newID() }, 0},
		"channel":  {func(s *claim.Target) { s.Channel = "sms" }, 2},
	} {
		other := here
		change.apply(&other)
		if got := mustFind(t, p, other, typed...); len(got) != change.want {
			t.Errorf("in another %s: found %d codes, want %d", name, len(got), change.want)
		}
	}
	both := store.WithKeys(testKey(2), testKey(1))
	if got := mustFind(t, both, here, typed...); len(got) != 2 {
		t.Errorf("with a newer key: found %d codes, want 2", len(got))
	}
	if _, err := store.WithKeys().Find(t.Context(), here, typed); err == nil {
		t.Error("found codes without a key")
	}
}

// testFindAfterChanges checks that a code is found as long as it can be redeemed, and not longer.
func testFindAfterChanges(t *testing.T, store Harness) {
	p, s, first := issueCode(t, store)
	second := differentCode(first)
	old := s
	old.Gen--
	mustPut(t, p, old, second) // too late
	if got := mustFind(t, p, s, first, second); len(got) != 1 || got[first].Gen != s.Gen {
		t.Errorf("after an older code: %v, want the first", got)
	}
	newer := s
	newer.Gen++
	mustPut(t, p, newer, second)
	if got := mustFind(t, p, s, first, second); len(got) != 1 || got[second].Gen != newer.Gen {
		t.Errorf("after a newer code: %v, want the second", got)
	}
	newer.Gen++
	mustPut(t, p, newer, second) // the same letters again
	if got := mustFind(t, p, s, second); len(got) != 1 || got[second].Gen != newer.Gen {
		t.Errorf("the same code again: %v, want generation %d", got, newer.Gen)
	}
	mustDrop(t, p, s)
	if got := mustFind(t, p, s, second); len(got) != 1 {
		t.Errorf("after dropping an older generation: %v, want the second", got)
	}
	twin := newer
	twin.IdentityID, twin.Gen = newID(), 1
	mustPut(t, p, twin, second) // two identities with the same letters, by chance
	mustDrop(t, p, newer)
	if got := mustFind(t, p, s, second); got[second].IdentityID != twin.IdentityID {
		t.Errorf("after dropping one of two equal codes: %v, want the other", got)
	}
	mustDrop(t, p, twin)
	if got := mustFind(t, p, s, first, second); len(got) != 0 {
		t.Errorf("after dropping it: %v, want none", got)
	}
}

// testPeek checks that Peek compares a code like Check does, and counts nothing.
func testPeek(t *testing.T, store Harness) {
	p, s, code := issueCode(t, store)
	older, newer, other := s, s, s
	older.Gen--
	newer.Gen++
	other.IdentityID = newID()
	for range claim.MaxTries + 1 {
		for _, tt := range []struct {
			name string
			p    claim.CodeStore
			s    claim.Target
			code string
			want claim.Result
		}{
			{"wrong code", p, s, differentCode(code), claim.Wrong},
			{"right code", p, s, code, claim.Match},
			{"newer key", store.WithKeys(testKey(2), testKey(1)), s, code, claim.Match},
			{"other key", store.WithKeys(testKey(2)), s, code, claim.Wrong},
			{"older generation", p, older, code, claim.Stale},
			{"newer generation", p, newer, code, claim.Stale},
			{"other identity", p, other, code, claim.Missing},
		} {
			if got, err := tt.p.Peek(t.Context(), tt.s, tt.code); got != tt.want || err != nil {
				t.Errorf("%s: Peek() = %q, %v, want %q", tt.name, got, err, tt.want)
			}
		}
	}
	if got := mustCheck(t, p, s, code, newID()); got.Result != claim.Match || got.Tries != 0 {
		t.Errorf("Check() = %+v, want a match after no tries", got)
	}
	if _, err := store.WithKeys().Peek(t.Context(), s, code); err == nil {
		t.Error("compared a code without a key")
	}
}
