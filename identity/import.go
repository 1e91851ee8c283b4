package identity

// A Record is a customer with everything that is known of them, as many are carried
// from one installation to another.
type Record struct {
	Customer // ID may be empty: known by something else
	FKID     string
	FKUserID string
	Source   string
	Context  string

	Identities []RecordIdentity
}

// A RecordIdentity is an identity of a Record.
type RecordIdentity struct {
	Identity
	Instance  string // id or name; empty: every instance
	AvatarURL string
	InfoURL   string
	PageURL   string
}

// ImportResult is what became of a Record.
type ImportResult struct {
	Created bool  // the customer is new
	Updated bool  // the customer was there, and changed
	Linked  int   // identities that are new
	Err     error // in words for people: nothing of the record was kept
}

// An ImportOptions says how records are imported.
type ImportOptions struct {
	TenantID string
	Actor    Actor
	// Trust is why identities count as verified at the time their record says. Without
	// a reason all are born unverified.
	TrustReason string
	// DryRun changes nothing, and answers what would become of the records.
	DryRun bool
}
