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

// ErrKeyRevoked says that a bootstrap key was revoked, or belongs to another tenant.
var ErrKeyRevoked = errors.New("store: this API key was revoked and is not taken again; set another one")

const apiKeyColumns = `id, tenant_id, name, hint, scopes, instance_id, expires_at, revoked_at, last_used_at, created_at`

func scanAPIKey(sc sqldb.ScanFunc) (k identity.APIKey, err error) {
	var scopes string
	err = sc(sqldb.Text(&k.ID), sqldb.Text(&k.TenantID), &k.Name, &k.Hint, &scopes, sqldb.Text(&k.InstanceID), sqldb.Time(&k.ExpiresAt), sqldb.Time(&k.RevokedAt), sqldb.Time(&k.LastUsedAt), sqldb.Time(&k.CreatedAt))
	k.Scopes = strings.Fields(scopes)
	return k, err
}

// APIKey gives the key whose token hashes to hash, live or not; identity.ErrNotFound.
func (s *Store) APIKey(ctx context.Context, hash string) (identity.APIKey, error) {
	rs, err := s.db.Query(ctx, `select `+apiKeyColumns+` from api_keys where hash = $1`, hash)
	k, err := sqldb.ScanOne(rs, err, scanAPIKey)
	return k, s.apiKeyError("read API key", err)
}

// TouchAPIKey notes that a key was used, to the minute: most calls change nothing.
func (s *Store) TouchAPIKey(ctx context.Context, tenant, id string, at time.Time) error {
	_, err := s.db.Exec(ctx, `
		update api_keys set last_used_at = $3
		where tenant_id = $1 and id = $2 and (last_used_at is null or last_used_at < $3)`, tenant, id, at.UTC().Truncate(time.Minute))
	return s.apiKeyError("note use of API key", err)
}

// CreateAPIKey keeps a key under its id, or a new one; its token hashes to hash. A key
// that is there already under its id stays as it is, but for its token: nobody was told
// that one. identity.ErrNoInstance when its instance is not the tenant's.
func (s *Store) CreateAPIKey(ctx context.Context, k identity.APIKey, hash string, by identity.Actor) (kept identity.APIKey, err error) {
	err = s.db.InTx(ctx, func(tx sqldb.DB) error {
		kept, err = s.insertAPIKey(ctx, tx, k, hash, by, "key.created", "")
		return err
	})
	if err != nil && s.dialect.IsForeignKeyViolation(err) && k.InstanceID != "" {
		return identity.APIKey{}, identity.ErrNoInstance
	}
	return kept, s.apiKeyError("create API key", err)
}

// insertAPIKey keeps a key and tells of it as kind; replaces names the one it was copied from.
func (s *Store) insertAPIKey(ctx context.Context, tx sqldb.DB, k identity.APIKey, hash string, by identity.Actor, kind, replaces string) (identity.APIKey, error) {
	rs, err := tx.Query(ctx, `
		insert into api_keys (id, tenant_id, name, hint, hash, scopes, instance_id, expires_at, created_at)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
		on conflict (id) do nothing
		returning `+apiKeyColumns,
		orNewID(k.ID), k.TenantID, k.Name, k.Hint, hash, strings.Join(k.Scopes, " "), sqldb.TextOrNull(k.InstanceID), sqldb.TimeOrNull(k.ExpiresAt), s.now())
	kept, err := sqldb.ScanOne(rs, err, scanAPIKey)
	if sqldb.IsNoRows(err) {
		rs, err := tx.Query(ctx, `
			update api_keys set hash = $3, hint = $4
			where tenant_id = $1 and id = $2 returning `+apiKeyColumns, k.TenantID, k.ID, hash, k.Hint)
		return sqldb.ScanOne(rs, err, scanAPIKey)
	}
	if err != nil {
		return kept, err
	}
	detail := map[string]string{"key": kept.ID}
	if replaces != "" {
		detail["replaces"] = replaces
	}
	return kept, recordEvents(ctx, tx, identity.Event{TenantID: k.TenantID, Kind: kind, Actor: by, InstanceID: k.InstanceID, Detail: detail})
}

// ListAPIKeys gives keys in order of creation, after the id given; revoked and
// expired ones too.
func (s *Store) ListAPIKeys(ctx context.Context, tenant, after string, limit int) ([]identity.APIKey, error) {
	rs, err := s.db.Query(ctx, `
		select `+apiKeyColumns+` from api_keys
		where tenant_id = $1 and id > $2 order by id limit $3`, tenant, startAfter(after), limit)
	ks, err := sqldb.ScanAll(rs, err, scanAPIKey)
	return ks, s.apiKeyError("list API keys", err)
}

// RotateAPIKey makes a copy of a key under the id of next, or a new one, with its hint and
// hash, and lets the old one expire at oldUntil, or earlier when it would have anyway. A
// copy that is there already gets the hash. A key that is not live gives
// identity.ErrNotFound: a copy would bring it back.
func (s *Store) RotateAPIKey(ctx context.Context, tenant, id string, next identity.APIKey, hash string, oldUntil time.Time, by identity.Actor) (kept identity.APIKey, err error) {
	err = s.db.InTx(ctx, func(tx sqldb.DB) error {
		// The row is locked before it is read, so that a key revoked at the same moment
		// leaves no copy.
		rs, err := tx.Query(ctx, `update api_keys set hint = hint where tenant_id = $1 and id = $2 returning `+apiKeyColumns, tenant, id)
		was, err := sqldb.ScanOne(rs, err, scanAPIKey)
		if err != nil {
			return err
		}
		if !was.IsLive(s.now()) {
			return identity.ErrNotFound
		}
		if was.ExpiresAt.IsZero() || oldUntil.Before(was.ExpiresAt) {
			if _, err := tx.Exec(ctx, `update api_keys set expires_at = $3 where tenant_id = $1 and id = $2`, tenant, id, sqldb.TimeOrNull(oldUntil)); err != nil {
				return err
			}
		}
		was.ID, was.Hint = next.ID, next.Hint
		kept, err = s.insertAPIKey(ctx, tx, was, hash, by, "key.rotated", id)
		return err
	})
	return kept, s.apiKeyError("rotate API key", err)
}

// RevokeAPIKey ends a key now and for ever; a key that is revoked already stays so.
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

func (s *Store) revokeAPIKey(ctx context.Context, tx sqldb.DB, tenant, id string, by identity.Actor) (int64, error) {
	n, err := tx.Exec(ctx, `update api_keys set revoked_at = $3 where tenant_id = $1 and id = $2 and revoked_at is null`, tenant, id, s.now())
	if err != nil || n == 0 {
		return n, err
	}
	return n, recordEvents(ctx, tx, identity.Event{TenantID: tenant, Kind: "key.revoked", Actor: by, Detail: map[string]string{"key": id}})
}

// EnsureAPIKey makes sure that token is a live key of this name and that no other
// one of the name is; created says whether it was not there before. A token that was
// revoked by hand stays revoked: ErrKeyRevoked.
func (s *Store) EnsureAPIKey(ctx context.Context, tenant, name, token string, scopes []string) (created bool, err error) {
	hash := identity.HashToken(token)
	ensure := func(tx sqldb.DB) error {
		created = false
		rs, err := tx.Query(ctx, `select `+apiKeyColumns+` from api_keys where hash = $1`, hash)
		k, err := sqldb.ScanOne(rs, err, scanAPIKey)
		switch {
		case sqldb.IsNoRows(err):
			created = true
			if k, err = s.insertAPIKey(ctx, tx, identity.APIKey{TenantID: tenant, Name: name, Hint: keyHint(token), Scopes: scopes}, hash, identity.System, "key.created", ""); err != nil {
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
		err = s.db.InTx(ctx, ensure) // another replica started in the same moment
	}
	if err != nil {
		return false, fmt.Errorf("ensure API key %q: %w", name, err)
	}
	return created, nil
}

func (s *Store) revokeOtherKeys(ctx context.Context, tx sqldb.DB, keep identity.APIKey, name string) error {
	rs, err := tx.Query(ctx, `
		select id from api_keys
		where tenant_id = $1 and name = $2 and id <> $3 and revoked_at is null order by id`, keep.TenantID, name, keep.ID)
	ids, err := sqldb.ScanAll(rs, err, func(sc sqldb.ScanFunc) (id string, err error) { return id, sc(sqldb.Text(&id)) })
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

// CountAPIKeys counts all keys of all tenants; an empty database has none.
func (s *Store) CountAPIKeys(ctx context.Context) (int, error) {
	rs, err := s.db.Query(ctx, `select count(*) from api_keys`)
	n, err := sqldb.ScanOne(rs, err, func(sc sqldb.ScanFunc) (n int, err error) { return n, sc(&n) })
	return n, s.apiKeyError("count API keys", err)
}

// keyHint gives the end of a token, to tell keys apart.
func keyHint(token string) string { return token[max(0, len(token)-4):] }

// apiKeyError puts the domain's errors in place of the database's.
func (s *Store) apiKeyError(doing string, err error) error {
	switch {
	case err == nil || errors.Is(err, identity.ErrNotFound):
		return err
	case sqldb.IsNoRows(err) || s.dialect.IsUnstorable(err):
		return identity.ErrNotFound
	}
	return fmt.Errorf("%s: %w", doing, err)
}
