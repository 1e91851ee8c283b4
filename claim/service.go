package claim

import (
	"context"
	"fmt"
	"time"

	"hydragate/identity"
)

// A Service issues codes and decides attempts to redeem them. Deciding changes nothing: the caller
// stores the Decision in the transaction that completes the message.
type Service struct {
	Store Store
	Codes CodeStore
}

// A Store keeps the state of the last code of each identity (its generation, expiry, redemption
// and revocation), which decides whether the code can be redeemed.
type Store interface {
	// IssueCode begins the next generation of the code of a customer's identity and ends the
	// previous one. It returns identity.ErrNotFound, identity.ErrAlreadyVerified, or a
	// *TooManyCodesError if the identity or the actor got too many codes.
	IssueCode(ctx context.Context, k identity.Key, by identity.Actor) (s Target, expires time.Time, err error)

	// CodeState returns what is stored about the sender of an attempt.
	CodeState(ctx context.Context, a Attempt) (CodeState, error)

	// Requests returns the claims that wait for the owners of a customer at the time of an attempt,
	// which is the answer of one of them.
	Requests(ctx context.Context, a Attempt, customerID string) ([]Request, error)

	InviteStore
	ExposureStore
}

// An Attempt is a well-formed code that was typed in a private conversation.
type Attempt struct {
	TenantID   string
	InstanceID string // instance that received it
	Channel    string
	SenderID   string // external ID
	IdentityID string
	MessageID  string
	Code       string
	ReceivedAt time.Time // by the database's clock
	Paid       bool      // each reply on the channel costs money

	// InstanceIdentityID is the ID of the sender's identity scoped to the instance, or the ID that
	// it gets if it does not exist.
	InstanceIdentityID string
}

// A CodeState is what is stored about the sender of an attempt, at one point in time.
type CodeState struct {
	Target              Target
	CustomerID          string
	Verified            bool
	Status              Status
	UsedBy              string    // message that redeemed the last code
	ExpiresAt           time.Time // of the last code
	Failures            Failures
	ThrottleNotified    bool   // already notified, within the current window, to wait
	MaskedName          string // see identity.Customer.MaskedName
	LinkedConversations []LinkedConversation

	AwaitsOwner bool // the last code was redeemed and waits for an owner
	NeedsOwner  bool // a claim must wait for an owner
}

// A Status states whether a code or an invite could be redeemed at the time an attempt was
// received.
type Status string

// The statuses.
const (
	Live     Status = "live"
	NoCode   Status = "no_code" // none was ever issued
	Expired  Status = "expired"
	Used     Status = "used"
	Revoked  Status = "revoked"
	Pending  Status = "pending" // an invite that was opened and waits for staff
	Rejected Status = "refused" // an invite that was opened and whose opener staff refused
)

// Failures counts the failed attempts of a sender.
type Failures struct {
	QuarterHour int // in the last 15 minutes
	Hour        int
	Day         int
	RetryAfter  time.Duration // time until the sender may try again, if a limit is reached
}

// The limits on failed attempts of a sender. Only the sender's own failures count, so that no one
// can lock out another person.
const (
	MaxFailuresPerQuarterHour = 5
	MaxFailuresPerDay         = 15
)

// exceeded reports whether a limit is reached.
func (f Failures) exceeded() bool {
	return f.QuarterHour >= MaxFailuresPerQuarterHour || f.Day >= MaxFailuresPerDay
}

// A LinkedConversation is a direct conversation with another verified identity of the same
// customer, which is notified of a new one.
type LinkedConversation struct {
	ConversationID, InstanceID, Channel, Recipient, ChatID string

	Owner bool // the identity may confirm claims of the customer
}

// A Decision is the result of an attempt: the reply, and the changes to store.
type Decision struct {
	Outcome    Outcome
	Reason     string // for the audit log
	RetryAfter time.Duration
	Silent     bool // the sender gets no reply

	// MaskedName names the customer in the reply to a redemption, so that a person to whom the code
	// of someone else was read notices it.
	MaskedName string

	Grant               *Target          // identity to verify as owner, if its code is still live
	Redeem              *Redemption      // account to link, if the invite is still live
	Open                *Redemption      // invite to mark as opened, if it is still live
	Ask                 *Request         // claim that waits for an owner, if its code is still live
	Answer              *Answer          // answer to such a claim, if it still waits
	Revoke              []Target         // codes to revoke
	RevokeInvites       []Invite         // invites to revoke because others could read them
	CountsAsFailure     bool             // counts against the sender
	Miss                Miss             // if not empty, counts toward MaxBareMisses or MaxMisses
	Events              []identity.Event // an event without a customer belongs to the owner of its identity
	LinkedConversations []LinkedConversation
	Attempt             Attempt
}

// An Outcome determines the reply to the sender.
type Outcome string

// The outcomes. Declined covers wrong, expired, used, revoked and foreign codes, which all get the
// same reply.
const (
	Granted         Outcome = "claimed"
	AlreadyVerified Outcome = "already_verified"
	Declined        Outcome = "declined"
	Throttled       Outcome = "throttled"
	CodeLost        Outcome = "lost"
	Exposed         Outcome = "exposed" // live letters in a message that is not a claim
	AwaitingStaff   Outcome = "awaiting_staff"
	AwaitingOwner   Outcome = "awaiting_owner"
)

// The outcomes of the answer of an owner.
const (
	Confirmed   Outcome = "confirmed"
	Refused     Outcome = "refused"
	WrongNumber Outcome = "wrong_number"
)

// IssueCode issues a new code for an identity of a customer and ends the previous one. The code is
// stored nowhere else. It returns an error that wraps ErrCodeStoreUnavailable if the code could
// not be stored; the previous code has then ended, and the caller should retry.
func (d *Service) IssueCode(ctx context.Context, k identity.Key, by identity.Actor) (IssuedCode, error) {
	s, expires, err := d.Store.IssueCode(ctx, k, by)
	if err != nil {
		return IssuedCode{}, err
	}
	code := NewCode()
	if err := d.Codes.Put(ctx, s, code); err != nil {
		return IssuedCode{}, fmt.Errorf("%w: %w", ErrCodeStoreUnavailable, err)
	}
	return IssuedCode{
		Code:       code,
		TenantID:   k.TenantID,
		InstanceID: s.InstanceID,
		Channel:    s.Channel,
		IdentityID: s.IdentityID,
		ExpiresAt:  expires,
	}, nil
}

// DecideRedemption decides an attempt: the store states who may redeem a code, and the code store
// whether the letters are right. It returns an error that wraps ErrCodeStoreUnavailable if the
// attempt should be retried. Invites do not need the code store.
func (d *Service) DecideRedemption(ctx context.Context, a Attempt) (Decision, error) {
	if IsInviteCode(a.Code) {
		return d.decideInvite(ctx, a)
	}
	s, err := d.Store.CodeState(ctx, a)
	if err != nil {
		return Decision{}, fmt.Errorf("read claim state: %w", err)
	}
	r := Decision{Attempt: a, MaskedName: s.MaskedName, LinkedConversations: s.LinkedConversations}
	switch {
	case s.AwaitsOwner:
		r.Outcome = AwaitingOwner
		return r, nil
	case s.UsedBy == a.MessageID && s.Verified:
		r.Outcome = Granted
		return r, nil
	case s.Verified:
		r.Outcome = AlreadyVerified
		return r, nil
	case s.Failures.exceeded():
		r.Outcome, r.RetryAfter, r.Silent = Throttled, s.Failures.RetryAfter, s.ThrottleNotified
		if !s.ThrottleNotified {
			r.Events = append(r.Events, s.event("claim.throttled", a, ""))
		}
		return r, nil
	}
	f, err := d.Codes.Check(ctx, s.Target, a.InstanceID, a.Code, a.MessageID)
	if err != nil {
		return Decision{}, fmt.Errorf("%w: %w", ErrCodeStoreUnavailable, err)
	}
	if f.Result != Match || s.Status != Live {
		// A code may have been issued or redeemed between the two reads. Every rejection reads
		// the state again, so that all take equally long.
		again, err := d.Store.CodeState(ctx, a)
		if err != nil {
			return Decision{}, fmt.Errorf("read claim state again: %w", err)
		}
		if again.Target.Gen != s.Target.Gen || again.Verified != s.Verified {
			return d.DecideRedemption(ctx, a)
		}
		s = again
	}
	s.decide(&r, a, f)
	return r, nil
}

// DecideWithoutCheck decides an attempt whose code could not be checked in time: the code is
// reported as lost.
func (d *Service) DecideWithoutCheck(ctx context.Context, a Attempt) (Decision, error) {
	s, err := d.Store.CodeState(ctx, a)
	if err != nil {
		return Decision{}, fmt.Errorf("read claim state: %w", err)
	}
	return Decision{
		Attempt: a,
		Outcome: CodeLost,
		Events:  []identity.Event{s.event("claim.lost", a, "code store unavailable")},
	}, nil
}

// decide completes r from the state and the result of the check.
func (s CodeState) decide(r *Decision, a Attempt, f CheckResult) {
	if f.Result == Match && s.Status == Live && s.NeedsOwner {
		s.ask(r, a)
		return
	}
	if f.Result == Match && s.Status == Live {
		r.Outcome, r.Grant = Granted, &s.Target
		r.Events = append(r.Events, s.event("claim.redeemed", a, ""))
		return
	}
	if (f.Result == Missing || f.Result == Stale) && s.Status == Live && f.Other.IdentityID == "" {
		r.Outcome = CodeLost
		r.Events = append(r.Events, s.event("claim.lost", a, string(f.Result)))
		return
	}
	r.Outcome, r.Reason = Declined, s.declineReason(f)
	// The right letters, typed too late, are not a guess.
	r.CountsAsFailure = f.Result != Match
	r.Silent = a.Paid && s.replyBudgetSpent()
	r.Events = append(r.Events, s.event("claim.failed", a, r.Reason))
	if s.Status == Live && (f.Result == Locked || f.Tries >= MaxTries) {
		r.Revoke = append(r.Revoke, s.Target)
		r.Events = append(r.Events, s.event("claim.locked", a, ""))
	}
	if f.Result != Match && f.Other.IdentityID != "" && f.Other.IdentityID != a.IdentityID {
		r.revokeForeign(a, f.Other)
	}
}

// revokeForeign revokes the code of another identity, which the sender has typed, and records that.
func (r *Decision) revokeForeign(a Attempt, owner Target) {
	r.Revoke = append(r.Revoke, owner)
	r.Events = append(r.Events, identity.Event{
		TenantID: a.TenantID, Kind: "claim.wrong_sender", Actor: a.actor(),
		IdentityID: owner.IdentityID, // the store knows the customer of that identity
		InstanceID: a.InstanceID, MessageID: a.MessageID,
		Detail: map[string]string{"channel": a.Channel, "typed_by": a.IdentityID},
	})
}

// replyBudgetSpent reports whether another rejection on a paid channel would only cost money.
// Three an hour are enough, and one a day for an unknown sender.
func (s CodeState) replyBudgetSpent() bool {
	return s.Failures.Hour >= 3 || s.CustomerID == "" && s.Failures.Day >= 1
}

func (s CodeState) declineReason(f CheckResult) string {
	switch {
	case f.Result == Locked:
		return "locked"
	case s.Status != Live:
		return string(s.Status)
	}
	return "wrong"
}

func (s CodeState) event(kind string, a Attempt, reason string) identity.Event {
	e := identity.Event{
		TenantID: a.TenantID, Kind: kind, Actor: a.actor(),
		CustomerID: s.CustomerID, IdentityID: a.IdentityID, InstanceID: a.InstanceID, MessageID: a.MessageID,
		Detail: map[string]string{"channel": a.Channel},
	}
	if reason != "" {
		e.Detail["reason"] = reason
	}
	return e
}

// DropCodes deletes the codes that a stored decision made useless. Correctness does not depend on
// it: the database rejects them anyway.
func (d *Service) DropCodes(ctx context.Context, r Decision) error {
	if r.Grant != nil {
		return d.Codes.Drop(ctx, *r.Grant)
	}
	if r.Ask != nil {
		return d.Codes.Drop(ctx, r.Ask.Target)
	}
	for _, s := range r.Revoke {
		if err := d.Codes.Drop(ctx, s); err != nil {
			return err
		}
	}
	return nil
}
