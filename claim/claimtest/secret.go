package claimtest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"hydragate/claim"
)

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
