package httpapitest

import (
	"context"
	"slices"

	"hydragate/gateway"
	"hydragate/identity"
)

// CustomerHistory implements httpapi.ExportStore.
func (s *Store) CustomerHistory(_ context.Context, _, customer string) ([]identity.Ownership, error) {
	defer s.lock()()
	return filterRows(s.Owners, 100, func(o identity.Ownership) bool { return o.CustomerID == customer }), nil
}

// CustomerConversations implements httpapi.ExportStore.
func (s *Store) CustomerConversations(
	_ context.Context, q gateway.CustomerConversationQuery,
) ([]gateway.CustomerConversation, error) {
	defer s.lock()()
	return filterRows(
		s.Conversations, 100,
		func(t gateway.CustomerConversation) bool { return q.InstanceID == "" || t.InstanceID == q.InstanceID },
	), nil
}

// ReceivedMessages implements httpapi.ExportStore.
func (s *Store) ReceivedMessages(
	_ context.Context, _ gateway.CustomerConversation, after int64, limit int,
) ([]gateway.ReceivedMessage, error) {
	defer s.lock()()
	return filterRows(s.Received, limit, func(m gateway.ReceivedMessage) bool { return m.Seq > after }), nil
}

// SentMessages implements httpapi.ExportStore.
func (s *Store) SentMessages(
	_ context.Context, _ gateway.CustomerConversation, after int64, limit int,
) ([]gateway.SentMessage, error) {
	defer s.lock()()
	return filterRows(s.Sent, limit, func(m gateway.SentMessage) bool { return m.Seq > after }), nil
}

// AddEvent adds an event to the audit log, with a new ID.
func (s *Store) AddEvent(e identity.Event) {
	defer s.lock()()
	e.ID = s.newID()
	s.Events = append(s.Events, e)
}

// AuditEvents implements httpapi.AuditStore.
func (s *Store) AuditEvents(
	_ context.Context, tenant string, q identity.EventQuery, before string, limit int,
) ([]identity.Event, error) {
	defer s.lock()()
	if before != "" && s.LaterErr != nil {
		return nil, s.LaterErr
	}
	newest := slices.Clone(s.Events)
	slices.Reverse(newest)
	return filterRows(newest, limit, func(e identity.Event) bool {
		return e.TenantID == tenant && (before == "" || e.ID < before) &&
			(q.Kind == "" || q.Kind == e.Kind) &&
			(q.Actor == "" || q.Actor == e.Actor) &&
			(q.CustomerID == "" || q.CustomerID == e.CustomerID) &&
			(q.IdentityID == "" || q.IdentityID == e.IdentityID) &&
			(q.InstanceID == "" || q.InstanceID == e.InstanceID) &&
			!e.At.Before(q.Since) && (q.Until.IsZero() || e.At.Before(q.Until))
	}), nil
}
