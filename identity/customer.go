package identity

import (
	"errors"
	"time"
)

// MergeUndo is how long a merge can be undone.
const MergeUndo = 30 * 24 * time.Hour

// ErrReclaimed says that what a merged customer was known by, such as the e-mail
// address, belongs to another one now.
var ErrReclaimed = errors.New("identity: known by what another customer has now")

// ErrNeedsGrant says that a merge would make verified accounts, or owners, another
// customer's: who asks for it needs the right to make them so by hand.
var ErrNeedsGrant = errors.New("identity: moves rights to another customer")

// A Merge says that two customers were one: what belonged to CustomerID belongs to
// Into.
type Merge struct {
	CustomerID string
	Into       string
	Identities int // that moved
	At         time.Time
}

// UndoUntil is when the merge becomes final.
func (m Merge) UndoUntil() time.Time { return m.At.Add(MergeUndo) }

// An Ownership is one span of time in which a customer owned an address.
type Ownership struct {
	IdentityID string
	InstanceID string // empty: every instance of the tenant
	Channel    string
	ExternalID string // a pseudonym when erased
	CustomerID string // may be gone, or merged since
	Since      time.Time
	Until      time.Time // zero: to this day
	ErasedAt   time.Time // zero: not erased
}

// An EventQuery selects events of the audit log. Filters that are zero select
// everything; all others must hold.
type EventQuery struct {
	Kind       string
	Actor      Actor
	CustomerID string
	IdentityID string
	InstanceID string
	Since      time.Time // from here on
	Until      time.Time // before this
}
