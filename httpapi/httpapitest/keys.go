package httpapitest

import (
	"context"
	"time"

	"hydragate/identity"
)

// APIKeys implements httpapi.AuthStore.
func (s *Store) APIKeys(_ context.Context, hashes []string) (map[string]identity.APIKey, error) {
	defer s.lock()()
	found := map[string]identity.APIKey{}
	for _, hash := range hashes {
		for _, k := range s.keys {
			if k.ID == s.hashes[hash] {
				found[hash] = k
			}
		}
	}
	return found, s.Err
}

// SaveActorName implements httpapi.AuthStore.
func (s *Store) SaveActorName(_ context.Context, _ string, actor identity.Actor, name string) error {
	defer s.lock()()
	if s.ActorNames == nil {
		s.ActorNames = map[identity.Actor]string{}
	}
	s.ActorNames[actor] = name
	return s.Err
}

// TouchAPIKey implements httpapi.AuthStore.
func (s *Store) TouchAPIKey(_ context.Context, _, id string, at time.Time) error {
	defer s.lock()()
	for i := range s.keys {
		if s.keys[i].ID == id {
			s.keys[i].LastUsedAt = at
		}
	}
	return nil
}

// CreateAPIKey implements httpapi.KeyStore.
func (s *Store) CreateAPIKey(
	_ context.Context, k identity.APIKey, hash string, _ identity.Actor,
) (identity.APIKey, error) {
	defer s.lock()()
	k.ID, k.CreatedAt = s.newID(), s.now
	s.keys = append(s.keys, k)
	s.hashes[hash] = k.ID
	return k, nil
}

// ListAPIKeys implements httpapi.KeyStore.
func (s *Store) ListAPIKeys(_ context.Context, tenant, after string, limit int) ([]identity.APIKey, error) {
	defer s.lock()()
	return filterRows(s.keys, limit, func(k identity.APIKey) bool { return k.TenantID == tenant && k.ID > after }), nil
}

// RotateAPIKey implements httpapi.KeyStore.
func (s *Store) RotateAPIKey(
	_ context.Context, r identity.KeyRotation, _ identity.Actor,
) (identity.APIKey, error) {
	defer s.lock()()
	for i, k := range s.keys {
		if k.TenantID != r.TenantID || k.ID != r.KeyID {
			continue
		}
		s.keys[i].ExpiresAt = r.OldUntil
		k.ID, k.Hint = s.newID(), r.Hint
		s.keys = append(s.keys, k)
		s.hashes[r.Hash] = k.ID
		return k, nil
	}
	return identity.APIKey{}, identity.ErrNotFound
}

// RevokeAPIKey implements httpapi.KeyStore.
func (s *Store) RevokeAPIKey(_ context.Context, tenant, id string, _ identity.Actor) error {
	defer s.lock()()
	for i, k := range s.keys {
		if k.TenantID == tenant && k.ID == id {
			s.keys[i].RevokedAt = s.now
			return nil
		}
	}
	return identity.ErrNotFound
}
