package httpapi

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hydragate/claim"
	"hydragate/gateway"
	"hydragate/identity"
)

func TestBlockSender(t *testing.T) {
	h := newHarness(t)
	path := "/v1/identities/" + h.sender
	h.expect(
		h.request("POST", path+"/block", ""),
		200,
		`{"blocked":true,"blocked_at":"2026-11-22T02:00:00Z","identity_id":"`+h.sender+`"}`,
	)
	h.expect(
		h.request("POST", path+"/unblock", ""),
		200,
		`{"blocked":false,"blocked_at":null,"identity_id":"`+h.sender+`"}`,
	)
	h.expect(
		h.request("POST", "/v1/identities/"+h.tenantIdentity+"/block", ""),
		409,
		`{"detail":"Identity is already linked to a customer"}`,
	)
	h.expect(
		h.request("POST", "/v1/identities/"+h.otherSender+"/block", "", bearer(h.newInstanceKey("identities:write"))),
		404,
		`{"detail":"Identity not found"}`,
	)
	h.expect(h.request("POST", path+"/block", "", bearer(h.foreignToken)), 404, `{"detail":"Identity not found"}`)
}

func TestAdoptIdentity(t *testing.T) {
	h := newHarness(t)
	path := "/v1/customers/" + h.customer + "/identities/" + h.sender + "/adopt"
	if got := h.request("POST", path, "").fields(t); got["customer_id"] != h.customer || got["instance_id"] != h.instance {
		t.Errorf("%v", got)
	}
	h.expect(h.request("POST", path, ""), 409, "")
}

// A fakeStore implements all stores in memory. Rows are in order of creation.
type fakeStore struct {
	mu         sync.Mutex
	serial     int
	now        time.Time
	keys       []identity.APIKey
	hashes     map[string]string // IDs of keys by hash
	customers  []identity.Customer
	identities []identity.Identity
	instances  []gateway.Instance
	invites    []claim.Invite
	responses  map[gateway.IdempotencyKey]gateway.StoredResponse
	err        error // returned by APIKey and Ping if not nil
	panics     bool  // CreateCustomer panics
	created    int   // customers ever created
	data       fakeData
}

func newFakeStore(now time.Time) *fakeStore {
	return &fakeStore{
		now: now, hashes: map[string]string{}, responses: map[gateway.IdempotencyKey]gateway.StoredResponse{},
	}
}

func (s *fakeStore) stores() Stores {
	return Stores{
		Health: s, Auth: s, Keys: s, Customers: s, Merges: s, Exports: s, Identities: s, Senders: s, Invites: s,
		Instances: s, Secrets: s, Audit: s, Idempotency: s,
	}
}

func (s *fakeStore) id() string {
	s.serial++
	return fmt.Sprintf("01930f6e-0000-7000-8000-%012x", s.serial)
}

// lock locks the store and returns the function that unlocks it.
func (s *fakeStore) lock() func() {
	s.mu.Lock()
	return s.mu.Unlock
}

func (s *fakeStore) Ping(context.Context) error { return s.err }

func (s *fakeStore) Migrated(context.Context) error { return nil }

func (s *fakeStore) APIKey(_ context.Context, hash string) (identity.APIKey, error) {
	defer s.lock()()
	if s.err != nil {
		return identity.APIKey{}, s.err
	}
	for _, k := range s.keys {
		if k.ID == s.hashes[hash] {
			return k, nil
		}
	}
	return identity.APIKey{}, identity.ErrNotFound
}

func (s *fakeStore) TouchAPIKey(_ context.Context, _, id string, at time.Time) error {
	defer s.lock()()
	for i := range s.keys {
		if s.keys[i].ID == id {
			s.keys[i].LastUsedAt = at
		}
	}
	return nil
}

func (s *fakeStore) CreateAPIKey(
	_ context.Context, k identity.APIKey, hash string, _ identity.Actor,
) (identity.APIKey, error) {
	defer s.lock()()
	k.ID, k.CreatedAt = s.id(), s.now
	s.keys = append(s.keys, k)
	s.hashes[hash] = k.ID
	return k, nil
}

func (s *fakeStore) ListAPIKeys(_ context.Context, tenant, after string, limit int) ([]identity.APIKey, error) {
	defer s.lock()()
	return filterRows(s.keys, limit, func(k identity.APIKey) bool { return k.TenantID == tenant && k.ID > after }), nil
}

func (s *fakeStore) RotateAPIKey(
	_ context.Context, r identity.KeyRotation, _ identity.Actor,
) (identity.APIKey, error) {
	defer s.lock()()
	for i, k := range s.keys {
		if k.TenantID == r.TenantID && k.ID == r.KeyID {
			s.keys[i].ExpiresAt = r.OldUntil
			k.ID, k.Hint = s.id(), r.Hint
			s.keys = append(s.keys, k)
			s.hashes[r.Hash] = k.ID
			return k, nil
		}
	}
	return identity.APIKey{}, identity.ErrNotFound
}

func (s *fakeStore) RevokeAPIKey(_ context.Context, tenant, id string, _ identity.Actor) error {
	defer s.lock()()
	for i, k := range s.keys {
		if k.TenantID == tenant && k.ID == id {
			s.keys[i].RevokedAt = s.now
			return nil
		}
	}
	return identity.ErrNotFound
}

func (s *fakeStore) CreateCustomer(
	_ context.Context, c identity.Customer, _ identity.Actor,
) (identity.Customer, error) {
	defer s.lock()()
	if s.panics {
		panic("store failed with hg_live_canary")
	}
	for _, other := range s.customers {
		if c.Email != "" && other.TenantID == c.TenantID && strings.EqualFold(other.Email, c.Email) {
			return c, identity.ErrEmailTaken
		}
	}
	s.created++
	c.ID, c.CreatedAt, c.UpdatedAt = s.id(), s.now, s.now
	s.customers = append(s.customers, c)
	return c, nil
}

func (s *fakeStore) Customer(_ context.Context, tenant, id string) (identity.Customer, error) {
	defer s.lock()()
	return findRow(s.customers, func(c identity.Customer) bool { return c.TenantID == tenant && c.ID == id })
}

func (s *fakeStore) EditCustomer(
	_ context.Context, tenant, id string, e identity.CustomerEdit, _ identity.Actor,
) (identity.Customer, error) {
	defer s.lock()()
	for i := range s.customers {
		c := &s.customers[i]
		if c.TenantID != tenant || c.ID != id {
			continue
		}
		for to, from := range map[*string]*string{
			&c.Email: e.Email, &c.PhoneNumber: e.PhoneNumber, &c.FirstName: e.FirstName, &c.LastName: e.LastName,
			&c.CompanyName: e.CompanyName, &c.Locale: e.Locale, &c.Timezone: e.Timezone,
		} {
			if from != nil {
				*to = *from
			}
		}
		if e.Metadata != nil {
			c.Metadata = *e.Metadata
		}
		return *c, nil
	}
	return identity.Customer{}, identity.ErrNotFound
}

func (s *fakeStore) ListCustomers(
	_ context.Context, tenant string, q identity.CustomerQuery, after string, limit int,
) ([]identity.Customer, error) {
	defer s.lock()()
	return filterRows(s.customers, limit, func(c identity.Customer) bool {
		return c.TenantID == tenant && c.ID > after && (q.Email == "" || strings.EqualFold(q.Email, c.Email)) && s.matchesPrefixes(c, q) &&
			(q.Phone == "" || q.Phone == c.PhoneNumber) &&
			(q.Name == "" || strings.HasPrefix(c.FirstName, q.Name)) &&
			(q.ExternalID == "" || slices.ContainsFunc(
				s.identities,
				func(i identity.Identity) bool { return i.CustomerID == c.ID && i.ExternalID == q.ExternalID },
			))
	}), nil
}

func (s *fakeStore) Lookup(_ context.Context, a identity.Address) (identity.Identity, string, error) {
	defer s.lock()()
	for _, instance := range []string{a.InstanceID, ""} {
		for _, i := range s.identities {
			if i.TenantID == a.TenantID && i.InstanceID == instance && i.Channel == a.Channel && i.ExternalID == a.ExternalID &&
				i.CustomerID != "" {
				c, _ := findRow(s.customers, func(c identity.Customer) bool { return c.ID == i.CustomerID })
				return i, c.Email, nil
			}
		}
	}
	return identity.Identity{}, "", identity.ErrNotFound
}

func (s *fakeStore) CustomerIdentities(_ context.Context, q identity.Query) ([]identity.Identity, error) {
	defer s.lock()()
	if _, err := findRow(
		s.customers, func(c identity.Customer) bool { return c.TenantID == q.TenantID && c.ID == q.CustomerID },
	); err != nil {
		return nil, err
	}
	return filterRows(s.identities, 1000, func(i identity.Identity) bool {
		return i.CustomerID == q.CustomerID && (q.Channel == "" || i.Channel == q.Channel)
	}), nil
}

func (s *fakeStore) Link(_ context.Context, i identity.Identity, _ identity.Actor) (identity.Identity, error) {
	defer s.lock()()
	if _, err := findRow(
		s.customers, func(c identity.Customer) bool { return c.TenantID == i.TenantID && c.ID == i.CustomerID },
	); err != nil {
		return i, err
	}
	if _, err := findRow(
		s.instances, func(b gateway.Instance) bool { return b.TenantID == i.TenantID && b.ID == i.InstanceID },
	); err != nil && i.InstanceID != "" {
		return i, identity.ErrNoInstance
	}
	for _, o := range s.identities {
		if o.TenantID == i.TenantID && o.InstanceID == i.InstanceID && o.Channel == i.Channel &&
			o.ExternalID == i.ExternalID {
			return i, identity.ErrAlreadyLinked
		}
	}
	i.ID, i.CreatedAt, i.UpdatedAt = s.id(), s.now, s.now
	s.identities = append(s.identities, i)
	return i, nil
}

func (s *fakeStore) Adopt(_ context.Context, k identity.Key, _ identity.Actor) (identity.Identity, error) {
	defer s.lock()()
	for i := range s.identities {
		if s.identities[i].TenantID == k.TenantID && s.identities[i].ID == k.IdentityID {
			if s.identities[i].CustomerID != "" {
				return identity.Identity{}, identity.ErrAlreadyLinked
			}
			s.identities[i].CustomerID = k.CustomerID
			return s.identities[i], nil
		}
	}
	return identity.Identity{}, identity.ErrNotFound
}

func (s *fakeStore) Identity(_ context.Context, k identity.Key) (identity.Identity, error) {
	defer s.lock()()
	return findRow(s.identities, func(i identity.Identity) bool { return hasKey(i, k) })
}

func (s *fakeStore) EditIdentity(
	_ context.Context, k identity.Key, e identity.Edit, _ identity.Actor,
) (identity.Identity, error) {
	defer s.lock()()
	for n, i := range s.identities {
		if hasKey(i, k) {
			s.identities[n] = i.Apply(e, s.now)
			return s.identities[n], nil
		}
	}
	return identity.Identity{}, identity.ErrNotFound
}

func (s *fakeStore) Unlink(_ context.Context, k identity.Key, _ identity.Actor) error {
	defer s.lock()()
	before := len(s.identities)
	s.identities = slices.DeleteFunc(s.identities, func(i identity.Identity) bool { return hasKey(i, k) })
	if len(s.identities) == before {
		return identity.ErrNotFound
	}
	return nil
}

func (s *fakeStore) UnknownSenders(_ context.Context, q identity.SenderQuery) ([]identity.Identity, error) {
	defer s.lock()()
	return filterRows(s.identities, q.Limit, func(i identity.Identity) bool {
		return i.TenantID == q.TenantID && i.CustomerID == "" && i.ID > q.After &&
			(q.InstanceID == "" || i.InstanceID == q.InstanceID)
	}), nil
}

func (s *fakeStore) CreateInstance(
	_ context.Context, i gateway.Instance, _ gateway.InstanceSecrets, _ identity.Actor,
) (gateway.Instance, error) {
	defer s.lock()()
	i.ID, i.CreatedAt, i.UpdatedAt = s.id(), s.now, s.now
	s.instances = append(s.instances, i)
	return i, nil
}

func (s *fakeStore) Instance(_ context.Context, tenant, id string) (gateway.Instance, error) {
	defer s.lock()()
	i, err := findRow(s.instances, func(i gateway.Instance) bool { return i.TenantID == tenant && i.ID == id })
	if err != nil {
		err = gateway.ErrNoInstance
	}
	return i, err
}

func (s *fakeStore) EditInstance(
	_ context.Context, tenant, id string, e gateway.InstanceEdit, _ identity.Actor,
) (gateway.Instance, error) {
	defer s.lock()()
	for n := range s.instances {
		i := &s.instances[n]
		if i.TenantID != tenant || i.ID != id {
			continue
		}
		for to, from := range map[*string]*string{
			&i.Name: e.Name, &i.AgentURL: e.AgentURL, &i.WelcomeText: e.WelcomeText,
		} {
			if from != nil {
				*to = *from
			}
		}
		if e.UnknownSenders != nil {
			i.UnknownSenders = *e.UnknownSenders
		}
		if e.SMSInvites != nil {
			i.SMSInvites = *e.SMSInvites
		}
		return *i, nil
	}
	return gateway.Instance{}, gateway.ErrNoInstance
}

func (s *fakeStore) ListInstances(_ context.Context, tenant, after string, limit int) ([]gateway.Instance, error) {
	defer s.lock()()
	return filterRows(
		s.instances, limit, func(i gateway.Instance) bool { return i.TenantID == tenant && i.ID > after },
	), nil
}

func (s *fakeStore) RotateInstanceSecret(
	ctx context.Context, r gateway.SecretRotation, _ identity.Actor,
) (time.Time, error) {
	if _, err := s.Instance(ctx, r.TenantID, r.InstanceID); err != nil || r.GracePeriod == 0 {
		return time.Time{}, err
	}
	return s.now.Add(r.GracePeriod), nil
}

func (s *fakeStore) RevokePreviousSecrets(
	ctx context.Context, tenant, id string, _ gateway.SecretKind, _ identity.Actor,
) error {
	_, err := s.Instance(ctx, tenant, id)
	return err
}

func (s *fakeStore) DeleteInstance(_ context.Context, tenant, id string, _ identity.Actor) error {
	defer s.lock()()
	before := len(s.instances)
	s.instances = slices.DeleteFunc(
		s.instances, func(i gateway.Instance) bool { return i.TenantID == tenant && i.ID == id },
	)
	if len(s.instances) == before {
		return gateway.ErrNoInstance
	}
	return nil
}

func withoutFingerprint(k gateway.IdempotencyKey) gateway.IdempotencyKey {
	k.Fingerprint = ""
	return k
}

func (s *fakeStore) ReserveIdempotencyKey(
	_ context.Context, k gateway.IdempotencyKey,
) (gateway.StoredResponse, bool, error) {
	defer s.lock()()
	a, found := s.responses[withoutFingerprint(k)]
	if !found {
		s.responses[withoutFingerprint(k)] = gateway.StoredResponse{Fingerprint: k.Fingerprint}
	}
	return a, found, nil
}

func (s *fakeStore) SaveResponse(_ context.Context, k gateway.IdempotencyKey, a gateway.StoredResponse) error {
	defer s.lock()()
	s.responses[withoutFingerprint(k)] = a
	return nil
}

func (s *fakeStore) ReleaseIdempotencyKey(_ context.Context, k gateway.IdempotencyKey) error {
	defer s.lock()()
	delete(s.responses, withoutFingerprint(k))
	return nil
}

func hasKey(i identity.Identity, k identity.Key) bool {
	return i.TenantID == k.TenantID && i.CustomerID == k.CustomerID && i.ID == k.IdentityID
}

func filterRows[T any](rows []T, limit int, match func(T) bool) []T {
	var found []T
	for _, row := range rows {
		if match(row) && len(found) < limit {
			found = append(found, row)
		}
	}
	return found
}

func findRow[T any](rows []T, match func(T) bool) (T, error) {
	for _, row := range rows {
		if match(row) {
			return row, nil
		}
	}
	var zero T
	return zero, identity.ErrNotFound
}
