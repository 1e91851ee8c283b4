package httpapitest

import (
	"context"
	"slices"
	"strings"

	"hydragate/claim"
	"hydragate/identity"
)

// A merge records what UndoMerge restores.
type merge struct {
	customer identity.Customer
	into     string
	moved    []string // IDs of identities
}

// DeleteCustomer implements httpapi.CustomerStore.
func (s *Store) DeleteCustomer(_ context.Context, tenant, id string, _ identity.Actor) ([]claim.Target, error) {
	defer s.lock()()
	before := len(s.customers)
	s.customers = slices.DeleteFunc(
		s.customers, func(c identity.Customer) bool { return c.TenantID == tenant && c.ID == id },
	)
	if len(s.customers) == before {
		return nil, identity.ErrNotFound
	}
	return []claim.Target{{TenantID: tenant, IdentityID: "gone", Gen: 3}}, nil
}

// EraseCustomer implements httpapi.CustomerStore.
func (s *Store) EraseCustomer(ctx context.Context, tenant, id string, by identity.Actor) ([]claim.Target, error) {
	void, err := s.DeleteCustomer(ctx, tenant, id, by)
	if err == nil {
		s.Erased = append(s.Erased, id)
	}
	return void, err
}

// MergeCustomer implements httpapi.MergeStore.
func (s *Store) MergeCustomer(
	ctx context.Context, req identity.MergeRequest, by identity.Actor,
) (identity.Merge, error) {
	if !req.MayGrant && s.NeedsGrant {
		return identity.Merge{}, identity.ErrGrantRequired
	}
	if _, err := s.Customer(ctx, req.TenantID, req.TargetID); err != nil {
		return identity.Merge{}, err
	}
	c, err := s.Customer(ctx, req.TenantID, req.CustomerID)
	if err != nil {
		return identity.Merge{}, err
	}
	_, _ = s.DeleteCustomer(ctx, req.TenantID, req.CustomerID, by)
	defer s.lock()()
	m := merge{customer: c, into: req.TargetID}
	for n := range s.identities {
		if s.identities[n].CustomerID == req.CustomerID {
			s.identities[n].CustomerID = req.TargetID
			m.moved = append(m.moved, s.identities[n].ID)
		}
	}
	s.merged[req.CustomerID] = m
	return identity.Merge{
		CustomerID: req.CustomerID, TargetID: req.TargetID, IdentityCount: len(m.moved), At: s.now,
	}, nil
}

// UndoMerge implements httpapi.MergeStore.
func (s *Store) UndoMerge(
	_ context.Context, tenant, id string, mayGrant bool, _ identity.Actor,
) (identity.Customer, error) {
	defer s.lock()()
	m, ok := s.merged[id]
	switch {
	case !ok || m.customer.TenantID != tenant:
		return identity.Customer{}, identity.ErrNotFound
	case !mayGrant && s.NeedsGrant:
		return identity.Customer{}, identity.ErrGrantRequired
	case s.IdentifierReused:
		return identity.Customer{}, identity.ErrIdentifierReused
	}
	delete(s.merged, id)
	s.customers = append(s.customers, m.customer)
	for n := range s.identities {
		if slices.Contains(m.moved, s.identities[n].ID) {
			s.identities[n].CustomerID = id
		}
	}
	return m.customer, nil
}

// MergedInto implements httpapi.MergeStore.
func (s *Store) MergedInto(_ context.Context, tenant, id string) (string, error) {
	defer s.lock()()
	if m, ok := s.merged[id]; ok && m.customer.TenantID == tenant {
		return m.into, nil
	}
	return "", identity.ErrNotFound
}

// CreateCustomer implements httpapi.CustomerStore.
func (s *Store) CreateCustomer(
	_ context.Context, c identity.Customer, _ identity.Actor,
) (identity.Customer, error) {
	defer s.lock()()
	if s.PanicOnCreate {
		panic("store failed with hg_live_canary")
	}
	for _, other := range s.customers {
		if c.Email != "" && other.TenantID == c.TenantID && strings.EqualFold(other.Email, c.Email) {
			return c, identity.ErrEmailTaken
		}
	}
	s.Created++
	c.ID, c.CreatedAt, c.UpdatedAt = s.newID(), s.now, s.now
	s.customers = append(s.customers, c)
	return c, nil
}

// Customer implements httpapi.CustomerStore.
func (s *Store) Customer(_ context.Context, tenant, id string) (identity.Customer, error) {
	defer s.lock()()
	return findRow(s.customers, func(c identity.Customer) bool { return c.TenantID == tenant && c.ID == id })
}

// EditCustomer implements httpapi.CustomerStore.
func (s *Store) EditCustomer(
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

// ListCustomers implements httpapi.CustomerStore.
func (s *Store) ListCustomers(
	_ context.Context, tenant string, q identity.CustomerQuery, after string, limit int,
) ([]identity.Customer, error) {
	defer s.lock()()
	return filterRows(s.customers, limit, func(c identity.Customer) bool {
		return c.TenantID == tenant && c.ID > after && s.matches(c, q)
	}), nil
}

// matches reports whether a customer matches the filters of a query.
func (s *Store) matches(c identity.Customer, q identity.CustomerQuery) bool {
	hasAddress := func(match func(externalID string) bool) bool {
		return slices.ContainsFunc(s.identities, func(i identity.Identity) bool {
			return i.CustomerID == c.ID && match(i.ExternalID)
		})
	}
	return (q.Email == "" || strings.EqualFold(q.Email, c.Email)) &&
		(q.Phone == "" || q.Phone == c.PhoneNumber) &&
		(q.ExternalID == "" || hasAddress(func(id string) bool { return id == q.ExternalID })) &&
		strings.HasPrefix(c.FirstName, q.Name) &&
		strings.HasPrefix(strings.ToLower(c.Email), strings.ToLower(q.EmailPrefix)) &&
		strings.HasPrefix(c.PhoneNumber, q.PhonePrefix) &&
		(q.ExternalPrefix == "" || hasAddress(func(id string) bool { return strings.HasPrefix(id, q.ExternalPrefix) }))
}
