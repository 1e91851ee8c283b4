package identity

import (
	"encoding/json"
	"errors"
	"time"
)

// MergeUndoWindow is how long a merge can be undone.
const MergeUndoWindow = 30 * 24 * time.Hour

// ErrIdentifierReused says that what a merged customer was known by, such as the e-mail
// address, belongs to another one now.
var ErrIdentifierReused = errors.New("identity: known by what another customer has now")

// ErrGrantRequired says that a merge would make verified accounts, or owners, another
// customer's: who asks for it needs the right to make them so by hand.
var ErrGrantRequired = errors.New("identity: moves rights to another customer")

// A Merge says that two customers were one: what belonged to CustomerID belongs to
// Into.
type Merge struct {
	CustomerID    string
	TargetID      string
	IdentityCount int // that moved
	At            time.Time
}

// UndoUntil is when the merge becomes final.
func (m Merge) UndoUntil() time.Time { return m.At.Add(MergeUndoWindow) }

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

// A Customer is a person or company that the tenant knows.
type Customer struct {
	ID          string
	TenantID    string
	Email       string
	PhoneNumber string // E.164 or empty
	FirstName   string
	LastName    string
	CompanyName string
	Locale      string
	Timezone    string
	Metadata    json.RawMessage
	CreatedAt   time.Time
	UpdatedAt   time.Time
}

// A CustomerEdit changes some fields of a customer, as Edit does.
type CustomerEdit struct {
	Email, PhoneNumber, FirstName, LastName, CompanyName, Locale, Timezone *string
	Metadata                                                               *json.RawMessage
}

// A CustomerQuery selects customers. Filters that are "" select everything; all
// others must hold. Email, Phone and ExternalID match the whole value, without
// regard to case, and those of the same name with Prefix its beginning; Name matches
// the beginning of the first, last or company name.
type CustomerQuery struct {
	Email, Phone, Name, ExternalID           string
	EmailPrefix, PhonePrefix, ExternalPrefix string
}
