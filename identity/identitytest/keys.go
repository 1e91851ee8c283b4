package identitytest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"hydragate/identity"
)

func keyTests() map[string]func(*testing.T, *fixture) {
	return map[string]func(*testing.T, *fixture){
		"API key":                        testAPIKey,
		"rotate API key":                 testRotateKey,
		"revoke API key":                 testRevokeKey,
		"revoke and rotate concurrently": testConcurrentRevokeAndRotate,
	}
}

func (h *fixture) createKey(t *testing.T, k identity.APIKey) (created identity.APIKey, hash string) {
	t.Helper()
	k.TenantID, hash = h.tenant, identity.HashToken(identity.NewToken("hg_live_"))
	created, err := h.Store.CreateAPIKey(t.Context(), k, hash, staffActor)
	if err != nil {
		t.Fatal(err)
	}
	return created, hash
}

// keyByHash returns the key whose token has a hash. It returns identity.ErrNotFound if there is none.
func (h *fixture) keyByHash(ctx context.Context, hash string) (identity.APIKey, error) {
	found, err := h.Store.APIKeys(ctx, []string{hash})
	k, ok := found[hash]
	if err == nil && !ok {
		err = identity.ErrNotFound
	}
	return k, err
}

func testAPIKey(t *testing.T, h *fixture) {
	until := time.Date(2040, 1, 2, 3, 4, 5, 0, time.UTC)
	k, hash := h.createKey(t, identity.APIKey{
		Name:       "support",
		Hint:       "abcd",
		Scopes:     []string{"customers:read", "claims:issue"},
		InstanceID: h.instance,
		ExpiresAt:  until,
	})
	bare, _ := h.createKey(t, identity.APIKey{Name: "bare"})
	if k.ID == "" || k.Name != "support" || k.Hint != "abcd" || k.InstanceID != h.instance ||
		!k.ExpiresAt.Equal(until) || !k.HasScope("claims:issue") || k.HasScope("keys:write") {
		t.Errorf("created: %+v", k)
	}
	if back, err := h.keyByHash(t.Context(), hash); err != nil || fmt.Sprint(back) != fmt.Sprint(k) {
		t.Errorf("by hash: %+v, %v; want %+v", back, err, k)
	}
	if _, err := h.keyByHash(t.Context(), "unknown"); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("unknown hash: %v", err)
	}
	lost := identity.APIKey{TenantID: h.tenant, InstanceID: missingID}
	_, err := h.Store.CreateAPIKey(t.Context(), lost, "x"+hash, staffActor)
	if !errors.Is(err, identity.ErrNoInstance) {
		t.Errorf("unknown instance: %v; want ErrNoInstance", err)
	}
	at := time.Date(2030, 1, 1, 10, 0, 30, 0, time.UTC)
	for _, use := range []struct{ at, want time.Time }{
		{at, at.Truncate(time.Minute)},
		{at.Add(20 * time.Second), at.Truncate(time.Minute)},
		{at.Add(time.Minute), at.Add(time.Minute).Truncate(time.Minute)},
		{at, at.Add(time.Minute).Truncate(time.Minute)},
	} {
		if err := h.Store.TouchAPIKey(t.Context(), h.tenant, k.ID, use.at); err != nil {
			t.Fatal(err)
		}
		if got, err := h.keyByHash(t.Context(), hash); err != nil || !got.LastUsedAt.Equal(use.want) {
			t.Errorf("used at %v: %v, %v; want %v", use.at, got.LastUsedAt, err, use.want)
		}
	}
	if ks, err := h.Store.ListAPIKeys(t.Context(), h.tenant, "", 1); err != nil || len(ks) != 1 || ks[0].ID != k.ID {
		t.Errorf("first page: %+v, %v", ks, err)
	}
	ks, err := h.Store.ListAPIKeys(t.Context(), h.tenant, k.ID, 10)
	if err != nil || len(ks) != 1 || ks[0].ID != bare.ID || len(ks[0].Scopes) != 0 {
		t.Errorf("second page: %+v, %v", ks, err)
	}
	h.wantKeyEvents(t, k.ID, "key.created")
}

// wantKeyEvents checks the kinds of the events about a key, in order.
func (h *fixture) wantKeyEvents(t *testing.T, id string, want ...string) {
	t.Helper()
	var got []string
	for _, e := range h.Events(t, h.tenant) {
		if e.Detail["key"] == id && e.Actor == staffActor {
			got = append(got, e.Kind)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("events = %v, want %v", got, want)
	}
}

func testRotateKey(t *testing.T, h *fixture) {
	old, oldHash := h.createKey(t, identity.APIKey{
		Name: "support", Hint: "aaaa", Scopes: []string{"keys:read"}, InstanceID: h.instance,
	})
	until := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	k, err := h.Store.RotateAPIKey(t.Context(), identity.KeyRotation{
		TenantID: h.tenant, KeyID: old.ID, Hint: "bbbb", Hash: "new" + oldHash, OldUntil: until,
	}, staffActor)
	if err != nil || k.ID == old.ID || k.Name != old.Name || k.Hint != "bbbb" || !k.HasScope("keys:read") ||
		k.InstanceID != h.instance || !k.ExpiresAt.IsZero() {
		t.Fatalf("rotated: %+v, %v", k, err)
	}
	if got, err := h.keyByHash(t.Context(), oldHash); err != nil || !got.ExpiresAt.Equal(until) {
		t.Errorf("old key expires at %v, %v, want %v", got.ExpiresAt, err, until)
	}
	if _, err := h.Store.RotateAPIKey(t.Context(), identity.KeyRotation{
		TenantID: h.tenant, KeyID: old.ID, Hint: "cccc", Hash: "third" + oldHash, OldUntil: until.Add(time.Hour),
	}, staffActor); err != nil {
		t.Fatal(err)
	}
	if got, _ := h.keyByHash(t.Context(), oldHash); !got.ExpiresAt.Equal(until) {
		t.Errorf("after a second rotation the old key expires at %v", got.ExpiresAt)
	}
	if _, err := h.Store.RotateAPIKey(t.Context(), identity.KeyRotation{
		TenantID: h.tenant, KeyID: missingID, Hint: "dddd", Hash: "fourth" + oldHash, OldUntil: until,
	}, staffActor); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("unknown key: %v", err)
	}
	expired, hash := h.createKey(t, identity.APIKey{ExpiresAt: time.Now().Add(-time.Hour)})
	if _, err := h.Store.RotateAPIKey(t.Context(), identity.KeyRotation{
		TenantID: h.tenant, KeyID: expired.ID, Hint: "eeee", Hash: "new" + hash, OldUntil: until,
	}, staffActor); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("expired key: %v; want ErrNotFound", err)
	}
	h.wantKeyEvents(t, k.ID, "key.rotated")
}

func testRevokeKey(t *testing.T, h *fixture) {
	k, hash := h.createKey(t, identity.APIKey{Name: "support"})
	for range 2 {
		if err := h.Store.RevokeAPIKey(t.Context(), h.tenant, k.ID, staffActor); err != nil {
			t.Fatal(err)
		}
	}
	got, err := h.keyByHash(t.Context(), hash)
	if err != nil || got.IsLive(time.Now()) {
		t.Errorf("revoked: %+v, %v", got, err)
	}
	if err := h.Store.RevokeAPIKey(t.Context(), h.tenant, missingID, staffActor); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("unknown key: %v", err)
	}
	if _, err := h.Store.RotateAPIKey(t.Context(), identity.KeyRotation{
		TenantID: h.tenant, KeyID: k.ID, Hash: "new" + hash, OldUntil: time.Now(),
	}, staffActor); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("rotation of a revoked key: %v; want ErrNotFound", err)
	}
	h.wantKeyEvents(t, k.ID, "key.created", "key.revoked")
}

// testConcurrentRevokeAndRotate checks that a key stays revoked while it is rotated concurrently.
// A copy made before the revocation is visible to the caller of RevokeAPIKey; none is made after
// it.
func testConcurrentRevokeAndRotate(t *testing.T, h *fixture) {
	k, hash := h.createKey(t, identity.APIKey{Name: "support"})
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := h.Store.RevokeAPIKey(t.Context(), h.tenant, k.ID, staffActor); err != nil {
			t.Errorf("revoke: %v", err)
		}
	})
	for n := range 8 {
		wg.Go(func() {
			_, err := h.Store.RotateAPIKey(t.Context(), identity.KeyRotation{
				TenantID: h.tenant, KeyID: k.ID, Hash: fmt.Sprint(n, hash), OldUntil: time.Now().Add(time.Hour),
			}, staffActor)
			if err != nil && !errors.Is(err, identity.ErrNotFound) {
				t.Errorf("rotate: %v", err)
			}
		})
	}
	wg.Wait()
	if got, err := h.keyByHash(t.Context(), hash); err != nil || got.RevokedAt.IsZero() {
		t.Errorf("APIKey = %+v, %v, want a revoked key", got, err)
	}
}
