package store

import (
	"context"
	"encoding/json"
	"fmt"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store/sqldb"
)

// CustomerConversations gives the conversations in which a customer speaks, of one instance
// when it is not "": those with the customer, and groups it wrote in. What anybody
// wrote from its accounts before or after they were its own is not the customer's.
func (s *Store) CustomerConversations(ctx context.Context, tenant, customer, instance string) ([]gateway.CustomerConversation, error) {
	is, err := s.CustomerIdentities(ctx, tenant, customer, "")
	if err != nil {
		return nil, err
	}
	var talks []gateway.CustomerConversation
	known := map[[2]string]bool{}
	for _, i := range is {
		if known[[2]string{i.Channel, i.ExternalID}] {
			continue
		}
		known[[2]string{i.Channel, i.ExternalID}] = true
		more, err := s.accountConversations(ctx, tenant, customer, instance, i)
		if err != nil {
			return nil, fmt.Errorf("list conversations of customer: %w", err)
		}
		talks = append(talks, more...)
	}
	return talks, nil
}

func (s *Store) accountConversations(ctx context.Context, tenant, customer, instance string, i identity.Identity) (talks []gateway.CustomerConversation, err error) {
	a, err := s.loadAddressOwners(ctx, s.db, tenant, customer, i.Channel, i.ExternalID)
	if err != nil {
		return nil, err
	}
	found, err := addressConversations(ctx, s.db, tenant, a, func(in string) bool { return (instance == "" || in == instance) && a.speaksIn(in) })
	for _, t := range found {
		talks = append(talks, gateway.CustomerConversation{ID: t.id, TenantID: tenant, InstanceID: t.InstanceID, Channel: t.Channel, ExternalID: t.ExternalID, Group: t.group})
	}
	return talks, err
}

// ReceivedMessages gives messages of a talk that came from the customer, in order, after seq:
// as they are kept, so without codes.
func (s *Store) ReceivedMessages(ctx context.Context, t gateway.CustomerConversation, after int64, limit int) ([]gateway.ReceivedMessage, error) {
	rs, err := s.db.Query(ctx, `
		select seq, id, kind, text, body, received_at from messages
		where tenant_id = $1 and conversation_id = $2 and sender_id = $3 and seq > $4
		order by seq limit $5`, t.TenantID, t.ID, t.ExternalID, after, limit)
	ms, err := sqldb.ScanAll(rs, err, func(sc sqldb.ScanFunc) (m gateway.ReceivedMessage, err error) {
		var body string
		if err := sc(&m.Seq, sqldb.Text(&m.ID), &m.Kind, &m.Text, &body, sqldb.Time(&m.ReceivedAt)); err != nil {
			return m, err
		}
		var said adapters.Message
		if err := json.Unmarshal([]byte(body), &said); err != nil {
			return m, err
		}
		m.SentAt = said.SentAt.UTC()
		for _, f := range said.Media {
			m.Attachments = append(m.Attachments, gateway.ReceivedFile{Kind: f.Kind, MIME: f.MIME, Name: f.Name, Size: f.Size})
		}
		return m, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read messages of customer: %w", err)
	}
	return ms, nil
}

// SentMessages gives what was sent to the customer in a talk, in order, after seq.
func (s *Store) SentMessages(ctx context.Context, t gateway.CustomerConversation, after int64, limit int) ([]gateway.SentMessage, error) {
	rs, err := s.db.Query(ctx, `
		select seq, id, text, cause, status, created_at from outbox
		where tenant_id = $1 and conversation_id = $2 and recipient = $3 and seq > $4
		order by seq limit $5`, t.TenantID, t.ID, t.ExternalID, after, limit)
	ms, err := sqldb.ScanAll(rs, err, func(sc sqldb.ScanFunc) (m gateway.SentMessage, err error) {
		return m, sc(&m.Seq, sqldb.Text(&m.ID), &m.Text, &m.Cause, &m.Status, sqldb.Time(&m.CreatedAt))
	})
	if err != nil {
		return nil, fmt.Errorf("read replies to customer: %w", err)
	}
	return ms, nil
}
