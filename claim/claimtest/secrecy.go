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
	if got := mustCheck(t, p, owner, code, newID()); got.Other.IdentityID != "" || got.Other.Gen != 0 {
		t.Errorf("the owner: %+v", got)
	}
	stranger := newTarget()
	stranger.TenantID, stranger.InstanceID = owner.TenantID, owner.InstanceID
	wide := stranger
	wide.InstanceID = ""
	for name, s := range map[string]claim.Target{"without a code": stranger, "linked to all instances": wide} {
		got, err := p.Check(t.Context(), s, owner.InstanceID, code, newID())
		if err != nil || got.Result != claim.Missing || got.Other.IdentityID != owner.IdentityID ||
			got.Other.Gen != owner.Gen {
			t.Errorf("a stranger %s: %+v, %v", name, got, err)
		}
	}
	if got, err := p.Check(t.Context(), stranger, newID(), code, newID()); err != nil || got.Other.IdentityID != "" {
		t.Errorf("typed to another instance: %+v, %v", got, err)
	}
	if got := mustCheck(t, p, stranger, differentCode(code), newID()); got.Other.IdentityID != "" {
		t.Errorf("unknown code: %+v", got)
	}
	mustPut(t, p, stranger, differentCode(code))
	if got := mustCheck(t, p, stranger, code, newID()); got.Result != claim.Wrong ||
		got.Other.IdentityID != owner.IdentityID {
		t.Errorf("a stranger with another code: %+v", got)
	}
	stranger.Channel = "sms"
	if got := mustCheck(t, p, stranger, code, newID()); got.Other.IdentityID != "" {
		t.Errorf("on another channel: %+v", got)
	}
}

func testOtherIdentityTenantWide(t *testing.T, store Harness) {
	p, owner, code := store.WithKeys(testKey(1)), newTarget(), claim.NewCode()
	owner.InstanceID = ""
	mustPut(t, p, owner, code)
	if got, err := p.Check(t.Context(), owner, newID(), code, newID()); err != nil || got.Result != claim.Match ||
		got.Other.IdentityID != "" {
		t.Errorf("the owner in any instance: %+v, %v", got, err)
	}
	stranger := newTarget()
	stranger.TenantID = owner.TenantID
	if got := mustCheck(t, p, stranger, code, newID()); got.Other.IdentityID != owner.IdentityID ||
		got.Other.Gen != owner.Gen {
		t.Errorf("a stranger of the tenant: %+v", got)
	}
	stranger.TenantID = newID()
	if got := mustCheck(t, p, stranger, code, newID()); got.Other.IdentityID != "" {
		t.Errorf("a stranger of another tenant: %+v", got)
	}
}

func testKeyRotation(t *testing.T, store Harness) {
	_, s, code := issueCode(t, store)
	stranger := newTarget()
	stranger.InstanceID = s.InstanceID
	both, newOnly := store.WithKeys(testKey(2), testKey(1)), store.WithKeys(testKey(2))
	if got := mustCheck(t, both, s, code, newID()); got.Result != claim.Match {
		t.Errorf("code of the old key, with both keys: %+v", got)
	}
	if got := mustCheck(t, both, stranger, code, newID()); got.Other.IdentityID != s.IdentityID {
		t.Errorf("other identity by the old key, with both keys: %+v", got)
	}
	if got := mustCheck(t, newOnly, s, code, newID()); got.Result != claim.Wrong {
		t.Errorf("code of the old key, with the new key: %+v", got)
	}
	s.Gen++
	mustPut(t, both, s, code)
	if got := mustCheck(t, newOnly, s, code, newID()); got.Result != claim.Match {
		t.Errorf("code stored with both keys: %+v", got)
	}
}

func testNoKey(t *testing.T, store Harness) {
	for name, keys := range map[string][][]byte{
		"no key": nil, "an empty key": {{}}, "a short key after a valid one": {testKey(1), []byte("short")},
	} {
		p, s := store.WithKeys(keys...), newTarget()
		if err := p.Put(t.Context(), s, "WDJBMJ"); err == nil {
			t.Errorf("%s: Put stored a code", name)
		}
		if got, err := p.Check(t.Context(), s, s.InstanceID, "WDJBMJ", newID()); err == nil || got.Result != "" {
			t.Errorf("%s: Check = %+v", name, got)
		}
	}
}

// testNoDisclosure searches everything stored for fifty codes, half of them tried, for the codes,
// for hashes that need no key, and for external IDs.
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

	dump := store.Dump(t)
	for secret, what := range secrets {
		if bytes.Contains(dump, []byte(secret)) {
			t.Errorf("the store contains %s", what)
		}
	}
	if !bytes.Contains(dump, []byte("WDJ-BMJ")) {
		t.Error("the planted code was not found")
	}
}

// codeSpellings returns the ways in which a code could be written, including its plain hash.
func codeSpellings(code string) []string {
	sum := sha256.Sum256([]byte(code))
	return []string{
		code, strings.ToLower(code), claim.Group(code), strings.ToLower(claim.Group(code)),
		strings.ReplaceAll(claim.Group(code), "-", " "), claim.Spell(code),
		string(sum[:]), hex.EncodeToString(sum[:]),
	}
}
