package claim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hydragate/identity"
)

const (
	// InviteLife is the time for which an invite can be redeemed unless it states another, by the
	// database's clock.
	InviteLife = 24 * time.Hour
	// MinInviteLife is the shortest lifetime of an invite.
	MinInviteLife = 10 * time.Minute
	// MaxInviteLife is the longest lifetime of an invite.
	MaxInviteLife = 7 * 24 * time.Hour
	// MaxLiveInvites is the maximum number of live invites of one customer.
	MaxLiveInvites = 5
)

// Errors returned for invites.
var (
	// ErrTooManyInvites is returned if a customer has MaxLiveInvites live invites.
	ErrTooManyInvites = errors.New("claim: too many live invites")
	// ErrInviteUsed is returned if an invite has already been redeemed.
	ErrInviteUsed = errors.New("claim: invite already used")
	// ErrInvitesDisabled is returned if the instance does not allow invites on the channel.
	ErrInvitesDisabled = errors.New("claim: invites disabled on this channel")
	// ErrOwnerExcluded is returned for an invite for an owner if the instance excludes the channel.
	ErrOwnerExcluded = errors.New("claim: owner cannot be granted on this channel")
	// ErrOwnerConfirmation is returned if a verified owner of the customer must confirm accounts,
	// which is only possible for claim codes.
	ErrOwnerConfirmation = errors.New("claim: an owner of the customer must confirm the account")
	// ErrNotPending is returned if no account waits for the confirmation of an invite.
	ErrNotPending = errors.New("claim: invite does not wait for confirmation")
	// ErrOpenerGone is returned if the account that opened an invite was deleted or belongs to
	// another customer.
	ErrOpenerGone = errors.New("claim: account that opened the invite is not available")
)

// An InviteKey identifies an invite of a customer.
type InviteKey struct {
	TenantID   string
	CustomerID string
	InstanceID string // if not empty, the invite must be for this instance
	InviteID   string
}

// An InviteQuery selects a page of the invites of a customer by ID.
type InviteQuery struct {
	TenantID   string
	CustomerID string
	InstanceID string // empty for all instances
	After      string // ID of the last invite of the previous page
	Limit      int
}

// An Invite is a single-use code that links the first account to redeem it to a customer whose
// account is not known yet. It is valid on one channel of one instance. The code is not part of
// the Invite.
type Invite struct {
	ID           string
	TenantID     string
	InstanceID   string
	Channel      string
	CustomerID   string
	RoleOverride string // identity.RoleOwner, or empty for a verified customer
	CreatedAt    time.Time
	ExpiresAt    time.Time
	UsedAt       time.Time // zero if not redeemed
	IdentityID   string    // identity that redeemed it; empty if not redeemed
	RevokedAt    time.Time
	Expired      bool // by the database's clock

	Life      time.Duration // of a new invite; zero: InviteLife
	Confirm   bool          // staff must confirm the account that opens it
	Opener    Opener        // account that opened it, if Confirm is set
	RefusedAt time.Time     // zero if staff did not refuse the opener
}

// An Opener is the account that opened an invite that staff must confirm. It is the zero Opener if
// the invite was not opened, and has only times and IDs of the opening if the account was deleted.
type Opener struct {
	OpenedAt       time.Time
	MessageID      string
	ConversationID string
	IdentityID     string
	ExternalID     string
	DisplayName    string
	Username       string
	FirstSeenAt    time.Time
}

// A Confirmation is the confirmation of an invite by staff, with the conversations to notify.
type Confirmation struct {
	Invite              Invite
	MaskedName          string // of the customer
	ChatID              string // of the opener
	AgentURL            string // of the instance
	LinkedConversations []LinkedConversation
}

// Status returns the status of the invite. It is never NoCode.
func (i Invite) Status() Status {
	switch {
	case !i.UsedAt.IsZero():
		return Used
	case !i.RevokedAt.IsZero():
		return Revoked
	case !i.RefusedAt.IsZero():
		return Rejected
	case i.Expired:
		return Expired
	case !i.Opener.OpenedAt.IsZero():
		return Pending
	}
	return Live
}

// An InviteStore stores invites, with a keyed hash of their codes that is specific to one instance
// and channel. It alone decides whether an invite is valid.
type InviteStore interface {
	// IssueInvite stores a new invite with the hash of its code. It returns identity.ErrNotFound
	// if the customer does not exist, identity.ErrNoInstance, ErrInvitesDisabled,
	// ErrTooManyInvites, ErrOwnerExcluded, ErrOwnerConfirmation, or a *TooManyCodesError if the
	// customer or the actor got too many codes.
	IssueInvite(ctx context.Context, i Invite, code string, by identity.Actor) (Invite, error)

	// InviteState returns what is stored about the code and the sender of an attempt.
	InviteState(ctx context.Context, a Attempt) (InviteState, error)
}

// An InviteState is what is stored about an attempt to redeem an invite, at one point in time.
type InviteState struct {
	Invite Invite // zero if the letters are not those of an invite
	Status Status // at the time the attempt was received
	UsedBy string // message that redeemed it

	CustomerID         string // customer of the sender's identity; empty if the sender is unknown
	Verified           bool   // that identity is verified, and the instance accepts the verification
	InstanceIdentityID string // ID of the sender's identity scoped to the instance, if there is one
	NeedsOwner         bool   // an owner of the customer must confirm accounts

	Failures            Failures
	ThrottleNotified    bool
	MaskedName          string               // of the invited customer
	LinkedConversations []LinkedConversation // of the invited customer
}

// A Redemption links the account that redeemed an invite to the customer.
type Redemption struct {
	Invite     Invite
	IdentityID string // scoped to the instance; Attempt.InstanceIdentityID if it did not exist
}

// IssueInvite creates an invite and returns it with its code, which is stored nowhere else. Its
// errors are those of InviteStore.IssueInvite.
func (d *Service) IssueInvite(
	ctx context.Context,
	i Invite,
	by identity.Actor,
) (issued Invite, code string, err error) {
	code = NewInviteCode()
	issued, err = d.Store.IssueInvite(ctx, i, code, by)
	if err != nil {
		return Invite{}, "", err
	}
	return issued, code, nil
}

// decideInvite decides an attempt to redeem an invite. It reads the state once, whatever it finds:
// the fence in the database rejects the decision if the state has changed since.
func (d *Service) decideInvite(ctx context.Context, a Attempt) (Decision, error) {
	s, err := d.Store.InviteState(ctx, a)
	if err != nil {
		return Decision{}, fmt.Errorf("read invite: %w", err)
	}
	r := Decision{Attempt: a, MaskedName: s.MaskedName, LinkedConversations: s.LinkedConversations}
	switch {
	case s.UsedBy == a.MessageID && s.UsedBy != "":
		r.Outcome = Granted
	case s.Failures.exceeded():
		r.Outcome, r.RetryAfter, r.Silent = Throttled, s.Failures.RetryAfter, s.ThrottleNotified
		if !s.ThrottleNotified {
			r.Events = append(r.Events, s.event("claim.throttled", a, s.CustomerID, a.IdentityID, ""))
		}
	case s.Invite.ID != "" && s.CustomerID == s.Invite.CustomerID && s.Verified:
		r.Outcome = AlreadyVerified // whatever the invite's status
	case s.Status == Pending && s.Invite.Opener.IdentityID == a.IdentityID:
		r.Outcome = AwaitingStaff
	case s.Status == Live && s.acceptsSender() && s.Invite.Confirm:
		r.Outcome, r.Open = AwaitingStaff, &Redemption{Invite: s.Invite, IdentityID: a.IdentityID}
		r.Events = append(r.Events, s.event("invite.opened", a, s.Invite.CustomerID, a.IdentityID, ""))
	case s.Status == Live && s.acceptsSender() && !s.NeedsOwner:
		r.Outcome, r.Redeem = Granted, &Redemption{Invite: s.Invite, IdentityID: s.InstanceIdentityID}
		if s.InstanceIdentityID == "" {
			r.Redeem.IdentityID = a.InstanceIdentityID
		}
		r.Events = append(r.Events, s.event("invite.redeemed", a, s.Invite.CustomerID, r.Redeem.IdentityID, ""))
	default:
		s.decline(&r, a)
	}
	return r, nil
}

// acceptsSender reports whether the sender's account does not belong to another customer.
func (s InviteState) acceptsSender() bool {
	return s.CustomerID == "" || s.CustomerID == s.Invite.CustomerID
}

// decline sends everyone the same reply and records the reason in the audit log. Every failure
// counts alike: otherwise throttling would reveal which letters once were an invite.
func (s InviteState) decline(r *Decision, a Attempt) {
	r.Outcome, r.Reason = Declined, s.declineReason()
	r.CountsAsFailure = true
	r.Silent = a.Paid && CodeState{Failures: s.Failures, CustomerID: s.CustomerID}.replyBudgetSpent()
	customer := s.Invite.CustomerID
	if customer == "" {
		customer = s.CustomerID
	}
	r.Events = append(r.Events, s.event("invite.failed", a, customer, a.IdentityID, r.Reason))
}

func (s InviteState) declineReason() string {
	switch {
	case s.Invite.ID == "":
		return "wrong"
	case s.Status != Live:
		return string(s.Status)
	case !s.acceptsSender():
		return "account_of_another_customer"
	}
	return "owner_confirmation"
}

func (s InviteState) event(kind string, a Attempt, customer, identityID, reason string) identity.Event {
	e := identity.Event{
		TenantID: a.TenantID, Kind: kind, Actor: a.actor(),
		CustomerID: customer, IdentityID: identityID, InstanceID: a.InstanceID, MessageID: a.MessageID,
		Detail: map[string]string{"channel": a.Channel},
	}
	if s.Invite.ID != "" {
		e.Detail["invite_id"] = s.Invite.ID
	}
	if reason != "" {
		e.Detail["reason"] = reason
	}
	return e
}
