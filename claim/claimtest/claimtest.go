// Package claimtest is what every keeper of proofs must pass, whatever it keeps them
// in: it tells right from wrong, counts every try once and no more than MaxTries of
// them, never lets an old code come back, forgets in time, and gives nothing away.
package claimtest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
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

func whose(t *testing.T, store Store) {
	p, owner, code := issued(t, store)
	if got := check(t, p, owner, code, id()); got.Whose != "" || got.WhoseGen != 0 {
		t.Errorf("the owner: %+v", got)
	}
	stranger := subject()
	stranger.TenantID, stranger.InstanceID = owner.TenantID, owner.InstanceID
	wide := stranger
	wide.InstanceID = ""
	for name, s := range map[string]claim.Subject{"without a code": stranger, "linked to all instances": wide} {
		got, err := p.Check(t.Context(), s, owner.InstanceID, code, id())
		if err != nil || got.Verdict != claim.Missing || got.Whose != owner.IdentityID || got.WhoseGen != owner.Gen {
			t.Errorf("a stranger %s: %+v, %v", name, got, err)
		}
	}
	if got, err := p.Check(t.Context(), stranger, id(), code, id()); err != nil || got.Whose != "" {
		t.Errorf("typed in another instance: %+v, %v", got, err)
	}
	if got := check(t, p, stranger, other(code), id()); got.Whose != "" {
		t.Errorf("nobody's code: %+v", got)
	}
	put(t, p, stranger, other(code))
	if got := check(t, p, stranger, code, id()); got.Verdict != claim.Wrong || got.Whose != owner.IdentityID {
		t.Errorf("a stranger with a code of his own: %+v", got)
	}
	stranger.Channel = "sms"
	if got := check(t, p, stranger, code, id()); got.Whose != "" {
		t.Errorf("on another channel: %+v", got)
	}
}

func whoseTenantWide(t *testing.T, store Store) {
	p, owner, code := store.Under(key(1)), subject(), claim.NewCode()
	owner.InstanceID = ""
	put(t, p, owner, code)
	if got, err := p.Check(t.Context(), owner, id(), code, id()); err != nil || got.Verdict != claim.Match || got.Whose != "" {
		t.Errorf("the owner in any instance: %+v, %v", got, err)
	}
	stranger := subject()
	stranger.TenantID = owner.TenantID
	if got := check(t, p, stranger, code, id()); got.Whose != owner.IdentityID || got.WhoseGen != owner.Gen {
		t.Errorf("a stranger of the tenant: %+v", got)
	}
	stranger.TenantID = id()
	if got := check(t, p, stranger, code, id()); got.Whose != "" {
		t.Errorf("a stranger of another tenant: %+v", got)
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

func keyRotation(t *testing.T, store Store) {
	_, s, code := issued(t, store)
	stranger := subject()
	stranger.InstanceID = s.InstanceID
	both, fresh := store.Under(key(2), key(1)), store.Under(key(2))
	if got := check(t, both, s, code, id()); got.Verdict != claim.Match {
		t.Errorf("a proof of the old key under both: %+v", got)
	}
	if got := check(t, both, stranger, code, id()); got.Whose != s.IdentityID {
		t.Errorf("whose it is, of the old key under both: %+v", got)
	}
	if got := check(t, fresh, s, code, id()); got.Verdict != claim.Wrong {
		t.Errorf("a proof of the old key under the new one: %+v", got)
	}
	s.Gen++
	put(t, both, s, code)
	if got := check(t, fresh, s, code, id()); got.Verdict != claim.Match {
		t.Errorf("a proof made under both: %+v", got)
	}
}

func noKeyNoProof(t *testing.T, store Store) {
	for name, keys := range map[string][][]byte{"no key": nil, "an empty key": {{}}, "a short one behind a good one": {key(1), []byte("short")}} {
		p, s := store.Under(keys...), subject()
		if err := p.Put(t.Context(), s, "WDJBMJ"); err == nil {
			t.Errorf("%s: kept a proof", name)
		}
		if got, err := p.Check(t.Context(), s, s.InstanceID, "WDJBMJ", id()); err == nil || got.Verdict != "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// disclosesNothing reads all that is kept of fifty codes, half of them tried, and
// looks for the codes, for hashes that need no key, and for who the people are.
func disclosesNothing(t *testing.T, store Store) {
	p := store.Under(key(1))
	secrets := map[string]string{}
	for range 50 {
		s, code := subject(), claim.NewCode()
		put(t, p, s, code)
		check(t, p, s, other(code), id())
		check(t, p, s, code, id())
		for _, spelling := range spellings(code) {
			secrets[spelling] = "a code"
		}
		secrets[s.ExternalID] = "an external id"
	}
	planted := subject()
	planted.IdentityID = "WDJ-BMJ"
	put(t, p, planted, claim.NewCode())

	kept := store.Contents(t)
	for secret, what := range secrets {
		if bytes.Contains(kept, []byte(secret)) {
			t.Errorf("what is kept gives %s away", what)
		}
	}
	if !bytes.Contains(kept, []byte("WDJ-BMJ")) {
		t.Error("the control was not found: this test sees nothing")
	}
}

// spellings are the ways in which a code could be written down, its plain hash
// included.
func spellings(code string) []string {
	sum := sha256.Sum256([]byte(code))
	return []string{
		code, strings.ToLower(code), claim.Group(code), strings.ToLower(claim.Group(code)),
		strings.ReplaceAll(claim.Group(code), "-", " "), claim.Spell(code),
		string(sum[:]), hex.EncodeToString(sum[:]),
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
