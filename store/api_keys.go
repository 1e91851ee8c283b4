package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"hydragate/identity"
	"hydragate/store/sqldb"
)

// ErrKeyRevoked reports that a bootstrap key is revoked, expired or belongs to another tenant.
var ErrKeyRevoked = errors.New("store: the API key is revoked; set a new one")

const apiKeyColumns = `id, tenant_id, name, hint, scopes, instance_id, expires_at, revoked_at, last_used_at, created_at,
	coalesce(rate_limit_per_second, 0)`

func scanAPIKey(sc sqldb.ScanFunc) (k identity.APIKey, err error) {
	var scopes string
	err = sc(sqldb.Text(&k.ID), sqldb.Text(&k.TenantID), &k.Name, &k.Hint, &scopes, sqldb.Text(&k.InstanceID),
		sqldb.Time(&k.ExpiresAt), sqldb.Time(&k.RevokedAt), sqldb.Time(&k.LastUsedAt), sqldb.Time(&k.CreatedAt), &k.RateLimit)
	k.Scopes = strings.Fields(scopes)
	return k, err
}

// APIKeys returns the API keys whose tokens have the given hashes, by hash, whether or not they are
// still valid.
func (s *Store) APIKeys(ctx context.Context, hashes []string) (map[string]identity.APIKey, error) {
	in, args := hashPlaceholders(hashes)
	found := map[string]identity.APIKey{}
	rs, err := s.db.Query(ctx, `select `+apiKeyColumns+`, hash from api_keys where hash in (`+in+`)`, args...)
	_, err = sqldb.ScanAll(rs, err, func(sc sqldb.ScanFunc) (hash string, err error) {
		k, err := scanAPIKey(func(dest ...any) error { return sc(append(dest, &hash)...) })
		found[hash] = k
		return hash, err
	})
	return found, s.apiKeyError("read API keys", err)
}

// hashPlaceholders returns a comma-separated list of placeholders for hashes, and the hashes as
// arguments.
func hashPlaceholders(hashes []string) (in string, args []any) {
	placeholders := make([]string, len(hashes))
	for i, h := range hashes {
		args = append(args, h)
		placeholders[i] = sqldb.Placeholder(len(args))
	}
	return strings.Join(placeholders, ", "), args
}

// TouchAPIKey records the last use of an API key with a resolution of one minute, so that most
// calls change nothing.
func (s *Store) TouchAPIKey(ctx context.Context, tenant, id string, at time.Time) error {
	_, err := s.db.Exec(ctx, `
		update api_keys set last_used_at = $3
		where tenant_id = $1 and id = $2 and (last_used_at is null or last_used_at < $3)`, tenant, id,
		at.UTC().Truncate(time.Minute))
	return s.apiKeyError("record use of API key", err)
}

// CreateAPIKey stores an API key whose token has the given hash and returns it. If k.ID is empty,
// a new ID is assigned. If the key exists, because the caller retries, only its hash and hint are
// replaced: its previous token was never returned to anyone. It returns identity.ErrNoInstance if
// the tenant has no instance k.InstanceID, and identity.ErrNotFound if k.ID belongs to another
// tenant.
func (s *Store) CreateAPIKey(
	ctx context.Context, k identity.APIKey, hash string, by identity.Actor,
) (created identity.APIKey, err error) {
	err = s.db.InTx(ctx, func(tx sqldb.DB) error {
		created, err = s.insertAPIKey(ctx, tx, k, hash, keyEvent{by: by, kind: "key.created"})
		return err
	})
	if err != nil && s.dialect.IsForeignKeyViolation(err) && k.InstanceID != "" {
		return identity.APIKey{}, identity.ErrNoInstance
	}
	return created, s.apiKeyError("create API key", err)
}

// A keyEvent describes the event that is recorded about a new API key.
type keyEvent struct {
	by       identity.Actor
	kind     string
	replaces string // the ID of the key that was rotated, if any
}

// insertAPIKey implements CreateAPIKey in a transaction and records the event e.
func (s *Store) insertAPIKey(
	ctx context.Context, tx sqldb.DB, k identity.APIKey, hash string, e keyEvent,
) (identity.APIKey, error) {
	rs, err := tx.Query(ctx, `
		insert into api_keys (id, tenant_id, name, hint, hash, scopes, instance_id, expires_at, created_at,
			rate_limit_per_second)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
		on conflict (id) do nothing
		returning `+apiKeyColumns,
		orNewID(k.ID), k.TenantID, k.Name, k.Hint, hash, strings.Join(k.Scopes, " "), sqldb.TextOrNull(k.InstanceID),
		sqldb.TimeOrNull(k.ExpiresAt), s.now(), numberOrNull(k.RateLimit))
	created, err := sqldb.ScanOne(rs, err, scanAPIKey)
	if sqldb.IsNoRows(err) {
		rs, err := tx.Query(ctx, `
			update api_keys set hash = $3, hint = $4
			where tenant_id = $1 and id = $2 returning `+apiKeyColumns, k.TenantID, k.ID, hash, k.Hint)
		return sqldb.ScanOne(rs, err, scanAPIKey)
	}
	if err != nil {
		return created, err
	}
	if err := saveActorName(ctx, tx, created.TenantID, created.Actor(), created.Name); err != nil {
		return created, err
	}
	detail := map[string]string{"key": created.ID}
	if e.replaces != "" {
		detail["replaces"] = e.replaces
	}
	return created, recordEvents(ctx, tx, identity.Event{
		TenantID: k.TenantID, Kind: e.kind, Actor: e.by, InstanceID: k.InstanceID, Detail: detail,
	})
}

// ListAPIKeys returns at most limit API keys of a tenant in order of creation, starting after the
// ID after. It includes revoked and expired keys.
func (s *Store) ListAPIKeys(ctx context.Context, tenant, after string, limit int) ([]identity.APIKey, error) {
	rs, err := s.db.Query(ctx, `
		select `+apiKeyColumns+` from api_keys
		where tenant_id = $1 and id > $2 order by id limit $3`, tenant, startAfter(after), limit)
	keys, err := sqldb.ScanAll(rs, err, scanAPIKey)
	return keys, s.apiKeyError("list API keys", err)
}

// RotateAPIKey replaces an API key by a copy and returns the copy. If a key with the ID of the copy
// exists, only its hash and hint are replaced. It returns identity.ErrNotFound if the replaced key
// does not exist or is revoked or expired.
func (s *Store) RotateAPIKey(
	ctx context.Context, r identity.KeyRotation, by identity.Actor,
) (created identity.APIKey, err error) {
	err = s.db.InTx(ctx, func(tx sqldb.DB) error {
		// Lock the row before reading it, so that a key revoked concurrently is not copied.
		rs, err := tx.Query(ctx,
			`update api_keys set hint = hint where tenant_id = $1 and id = $2 returning `+apiKeyColumns,
			r.TenantID, r.KeyID)
		old, err := sqldb.ScanOne(rs, err, scanAPIKey)
		if err != nil {
			return err
		}
		if !old.IsLive(s.now()) {
			return identity.ErrNotFound
		}
		if old.ExpiresAt.IsZero() || r.OldUntil.Before(old.ExpiresAt) {
			if _, err := tx.Exec(ctx, `update api_keys set expires_at = $3 where tenant_id = $1 and id = $2`,
				r.TenantID, r.KeyID, sqldb.TimeOrNull(r.OldUntil)); err != nil {
				return err
			}
		}
		old.ID, old.Hint = r.NewID, r.Hint
		created, err = s.insertAPIKey(ctx, tx, old, r.Hash, keyEvent{by, "key.rotated", r.KeyID})
		return err
	})
	return created, s.apiKeyError("rotate API key", err)
}

// RevokeAPIKey revokes an API key permanently. It does nothing if the key is revoked already. It
// returns identity.ErrNotFound if the tenant has no such key.
func (s *Store) RevokeAPIKey(ctx context.Context, tenant, id string, by identity.Actor) error {
	err := s.db.InTx(ctx, func(tx sqldb.DB) error {
		n, err := s.revokeAPIKey(ctx, tx, tenant, id, by)
		if err != nil || n > 0 {
			return err
		}
		rs, err := tx.Query(ctx, `select `+apiKeyColumns+` from api_keys where tenant_id = $1 and id = $2`, tenant, id)
		_, err = sqldb.ScanOne(rs, err, scanAPIKey)
		return err
	})
	return s.apiKeyError("revoke API key", err)
}

// revokeAPIKey revokes a key and records the event. It returns 0 if the key is revoked already or
// does not exist.
func (s *Store) revokeAPIKey(ctx context.Context, tx sqldb.DB, tenant, id string, by identity.Actor) (int64, error) {
	n, err := tx.Exec(ctx, `update api_keys set revoked_at = $3 where tenant_id = $1 and id = $2 and revoked_at is null`,
		tenant, id, s.now())
	if err != nil || n == 0 {
		return n, err
	}
	return n, recordEvents(ctx, tx, identity.Event{
		TenantID: tenant, Kind: "key.revoked", Actor: by,
		Detail: map[string]string{"key": id},
	})
}

// EnsureAPIKey makes token the only valid API key with this name: it creates the key unless it
// exists and revokes all others with the name, in one transaction. created reports whether the key
// was created. It returns ErrKeyRevoked if the key was revoked or belongs to another tenant.
func (s *Store) EnsureAPIKey(
	ctx context.Context, tenant, name, token string, scopes []string,
) (created bool, err error) {
	hash := identity.HashToken(token)
	ensure := func(tx sqldb.DB) error {
		created = false
		rs, err := tx.Query(ctx, `select `+apiKeyColumns+` from api_keys where hash = $1`, hash)
		k, err := sqldb.ScanOne(rs, err, scanAPIKey)
		switch {
		case sqldb.IsNoRows(err):
			created = true
			if k, err = s.insertAPIKey(ctx, tx, identity.APIKey{
				TenantID: tenant, Name: name, Hint: keyHint(token),
				Scopes: scopes,
			}, hash, keyEvent{by: identity.System, kind: "key.created"}); err != nil {
				return err
			}
		case err != nil:
			return err
		case k.TenantID != tenant || !k.IsLive(s.now()):
			return ErrKeyRevoked
		}
		return s.revokeOtherKeys(ctx, tx, k, name)
	}
	err = s.db.InTx(ctx, ensure)
	if err != nil && s.dialect.IsDuplicate(err) {
		err = s.db.InTx(ctx, ensure) // another replica inserted the key concurrently
	}
	if err != nil {
		return false, fmt.Errorf("ensure API key %q: %w", name, err)
	}
	return created, nil
}

// revokeOtherKeys revokes all keys named name except keep.
func (s *Store) revokeOtherKeys(ctx context.Context, tx sqldb.DB, keep identity.APIKey, name string) error {
	rs, err := tx.Query(ctx, `
		select id from api_keys
		where tenant_id = $1 and name = $2 and id <> $3 and revoked_at is null order by id`, keep.TenantID, name, keep.ID)
	ids, err := sqldb.ScanAll(rs, err, sqldb.ScanText)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if _, err := s.revokeAPIKey(ctx, tx, keep.TenantID, id, identity.System); err != nil {
			return err
		}
	}
	return nil
}

// CountAPIKeys returns the number of API keys of all tenants, including revoked ones.
func (s *Store) CountAPIKeys(ctx context.Context) (int, error) {
	rs, err := s.db.Query(ctx, `select count(*) from api_keys`)
	n, err := sqldb.ScanOne(rs, err, sqldb.ScanValue[int])
	return n, s.apiKeyError("count API keys", err)
}

// keyHint returns the end of a token, by which people tell keys apart.
func keyHint(token string) string { return token[max(0, len(token)-4):] }

// apiKeyError maps errors of the database to those of package identity.
func (s *Store) apiKeyError(op string, err error) error {
	switch {
	case err == nil || errors.Is(err, identity.ErrNotFound):
		return err
	case sqldb.IsNoRows(err) || s.dialect.IsUnstorable(err):
		return identity.ErrNotFound
	}
	return fmt.Errorf("%s: %w", op, err)
}
