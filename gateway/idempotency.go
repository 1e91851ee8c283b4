package gateway

// An IdempotencyKey names one mutating call of one caller.
type IdempotencyKey struct {
	TenantID    string
	Principal   string // the API key's id
	Key         string
	Fingerprint string // hash of method, path and body: the same key with another is refused
}

// A StoredResponse is the answer to a call, kept sealed for 24 hours. A zero Status
// says that the call is still being worked.
type StoredResponse struct {
	Fingerprint string
	Status      int
	Body        []byte
	ResourceID  string // the id of what the call creates; told to the first caller alone
}
