package claim

import (
	"context"
	"fmt"
	"time"

	"hydragate/identity"
)

// A Desk issues codes and rules on attempts to redeem them. It changes nothing by
// itself when it rules: the caller stores the Ruling in the transaction that settles
// the message.
type Desk struct {
	Ledger Ledger
	Proofs Proofs
}

// A Ledger keeps the fence on the identity row: generation, expiry, used, revoked.
type Ledger interface {
	// Issue begins the next generation of a customer's identity and ends the one
	// before, within the limits on codes for one identity and by one actor.
	// identity.ErrNotFound, identity.ErrVerified, *TooMany.
	Issue(ctx context.Context, tenant, customer, identityID string, by identity.Actor) (s Subject, expires time.Time, err error)

	// State gives what the ledger knows of the sender of an attempt.
	State(ctx context.Context, a Attempt) (State, error)

	Invites
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
	Within string
}

// A State is what the ledger knows of a sender at one moment.
type State struct {
	Subject   Subject
	Customer  string
	Verified  bool
	Fence     Fence
	UsedBy    string    // message that redeemed the last code
	ExpiresAt time.Time // of the last code
	Failed    Failed
	Told      bool // was told to wait already, in the window that counts
	Others    []Other
}

// A Fence says whether the last code can still be redeemed by a message received
// when the attempt was.
type Fence string

// The fences. NoCode: none was ever issued.
const (
	Live    Fence = "live"
	NoCode  Fence = "no_code"
	Expired Fence = "expired"
	Used    Fence = "used"
	Revoked Fence = "revoked"
)

// Failed counts the sender's failures, and says when the oldest that counts was.
type Failed struct {
	Quarter int // in the last 15 minutes
	Hour    int
	Day     int
	Wait    time.Duration // until the sender may try again, when a limit is reached
}

// The limits on a sender. Nobody else's failures count, so nobody can lock another
// person out.
const (
	MaxQuarter = 5
	MaxDay     = 15
)

// reached reports whether a limit is.
func (f Failed) reached() bool { return f.Quarter >= MaxQuarter || f.Day >= MaxDay }

// An Other is a direct conversation with another verified identity of the same
// customer, to be told of a new one.
type Other struct {
	ConversationID, InstanceID, Channel, Recipient, PlaceID string
}

// A Ruling is what becomes of an attempt.
type Ruling struct {
	Outcome Outcome
	Reason  string // why, for the audit log
	Wait    time.Duration
	Silent  bool // the sender gets no answer

	Grant   *Subject         // to be verified as owner, if the fence still holds
	Admit   *Admission       // to be made the customer's, if the invite can still be opened
	Burn    []Subject        // codes that die
	Expose  *Invite          // that others could read, and that dies too
	Failure bool             // counts against the sender
	Events  []identity.Event // of who owns their identity, where they name no customer
	Others  []Other
	Attempt Attempt
}

// An Outcome is what the sender is told.
type Outcome string

// The outcomes. Declined is one answer for wrong, expired, used, revoked and foreign
// codes alike.
const (
	Granted   Outcome = "claimed"
	Already   Outcome = "already_verified"
	Declined  Outcome = "declined"
	Throttled Outcome = "throttled"
	Lost      Outcome = "lost"
)

// Issue makes a new code for an identity of a customer and ends the one before. The
// code is in the answer and nowhere else. When the proofs cannot be kept it gives
// ErrNoProofs, and the code before is dead already: ask again.
func (d *Desk) Issue(ctx context.Context, tenant, customer, identityID string, by identity.Actor) (Issued, error) {
	s, expires, err := d.Ledger.Issue(ctx, tenant, customer, identityID, by)
	if err != nil {
		return Issued{}, err
	}
	code := NewCode()
	if err := d.Proofs.Put(ctx, s, code); err != nil {
		return Issued{}, fmt.Errorf("%w: %w", ErrNoProofs, err)
	}
	return Issued{Code: code, TenantID: tenant, InstanceID: s.InstanceID, Channel: s.Channel, IdentityID: s.IdentityID, ExpiresAt: expires}, nil
}

// Rule decides an attempt: the ledger says who may, the proofs say whether the
// letters are right. An ErrNoProofs asks to try again; Lost takes the place of it
// when waiting is senseless. Invites need no proofs.
func (d *Desk) Rule(ctx context.Context, a Attempt) (Ruling, error) {
	if IsInvite(a.Code) {
		return d.open(ctx, a)
	}
	s, err := d.Ledger.State(ctx, a)
	if err != nil {
		return Ruling{}, fmt.Errorf("read claim state: %w", err)
	}
	r := Ruling{Attempt: a, Others: s.Others}
	switch {
	case s.UsedBy == a.MessageID:
		r.Outcome = Granted
		return r, nil
	case s.Verified:
		r.Outcome = Already
		return r, nil
	case s.Failed.reached():
		r.Outcome, r.Wait, r.Silent = Throttled, s.Failed.Wait, s.Told
		if !s.Told {
			r.Events = append(r.Events, s.event("claim.throttled", a, ""))
		}
		return r, nil
	}
	f, err := d.Proofs.Check(ctx, s.Subject, a.InstanceID, a.Code, a.MessageID)
	if err != nil {
		return Ruling{}, fmt.Errorf("%w: %w", ErrNoProofs, err)
	}
	if f.Verdict != Match || s.Fence != Live {
		// Somebody may have issued or redeemed between the two looks. Every refusal looks
		// again, so that all cost the same.
		again, err := d.Ledger.State(ctx, a)
		if err != nil {
			return Ruling{}, fmt.Errorf("read claim state again: %w", err)
		}
		if again.Subject.Gen != s.Subject.Gen || again.Verified != s.Verified {
			return d.Rule(ctx, a)
		}
		s = again
	}
	s.rule(&r, a, f)
	return r, nil
}

// Stray reports whether a code that came without a command, from a sender who was not
// given one, is somebody's all the same: letters that must go no further.
func (d *Desk) Stray(ctx context.Context, a Attempt) (bool, error) {
	if IsInvite(a.Code) {
		return d.Ledger.KnowsInvite(ctx, a)
	}
	nobody := Subject{TenantID: a.TenantID, Channel: a.Channel, IdentityID: "nobody"} // so that the sender's own is found too
	f, err := d.Proofs.Check(ctx, nobody, a.InstanceID, a.Code, a.MessageID)
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrNoProofs, err)
	}
	if f.Unsure { // taken for an ordinary word, a code would be shown to the runtime
		return false, fmt.Errorf("%w: not all of them can be looked at", ErrNoProofs)
	}
	return f.Whose != "", nil
}

// GiveUp rules on an attempt whose proof could not be looked at in time.
func (d *Desk) GiveUp(ctx context.Context, a Attempt) (Ruling, error) {
	s, err := d.Ledger.State(ctx, a)
	if err != nil {
		return Ruling{}, fmt.Errorf("read claim state: %w", err)
	}
	return Ruling{Attempt: a, Outcome: Lost, Events: []identity.Event{s.event("claim.lost", a, "proofs did not answer")}}, nil
}

func (s State) rule(r *Ruling, a Attempt, f Finding) {
	if f.Verdict == Match && s.Fence == Live {
		r.Outcome, r.Grant = Granted, &s.Subject
		r.Events = append(r.Events, s.event("claim.redeemed", a, ""))
		return
	}
	if (f.Verdict == Missing || f.Verdict == Stale) && s.Fence == Live && f.Whose == "" {
		r.Outcome = Lost
		r.Events = append(r.Events, s.event("claim.lost", a, string(f.Verdict)))
		return
	}
	r.Outcome, r.Reason = Declined, s.reason(f)
	// The right letters too late are no guess.
	r.Failure = f.Verdict != Match
	r.Silent = a.Channel == "sms" && s.tooLoud()
	r.Events = append(r.Events, s.event("claim.failed", a, r.Reason))
	if s.Fence == Live && (f.Verdict == Locked || f.Tries >= MaxTries) {
		r.Burn = append(r.Burn, s.Subject)
		r.Events = append(r.Events, s.event("claim.locked", a, ""))
	}
	if f.Verdict != Match && f.Whose != "" && f.Whose != a.IdentityID {
		r.Burn = append(r.Burn, Subject{TenantID: a.TenantID, IdentityID: f.Whose, Gen: f.WhoseGen})
		e := s.event("claim.wrong_sender", a, "")
		e.CustomerID, e.IdentityID = "", f.Whose // whose identity it is, the ledger knows
		e.Detail["typed_by"] = a.IdentityID
		r.Events = append(r.Events, e)
	}
}

// tooLoud reports whether another refusal by SMS would only cost money: three an
// hour are enough, and one a day for a number nobody knows.
func (s State) tooLoud() bool {
	return s.Failed.Hour >= 3 || s.Customer == "" && s.Failed.Day >= 1
}

func (s State) reason(f Finding) string {
	switch {
	case f.Verdict == Locked:
		return "locked"
	case s.Fence != Live:
		return string(s.Fence)
	}
	return "wrong"
}

func (s State) event(kind string, a Attempt, reason string) identity.Event {
	e := identity.Event{
		TenantID: a.TenantID, Kind: kind, Actor: identity.Actor("sender:" + a.IdentityID),
		CustomerID: s.Customer, IdentityID: a.IdentityID, InstanceID: a.InstanceID, MessageID: a.MessageID,
		Detail: map[string]string{"channel": a.Channel},
	}
	if reason != "" {
		e.Detail["reason"] = reason
	}
	return e
}

// Forget drops the proofs that a stored ruling made useless. Nothing depends on it:
// the fence refuses them anyway.
func (d *Desk) Forget(ctx context.Context, r Ruling) error {
	if r.Grant != nil {
		return d.Proofs.Drop(ctx, *r.Grant)
	}
	for _, s := range r.Burn {
		if err := d.Proofs.Drop(ctx, s); err != nil {
			return err
		}
	}
	return nil
}
