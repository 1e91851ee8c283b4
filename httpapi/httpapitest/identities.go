package httpapitest

import (
	"context"
	"slices"
	"time"

	"hydragate/claim"
	"hydragate/gateway"
	"hydragate/identity"
)

// AddIdentity stores an identity as it is, with a new ID, and returns the ID.
func (s *Store) AddIdentity(i identity.Identity) string {
	defer s.lock()()
	i.ID = s.newID()
	s.identities = append(s.identities, i)
	return i.ID
}

// IdentityAddress implements httpapi.IdentityStore.
func (s *Store) IdentityAddress(_ context.Context, tenant, id string) (identity.Address, error) {
	defer s.lock()()
	i, err := findRow(s.identities, func(i identity.Identity) bool { return i.TenantID == tenant && i.ID == id })
	return identity.Address{
		TenantID: tenant, InstanceID: i.InstanceID, Channel: i.Channel, ExternalID: i.ExternalID,
	}, err
}

// AddressHistory implements httpapi.IdentityStore.
func (s *Store) AddressHistory(_ context.Context, a identity.Address) ([]identity.Ownership, error) {
	defer s.lock()()
	return filterRows(
		s.Owners, 100,
		func(o identity.Ownership) bool { return o.Channel == a.Channel && o.ExternalID == a.ExternalID },
	), nil
}

// checkSender returns an error if an identity is not an unknown sender.
func (s *Store) checkSender(tenant, instance, id string) error {
	i, err := findRow(s.identities, func(i identity.Identity) bool {
		return i.TenantID == tenant && i.ID == id && (instance == "" || instance == i.InstanceID)
	})
	if err == nil && i.CustomerID != "" {
		err = identity.ErrAlreadyLinked
	}
	return err
}

// BlockSender implements httpapi.SenderStore.
func (s *Store) BlockSender(_ context.Context, k identity.SenderKey, _ identity.Actor) (time.Time, error) {
	defer s.lock()()
	if err := s.checkSender(k.TenantID, k.InstanceID, k.IdentityID); err != nil {
		return time.Time{}, err
	}
	s.blocked[k.IdentityID] = s.now
	return s.now, nil
}

// UnblockSender implements httpapi.SenderStore.
func (s *Store) UnblockSender(_ context.Context, k identity.SenderKey, _ identity.Actor) error {
	defer s.lock()()
	delete(s.blocked, k.IdentityID)
	return s.checkSender(k.TenantID, k.InstanceID, k.IdentityID)
}

// EraseSender implements httpapi.SenderStore.
func (s *Store) EraseSender(_ context.Context, tenant, id string, _ identity.Actor) ([]claim.Target, error) {
	defer s.lock()()
	if err := s.checkSender(tenant, "", id); err != nil {
		return nil, err
	}
	s.Erased = append(s.Erased, id)
	s.identities = slices.DeleteFunc(s.identities, func(i identity.Identity) bool { return i.ID == id })
	return nil, nil
}

// EraseAddress implements httpapi.SenderStore.
func (s *Store) EraseAddress(
	ctx context.Context, a identity.Address, by identity.Actor,
) ([]claim.Target, error) {
	unlock := s.lock()
	i, err := findRow(s.identities, func(i identity.Identity) bool {
		return i.TenantID == a.TenantID && i.Channel == a.Channel && i.ExternalID == a.ExternalID
	})
	unlock()
	if err != nil {
		return nil, err
	}
	return s.EraseSender(ctx, a.TenantID, i.ID, by)
}

// Lookup implements httpapi.SenderStore.
func (s *Store) Lookup(_ context.Context, a identity.Address) (identity.Identity, string, error) {
	defer s.lock()()
	for _, instance := range []string{a.InstanceID, ""} {
		for _, i := range s.identities {
			address := identity.Address{
				TenantID: i.TenantID, InstanceID: a.InstanceID, Channel: i.Channel, ExternalID: i.ExternalID,
			}
			if address == a && i.InstanceID == instance && i.CustomerID != "" {
				c, _ := findRow(s.customers, func(c identity.Customer) bool { return c.ID == i.CustomerID })
				return i, c.Email, nil
			}
		}
	}
	return identity.Identity{}, "", identity.ErrNotFound
}

// CustomerIdentities implements httpapi.IdentityStore.
func (s *Store) CustomerIdentities(_ context.Context, q identity.Query) ([]identity.Identity, error) {
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

// Link implements httpapi.IdentityStore.
func (s *Store) Link(_ context.Context, i identity.Identity, _ identity.Actor) (identity.Identity, error) {
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
	i.ID, i.CreatedAt, i.UpdatedAt = s.newID(), s.now, s.now
	s.identities = append(s.identities, i)
	return i, nil
}

// Adopt implements httpapi.SenderStore.
func (s *Store) Adopt(_ context.Context, k identity.Key, _ identity.Actor) (identity.Identity, error) {
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

// Identity implements httpapi.IdentityStore.
func (s *Store) Identity(_ context.Context, k identity.Key) (identity.Identity, error) {
	defer s.lock()()
	return findRow(s.identities, func(i identity.Identity) bool { return hasKey(i, k) })
}

// EditIdentity implements httpapi.IdentityStore.
func (s *Store) EditIdentity(
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

// Unlink implements httpapi.IdentityStore.
func (s *Store) Unlink(_ context.Context, k identity.Key, _ identity.Actor) error {
	defer s.lock()()
	before := len(s.identities)
	s.identities = slices.DeleteFunc(s.identities, func(i identity.Identity) bool { return hasKey(i, k) })
	if len(s.identities) == before {
		return identity.ErrNotFound
	}
	return nil
}

// UnknownSenders implements httpapi.SenderStore.
func (s *Store) UnknownSenders(_ context.Context, q identity.SenderQuery) ([]identity.Identity, error) {
	defer s.lock()()
	return filterRows(s.identities, q.Limit, func(i identity.Identity) bool {
		return i.TenantID == q.TenantID && i.CustomerID == "" && i.ID > q.After &&
			(q.InstanceID == "" || i.InstanceID == q.InstanceID)
	}), nil
}

func hasKey(i identity.Identity, k identity.Key) bool {
	return i.TenantID == k.TenantID && i.CustomerID == k.CustomerID && i.ID == k.IdentityID
}
