package httpapitest

import (
	"context"
	"slices"
	"time"

	"hydragate/gateway"
	"hydragate/identity"
)

// CreateInstance implements httpapi.InstanceStore.
func (s *Store) CreateInstance(
	_ context.Context, i gateway.Instance, _ gateway.InstanceSecrets, _ identity.Actor,
) (gateway.Instance, error) {
	defer s.lock()()
	i.ID, i.CreatedAt, i.UpdatedAt = s.newID(), s.now, s.now
	s.instances = append(s.instances, i)
	return i, nil
}

// Instance implements httpapi.InstanceStore.
func (s *Store) Instance(_ context.Context, tenant, id string) (gateway.Instance, error) {
	defer s.lock()()
	i, err := findRow(s.instances, func(i gateway.Instance) bool { return i.TenantID == tenant && i.ID == id })
	if err != nil {
		err = gateway.ErrNoInstance
	}
	return i, err
}

// EditInstance implements httpapi.InstanceStore.
func (s *Store) EditInstance(
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
			&i.DefaultRegion: e.DefaultRegion,
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
		if e.Events != nil {
			i.Events = e.Events.Types
		}
		if e.OwnerChannels != nil {
			i.OwnerChannels = e.OwnerChannels.Channels
		}
		return *i, nil
	}
	return gateway.Instance{}, gateway.ErrNoInstance
}

// DefaultRegion implements httpapi.InstanceStore.
func (s *Store) DefaultRegion(_ context.Context, tenant, instance string) (region string, err error) {
	defer s.lock()()
	for _, i := range s.instances {
		if i.TenantID == tenant && (instance == "" || i.ID == instance) {
			region = i.DefaultRegion
		}
	}
	return region, nil
}

// ListInstances implements httpapi.InstanceStore.
func (s *Store) ListInstances(_ context.Context, tenant, after string, limit int) ([]gateway.Instance, error) {
	defer s.lock()()
	return filterRows(
		s.instances, limit, func(i gateway.Instance) bool { return i.TenantID == tenant && i.ID > after },
	), nil
}

// RotateInstanceSecret implements httpapi.SecretStore.
func (s *Store) RotateInstanceSecret(
	ctx context.Context, r gateway.SecretRotation, _ identity.Actor,
) (time.Time, error) {
	if _, err := s.Instance(ctx, r.TenantID, r.InstanceID); err != nil || r.GracePeriod == 0 {
		return time.Time{}, err
	}
	return s.now.Add(r.GracePeriod), nil
}

// RevokePreviousSecrets implements httpapi.SecretStore.
func (s *Store) RevokePreviousSecrets(
	ctx context.Context, tenant, id string, _ gateway.SecretKind, _ identity.Actor,
) error {
	_, err := s.Instance(ctx, tenant, id)
	return err
}

// DeleteInstance implements httpapi.InstanceStore.
func (s *Store) DeleteInstance(_ context.Context, tenant, id string, _ identity.Actor) error {
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

// TenantSettings implements httpapi.TenantStore.
func (s *Store) TenantSettings(_ context.Context, tenant string) (identity.TenantSettings, error) {
	defer s.lock()()
	t, ok := s.tenants[tenant]
	if !ok {
		t.UnknownSenderDays = identity.DefaultUnknownSenderDays
	}
	return t, nil
}

// EditTenant implements httpapi.TenantStore.
func (s *Store) EditTenant(
	ctx context.Context, tenant string, e identity.TenantEdit, _ identity.Actor,
) (identity.TenantSettings, error) {
	t, _ := s.TenantSettings(ctx, tenant)
	defer s.lock()()
	if e.OwnerConfirmation != nil {
		t.OwnerConfirmation = *e.OwnerConfirmation
	}
	if e.UnknownSenderDays != nil {
		t.UnknownSenderDays = *e.UnknownSenderDays
	}
	s.tenants[tenant] = t
	return t, nil
}
