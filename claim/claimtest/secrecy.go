package claimtest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"hydragate/claim"
)

func testOtherIdentity(t *testing.T, store Harness) {
	p, owner, code := issueCode(t, store)
	if got := mustCheck(t, p, owner, code, newID()); got.OtherIdentityID != "" || got.OtherGen != 0 {
		t.Errorf("the owner: %+v", got)
	}
	stranger := newTarget()
	stranger.TenantID, stranger.InstanceID = owner.TenantID, owner.InstanceID
	wide := stranger
	wide.InstanceID = ""
	for name, s := range map[string]claim.Target{"without a code": stranger, "linked to all instances": wide} {
		got, err := p.Check(t.Context(), s, owner.InstanceID, code, newID())
		if err != nil || got.Result != claim.Missing || got.OtherIdentityID != owner.IdentityID || got.OtherGen != owner.Gen {
			t.Errorf("a stranger %s: %+v, %v", name, got, err)
		}
	}
	if got, err := p.Check(t.Context(), stranger, newID(), code, newID()); err != nil || got.OtherIdentityID != "" {
		t.Errorf("typed in another instance: %+v, %v", got, err)
	}
	if got := mustCheck(t, p, stranger, differentCode(code), newID()); got.OtherIdentityID != "" {
		t.Errorf("nobody's code: %+v", got)
	}
	mustPut(t, p, stranger, differentCode(code))
	if got := mustCheck(t, p, stranger, code, newID()); got.Result != claim.Wrong || got.OtherIdentityID != owner.IdentityID {
		t.Errorf("a stranger with a code of his own: %+v", got)
	}
	stranger.Channel = "sms"
	if got := mustCheck(t, p, stranger, code, newID()); got.OtherIdentityID != "" {
		t.Errorf("on another channel: %+v", got)
	}
}

func testOtherIdentityTenantWide(t *testing.T, store Harness) {
	p, owner, code := store.WithKeys(testKey(1)), newTarget(), claim.NewCode()
	owner.InstanceID = ""
	mustPut(t, p, owner, code)
	if got, err := p.Check(t.Context(), owner, newID(), code, newID()); err != nil || got.Result != claim.Match || got.OtherIdentityID != "" {
		t.Errorf("the owner in any instance: %+v, %v", got, err)
	}
	stranger := newTarget()
	stranger.TenantID = owner.TenantID
	if got := mustCheck(t, p, stranger, code, newID()); got.OtherIdentityID != owner.IdentityID || got.OtherGen != owner.Gen {
		t.Errorf("a stranger of the tenant: %+v", got)
	}
	stranger.TenantID = newID()
	if got := mustCheck(t, p, stranger, code, newID()); got.OtherIdentityID != "" {
		t.Errorf("a stranger of another tenant: %+v", got)
	}
}

func testKeyRotation(t *testing.T, store Harness) {
	_, s, code := issueCode(t, store)
	stranger := newTarget()
	stranger.InstanceID = s.InstanceID
	both, fresh := store.WithKeys(testKey(2), testKey(1)), store.WithKeys(testKey(2))
	if got := mustCheck(t, both, s, code, newID()); got.Result != claim.Match {
		t.Errorf("a proof of the old key under both: %+v", got)
	}
	if got := mustCheck(t, both, stranger, code, newID()); got.OtherIdentityID != s.IdentityID {
		t.Errorf("whose it is, of the old key under both: %+v", got)
	}
	if got := mustCheck(t, fresh, s, code, newID()); got.Result != claim.Wrong {
		t.Errorf("a proof of the old key under the new one: %+v", got)
	}
	s.Gen++
	mustPut(t, both, s, code)
	if got := mustCheck(t, fresh, s, code, newID()); got.Result != claim.Match {
		t.Errorf("a proof made under both: %+v", got)
	}
}

func testNoKey(t *testing.T, store Harness) {
	for name, keys := range map[string][][]byte{"no key": nil, "an empty key": {{}}, "a short one behind a good one": {testKey(1), []byte("short")}} {
		p, s := store.WithKeys(keys...), newTarget()
		if err := p.Put(t.Context(), s, "WDJBMJ"); err == nil {
			t.Errorf("%s: kept a proof", name)
		}
		if got, err := p.Check(t.Context(), s, s.InstanceID, "WDJBMJ", newID()); err == nil || got.Result != "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// testNoDisclosure reads all that is kept of fifty codes, half of them tried, and
// looks for the codes, for hashes that need no key, and for who the people are.
func testNoDisclosure(t *testing.T, store Harness) {
	p := store.WithKeys(testKey(1))
	secrets := map[string]string{}
	for range 50 {
		s, code := newTarget(), claim.NewCode()
		mustPut(t, p, s, code)
		mustCheck(t, p, s, differentCode(code), newID())
		mustCheck(t, p, s, code, newID())
		for _, spelling := range codeSpellings(code) {
			secrets[spelling] = "a code"
		}
		secrets[s.ExternalID] = "an external id"
	}
	planted := newTarget()
	planted.IdentityID = "WDJ-BMJ"
	mustPut(t, p, planted, claim.NewCode())

	kept := store.Dump(t)
	for secret, what := range secrets {
		if bytes.Contains(kept, []byte(secret)) {
			t.Errorf("what is kept gives %s away", what)
		}
	}
	if !bytes.Contains(kept, []byte("WDJ-BMJ")) {
		t.Error("the control was not found: this test sees nothing")
	}
}

// codeSpellings are the ways in which a code could be written down, its plain hash
// included.
func codeSpellings(code string) []string {
	sum := sha256.Sum256([]byte(code))
	return []string{
		code, strings.ToLower(code), claim.Group(code), strings.ToLower(claim.Group(code)),
		strings.ReplaceAll(claim.Group(code), "-", " "), claim.Spell(code),
		string(sum[:]), hex.EncodeToString(sum[:]),
	}
}
