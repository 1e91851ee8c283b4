package httpapi

import (
	"context"
	"slices"
	"strings"
	"time"

	"hydragate/claim"
	"hydragate/identity"
)

// fakeLife is what a fakeStore keeps of customers beyond their rows.
type fakeLife struct {
	merged  map[string]fakeMerge
	refused map[string]time.Time
	owners  []identity.Ownership
	events  []identity.Event // oldest first
	erased  []string
	talks   []Talk
	in      []ReceivedMessage
	out     []SentMessage
	rights  bool  // MergeCustomer finds what is verified
	taken   bool  // UndoMerge finds the e-mail address with somebody else
	severed error // what AuditEvents answers after the first rows
}

type fakeMerge struct {
	customer identity.Customer
	into     string
	moved    []string
}

// matt is a customer of ours beside Steve.
func (w *world) matt() string {
	c, _ := w.store.CreateCustomer(context.Background(), identity.Customer{TenantID: identity.DefaultTenant, FirstName: "Matt"}, "")
	return c.ID
}

// merged is a customer of ours who was merged into Steve.
func (w *world) merged() string {
	id := w.matt()
	_, _ = w.store.MergeCustomer(context.Background(), identity.DefaultTenant, id, w.steve, true, "")
	return id
}

func (s *fakeStore) DeleteCustomer(_ context.Context, tenant, id string, _ identity.Actor) ([]claim.Subject, error) {
	defer s.lock()()
	before := len(s.customers)
	s.customers = slices.DeleteFunc(s.customers, func(c identity.Customer) bool { return c.TenantID == tenant && c.ID == id })
	if len(s.customers) == before {
		return nil, identity.ErrNotFound
	}
	return []claim.Subject{{TenantID: tenant, IdentityID: "gone", Gen: 3}}, nil
}

func (s *fakeStore) EraseCustomer(ctx context.Context, tenant, id string, by identity.Actor) ([]claim.Subject, error) {
	void, err := s.DeleteCustomer(ctx, tenant, id, by)
	if err == nil {
		s.life.erased = append(s.life.erased, id)
	}
	return void, err
}

func (s *fakeStore) MergeCustomer(ctx context.Context, tenant, id, into string, mayGrant bool, by identity.Actor) (identity.Merge, error) {
	if !mayGrant && s.life.rights {
		return identity.Merge{}, identity.ErrNeedsGrant
	}
	if _, err := s.Customer(ctx, tenant, into); err != nil {
		return identity.Merge{}, err
	}
	c, err := s.Customer(ctx, tenant, id)
	if err != nil {
		return identity.Merge{}, err
	}
	_, _ = s.DeleteCustomer(ctx, tenant, id, by)
	defer s.lock()()
	if s.life.merged == nil {
		s.life.merged = map[string]fakeMerge{}
	}
	m := fakeMerge{customer: c, into: into}
	for n := range s.identities {
		if s.identities[n].CustomerID == id {
			s.identities[n].CustomerID = into
			m.moved = append(m.moved, s.identities[n].ID)
		}
	}
	s.life.merged[id] = m
	return identity.Merge{CustomerID: id, Into: into, Identities: len(m.moved), At: s.now}, nil
}

func (s *fakeStore) UndoMerge(_ context.Context, tenant, id string, mayGrant bool, _ identity.Actor) (identity.Customer, error) {
	defer s.lock()()
	m, ok := s.life.merged[id]
	switch {
	case !ok || m.customer.TenantID != tenant:
		return identity.Customer{}, identity.ErrNotFound
	case !mayGrant && s.life.rights:
		return identity.Customer{}, identity.ErrNeedsGrant
	case s.life.taken:
		return identity.Customer{}, identity.ErrReclaimed
	}
	delete(s.life.merged, id)
	s.customers = append(s.customers, m.customer)
	for n := range s.identities {
		if slices.Contains(m.moved, s.identities[n].ID) {
			s.identities[n].CustomerID = id
		}
	}
	return m.customer, nil
}

func (s *fakeStore) Survivor(_ context.Context, tenant, id string) (string, error) {
	defer s.lock()()
	if m, ok := s.life.merged[id]; ok && m.customer.TenantID == tenant {
		return m.into, nil
	}
	return "", identity.ErrNotFound
}

func (s *fakeStore) CustomerHistory(_ context.Context, _, customer string) ([]identity.Ownership, error) {
	defer s.lock()()
	return some(s.life.owners, 100, func(o identity.Ownership) bool { return o.CustomerID == customer }), nil
}

func (s *fakeStore) CustomerTalks(_ context.Context, _, _, instance string) ([]Talk, error) {
	defer s.lock()()
	return some(s.life.talks, 100, func(t Talk) bool { return instance == "" || t.InstanceID == instance }), nil
}

func (s *fakeStore) Received(_ context.Context, _ Talk, after int64, limit int) ([]ReceivedMessage, error) {
	defer s.lock()()
	return some(s.life.in, limit, func(m ReceivedMessage) bool { return m.Seq > after }), nil
}

func (s *fakeStore) Replies(_ context.Context, _ Talk, after int64, limit int) ([]SentMessage, error) {
	defer s.lock()()
	return some(s.life.out, limit, func(m SentMessage) bool { return m.Seq > after }), nil
}

func (s *fakeStore) AddressOf(_ context.Context, tenant, id string) (identity.Address, error) {
	defer s.lock()()
	i, err := one(s.identities, func(i identity.Identity) bool { return i.TenantID == tenant && i.ID == id })
	return identity.Address{TenantID: tenant, InstanceID: i.InstanceID, Channel: i.Channel, ExternalID: i.ExternalID}, err
}

func (s *fakeStore) History(_ context.Context, a identity.Address) ([]identity.Ownership, error) {
	defer s.lock()()
	return some(s.life.owners, 100, func(o identity.Ownership) bool { return o.Channel == a.Channel && o.ExternalID == a.ExternalID }), nil
}

func (s *fakeStore) sender(tenant, instance, id string) error {
	i, err := one(s.identities, func(i identity.Identity) bool {
		return i.TenantID == tenant && i.ID == id && (instance == "" || instance == i.InstanceID)
	})
	if err == nil && i.CustomerID != "" {
		err = identity.ErrTaken
	}
	return err
}

func (s *fakeStore) Refuse(_ context.Context, tenant, instance, id string, _ identity.Actor) (time.Time, error) {
	defer s.lock()()
	if err := s.sender(tenant, instance, id); err != nil {
		return time.Time{}, err
	}
	if s.life.refused == nil {
		s.life.refused = map[string]time.Time{}
	}
	s.life.refused[id] = s.now
	return s.now, nil
}

func (s *fakeStore) Admit(_ context.Context, tenant, instance, id string, _ identity.Actor) error {
	defer s.lock()()
	delete(s.life.refused, id)
	return s.sender(tenant, instance, id)
}

func (s *fakeStore) AuditEvents(_ context.Context, tenant string, q identity.EventQuery, before string, limit int) ([]identity.Event, error) {
	defer s.lock()()
	if before != "" && s.life.severed != nil {
		return nil, s.life.severed
	}
	newest := slices.Clone(s.life.events)
	slices.Reverse(newest)
	return some(newest, limit, func(e identity.Event) bool {
		return e.TenantID == tenant && (before == "" || e.ID < before) && (q.Kind == "" || q.Kind == e.Kind) && (q.Actor == "" || q.Actor == e.Actor) &&
			(q.CustomerID == "" || q.CustomerID == e.CustomerID) && (q.IdentityID == "" || q.IdentityID == e.IdentityID) && (q.InstanceID == "" || q.InstanceID == e.InstanceID) &&
			!e.At.Before(q.Since) && (q.Until.IsZero() || e.At.Before(q.Until))
	}), nil
}

// begins reports whether a customer fits what a query says of beginnings.
func (s *fakeStore) begins(c identity.Customer, q identity.CustomerQuery) bool {
	return strings.HasPrefix(strings.ToLower(c.Email), strings.ToLower(q.EmailPrefix)) && strings.HasPrefix(c.PhoneNumber, q.PhonePrefix) &&
		(q.ExternalPrefix == "" || slices.ContainsFunc(s.identities, func(i identity.Identity) bool {
			return i.CustomerID == c.ID && strings.HasPrefix(i.ExternalID, q.ExternalPrefix)
		}))
}
