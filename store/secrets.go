package store

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store/keyring"
	"hydragate/store/sqldb"
)

// maxPreviousSecrets limits the previous secrets of each kind that an instance keeps. A client
// that rotates again because it lost the response does not invalidate the secret in use.
const maxPreviousSecrets = 4

// RotateInstanceSecret replaces a secret of an instance. The previous one remains valid for the
// grace period, until the time returned. If the grace period is zero, the previous secrets of the
// kind end immediately. It returns gateway.ErrNoInstance for an unknown instance.
func (s *Store) RotateInstanceSecret(
	ctx context.Context, r gateway.SecretRotation, by identity.Actor,
) (until time.Time, err error) {
	tenant, id := r.TenantID, r.InstanceID
	err = s.db.InTx(ctx, func(tx sqldb.DB) error {
		// Lock the row first, so that concurrent rotations run one after another.
		rs, err := tx.Query(ctx, `
			update instances set updated_at = $3
			where tenant_id = $1 and id = $2 returning webhook_secret, agent_secret_hash`, tenant, id, s.now())
		old, err := sqldb.ScanOne(rs, err, func(sc sqldb.ScanFunc) (old [2]string, err error) {
			err = sc(&old[0], &old[1])
			return old, err
		})
		if err != nil {
			return err
		}
		if r.GracePeriod > 0 {
			until, err = s.insertPreviousSecret(ctx, tx, r, old)
		} else {
			_, err = s.deletePreviousSecrets(ctx, tx, tenant, id, r.Kind)
		}
		if err != nil {
			return err
		}
		column, value := `webhook_secret`, s.keys.Seal([]byte(r.Secret), webhookSecretAAD(tenant, id))
		if r.Kind == gateway.AgentSecretKey {
			column, value = `agent_secret_hash`, identity.HashToken(r.Secret)
		}
		if _, err := tx.Exec(ctx, `update instances set `+column+` = $3 where tenant_id = $1 and id = $2`, tenant, id,
			value); err != nil {
			return err
		}
		return recordEvents(ctx, tx, identity.Event{
			TenantID: tenant, Kind: "instance." + string(r.Kind) + "_rotated", Actor: by, InstanceID: id,
			Detail: map[string]string{"overlap_seconds": fmt.Sprint(int(r.GracePeriod / time.Second))},
		})
	})
	return until, s.instanceError("rotate secret of instance", err)
}

// insertPreviousSecret stores the replaced secret from old, which contains the signing secret and
// the hash of the agent key. A signing secret is encrypted again, bound to its new row.
func (s *Store) insertPreviousSecret(
	ctx context.Context, tx sqldb.DB, r gateway.SecretRotation, old [2]string,
) (until time.Time, err error) {
	tenant, instance, kind := r.TenantID, r.InstanceID, string(r.Kind)
	id, hash, sealed := newID(), old[1], ""
	if r.Kind == gateway.WebhookSecret {
		plain, _, err := s.keys.Open(old[0], webhookSecretAAD(tenant, instance))
		if err != nil {
			return until, err
		}
		hash, sealed = "", s.keys.Seal(plain, previousSecretAAD(tenant, id))
	}
	rs, err := tx.Query(ctx, `
		insert into retired_secrets (id, tenant_id, instance_id, kind, sealed, hash, until)
		values ($1, $2, $3, $4, $5, $6, `+s.dialect.NowPlusExpr("$7")+`) returning until`,
		id, tenant, instance, kind, sqldb.TextOrNull(sealed), sqldb.TextOrNull(hash), r.GracePeriod.Seconds())
	until, err = sqldb.ScanOne(rs, err, func(sc sqldb.ScanFunc) (at time.Time, err error) {
		err = sc(sqldb.Time(&at))
		return at, err
	})
	if err != nil {
		return until, err
	}
	_, err = tx.Exec(ctx, `
		delete from retired_secrets
		where tenant_id = $1 and instance_id = $2 and kind = $3 and id not in (
			select id from retired_secrets
			where tenant_id = $1 and instance_id = $2 and kind = $3 and until > `+s.dialect.Now+`
			order by id desc limit $4)`, tenant, instance, kind, maxPreviousSecrets)
	return until, err
}

// RevokePreviousSecrets ends the previous secrets of a kind immediately. It returns
// gateway.ErrNoInstance for an unknown instance, and no error if there are none.
func (s *Store) RevokePreviousSecrets(
	ctx context.Context, tenant, id string, kind gateway.SecretKind, by identity.Actor,
) error {
	err := s.db.InTx(ctx, func(tx sqldb.DB) error {
		rs, err := tx.Query(ctx,
			`update instances set updated_at = updated_at where tenant_id = $1 and id = $2 returning id`, tenant, id)
		if _, err := sqldb.ScanOne(rs, err, sqldb.ScanText); err != nil {
			return err
		}
		n, err := s.deletePreviousSecrets(ctx, tx, tenant, id, kind)
		if err != nil || n == 0 {
			return err
		}
		return recordEvents(ctx, tx, identity.Event{
			TenantID: tenant, Kind: "instance." + string(kind) + "_ended",
			Actor: by, InstanceID: id,
		})
	})
	return s.instanceError("revoke previous secrets of instance", err)
}

func (s *Store) deletePreviousSecrets(
	ctx context.Context, tx sqldb.DB, tenant, instance string, kind gateway.SecretKind,
) (int64, error) {
	return tx.Exec(ctx, `delete from retired_secrets where tenant_id = $1 and instance_id = $2 and kind = $3`, tenant,
		instance, string(kind))
}

func webhookSecretAAD(tenant, instance string) string {
	return keyring.AssociatedData(tenant, "instances.webhook_secret", instance)
}

func previousSecretAAD(tenant, id string) string {
	return keyring.AssociatedData(tenant, "retired_secrets.sealed", id)
}

// previousSecretsExpr selects the previous signing secrets of an instance that are still valid,
// newest first, in the form that decryptSigningSecrets reads.
func (s *Store) previousSecretsExpr(instance string) string {
	return `(
		select string_agg(cast(r.id as text) || ':' || r.sealed, ',' order by r.id desc) from retired_secrets r
		where r.tenant_id = ` + instance + `.tenant_id and r.instance_id = ` + instance +
		`.id and r.kind = 'webhook_secret' and r.until > ` + s.dialect.Now + `)`
}

// decryptSigningSecrets decrypts the present signing secret and the previous ones, newest first.
func (s *Store) decryptSigningSecrets(tenant, instance, sealed, previous string) (secrets []string, err error) {
	plain, _, err := s.keys.Open(sealed, webhookSecretAAD(tenant, instance))
	if err != nil {
		return nil, err
	}
	secrets = append(secrets, string(plain))
	for item := range strings.SplitSeq(previous, ",") {
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

// SigningSecrets returns the valid signing secrets of an instance, newest first. It returns
// gateway.ErrNoInstance for an unknown instance.
func (s *Store) SigningSecrets(ctx context.Context, tenant, instance string) ([]string, error) {
	rs, err := s.db.Query(ctx,
		`select webhook_secret, `+s.previousSecretsExpr("n")+` from instances n where n.tenant_id = $1 and n.id = $2`,
		tenant, instance)
	columns, err := sqldb.ScanOne(rs, err, func(sc sqldb.ScanFunc) (columns [2]string, err error) {
		return columns, sc(&columns[0], sqldb.Text(&columns[1]))
	})
	if err != nil {
		return nil, s.instanceError("read signing secrets", err)
	}
	return s.decryptSigningSecrets(tenant, instance, columns[0], columns[1])
}

// signingCredentials returns the names of the credentials with which providers sign requests.
func signingCredentials() []string {
	return []string{adapters.AuthToken, adapters.SigningSecret, adapters.WebhookSecret}
}

// withPreviousCredentials returns the credentials of next together with those of before that
// remain valid during the grace period, and the length of that period in seconds. begun reports
// whether the period starts now, because a credential was replaced; otherwise it goes on. If the
// account or the address changed, the old credentials are dropped, because requests for them are
// not for this endpoint.
func withPreviousCredentials(
	before, next gateway.EndpointState,
) (creds adapters.Credentials, seconds int, begun bool) {
	creds = maps.Clone(next.Credentials)
	if creds == nil {
		creds = adapters.Credentials{}
	}
	period := gracePeriod(next)
	if period <= 0 || before.Address == "" || before.Address != next.Address ||
		before.Credentials[adapters.AccountSID] != creds[adapters.AccountSID] {
		return creds, 0, false
	}
	for _, key := range signingCredentials() {
		switch {
		case before.Credentials[key] == "" || creds[key] == "":
		case before.Credentials[key] != creds[key]:
			creds[key+adapters.PreviousSuffix] = before.Credentials[key]
			return creds, int(max(time.Second, period) / time.Second), true
		case before.Credentials[key+adapters.PreviousSuffix] != "":
			creds[key+adapters.PreviousSuffix] = before.Credentials[key+adapters.PreviousSuffix]
			seconds = int(max(time.Second, period) / time.Second)
		}
	}
	return creds, seconds, false
}

// gracePeriod returns how long replaced credentials remain valid: the period that staff set, or
// that of the channel.
func gracePeriod(ep gateway.EndpointState) time.Duration {
	if ep.GracePeriod != nil {
		return *ep.GracePeriod
	}
	return adapters.TraitsOf(ep.Channel).GracePeriod
}
