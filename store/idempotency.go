package store

import (
	"context"
	"errors"
	"fmt"

	"hydragate/gateway"
	"hydragate/store/keyring"
	"hydragate/store/sqldb"
)

const (
	responseTTL = 24 * 60 * 60 // seconds for which a response is replayed
	callTimeout = 60           // seconds after which a request without a response may be repeated
)

// ReserveIdempotencyKey reserves an idempotency key for a request. For one of several concurrent
// callers, found is false and the response has the ID of the resource to create; that caller must
// end the request with SaveResponse or ReleaseIdempotencyKey. For all others, found is true and
// the stored response is returned, with status 0 while the request is in progress. A reservation
// without a response ends after a minute, because its process may have crashed; the same request
// then gets the same resource ID, because the first attempt may have succeeded. Responses are kept
// for a day.
func (s *Store) ReserveIdempotencyKey(
	ctx context.Context, k gateway.IdempotencyKey,
) (a gateway.StoredResponse, found bool, err error) {
	for range 3 {
		rs, err := s.db.Query(ctx, `
			insert into idempotency_keys (tenant_id, principal, key, fingerprint, makes, created_at)
			values ($1, $2, $3, $4, $5, `+s.dialect.Now+`)
			on conflict (tenant_id, principal, key) do update
			set fingerprint = excluded.fingerprint, status = null, answer = null, created_at = excluded.created_at,
				makes = case when idempotency_keys.created_at <= `+s.dialect.NowPlus(-responseTTL)+` then excluded.makes
					else coalesce(idempotency_keys.makes, excluded.makes) end
			where idempotency_keys.created_at <= `+s.dialect.NowPlus(-responseTTL)+`
				or (idempotency_keys.status is null and idempotency_keys.fingerprint = excluded.fingerprint
					and idempotency_keys.created_at <= `+s.dialect.NowPlus(-callTimeout)+`)
			returning makes`, k.TenantID, k.Principal, k.Key, k.Fingerprint, newID())
		resourceID, err := sqldb.ScanOne(rs, err, sqldb.ScanString)
		switch {
		case err == nil:
			return gateway.StoredResponse{ResourceID: resourceID}, false, nil
		case !sqldb.IsNoRows(err):
			return a, false, fmt.Errorf("reserve idempotency key: %w", err)
		}
		a, err = s.storedResponse(ctx, k)
		if !sqldb.IsNoRows(err) {
			return a, err == nil, err
		}
	}
	return a, false, errors.New("reserve idempotency key: the key was reserved and released concurrently")
}

// storedResponse returns the stored response for a key, or sql.ErrNoRows.
func (s *Store) storedResponse(ctx context.Context, k gateway.IdempotencyKey) (a gateway.StoredResponse, err error) {
	var sealed string
	rs, err := s.db.Query(ctx, `
		select fingerprint, coalesce(status, 0), answer from idempotency_keys
		where tenant_id = $1 and principal = $2 and key = $3`, k.TenantID, k.Principal, k.Key)
	a, err = sqldb.ScanOne(rs, err, func(sc sqldb.ScanFunc) (a gateway.StoredResponse, err error) {
		return a, sc(&a.Fingerprint, &a.Status, sqldb.Text(&sealed))
	})
	if err != nil || sealed == "" {
		return a, err
	}
	if a.Body, _, err = s.keys.Open(sealed, responseAAD(k)); err != nil {
		return gateway.StoredResponse{}, fmt.Errorf("decrypt stored response: %w", err)
	}
	return a, nil
}

// SaveResponse stores the encrypted response of a request. It does nothing if there is one
// already.
func (s *Store) SaveResponse(ctx context.Context, k gateway.IdempotencyKey, a gateway.StoredResponse) error {
	_, err := s.db.Exec(ctx, `
		update idempotency_keys set status = $5, answer = $6
		where tenant_id = $1 and principal = $2 and key = $3 and fingerprint = $4 and status is null`,
		k.TenantID, k.Principal, k.Key, k.Fingerprint, a.Status, s.keys.Seal(a.Body, responseAAD(k)))
	if err != nil {
		return fmt.Errorf("store response: %w", err)
	}
	return nil
}

// ReleaseIdempotencyKey ends a request whose response is not stored, so that the same request may
// be repeated immediately. The key stays bound to the request, because the failed attempt may have
// had an effect.
func (s *Store) ReleaseIdempotencyKey(ctx context.Context, k gateway.IdempotencyKey) error {
	_, err := s.db.Exec(ctx, `
		update idempotency_keys set created_at = `+s.dialect.NowPlus(-callTimeout)+`
		where tenant_id = $1 and principal = $2 and key = $3 and fingerprint = $4 and status is null`, k.TenantID,
		k.Principal, k.Key, k.Fingerprint)
	if err != nil {
		return fmt.Errorf("release idempotency key: %w", err)
	}
	return nil
}

func responseAAD(k gateway.IdempotencyKey) string {
	return keyring.AssociatedData(k.TenantID, "idempotency_keys.answer", k.Principal+"\x1f"+k.Key)
}
