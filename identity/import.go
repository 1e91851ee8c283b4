package identity

// A Record is a customer with all identities, as imported and exported in bulk.
type Record struct {
	Customer // ID may be empty; the customer is then matched by another identifier
	FKID     string
	FKUserID string
	Source   string
	Context  string

	Identities []RecordIdentity
}

// A RecordIdentity is an identity of a Record.
type RecordIdentity struct {
	Identity
	Instance  string // ID or name; empty for all instances
	AvatarURL string
	InfoURL   string
	PageURL   string
}

// An ImportResult is the outcome of importing a Record.
type ImportResult struct {
	Created bool  // the customer was created
	Updated bool  // an existing customer was changed
	Linked  int   // number of identities created
	Err     error // shown to the user; nothing of the record was stored
}

// ImportOptions control an import.
type ImportOptions struct {
	TenantID string
	Actor    Actor
	// TrustReason is the reason, for the audit log, to accept the verification times of the
	// records. If it is empty, all identities are created unverified.
	TrustReason string
	// DryRun computes the results without changing anything.
	DryRun bool
}
