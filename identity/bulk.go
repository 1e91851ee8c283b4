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

// Imported is what became of a Record.
type Imported struct {
	Created bool  // the customer is new
	Updated bool  // the customer was there, and changed
	Linked  int   // identities that are new
	Err     error // in words for people: nothing of the record was kept
}

// An Importing says how records are imported.
type Importing struct {
	TenantID string
	By       Actor
	// Trust is why identities count as verified at the time their record says. Without
	// a reason all are born unverified.
	Trust string
	// DryRun changes nothing, and answers what would become of the records.
	DryRun bool
}
