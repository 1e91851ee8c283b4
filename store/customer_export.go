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

// CustomerConversations returns the conversations of a customer: direct ones, and groups in
// which it took part. If q.InstanceID is not empty, conversations of other instances are left
// out. Messages from an address of the customer at a time when it belonged to someone else are
// not the customer's. It returns identity.ErrNotFound for an unknown customer.
func (s *Store) CustomerConversations(
	ctx context.Context, q gateway.CustomerConversationQuery,
) ([]gateway.CustomerConversation, error) {
	identities, err := s.CustomerIdentities(ctx, identity.Query{TenantID: q.TenantID, CustomerID: q.CustomerID})
	if err != nil {
		return nil, err
	}
	var conversations []gateway.CustomerConversation
	seen := map[[2]string]bool{}
	for _, i := range identities {
		if seen[[2]string{i.Channel, i.ExternalID}] {
			continue
		}
		seen[[2]string{i.Channel, i.ExternalID}] = true
		more, err := s.accountConversations(ctx, q.TenantID, q.CustomerID, q.InstanceID, i)
		if err != nil {
			return nil, fmt.Errorf("list conversations of customer: %w", err)
		}
		conversations = append(conversations, more...)
	}
	return conversations, nil
}

// accountConversations returns the customer's conversations with the address of i.
func (s *Store) accountConversations(
	ctx context.Context, tenant, customer, instance string, i identity.Identity,
) (conversations []gateway.CustomerConversation, err error) {
	a, err := s.loadAddressOwners(ctx, s.db, tenant, customer, i.Channel, i.ExternalID)
	if err != nil {
		return nil, err
	}
	found, err := addressConversations(ctx, s.db, tenant, a, func(id string) bool {
		return (instance == "" || id == instance) && a.speaksIn(id)
	})
	for _, c := range found {
		conversations = append(conversations, gateway.CustomerConversation{
			ID: c.id, TenantID: tenant, InstanceID: c.InstanceID, Channel: c.Channel, ExternalID: c.ExternalID, Group: c.group,
		})
	}
	return conversations, err
}

// ReceivedMessages returns at most limit messages that the customer sent in a conversation, in
// order, starting after the sequence number after. Claim codes in them are masked, as stored.
func (s *Store) ReceivedMessages(
	ctx context.Context, t gateway.CustomerConversation, after int64, limit int,
) ([]gateway.ReceivedMessage, error) {
	rs, err := s.db.Query(ctx, `
		select seq, id, kind, text, body, received_at from messages
		where tenant_id = $1 and conversation_id = $2 and sender_id = $3 and seq > $4
		order by seq limit $5`, t.TenantID, t.ID, t.ExternalID, after, limit)
	messages, err := sqldb.ScanAll(rs, err, func(sc sqldb.ScanFunc) (m gateway.ReceivedMessage, err error) {
		var body string
		if err := sc(&m.Seq, sqldb.Text(&m.ID), &m.Kind, &m.Text, &body, sqldb.Time(&m.ReceivedAt)); err != nil {
			return m, err
		}
		var message adapters.Message
		if err := json.Unmarshal([]byte(body), &message); err != nil {
			return m, err
		}
		m.SentAt = message.SentAt.UTC()
		for _, f := range message.Media {
			m.Attachments = append(m.Attachments, gateway.ReceivedFile{Kind: f.Kind, MIME: f.MIME, Name: f.Name, Size: f.Size})
		}
		return m, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read messages of customer: %w", err)
	}
	return messages, nil
}

// SentMessages returns at most limit replies that were sent to the customer in a conversation, in
// order, starting after the sequence number after.
func (s *Store) SentMessages(
	ctx context.Context, t gateway.CustomerConversation, after int64, limit int,
) ([]gateway.SentMessage, error) {
	rs, err := s.db.Query(ctx, `
		select seq, id, text, cause, status, created_at from outbox
		where tenant_id = $1 and conversation_id = $2 and recipient = $3 and seq > $4
		order by seq limit $5`, t.TenantID, t.ID, t.ExternalID, after, limit)
	messages, err := sqldb.ScanAll(rs, err, func(sc sqldb.ScanFunc) (m gateway.SentMessage, err error) {
		return m, sc(&m.Seq, sqldb.Text(&m.ID), &m.Text, &m.Cause, &m.Status, sqldb.Time(&m.CreatedAt))
	})
	if err != nil {
		return nil, fmt.Errorf("read replies to customer: %w", err)
	}
	return messages, nil
}
