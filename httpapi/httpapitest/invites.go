package httpapitest

import (
	"context"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/identity"
)

// InviteCode is the code of every invite.
const InviteCode = "WDJBMJKLNPQR"

// Claims is an httpapi.ClaimService whose codes are always the same.
type Claims struct {
	Store *Store
	Err   error // returned by all methods if not nil
}

// IssueCode implements httpapi.ClaimService.
func (c *Claims) IssueCode(ctx context.Context, k identity.Key, _ identity.Actor) (claim.IssuedCode, error) {
	i, err := c.Store.Identity(ctx, k)
	switch {
	case err != nil:
		return claim.IssuedCode{}, err
	case c.Err != nil:
		return claim.IssuedCode{}, c.Err
	case i.IsVerified():
		return claim.IssuedCode{}, identity.ErrAlreadyVerified
	}
	return claim.IssuedCode{
		Code: "WDJBMJ", TenantID: k.TenantID, InstanceID: i.InstanceID, Channel: i.Channel, IdentityID: k.IdentityID,
	}, nil
}

// IssueInvite implements httpapi.ClaimService.
func (c *Claims) IssueInvite(ctx context.Context, i claim.Invite, _ identity.Actor) (claim.Invite, string, error) {
	instance, err := c.Store.Instance(ctx, i.TenantID, i.InstanceID)
	switch {
	case c.Err != nil:
		return claim.Invite{}, "", c.Err
	case err != nil:
		return claim.Invite{}, "", identity.ErrNoInstance
	case adapters.TraitsOf(adapters.Channel(i.Channel)).CarrierOnly && !instance.SMSInvites:
		return claim.Invite{}, "", claim.ErrInvitesDisabled
	}
	return c.Store.AddInvite(i), InviteCode, nil
}

// AddInvite stores an invite with a new ID.
func (s *Store) AddInvite(i claim.Invite) claim.Invite {
	defer s.lock()()
	if i.Life == 0 {
		i.Life = claim.InviteLife
	}
	i.ID, i.CreatedAt, i.ExpiresAt = s.newID(), s.now, s.now.Add(i.Life)
	s.Issued = append(s.Issued, i)
	return i
}

// Invites implements httpapi.InviteStore.
func (s *Store) Invites(ctx context.Context, q claim.InviteQuery) ([]claim.Invite, error) {
	if _, err := s.Customer(ctx, q.TenantID, q.CustomerID); err != nil {
		return nil, err
	}
	defer s.lock()()
	return filterRows(s.Issued, q.Limit, func(i claim.Invite) bool {
		return i.TenantID == q.TenantID && i.CustomerID == q.CustomerID && i.ID > q.After &&
			(q.InstanceID == "" || i.InstanceID == q.InstanceID)
	}), nil
}

// RevokeInvite implements httpapi.InviteStore.
func (s *Store) RevokeInvite(_ context.Context, k claim.InviteKey, _ identity.Actor) error {
	defer s.lock()()
	for n, i := range s.Issued {
		switch {
		case i.TenantID != k.TenantID, i.CustomerID != k.CustomerID, i.ID != k.InviteID,
			k.InstanceID != "" && i.InstanceID != k.InstanceID:
		case !i.UsedAt.IsZero():
			return claim.ErrInviteUsed
		default:
			s.Issued[n].RevokedAt = s.now
			return nil
		}
	}
	return identity.ErrNotFound
}

// ConfirmInvite implements httpapi.InviteConfirmer.
func (s *Store) ConfirmInvite(_ context.Context, k claim.InviteKey, _ identity.Actor) (claim.Invite, error) {
	return s.endPending(k, func(i *claim.Invite) { i.UsedAt, i.IdentityID = s.now, i.Opener.IdentityID })
}

// RefuseInvite implements httpapi.InviteConfirmer.
func (s *Store) RefuseInvite(_ context.Context, k claim.InviteKey, _ identity.Actor) (claim.Invite, error) {
	return s.endPending(k, func(i *claim.Invite) { i.RefusedAt = s.now })
}

// endPending changes a pending invite.
func (s *Store) endPending(k claim.InviteKey, change func(*claim.Invite)) (claim.Invite, error) {
	defer s.lock()()
	for n := range s.Issued {
		i := &s.Issued[n]
		switch {
		case i.TenantID != k.TenantID, i.CustomerID != k.CustomerID, i.ID != k.InviteID,
			k.InstanceID != "" && i.InstanceID != k.InstanceID:
		case !i.UsedAt.IsZero():
			return claim.Invite{}, claim.ErrInviteUsed
		case i.Status() != claim.Pending:
			return claim.Invite{}, claim.ErrNotPending
		default:
			change(i)
			return *i, nil
		}
	}
	return claim.Invite{}, identity.ErrNotFound
}

// CodeStatus implements httpapi.CodeStore for identities whose code was revoked by a change of the verification.
func (s *Store) CodeStatus(ctx context.Context, k identity.Key, _ string) (claim.CodeStatus, error) {
	i, err := s.Identity(ctx, k)
	return claim.CodeStatus{
		Identity: i, State: claim.StateNone, LastEvent: identity.Event{Kind: "claim.revoked", At: s.now},
	}, err
}

// ClaimBot implements httpapi.CodeStore. The bot is that of the instance of the identity.
func (s *Store) ClaimBot(ctx context.Context, k identity.Key) (claim.Bot, error) {
	i, err := s.Identity(ctx, k)
	return claim.Bot{
		InstanceID: i.InstanceID, InstanceName: "Support", Configured: i.InstanceID != "", Connected: i.InstanceID != "",
	}, err
}

// RevokeCode implements httpapi.CodeStore.
func (s *Store) RevokeCode(ctx context.Context, k identity.Key, _ identity.Actor) (claim.Target, error) {
	_, err := s.Identity(ctx, k)
	return claim.Target{TenantID: k.TenantID, IdentityID: k.IdentityID}, err
}
