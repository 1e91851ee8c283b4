package store

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/identity"
)

func (s *Store) inviteColumns() string {
	return `id, tenant_id, instance_id, channel, customer_id, role_override, created_at, expires_at, used_at, identity_id, revoked_at,
		case when expires_at < ` + s.d.now + ` then 1 else 0 end`
}

func scanInvite(sc scan) (i claim.Invite, err error) {
	var expired int
	err = sc(text(&i.ID), text(&i.TenantID), text(&i.InstanceID), &i.Channel, text(&i.CustomerID), text(&i.RoleOverride),
		utc(&i.CreatedAt), utc(&i.ExpiresAt), utc(&i.UsedAt), text(&i.IdentityID), utc(&i.RevokedAt), &expired)
	i.Expired = expired == 1
	return i, err
}

// inviteLabel names what hashes the codes of invites.
const inviteLabel = "invite/v1"

// inviteMacs hashes the code of an invite under each master key, the sealing one
// first.
func (s *Store) inviteMacs(instance, channel, code string) []string {
	var macs []string
	for _, k := range s.keys.Derive(inviteLabel) {
		macs = append(macs, inviteMac(k, instance, channel, code))
	}
	return macs
}

// inviteMac hashes the code of an invite. It holds for one channel of one instance:
// elsewhere the same letters are others. Whoever lacks the key cannot tell the code from
// it.
func inviteMac(key []byte, instance, channel, code string) string {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(strings.Join([]string{inviteLabel, instance, channel, code}, "\x1f")))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// overPhone reports whether invites on a channel need the instance's consent: a
// sender's number is as good as the carrier's word.
func overPhone(channel string) bool {
	return channel == string(adapters.SMS) || channel == string(adapters.WhatsApp)
}

// IssueInvite implements claim.Invites. Customer and instance are locked first: of two
// presses at once one counts the other's invite, and none comes between a merge or a
// change of mind and the invites that it ends.
func (s *Store) IssueInvite(ctx context.Context, i claim.Invite, code string, by identity.Actor) (issued claim.Invite, err error) {
	err = s.db.InTx(ctx, func(tx db) error {
		if err := s.mayInvite(ctx, tx, i); err != nil {
			return err
		}
		if err := s.inviteTooMany(ctx, tx, i, by); err != nil {
			return err
		}
		keyID, key := s.keys.First(inviteLabel)
		rs, err := tx.Query(ctx, `
			insert into invites (id, tenant_id, instance_id, channel, customer_id, role_override, mac, key_id, expires_at)
			values ($1, $2, $3, $4, $5, $6, $7, $8, `+s.d.in(int(claim.InviteLife/time.Second))+`)
			returning `+s.inviteColumns(),
			newID(), i.TenantID, i.InstanceID, i.Channel, i.CustomerID, orNull(i.RoleOverride), inviteMac(key, i.InstanceID, i.Channel, code), keyID)
		if issued, err = one(rs, err, scanInvite); err != nil {
			return err
		}
		return record(ctx, tx, inviteEvent(issued, "invite.issued", by, ""))
	})
	return issued, s.inviteError("issue invite", err)
}

func (s *Store) mayInvite(ctx context.Context, tx db, i claim.Invite) error {
	rs, err := tx.Query(ctx, `update customers set updated_at = updated_at where tenant_id = $1 and id = $2 returning id`, i.TenantID, i.CustomerID)
	if _, err = one(rs, err, scanString); err != nil {
		return err
	}
	rs, err = tx.Query(ctx, `update instances set sms_invites = sms_invites where tenant_id = $1 and id = $2 returning sms_invites`, i.TenantID, i.InstanceID)
	allowed, err := one(rs, err, func(sc scan) (yes bool, err error) { return yes, sc(&yes) })
	switch {
	case noRows(err) || s.d.unstorable(err):
		return identity.ErrNoInstance
	case err == nil && overPhone(i.Channel) && !allowed:
		return claim.ErrNotInvited
	}
	return err
}

func (s *Store) inviteTooMany(ctx context.Context, tx db, i claim.Invite, by identity.Actor) error {
	rs, err := tx.Query(ctx, `
		select count(*) from invites
		where tenant_id = $1 and customer_id = $2 and used_msg is null and revoked_at is null and expires_at >= `+s.d.now, i.TenantID, i.CustomerID)
	live, err := one(rs, err, func(sc scan) (n int, err error) { return n, sc(&n) })
	switch {
	case err != nil:
		return fmt.Errorf("count live invites: %w", err)
	case live >= claim.MaxInvites:
		return claim.ErrInvitesFull
	}
	return s.issuedTooMany(ctx, tx, i.TenantID, issuedTo{"customer_id", i.CustomerID, inviteKinds}, by)
}

// Invites lists the invites of a customer, of one instance when it is not "", in order
// of creation after the id given; identity.ErrNotFound for an unknown customer.
func (s *Store) Invites(ctx context.Context, tenant, customer, instance, after string, limit int) ([]claim.Invite, error) {
	where, args := ``, []any{tenant, customer, start(after), limit}
	if instance != "" {
		where, args = ` and instance_id = $5`, append(args, instance)
	}
	rs, err := s.db.Query(ctx, `
		select `+s.inviteColumns()+` from invites
		where tenant_id = $1 and customer_id = $2 and id > $3`+where+`
		order by id limit $4`, args...)
	is, err := all(rs, err, scanInvite)
	if err == nil && len(is) == 0 {
		return nil, s.hasCustomer(ctx, tenant, customer)
	}
	return is, s.inviteError("list invites", err)
}

// RevokeInvite ends an invite of a customer, of one instance when it is not ""; one
// that is revoked stays so. identity.ErrNotFound, claim.ErrInviteUsed.
func (s *Store) RevokeInvite(ctx context.Context, tenant, customer, instance, id string, by identity.Actor) error {
	within, args := ``, []any{tenant, customer, id}
	if instance != "" {
		within, args = ` and instance_id = $4`, append(args, instance)
	}
	err := s.db.InTx(ctx, func(tx db) error {
		// The row is locked first: who opens it at the same moment did, or does not.
		rs, err := tx.Query(ctx, `
			update invites set fence = fence
			where tenant_id = $1 and customer_id = $2 and id = $3`+within+`
			returning `+s.inviteColumns(), args...)
		i, err := one(rs, err, scanInvite)
		switch {
		case err != nil:
			return err
		case i.State() == claim.Used:
			return claim.ErrInviteUsed
		case i.State() == claim.Revoked:
			return nil
		}
		if _, err := tx.Exec(ctx, `update invites set revoked_at = $3 where tenant_id = $1 and id = $2`, tenant, id, s.now()); err != nil {
			return err
		}
		return record(ctx, tx, inviteEvent(i, "invite.revoked", by, ""))
	})
	return s.inviteError("revoke invite", err)
}

// endInvites revokes the live invites for which where holds, in the transaction of what
// ends them.
func (s *Store) endInvites(ctx context.Context, tx db, by identity.Actor, reason, where string, args ...any) error {
	rs, err := tx.Query(ctx, `
		update invites set revoked_at = `+s.d.now+`
		where `+where+` and used_msg is null and revoked_at is null and expires_at >= `+s.d.now+`
		returning `+s.inviteColumns(), args...)
	ended, err := all(rs, err, scanInvite)
	if err != nil {
		return fmt.Errorf("end invites: %w", err)
	}
	var events []identity.Event
	for _, i := range ended {
		events = append(events, inviteEvent(i, "invite.revoked", by, reason))
	}
	return record(ctx, tx, events...)
}

func inviteEvent(i claim.Invite, kind string, by identity.Actor, reason string) identity.Event {
	detail := map[string]string{"channel": i.Channel, "invite_id": i.ID}
	if i.RoleOverride != "" {
		detail["role_override"] = i.RoleOverride
	}
	if reason != "" {
		detail["reason"] = reason
	}
	return identity.Event{TenantID: i.TenantID, Kind: kind, Actor: by, CustomerID: i.CustomerID, InstanceID: i.InstanceID, Detail: detail}
}

// inviteError puts the domain's errors in place of the database's.
func (s *Store) inviteError(doing string, err error) error {
	for _, known := range []error{claim.ErrNotInvited, claim.ErrInvitesFull, claim.ErrInviteUsed, claim.ErrTooMany} {
		if errors.Is(err, known) {
			return err
		}
	}
	return s.identityError(doing, err)
}
