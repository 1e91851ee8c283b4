package identity

import (
	"encoding/json"
	"errors"
	"time"
)

// MergeUndoWindow is the time for which a merge can be undone.
const MergeUndoWindow = 30 * 24 * time.Hour

// ErrIdentifierReused is returned if a merge cannot be undone because an identifier of the merged
// customer, such as its e-mail address, now belongs to another customer.
var ErrIdentifierReused = errors.New("identity: identifier belongs to another customer")

// ErrGrantRequired is returned if the caller may not grant verification and roles, and a merge, or
// undoing one, would move verified identities or owners to another customer, or an edit would change
// the e-mail address of a customer with verified identities.
var ErrGrantRequired = errors.New("identity: missing the right to grant verification and roles")

// A MergeRequest describes the merge of the customer CustomerID into the customer TargetID.
type MergeRequest struct {
	TenantID   string
	CustomerID string
	TargetID   string
	MayGrant   bool // verified identities and owners may be moved
}

// A Merge records that the identities and conversations of the customer CustomerID were moved
// to the customer TargetID.
type Merge struct {
	CustomerID    string
	TargetID      string
	IdentityCount int // number of identities moved
	At            time.Time
}

// UndoUntil returns the time at which the merge becomes final.
func (m Merge) UndoUntil() time.Time { return m.At.Add(MergeUndoWindow) }

// An Ownership is a period in which a customer owned an address.
type Ownership struct {
	IdentityID string
	InstanceID string // empty for all instances of the tenant
	Channel    string
	ExternalID string // a pseudonym after erasure
	CustomerID string // may have been deleted or merged since
	Since      time.Time
	Until      time.Time // zero if the period has not ended
	ErasedAt   time.Time // zero if not erased
}

// A Customer is a person or company known to the tenant.
type Customer struct {
	ID          string
	TenantID    string
	Email       string
	PhoneNumber string // in E.164 format, or empty
	FirstName   string
	LastName    string
	CompanyName string
	Locale      string
	Timezone    string
	Metadata    json.RawMessage
	CreatedAt   time.Time
	UpdatedAt   time.Time

	// CreatedByInstance is the instance whose API key created the customer, if the key was limited to
	// one. It is stored and not read again.
	CreatedByInstance string
}

// A CustomerEdit changes fields of a customer. A nil field stays unchanged; a pointer to the
// zero value clears it.
type CustomerEdit struct {
	Email, PhoneNumber, FirstName, LastName, CompanyName, Locale, Timezone *string
	Metadata                                                               *json.RawMessage

	// MayGrant allows changing the e-mail address of a customer with verified identities, which
	// applications receive. If GrantInstance is set, all of these must be scoped to that instance.
	MayGrant      bool
	GrantInstance string
}

// A CustomerQuery selects the customers that match all filters that are not empty. Email, Phone
// and ExternalID match the whole value, EmailPrefix, PhonePrefix and ExternalPrefix its
// beginning, and Name the beginning of the first, last or company name. Case is ignored.
type CustomerQuery struct {
	Email, Phone, Name, ExternalID           string
	EmailPrefix, PhonePrefix, ExternalPrefix string

	// InstanceID restricts ExternalID and ExternalPrefix to the identities of an instance and those of
	// all instances. Empty: to all identities.
	InstanceID string
}
