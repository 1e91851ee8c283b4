package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store/keyring"
	"hydragate/store/sqldb"
)

// maxPreviousSecrets is how many replaced secrets of one kind an instance has beside the one
// in use: whoever rotates again because an answer was lost breaks nothing.
const maxPreviousSecrets = 4

// RotateInstanceSecret puts a new secret in the place of an instance's. The one before
// stays good for overlap, by the database's clock, until the time given; with none it
// ends at once, and so do those that were replaced before. gateway.ErrNoInstance.
func (s *Store) RotateInstanceSecret(ctx context.Context, tenant, id string, kind gateway.SecretKind, secret string, overlap time.Duration, by identity.Actor) (until time.Time, err error) {
	err = s.db.InTx(ctx, func(tx sqldb.DB) error {
		// The row is locked first, so that of two at once one comes after the other.
		rs, err := tx.Query(ctx, `
			update instances set updated_at = $3
			where tenant_id = $1 and id = $2 returning webhook_secret, agent_secret_hash`, tenant, id, s.now())
		was, err := sqldb.ScanOne(rs, err, func(sc sqldb.ScanFunc) (was [2]string, err error) { return was, sc(&was[0], &was[1]) })
		if err != nil {
			return err
		}
		if overlap > 0 {
			until, err = s.insertPreviousSecret(ctx, tx, tenant, id, kind, was, overlap)
		} else {
			_, err = s.deletePreviousSecrets(ctx, tx, tenant, id, kind)
		}
		if err != nil {
			return err
		}
		column, value := `webhook_secret`, s.keys.Seal([]byte(secret), webhookSecretAAD(tenant, id))
		if kind == gateway.AgentSecretKey {
			column, value = `agent_secret_hash`, identity.HashToken(secret)
		}
		if _, err := tx.Exec(ctx, `update instances set `+column+` = $3 where tenant_id = $1 and id = $2`, tenant, id, value); err != nil {
			return err
		}
		return recordEvents(ctx, tx, identity.Event{TenantID: tenant, Kind: "instance." + string(kind) + "_rotated", Actor: by, InstanceID: id,
			Detail: map[string]string{"overlap_seconds": fmt.Sprint(int(overlap / time.Second))}})
	})
	return until, s.instanceError("rotate secret of instance", err)
}

// insertPreviousSecret keeps a secret beside the new one. A signing secret is sealed anew, bound to
// the row it is in now.
func (s *Store) insertPreviousSecret(ctx context.Context, tx sqldb.DB, tenant, instance string, kind gateway.SecretKind, was [2]string, overlap time.Duration) (until time.Time, err error) {
	id, hash, sealed := newID(), was[1], ""
	if kind == gateway.WebhookSecret {
		plain, _, err := s.keys.Open(was[0], webhookSecretAAD(tenant, instance))
		if err != nil {
			return until, err
		}
		hash, sealed = "", s.keys.Seal(plain, previousSecretAAD(tenant, id))
	}
	rs, err := tx.Query(ctx, `
		insert into retired_secrets (id, tenant_id, instance_id, kind, sealed, hash, until)
		values ($1, $2, $3, $4, $5, $6, `+s.dialect.NowPlusExpr("$7")+`) returning until`,
		id, tenant, instance, string(kind), sqldb.TextOrNull(sealed), sqldb.TextOrNull(hash), overlap.Seconds())
	until, err = sqldb.ScanOne(rs, err, func(sc sqldb.ScanFunc) (at time.Time, err error) { return at, sc(sqldb.Time(&at)) })
	if err != nil {
		return until, err
	}
	_, err = tx.Exec(ctx, `
		delete from retired_secrets
		where tenant_id = $1 and instance_id = $2 and kind = $3 and id not in (
			select id from retired_secrets
			where tenant_id = $1 and instance_id = $2 and kind = $3 and until > `+s.dialect.Now+`
			order by id desc limit $4)`, tenant, instance, string(kind), maxPreviousSecrets)
	return until, err
}

// RevokePreviousSecrets ends the replaced secrets of an instance now; none is no error.
// gateway.ErrNoInstance.
func (s *Store) RevokePreviousSecrets(ctx context.Context, tenant, id string, kind gateway.SecretKind, by identity.Actor) error {
	err := s.db.InTx(ctx, func(tx sqldb.DB) error {
		rs, err := tx.Query(ctx, `update instances set updated_at = updated_at where tenant_id = $1 and id = $2 returning id`, tenant, id)
		if _, err := sqldb.ScanOne(rs, err, func(sc sqldb.ScanFunc) (id string, err error) { return id, sc(sqldb.Text(&id)) }); err != nil {
			return err
		}
		n, err := s.deletePreviousSecrets(ctx, tx, tenant, id, kind)
		if err != nil || n == 0 {
			return err
		}
		return recordEvents(ctx, tx, identity.Event{TenantID: tenant, Kind: "instance." + string(kind) + "_ended", Actor: by, InstanceID: id})
	})
	return s.instanceError("end replaced secrets of instance", err)
}

func (s *Store) deletePreviousSecrets(ctx context.Context, tx sqldb.DB, tenant, instance string, kind gateway.SecretKind) (int64, error) {
	return tx.Exec(ctx, `delete from retired_secrets where tenant_id = $1 and instance_id = $2 and kind = $3`, tenant, instance, string(kind))
}

func webhookSecretAAD(tenant, instance string) string {
	return keyring.AssociatedData(tenant, "instances.webhook_secret", instance)
}

func previousSecretAAD(tenant, id string) string {
	return keyring.AssociatedData(tenant, "retired_secrets.sealed", id)
}

// previousSecretsExpr selects the replaced signing secrets of an instance that are good still,
// the newest first, for openRetired to read.
func (s *Store) previousSecretsExpr(instance string) string {
	return `(
		select string_agg(cast(r.id as text) || ':' || r.sealed, ',' order by r.id desc) from retired_secrets r
		where r.tenant_id = ` + instance + `.tenant_id and r.instance_id = ` + instance + `.id and r.kind = 'webhook_secret' and r.until > ` + s.dialect.Now + `)`
}

// decryptSigningSecrets opens the secrets that events are signed with, the newest first.
func (s *Store) decryptSigningSecrets(tenant, instance, sealed, retired string) (secrets []string, err error) {
	plain, _, err := s.keys.Open(sealed, webhookSecretAAD(tenant, instance))
	if err != nil {
		return nil, err
	}
	secrets = append(secrets, string(plain))
	for item := range strings.SplitSeq(retired, ",") {
		id, sealed, ok := strings.Cut(item, ":")
		if !ok {
			continue
		}
		plain, _, err := s.keys.Open(sealed, previousSecretAAD(tenant, id))
		if err != nil {
			return nil, err
		}
		secrets = append(secrets, string(plain))
	}
	return secrets, nil
}

// SigningSecrets gives the secrets that events of an instance are signed with now, the
// newest first. gateway.ErrNoInstance.
func (s *Store) SigningSecrets(ctx context.Context, tenant, instance string) ([]string, error) {
	rs, err := s.db.Query(ctx, `select webhook_secret, `+s.previousSecretsExpr("n")+` from instances n where n.tenant_id = $1 and n.id = $2`, tenant, instance)
	kept, err := sqldb.ScanOne(rs, err, func(sc sqldb.ScanFunc) (kept [2]string, err error) { return kept, sc(&kept[0], sqldb.Text(&kept[1])) })
	if err != nil {
		return nil, s.instanceError("read signing secrets", err)
	}
	return s.decryptSigningSecrets(tenant, instance, kept[0], kept[1])
}
