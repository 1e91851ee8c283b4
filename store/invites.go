package store

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/identity"
	"hydragate/store/sqldb"
)

func (s *Store) inviteColumns() string {
	return `id, tenant_id, instance_id, channel, customer_id, role_override, created_at, expires_at, used_at, identity_id,
		revoked_at, confirm, opened_at, opened_msg, conversation_id, opener_id, refused_at,
		case when expires_at < ` + s.dialect.Now + ` then 1 else 0 end as expired`
}

func scanInvite(sc sqldb.ScanFunc) (i claim.Invite, err error) {
	var expired int
	err = sc(sqldb.Text(&i.ID), sqldb.Text(&i.TenantID), sqldb.Text(&i.InstanceID), &i.Channel,
		sqldb.Text(&i.CustomerID), sqldb.Text(&i.RoleOverride),
		sqldb.Time(&i.CreatedAt), sqldb.Time(&i.ExpiresAt), sqldb.Time(&i.UsedAt), sqldb.Text(&i.IdentityID),
		sqldb.Time(&i.RevokedAt), &i.Confirm, sqldb.Time(&i.Opener.OpenedAt), sqldb.Text(&i.Opener.MessageID),
		sqldb.Text(&i.Opener.ConversationID), sqldb.Text(&i.Opener.IdentityID), sqldb.Time(&i.RefusedAt), &expired)
	i.Expired = expired == 1
	return i, err
}

// inviteKeyLabel is the label of the derived keys that hash invite codes.
const inviteKeyLabel = "invite/v1"

// inviteMACs returns the hashes of an invite code under each master key, that of the first key
// first.
func (s *Store) inviteMACs(instance, channel, code string) []string {
	var macs []string
	for _, k := range s.keys.Derive(inviteKeyLabel) {
		macs = append(macs, inviteMAC(k, instance, channel, code))
	}
	return macs
}

// inviteMAC returns the keyed hash of an invite code. The hash is bound to one channel of one
// instance. Without the key, the code cannot be guessed from it.
func inviteMAC(key []byte, instance, channel, code string) string {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(strings.Join([]string{inviteKeyLabel, instance, channel, code}, "\x1f")))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// needsInviteConsent reports whether invites on a channel need the consent of the instance, because
// only the carrier vouches for the sender's number.
func needsInviteConsent(channel string) bool {
	return adapters.TraitsOf(adapters.Channel(channel)).CarrierOnly
}

// IssueInvite implements claim.Store. It stores an invite with the hash of its code and returns
// it. Customer and instance are locked first, so that concurrent calls count each other's invites,
// and an invite issued during a merge or a withdrawal of consent is revoked with the others. It
// returns claim.ErrInvitesDisabled without the consent that a phone channel requires,
// claim.ErrTooManyInvites or a *claim.TooManyCodesError if a limit is reached,
// identity.ErrNotFound for an unknown customer and identity.ErrNoInstance for an unknown instance.
func (s *Store) IssueInvite(
	ctx context.Context, i claim.Invite, code string, by identity.Actor,
) (issued claim.Invite, err error) {
	err = s.db.InTx(ctx, func(tx sqldb.DB) error {
		if err := s.checkInviteAllowed(ctx, tx, i); err != nil {
			return err
		}
		if err := s.checkInviteLimits(ctx, tx, i, by); err != nil {
			return err
		}
		if i.Life == 0 {
			i.Life = claim.InviteLife
		}
		keyID, key := s.keys.DeriveFirst(inviteKeyLabel)
		rs, err := tx.Query(ctx, `
			insert into invites (id, tenant_id, instance_id, channel, customer_id, role_override, mac, key_id, confirm,
				expires_at)
			values ($1, $2, $3, $4, $5, $6, $7, $8, $9, `+s.dialect.NowPlus(int(i.Life/time.Second))+`)
			returning `+s.inviteColumns(),
			newID(), i.TenantID, i.InstanceID, i.Channel, i.CustomerID, sqldb.TextOrNull(i.RoleOverride),
			inviteMAC(key, i.InstanceID, i.Channel, code), keyID, i.Confirm)
		if issued, err = sqldb.ScanOne(rs, err, scanInvite); err != nil {
			return err
		}
		return recordEvents(ctx, tx, inviteEvent(issued, "invite.issued", by, ""))
	})
	return issued, s.inviteError("issue invite", err)
}

// checkInviteAllowed locks the customer and the instance and checks the consent to invites.
func (s *Store) checkInviteAllowed(ctx context.Context, tx sqldb.DB, i claim.Invite) error {
	rs, err := tx.Query(ctx,
		`update customers set updated_at = updated_at where tenant_id = $1 and id = $2 returning id`, i.TenantID,
		i.CustomerID)
	if _, err = sqldb.ScanOne(rs, err, sqldb.ScanString); err != nil {
		return err
	}
	rs, err = tx.Query(ctx,
		`update instances set sms_invites = sms_invites where tenant_id = $1 and id = $2 returning `+instanceColumns,
		i.TenantID, i.InstanceID)
	n, err := sqldb.ScanOne(rs, err, scanInstance)
	switch {
	case sqldb.IsNoRows(err) || s.dialect.IsUnstorable(err):
		return identity.ErrNoInstance
	case err != nil:
		return err
	case needsInviteConsent(i.Channel) && !n.SMSInvites:
		return claim.ErrInvitesDisabled
	case i.RoleOverride != "" && n.OwnerChannels != nil &&
		!slices.Contains(*n.OwnerChannels, adapters.Channel(i.Channel)):
		return claim.ErrOwnerExcluded
	}
	return s.checkNoOwnerNeeded(ctx, tx, i)
}

// checkInviteLimits returns an error if the customer has too many live invites or too many were
// issued recently.
func (s *Store) checkInviteLimits(ctx context.Context, tx sqldb.DB, i claim.Invite, by identity.Actor) error {
	rs, err := tx.Query(ctx, `
		select count(*) from invites
		where tenant_id = $1 and customer_id = $2 and used_msg is null and revoked_at is null and refused_at is null
			and expires_at >= `+s.dialect.Now, i.TenantID, i.CustomerID)
	live, err := sqldb.ScanOne(rs, err, sqldb.ScanValue[int])
	switch {
	case err != nil:
		return fmt.Errorf("count live invites: %w", err)
	case live >= claim.MaxLiveInvites:
		return claim.ErrTooManyInvites
	}
	return s.checkIssueLimits(ctx, tx, i.TenantID, issueScope{"customer_id", i.CustomerID, inviteEventKinds}, by)
}

// Invites returns at most q.Limit invites of a customer in order of creation, starting after
// the ID q.After. If q.InstanceID is not empty, invites of other instances are left out. It
// returns identity.ErrNotFound for an unknown customer.
func (s *Store) Invites(ctx context.Context, q claim.InviteQuery) ([]claim.Invite, error) {
	where, args := ``, []any{q.TenantID, q.CustomerID, startAfter(q.After), q.Limit}
	if q.InstanceID != "" {
		where, args = ` and instance_id = $5`, append(args, q.InstanceID)
	}
	rs, err := s.db.Query(ctx, s.invitesWithOpenersQuery(`
		where tenant_id = $1 and customer_id = $2 and id > $3`+where+`
		order by id limit $4`), args...)
	invites, err := sqldb.ScanAll(rs, err, scanInviteWithOpener)
	if err == nil && len(invites) == 0 {
		return nil, s.checkCustomer(ctx, q.TenantID, q.CustomerID)
	}
	return invites, s.inviteError("list invites", err)
}

// invitesWithOpenersQuery returns the query for the invites that match where, in order of ID, with
// the accounts that opened them.
func (s *Store) invitesWithOpenersQuery(where string) string {
	return `
		select v.*, o.external_id, o.display_name, o.username, o.created_at
		from (select ` + s.inviteColumns() + ` from invites` + where + `) v
		left join identities o on o.tenant_id = v.tenant_id and o.id = v.opener_id
		order by v.id`
}

func scanInviteWithOpener(sc sqldb.ScanFunc) (claim.Invite, error) {
	var o claim.Opener
	i, err := scanInvite(func(dest ...any) error {
		return sc(append(dest, sqldb.Text(&o.ExternalID), sqldb.Text(&o.DisplayName), sqldb.Text(&o.Username),
			sqldb.Time(&o.FirstSeenAt))...)
	})
	i.Opener.ExternalID, i.Opener.DisplayName, i.Opener.Username = o.ExternalID, o.DisplayName, o.Username
	i.Opener.FirstSeenAt = o.FirstSeenAt
	return i, err
}

// RevokeInvite revokes an invite of a customer. It does nothing if the invite is revoked
// already. If k.InstanceID is not empty, invites of other instances are not found. It returns
// identity.ErrNotFound if there is no such invite and claim.ErrInviteUsed if it was redeemed.
func (s *Store) RevokeInvite(ctx context.Context, k claim.InviteKey, by identity.Actor) error {
	within, args := ``, []any{k.TenantID, k.CustomerID, k.InviteID}
	if k.InstanceID != "" {
		within, args = ` and instance_id = $4`, append(args, k.InstanceID)
	}
	err := s.db.InTx(ctx, func(tx sqldb.DB) error {
		// Lock the row first: a concurrent redemption happens before or fails.
		rs, err := tx.Query(ctx, `
			update invites set fence = fence
			where tenant_id = $1 and customer_id = $2 and id = $3`+within+`
			returning `+s.inviteColumns(), args...)
		i, err := sqldb.ScanOne(rs, err, scanInvite)
		switch {
		case err != nil:
			return err
		case i.Status() == claim.Used:
			return claim.ErrInviteUsed
		case i.Status() == claim.Revoked:
			return nil
		}
		if _, err := tx.Exec(ctx, `update invites set revoked_at = $3 where tenant_id = $1 and id = $2`, k.TenantID,
			k.InviteID,
			s.now()); err != nil {
			return err
		}
		if err := s.notifyOpeners(ctx, tx, i); err != nil {
			return err
		}
		return recordEvents(ctx, tx, inviteEvent(i, "invite.revoked", by, ""))
	})
	return s.inviteError("revoke invite", err)
}

// revokeInvites revokes the live invites that match where, in the transaction of the cause.
func (s *Store) revokeInvites(
	ctx context.Context, tx sqldb.DB, by identity.Actor, reason, where string, args ...any,
) error {
	rs, err := tx.Query(ctx, `
		update invites set revoked_at = `+s.dialect.Now+`
		where `+where+` and used_msg is null and revoked_at is null and refused_at is null
			and expires_at >= `+s.dialect.Now+`
		returning `+s.inviteColumns(), args...)
	revoked, err := sqldb.ScanAll(rs, err, scanInvite)
	if err != nil {
		return fmt.Errorf("revoke invites: %w", err)
	}
	var events []identity.Event
	for _, i := range revoked {
		events = append(events, inviteEvent(i, "invite.revoked", by, reason))
	}
	if err := s.notifyOpeners(ctx, tx, revoked...); err != nil {
		return err
	}
	return recordEvents(ctx, tx, events...)
}

// notifyOpeners notifies the accounts that opened the invites, if any, that no one confirmed them.
func (s *Store) notifyOpeners(ctx context.Context, tx sqldb.DB, invites ...claim.Invite) error {
	var stmts []sqldb.Statement
	for _, i := range invites {
		if o := i.Opener; o.MessageID != "" {
			stmts = append(stmts, s.sendResultStmts(i.TenantID, o.MessageID, o.ConversationID)...)
		}
	}
	if len(stmts) == 0 {
		return nil
	}
	return tx.Batch(ctx, stmts)
}

// inviteEvent returns an event about an invite.
func inviteEvent(i claim.Invite, kind string, by identity.Actor, reason string) identity.Event {
	detail := map[string]string{"channel": i.Channel, "invite_id": i.ID}
	if i.RoleOverride != "" {
		detail["role_override"] = i.RoleOverride
	}
	if reason != "" {
		detail["reason"] = reason
	}
	return identity.Event{
		TenantID: i.TenantID, Kind: kind, Actor: by, CustomerID: i.CustomerID,
		InstanceID: i.InstanceID, Detail: detail,
	}
}

// inviteError maps errors of the database to those of packages claim and identity.
func (s *Store) inviteError(op string, err error) error {
	for _, known := range []error{
		claim.ErrInvitesDisabled, claim.ErrTooManyInvites, claim.ErrInviteUsed,
		claim.ErrTooManyCodes, claim.ErrOwnerExcluded, claim.ErrOwnerConfirmation, claim.ErrNotPending, claim.ErrOpenerGone,
	} {
		if errors.Is(err, known) {
			return err
		}
	}
	return s.identityError(op, err)
}
