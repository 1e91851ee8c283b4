package store

import (
	"context"
	"fmt"

	"hydragate/gateway"
	"hydragate/store/keyring"
	"hydragate/store/sqldb"
)

const (
	responseTTL = 24 * 60 * 60 // seconds an answer is given again
	callTimeout = 60           // seconds after which a call without an answer has crashed
)

// ReserveIdempotencyKey claims an idempotency key for a call. Of any number of callers at once one
// gets found false and the id of what it creates, and must end the call with Answered or
// Forget; the others get what it answered, or an answer with status 0 while it is at
// work. A caller who did not end its call within a minute is taken for dead, and the
// same call may be made again, with the same id: nobody knows whether it had happened. An
// answer is kept for a day.
func (s *Store) ReserveIdempotencyKey(ctx context.Context, k gateway.IdempotencyKey) (a gateway.StoredResponse, found bool, err error) {
	for range 3 {
		rs, err := s.db.Query(ctx, `
			insert into idempotency_keys (tenant_id, principal, key, fingerprint, makes, created_at)
			values ($1, $2, $3, $4, $5, `+s.dialect.Now+`)
			on conflict (tenant_id, principal, key) do update
			set fingerprint = excluded.fingerprint, status = null, answer = null, created_at = excluded.created_at,
				makes = case when idempotency_keys.created_at <= `+s.dialect.NowPlus(-responseTTL)+` then excluded.makes else coalesce(idempotency_keys.makes, excluded.makes) end
			where idempotency_keys.created_at <= `+s.dialect.NowPlus(-responseTTL)+`
				or (idempotency_keys.status is null and idempotency_keys.fingerprint = excluded.fingerprint
					and idempotency_keys.created_at <= `+s.dialect.NowPlus(-callTimeout)+`)
			returning makes`, k.TenantID, k.Principal, k.Key, k.Fingerprint, newID())
		makes, err := sqldb.ScanOne(rs, err, sqldb.ScanString)
		switch {
		case err == nil:
			return gateway.StoredResponse{ResourceID: makes}, false, nil
		case !sqldb.IsNoRows(err):
			return a, false, fmt.Errorf("remember call: %w", err)
		}
		a, err = s.storedResponse(ctx, k)
		if !sqldb.IsNoRows(err) {
			return a, err == nil, err
		}
	}
	return a, false, fmt.Errorf("remember call: its key is claimed and given back all the time")
}

// storedResponse reads what a call has answered so far.
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
		return gateway.StoredResponse{}, fmt.Errorf("open stored answer: %w", err)
	}
	return a, nil
}

// SaveResponse keeps the answer of a call, sealed. The first answer stays.
func (s *Store) SaveResponse(ctx context.Context, k gateway.IdempotencyKey, a gateway.StoredResponse) error {
	_, err := s.db.Exec(ctx, `
		update idempotency_keys set status = $5, answer = $6
		where tenant_id = $1 and principal = $2 and key = $3 and fingerprint = $4 and status is null`,
		k.TenantID, k.Principal, k.Key, k.Fingerprint, a.Status, s.keys.Seal(a.Body, responseAAD(k)))
	if err != nil {
		return fmt.Errorf("keep answer of call: %w", err)
	}
	return nil
}

// ReleaseIdempotencyKey gives the key of a call back that has no answer worth keeping: from now on the
// same call may be made again. That it failed does not say that nothing happened, so the
// key stays that call's.
func (s *Store) ReleaseIdempotencyKey(ctx context.Context, k gateway.IdempotencyKey) error {
	_, err := s.db.Exec(ctx, `
		update idempotency_keys set created_at = `+s.dialect.NowPlus(-callTimeout)+`
		where tenant_id = $1 and principal = $2 and key = $3 and fingerprint = $4 and status is null`, k.TenantID, k.Principal, k.Key, k.Fingerprint)
	if err != nil {
		return fmt.Errorf("forget call: %w", err)
	}
	return nil
}

func responseAAD(k gateway.IdempotencyKey) string {
	return keyring.AssociatedData(k.TenantID, "idempotency_keys.answer", k.Principal+"\x1f"+k.Key)
}
