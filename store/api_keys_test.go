package store

import (
	"errors"
	"sync"
	"testing"
	"time"

	"hydragate/identity"
)

func TestEnsureAPIKey(t *testing.T) {
	forEachEngine(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		if n, err := s.CountAPIKeys(ctx); err != nil || n != 0 {
			t.Fatalf("CountAPIKeys() of an empty database = %d, %v", n, err)
		}
		first, second := identity.NewToken("hg_live_"), identity.NewToken("hg_live_")
		other, err := s.CreateAPIKey(ctx, identity.APIKey{TenantID: identity.DefaultTenant, Name: "staff"}, newID(),
			identity.System)
		if err != nil {
			t.Fatal(err)
		}
		live := func(token string) bool {
			t.Helper()
			hash := identity.HashToken(token)
			found, err := s.APIKeys(ctx, []string{hash})
			k, ok := found[hash]
			if err != nil || !ok {
				t.Fatalf("APIKeys() = %+v, %v", found, err)
			}
			return k.IsLive(time.Now())
		}
		for _, want := range []bool{true, false} {
			if created, err := s.EnsureAPIKey(ctx, identity.DefaultTenant, "bootstrap", first, identity.Scopes); err != nil ||
				created != want {
				t.Errorf("EnsureAPIKey(first) = %v, %v, want %v", created, err, want)
			}
		}
		hash := identity.HashToken(first)
		found, err := s.APIKeys(ctx, []string{newID(), hash, identity.HashToken("unknown")})
		k := found[hash]
		if err != nil || len(found) != 1 || !k.HasScope("keys:write") || k.Hint != first[len(first)-4:] ||
			k.Name != "bootstrap" {
			t.Errorf("APIKeys() = %+v, %v", found, err)
		}
		if created, err := s.EnsureAPIKey(ctx, identity.DefaultTenant, "bootstrap", second, identity.Scopes); err != nil ||
			!created {
			t.Errorf("EnsureAPIKey(second) = %v, %v, want true", created, err)
		}
		if live(first) || !live(second) {
			t.Errorf("live: first %v, second %v, want only the second", live(first), live(second))
		}
		if _, err := s.EnsureAPIKey(ctx, identity.DefaultTenant, "bootstrap", first, identity.Scopes); !errors.Is(err,
			ErrKeyRevoked) || !live(second) {
			t.Errorf("EnsureAPIKey(revoked token) = %v, want ErrKeyRevoked", err)
		}
		if _, err := s.EnsureAPIKey(ctx, newTenant(t, s), "bootstrap", second, identity.Scopes); !errors.Is(err,
			ErrKeyRevoked) {
			t.Errorf("EnsureAPIKey(token of another tenant) = %v, want ErrKeyRevoked", err)
		}
		if ks, err := s.ListAPIKeys(ctx, identity.DefaultTenant, "", 10); err != nil || len(ks) != 3 ||
			ks[0].ID != other.ID || !ks[0].IsLive(time.Now()) {
			t.Errorf("ListAPIKeys() = %+v, %v, want three keys", ks, err)
		}
	})
}

func TestEnsureAPIKey_ConcurrentReplicas(t *testing.T) {
	forEachEngine(t, func(t *testing.T, s *Store) {
		token := identity.NewToken("hg_live_")
		created := make([]bool, 8)
		var wg sync.WaitGroup
		for n := range created {
			wg.Go(func() {
				var err error
				if created[n], err = s.EnsureAPIKey(t.Context(), identity.DefaultTenant, "bootstrap", token,
					identity.Scopes); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		count := 0
		for _, c := range created {
			if c {
				count++
			}
		}
		if n, err := s.CountAPIKeys(t.Context()); count != 1 || n != 1 || err != nil {
			t.Errorf("%d calls created the key, %d keys stored, %v, want one", count, n, err)
		}
	})
}
