package gateway

// An IdempotencyKey identifies a mutating request of one caller.
type IdempotencyKey struct {
	TenantID    string
	Principal   string // ID of the API key
	Key         string
	Fingerprint string // hash of method, path and body; reuse of the key with another one is rejected
}

// A StoredResponse is the response to a request with an idempotency key, stored encrypted for 24
// hours. Its Status is zero while the request is being handled.
type StoredResponse struct {
	Fingerprint string
	Status      int
	Body        []byte
	ResourceID  string // ID of the resource to create; returned to the first caller only
}
