package store

import (
	"context"
	"fmt"

	"hydragate/httpapi"
)

const (
	answerLife = 24 * 60 * 60 // seconds an answer is given again
	callLife   = 60           // seconds after which a call without an answer has crashed
)

// Remember claims an idempotency key for a call. Of any number of callers at once one
// gets found false and the id of what it creates, and must end the call with Answered or
// Forget; the others get what it answered, or an answer with status 0 while it is at
// work. A caller who did not end its call within a minute is taken for dead, and the
// same call may be made again, with the same id: nobody knows whether it had happened. An
// answer is kept for a day.
func (s *Store) Remember(ctx context.Context, k httpapi.IdempotencyKey) (a httpapi.StoredAnswer, found bool, err error) {
	for range 3 {
		rs, err := s.db.Query(ctx, `
			insert into idempotency_keys (tenant_id, principal, key, fingerprint, makes, created_at)
			values ($1, $2, $3, $4, $5, `+s.d.now+`)
			on conflict (tenant_id, principal, key) do update
			set fingerprint = excluded.fingerprint, status = null, answer = null, created_at = excluded.created_at,
				makes = case when idempotency_keys.created_at <= `+s.d.in(-answerLife)+` then excluded.makes else coalesce(idempotency_keys.makes, excluded.makes) end
			where idempotency_keys.created_at <= `+s.d.in(-answerLife)+`
				or (idempotency_keys.status is null and idempotency_keys.fingerprint = excluded.fingerprint
					and idempotency_keys.created_at <= `+s.d.in(-callLife)+`)
			returning makes`, k.TenantID, k.Principal, k.Key, k.Fingerprint, newID())
		makes, err := one(rs, err, scanString)
		switch {
		case err == nil:
			return httpapi.StoredAnswer{Makes: makes}, false, nil
		case !noRows(err):
			return a, false, fmt.Errorf("remember call: %w", err)
		}
		a, err = s.answer(ctx, k)
		if !noRows(err) {
			return a, err == nil, err
		}
	}
	return a, false, fmt.Errorf("remember call: its key is claimed and given back all the time")
}

// answer reads what a call has answered so far.
func (s *Store) answer(ctx context.Context, k httpapi.IdempotencyKey) (a httpapi.StoredAnswer, err error) {
	var sealed string
	rs, err := s.db.Query(ctx, `
		select fingerprint, coalesce(status, 0), answer from idempotency_keys
		where tenant_id = $1 and principal = $2 and key = $3`, k.TenantID, k.Principal, k.Key)
	a, err = one(rs, err, func(sc scan) (a httpapi.StoredAnswer, err error) {
		return a, sc(&a.Fingerprint, &a.Status, text(&sealed))
	})
	if err != nil || sealed == "" {
		return a, err
	}
	if a.Body, _, err = s.keys.Open(sealed, bindAnswer(k)); err != nil {
		return httpapi.StoredAnswer{}, fmt.Errorf("open stored answer: %w", err)
	}
	return a, nil
}

// Answered keeps the answer of a call, sealed. The first answer stays.
func (s *Store) Answered(ctx context.Context, k httpapi.IdempotencyKey, a httpapi.StoredAnswer) error {
	_, err := s.db.Exec(ctx, `
		update idempotency_keys set status = $5, answer = $6
		where tenant_id = $1 and principal = $2 and key = $3 and fingerprint = $4 and status is null`,
		k.TenantID, k.Principal, k.Key, k.Fingerprint, a.Status, s.keys.Seal(a.Body, bindAnswer(k)))
	if err != nil {
		return fmt.Errorf("keep answer of call: %w", err)
	}
	return nil
}

// Forget gives the key of a call back that has no answer worth keeping: from now on the
// same call may be made again. That it failed does not say that nothing happened, so the
// key stays that call's.
func (s *Store) Forget(ctx context.Context, k httpapi.IdempotencyKey) error {
	_, err := s.db.Exec(ctx, `
		update idempotency_keys set created_at = `+s.d.in(-callLife)+`
		where tenant_id = $1 and principal = $2 and key = $3 and fingerprint = $4 and status is null`, k.TenantID, k.Principal, k.Key, k.Fingerprint)
	if err != nil {
		return fmt.Errorf("forget call: %w", err)
	}
	return nil
}

func bindAnswer(k httpapi.IdempotencyKey) string {
	return bind(k.TenantID, "idempotency_keys.answer", k.Principal+"\x1f"+k.Key)
}
