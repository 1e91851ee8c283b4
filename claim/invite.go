package claim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hydragate/identity"
)

const (
	// InviteLife is how long an invite can be opened, by the database's clock.
	InviteLife = 24 * time.Hour
	// MaxLiveInvites is how many invites of one customer are live at a time.
	MaxLiveInvites = 5
)

// Errors of invites.
var (
	// ErrTooManyInvites says that a customer has MaxInvites live invites.
	ErrTooManyInvites = errors.New("claim: too many live invites")
	// ErrInviteUsed says that somebody opened the invite already.
	ErrInviteUsed = errors.New("claim: invite used already")
	// ErrInvitesDisabled says that the instance does not invite on the channel.
	ErrInvitesDisabled = errors.New("claim: no invites on this channel")
)

// An Invite makes a customer's own whoever opens it first: somebody of whom nobody
// knows the address yet. It holds on one channel of one instance. Its code is not in
// here.
type Invite struct {
	ID           string
	TenantID     string
	InstanceID   string
	Channel      string
	CustomerID   string
	RoleOverride string // identity.RoleOwner, or empty: a verified customer
	CreatedAt    time.Time
	ExpiresAt    time.Time
	UsedAt       time.Time // zero: nobody opened it
	IdentityID   string    // of who did
	RevokedAt    time.Time
	Expired      bool // by the database's clock
}

// Status says whether the invite can be opened; NoCode is never its state.
func (i Invite) Status() Status {
	switch {
	case !i.UsedAt.IsZero():
		return Used
	case !i.RevokedAt.IsZero():
		return Revoked
	case i.Expired:
		return Expired
	}
	return Live
}

// InviteStore keep invites and rule on them alone: of a code only a keyed hash, which
// holds for one instance and channel.
type InviteStore interface {
	// IssueInvite keeps a new invite with the hash of its code, within the limits on
	// codes for one customer and by one actor. identity.ErrNotFound (customer),
	// identity.ErrNoInstance, ErrNotInvited, ErrInvitesFull, *TooMany.
	IssueInvite(ctx context.Context, i Invite, code string, by identity.Actor) (Invite, error)

	// InviteState gives what is known of the code and of the sender of an attempt.
	InviteState(ctx context.Context, a Attempt) (InviteState, error)

	// KnowsInvite reports whether the letters of an attempt are an invite's, whatever
	// became of it: they go no further.
	InviteExists(ctx context.Context, a Attempt) (bool, error)
}

// An InviteState is what is known of an attempt to open an invite, at one moment.
type InviteState struct {
	Invite Invite // zero: the letters are no invite's here
	Status Status // as of when the attempt was received
	UsedBy string // message that opened it

	CustomerID         string // customer whose account the sender's is; empty: nobody's
	Verified           bool   // it is proven to be, and believed by the instance
	InstanceIdentityID string // id of the sender's identity within the instance, if there is one

	Failures            Failures
	ThrottleNotified    bool
	LinkedConversations []LinkedConversation // of the customer who was invited
}

// An Redemption makes the account of who opened an invite the customer's own.
type Redemption struct {
	Invite     Invite
	IdentityID string // of the account within the instance: Attempt.Within, when there was none
}

// IssueInvite makes a new invite. The code is in the answer and nowhere else.
func (d *Service) IssueInvite(ctx context.Context, i Invite, by identity.Actor) (issued Invite, code string, err error) {
	code = NewInviteCode()
	issued, err = d.Store.IssueInvite(ctx, i, code, by)
	if err != nil {
		return Invite{}, "", err
	}
	return issued, code, nil
}

// decideInvite decides an attempt to open an invite. It looks once, whatever it finds: the
// database refuses what changed since then.
func (d *Service) decideInvite(ctx context.Context, a Attempt) (Decision, error) {
	s, err := d.Store.InviteState(ctx, a)
	if err != nil {
		return Decision{}, fmt.Errorf("read invite: %w", err)
	}
	r := Decision{Attempt: a, LinkedConversations: s.LinkedConversations}
	switch {
	case s.UsedBy == a.MessageID && s.UsedBy != "":
		r.Outcome = Granted
	case s.Failures.exceeded():
		r.Outcome, r.RetryAfter, r.Silent = Throttled, s.Failures.RetryAfter, s.ThrottleNotified
		if !s.ThrottleNotified {
			r.Events = append(r.Events, s.event("claim.throttled", a, s.CustomerID, a.IdentityID, ""))
		}
	case s.Invite.ID != "" && s.CustomerID == s.Invite.CustomerID && s.Verified:
		r.Outcome = AlreadyVerified // theirs, whoever opened it and whatever became of it
	case s.Status == Live && (s.CustomerID == "" || s.CustomerID == s.Invite.CustomerID):
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

// DecideExposedInvite rules on letters that were written where others read them: anybody there
// could open a live invite, so it ends. The sender is told nothing of it.
func (d *Service) DecideExposedInvite(ctx context.Context, a Attempt) (Decision, error) {
	s, err := d.Store.InviteState(ctx, a)
	if err != nil {
		return Decision{}, fmt.Errorf("read invite: %w", err)
	}
	r := Decision{Attempt: a}
	if s.Status == Live {
		r.RevokeInvite = &s.Invite
		r.Events = append(r.Events, s.event("invite.revoked", a, s.Invite.CustomerID, a.IdentityID, "written_in_a_group"))
	}
	return r, nil
}

// decline tells everybody the same, and staff why. All count alike: letters that once
// were an invite's could else be told from others by who is never asked to wait.
func (s InviteState) decline(r *Decision, a Attempt) {
	r.Outcome, r.Reason = Declined, s.declineReason()
	r.CountsAsFailure = true
	r.Silent = a.Channel == "sms" && CodeState{Failures: s.Failures, CustomerID: s.CustomerID}.replyBudgetSpent()
	whose := s.Invite.CustomerID
	if whose == "" {
		whose = s.CustomerID
	}
	r.Events = append(r.Events, s.event("invite.failed", a, whose, a.IdentityID, r.Reason))
}

func (s InviteState) declineReason() string {
	switch {
	case s.Invite.ID == "":
		return "wrong"
	case s.Status != Live:
		return string(s.Status)
	}
	return "account_of_another_customer"
}

func (s InviteState) event(kind string, a Attempt, customer, identityID, reason string) identity.Event {
	e := identity.Event{
		TenantID: a.TenantID, Kind: kind, Actor: identity.Actor("sender:" + a.IdentityID),
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
