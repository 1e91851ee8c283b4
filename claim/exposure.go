package claim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"hydragate/identity"
)

// The limits on messages of a sender, in one hour, that contain letters which could be a code.
const (
	// MaxBareMisses is the number of messages that consist of such letters alone, and are no code. Past
	// it they revoke nothing and get no reply.
	MaxBareMisses = 20
	// MaxMisses is the number of messages that contain such letters. Past it they revoke nothing.
	MaxMisses = 20
	// maxRevokingCandidates is the number of possible codes in a message. Longer ones revoke nothing.
	maxRevokingCandidates = 8
)

// maxCandidates is the number of possible codes in a message that are looked up.
const maxCandidates = 1024

// ErrTooManyCandidates is returned if a text contains more possible codes than can be looked up.
var ErrTooManyCandidates = errors.New("claim: too many possible codes in one message")

// An ExposureState is what is stored about the letters in a message that could be codes, and about its
// sender.
type ExposureState struct {
	Invites    map[string]Invite // live when the message was received, by their letters
	BareMisses int               // messages of the sender in the last hour that were no code
	Misses     int               // the same, with messages that only contained letters that could be one
}

// An ExposureStore reads what the database knows about letters in a message.
type ExposureStore interface {
	// ExposureState returns the state for an attempt without a code, and for invites among letters.
	ExposureState(ctx context.Context, a Attempt, letters []string) (ExposureState, error)
}

// An Exposure is what live codes and invites a message contains.
type Exposure struct {
	ExposureState
	Codes      map[string]Target // live codes by their letters
	Candidates int               // letters that could be a code or an invite

	// Lost is Missing or Stale if the sender typed letters alone, has a live code, and the code store
	// has lost it. Then the letters may be that code.
	Lost Result
}

// IsLive reports whether letters are a live code or invite.
func (e Exposure) IsLive(letters string) bool {
	_, isCode := e.Codes[letters]
	_, isInvite := e.Invites[letters]
	return isCode || isInvite
}

// FindExposed looks up the letters that Scan found in a message. If the attempt has a code, its sender
// typed that alone and has a live code, with which it is compared. FindExposed returns an error that
// wraps ErrCodeStoreUnavailable or ErrTooManyCandidates if only the invites among the letters are known.
func (d *Service) FindExposed(ctx context.Context, a Attempt, letters []string) (Exposure, error) {
	slices.Sort(letters)
	letters = slices.Compact(letters)
	e := Exposure{Candidates: len(letters)}
	var codes, invites []string
	for _, l := range letters {
		if IsInviteCode(l) {
			invites = append(invites, l)
		} else {
			codes = append(codes, l)
		}
	}
	tooMany := len(letters) > maxCandidates
	if tooMany {
		invites = invites[:min(len(invites), maxCandidates)]
	}
	var err error
	if e.ExposureState, err = d.Store.ExposureState(ctx, a, invites); err != nil {
		return e, fmt.Errorf("read exposed invites: %w", err)
	}
	switch {
	case tooMany:
		return e, ErrTooManyCandidates
	case len(codes) == 0:
		return e, nil
	}
	s := Target{TenantID: a.TenantID, InstanceID: a.InstanceID, Channel: a.Channel}
	if e.Codes, err = d.Codes.Find(ctx, s, codes); err != nil {
		return e, fmt.Errorf("%w: %w", ErrCodeStoreUnavailable, err)
	}
	if _, found := e.Codes[a.Code]; a.Code != "" && !found {
		err = d.compareOwnCode(ctx, a, &e)
		return e, err
	}
	return e, nil
}

// compareOwnCode compares the code of an attempt with the live code of its sender. Find does not find
// that code if the code store has lost it, or its index entry alone.
func (d *Service) compareOwnCode(ctx context.Context, a Attempt, e *Exposure) error {
	s, err := d.Store.CodeState(ctx, a)
	if err != nil {
		return fmt.Errorf("read claim state: %w", err)
	}
	if s.Status != Live || s.Verified {
		return nil
	}
	result, err := d.Codes.Peek(ctx, s.Target, a.Code)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrCodeStoreUnavailable, err)
	case result == Match:
		e.Codes[a.Code] = s.Target
	case result != Wrong:
		e.Lost = result
	}
	return nil
}

// DecideLost decides about letters that may be the sender's code, which the code store has lost.
func (d *Service) DecideLost(a Attempt, e Exposure) Decision {
	return Decision{
		Attempt: a,
		Outcome: CodeLost,
		Events:  []identity.Event{CodeState{}.event("claim.lost", a, string(e.Lost))},
	}
}

// DecideExposure decides about live codes and invites in a message that is not a claim. Codes of other
// accounts on the channel are revoked, and so are invites if others can read the message.
func (d *Service) DecideExposure(a Attempt, e Exposure, public bool) Decision {
	r := Decision{Attempt: a, Outcome: Exposed, Miss: TextMiss}
	for _, letters := range slices.Sorted(maps.Keys(e.Invites)) {
		if public {
			r.exposeInvite(a, e.Invites[letters])
		}
	}
	if e.Misses >= MaxMisses || e.Candidates > maxRevokingCandidates {
		return r
	}
	for _, letters := range slices.Sorted(maps.Keys(e.Codes)) {
		if owner := e.Codes[letters]; owner.IdentityID != a.IdentityID && owner.Channel == a.Channel {
			r.revokeForeign(a, owner)
		}
	}
	return r
}

// exposeInvite revokes an invite that others can read.
func (r *Decision) exposeInvite(a Attempt, i Invite) {
	r.RevokeInvites = append(r.RevokeInvites, i)
	s := InviteState{Invite: i}
	r.Events = append(r.Events, s.event("invite.revoked", a, i.CustomerID, a.IdentityID, "written_in_a_group"))
}

// A Miss says that a message contains letters that could be a code.
type Miss string

// The kinds of misses, as stored.
const (
	BareMiss Miss = "bare" // the message consists of them
	TextMiss Miss = "text"
)

// CountMiss returns the decision about a message whose letters are no live code: it is counted, up to
// the limit. ok is false if there is nothing to store.
func (e Exposure) CountMiss(a Attempt, kind Miss) (r Decision, ok bool) {
	if e.Candidates == 0 || kind == BareMiss && e.BareMisses >= MaxBareMisses ||
		kind == TextMiss && e.Misses >= MaxMisses {
		return Decision{}, false
	}
	return Decision{Attempt: a, Miss: kind}, true
}

// actor returns the actor of an event about the attempt.
func (a Attempt) actor() identity.Actor {
	if a.IdentityID == "" {
		return identity.System // the channel does not say who wrote
	}
	return identity.Actor("sender:" + a.IdentityID)
}
