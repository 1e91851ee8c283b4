package claim

import (
	"context"
	"fmt"
	"time"

	"hydragate/identity"
)

// A Service issues codes and rules on attempts to redeem them. It changes nothing by
// itself when it rules: the caller stores the Ruling in the transaction that settles
// the message.
type Service struct {
	Store Store
	Codes CodeStore
}

// A Store keeps the fence on the identity row: generation, expiry, used, revoked.
type Store interface {
	// Issue begins the next generation of a customer's identity and ends the one
	// before, within the limits on codes for one identity and by one actor.
	// identity.ErrNotFound, identity.ErrVerified, *TooMany.
	IssueCode(ctx context.Context, tenant, customer, identityID string, by identity.Actor) (s Target, expires time.Time, err error)

	// State gives what the ledger knows of the sender of an attempt.
	CodeState(ctx context.Context, a Attempt) (CodeState, error)

	InviteStore
}

// An Attempt is a well-formed code that somebody typed in a private conversation.
type Attempt struct {
	TenantID   string
	InstanceID string // that heard it
	Channel    string
	SenderID   string // external id
	IdentityID string
	MessageID  string
	Code       string
	ReceivedAt time.Time // by the database's clock

	// Within is the id that the sender's identity within the instance has, or gets when
	// there is none.
	InstanceIdentityID string
}

// A CodeState is what the ledger knows of a sender at one moment.
type CodeState struct {
	Target              Target
	CustomerID          string
	Verified            bool
	Status              Status
	UsedBy              string    // message that redeemed the last code
	ExpiresAt           time.Time // of the last code
	Failures            Failures
	ThrottleNotified    bool // was told to wait already, in the window that counts
	LinkedConversations []LinkedConversation
}

// A Status says whether the last code can still be redeemed by a message received
// when the attempt was.
type Status string

// The fences. NoCode: none was ever issued.
const (
	Live    Status = "live"
	NoCode  Status = "no_code"
	Expired Status = "expired"
	Used    Status = "used"
	Revoked Status = "revoked"
)

// Failures counts the sender's failures, and says when the oldest that counts was.
type Failures struct {
	QuarterHour int // in the last 15 minutes
	Hour        int
	Day         int
	RetryAfter  time.Duration // until the sender may try again, when a limit is reached
}

// The limits on a sender. Nobody else's failures count, so nobody can lock another
// person out.
const (
	MaxFailuresPerQuarterHour = 5
	MaxFailuresPerDay         = 15
)

// exceeded reports whether a limit is.
func (f Failures) exceeded() bool {
	return f.QuarterHour >= MaxFailuresPerQuarterHour || f.Day >= MaxFailuresPerDay
}

// An LinkedConversation is a direct conversation with another verified identity of the same
// customer, to be told of a new one.
type LinkedConversation struct {
	ConversationID, InstanceID, Channel, Recipient, ChatID string
}

// A Decision is what becomes of an attempt.
type Decision struct {
	Outcome    Outcome
	Reason     string // why, for the audit log
	RetryAfter time.Duration
	Silent     bool // the sender gets no answer

	Grant               *Target          // to be verified as owner, if the fence still holds
	Redeem              *Redemption      // to be made the customer's, if the invite can still be opened
	Revoke              []Target         // codes that die
	RevokeInvite        *Invite          // that others could read, and that dies too
	CountsAsFailure     bool             // counts against the sender
	Events              []identity.Event // of who owns their identity, where they name no customer
	LinkedConversations []LinkedConversation
	Attempt             Attempt
}

// An Outcome is what the sender is told.
type Outcome string

// The outcomes. Declined is one answer for wrong, expired, used, revoked and foreign
// codes alike.
const (
	Granted         Outcome = "claimed"
	AlreadyVerified Outcome = "already_verified"
	Declined        Outcome = "declined"
	Throttled       Outcome = "throttled"
	CodeLost        Outcome = "lost"
)

// IssueCode makes a new code for an identity of a customer and ends the one before. The
// code is in the answer and nowhere else. When the proofs cannot be kept it gives
// ErrNoProofs, and the code before is dead already: ask again.
func (d *Service) IssueCode(ctx context.Context, tenant, customer, identityID string, by identity.Actor) (IssuedCode, error) {
	s, expires, err := d.Store.IssueCode(ctx, tenant, customer, identityID, by)
	if err != nil {
		return IssuedCode{}, err
	}
	code := NewCode()
	if err := d.Codes.Put(ctx, s, code); err != nil {
		return IssuedCode{}, fmt.Errorf("%w: %w", ErrCodeStoreUnavailable, err)
	}
	return IssuedCode{Code: code, TenantID: tenant, InstanceID: s.InstanceID, Channel: s.Channel, IdentityID: s.IdentityID, ExpiresAt: expires}, nil
}

// DecideRedemption decides an attempt: the ledger says who may, the proofs say whether the
// letters are right. An ErrNoProofs asks to try again; Lost takes the place of it
// when waiting is senseless. Invites need no proofs.
func (d *Service) DecideRedemption(ctx context.Context, a Attempt) (Decision, error) {
	if IsInviteCode(a.Code) {
		return d.decideInvite(ctx, a)
	}
	s, err := d.Store.CodeState(ctx, a)
	if err != nil {
		return Decision{}, fmt.Errorf("read claim state: %w", err)
	}
	r := Decision{Attempt: a, LinkedConversations: s.LinkedConversations}
	switch {
	case s.UsedBy == a.MessageID:
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
		// Somebody may have issued or redeemed between the two looks. Every refusal looks
		// again, so that all cost the same.
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

// IsLiveCode reports whether a code that came without a command, from a sender who was not
// given one, is somebody's all the same: letters that must go no further.
func (d *Service) IsLiveCode(ctx context.Context, a Attempt) (bool, error) {
	if IsInviteCode(a.Code) {
		return d.Store.InviteExists(ctx, a)
	}
	nobody := Target{TenantID: a.TenantID, Channel: a.Channel, IdentityID: "nobody"} // so that the sender's own is found too
	f, err := d.Codes.Check(ctx, nobody, a.InstanceID, a.Code, a.MessageID)
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrCodeStoreUnavailable, err)
	}
	if f.Incomplete { // taken for an ordinary word, a code would be shown to the runtime
		return false, fmt.Errorf("%w: not all of them can be looked at", ErrCodeStoreUnavailable)
	}
	return f.OtherIdentityID != "", nil
}

// DecideWithoutCheck rules on an attempt whose proof could not be looked at in time.
func (d *Service) DecideWithoutCheck(ctx context.Context, a Attempt) (Decision, error) {
	s, err := d.Store.CodeState(ctx, a)
	if err != nil {
		return Decision{}, fmt.Errorf("read claim state: %w", err)
	}
	return Decision{Attempt: a, Outcome: CodeLost, Events: []identity.Event{s.event("claim.lost", a, "proofs did not answer")}}, nil
}

func (s CodeState) decide(r *Decision, a Attempt, f CheckResult) {
	if f.Result == Match && s.Status == Live {
		r.Outcome, r.Grant = Granted, &s.Target
		r.Events = append(r.Events, s.event("claim.redeemed", a, ""))
		return
	}
	if (f.Result == Missing || f.Result == Stale) && s.Status == Live && f.OtherIdentityID == "" {
		r.Outcome = CodeLost
		r.Events = append(r.Events, s.event("claim.lost", a, string(f.Result)))
		return
	}
	r.Outcome, r.Reason = Declined, s.declineReason(f)
	// The right letters too late are no guess.
	r.CountsAsFailure = f.Result != Match
	r.Silent = a.Channel == "sms" && s.replyBudgetSpent()
	r.Events = append(r.Events, s.event("claim.failed", a, r.Reason))
	if s.Status == Live && (f.Result == Locked || f.Tries >= MaxTries) {
		r.Revoke = append(r.Revoke, s.Target)
		r.Events = append(r.Events, s.event("claim.locked", a, ""))
	}
	if f.Result != Match && f.OtherIdentityID != "" && f.OtherIdentityID != a.IdentityID {
		r.Revoke = append(r.Revoke, Target{TenantID: a.TenantID, IdentityID: f.OtherIdentityID, Gen: f.OtherGen})
		e := s.event("claim.wrong_sender", a, "")
		e.CustomerID, e.IdentityID = "", f.OtherIdentityID // whose identity it is, the ledger knows
		e.Detail["typed_by"] = a.IdentityID
		r.Events = append(r.Events, e)
	}
}

// replyBudgetSpent reports whether another refusal by SMS would only cost money: three an
// hour are enough, and one a day for a number nobody knows.
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
		TenantID: a.TenantID, Kind: kind, Actor: identity.Actor("sender:" + a.IdentityID),
		CustomerID: s.CustomerID, IdentityID: a.IdentityID, InstanceID: a.InstanceID, MessageID: a.MessageID,
		Detail: map[string]string{"channel": a.Channel},
	}
	if reason != "" {
		e.Detail["reason"] = reason
	}
	return e
}

// DropCodes drops the proofs that a stored ruling made useless. Nothing depends on it:
// the fence refuses them anyway.
func (d *Service) DropCodes(ctx context.Context, r Decision) error {
	if r.Grant != nil {
		return d.Codes.Drop(ctx, *r.Grant)
	}
	for _, s := range r.Revoke {
		if err := d.Codes.Drop(ctx, s); err != nil {
			return err
		}
	}
	return nil
}
