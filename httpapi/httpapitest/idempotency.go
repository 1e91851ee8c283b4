package httpapitest

import (
	"context"

	"hydragate/gateway"
)

func withoutFingerprint(k gateway.IdempotencyKey) gateway.IdempotencyKey {
	k.Fingerprint = ""
	return k
}

// ReserveIdempotencyKey implements httpapi.IdempotencyStore.
func (s *Store) ReserveIdempotencyKey(
	_ context.Context, k gateway.IdempotencyKey,
) (gateway.StoredResponse, bool, error) {
	defer s.lock()()
	a, found := s.Responses[withoutFingerprint(k)]
	if !found {
		s.Responses[withoutFingerprint(k)] = gateway.StoredResponse{Fingerprint: k.Fingerprint}
	}
	return a, found, nil
}

// SaveResponse implements httpapi.IdempotencyStore.
func (s *Store) SaveResponse(_ context.Context, k gateway.IdempotencyKey, a gateway.StoredResponse) error {
	defer s.lock()()
	s.Responses[withoutFingerprint(k)] = a
	return nil
}

// ReleaseIdempotencyKey implements httpapi.IdempotencyStore.
func (s *Store) ReleaseIdempotencyKey(_ context.Context, k gateway.IdempotencyKey) error {
	defer s.lock()()
	delete(s.Responses, withoutFingerprint(k))
	return nil
}
