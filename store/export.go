package store

import (
	"context"
	"encoding/json"
	"fmt"

	"hydragate/adapters"
	"hydragate/httpapi"
	"hydragate/identity"
)

// CustomerTalks gives the conversations in which a customer speaks, of one instance
// when it is not "": those with the customer, and groups it wrote in. What anybody
// wrote from its accounts before or after they were its own is not the customer's.
func (s *Store) CustomerTalks(ctx context.Context, tenant, customer, instance string) ([]httpapi.Talk, error) {
	is, err := s.CustomerIdentities(ctx, tenant, customer, "")
	if err != nil {
		return nil, err
	}
	var talks []httpapi.Talk
	known := map[[2]string]bool{}
	for _, i := range is {
		if known[[2]string{i.Channel, i.ExternalID}] {
			continue
		}
		known[[2]string{i.Channel, i.ExternalID}] = true
		more, err := s.accountTalks(ctx, tenant, customer, instance, i)
		if err != nil {
			return nil, fmt.Errorf("list conversations of customer: %w", err)
		}
		talks = append(talks, more...)
	}
	return talks, nil
}

func (s *Store) accountTalks(ctx context.Context, tenant, customer, instance string, i identity.Identity) (talks []httpapi.Talk, err error) {
	a, err := s.accountOf(ctx, s.db, tenant, customer, i.Channel, i.ExternalID)
	if err != nil {
		return nil, err
	}
	found, err := talksOf(ctx, s.db, tenant, a, func(in string) bool { return (instance == "" || in == instance) && a.speaks(in) })
	for _, t := range found {
		talks = append(talks, httpapi.Talk{ID: t.id, TenantID: tenant, InstanceID: t.InstanceID, Channel: t.Channel, ExternalID: t.ExternalID, Group: t.group})
	}
	return talks, err
}

// Received gives messages of a talk that came from the customer, in order, after seq:
// as they are kept, so without codes.
func (s *Store) Received(ctx context.Context, t httpapi.Talk, after int64, limit int) ([]httpapi.ReceivedMessage, error) {
	rs, err := s.db.Query(ctx, `
		select seq, id, kind, text, body, received_at from messages
		where tenant_id = $1 and conversation_id = $2 and sender_id = $3 and seq > $4
		order by seq limit $5`, t.TenantID, t.ID, t.ExternalID, after, limit)
	ms, err := all(rs, err, func(sc scan) (m httpapi.ReceivedMessage, err error) {
		var body string
		if err := sc(&m.Seq, text(&m.ID), &m.Kind, &m.Text, &body, utc(&m.ReceivedAt)); err != nil {
			return m, err
		}
		var said adapters.Message
		if err := json.Unmarshal([]byte(body), &said); err != nil {
			return m, err
		}
		m.SentAt = said.SentAt.UTC()
		for _, f := range said.Media {
			m.Attachments = append(m.Attachments, httpapi.SentFile{Kind: f.Kind, MIME: f.MIME, Name: f.Name, Size: f.Size})
		}
		return m, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read messages of customer: %w", err)
	}
	return ms, nil
}

// Replies gives what was sent to the customer in a talk, in order, after seq.
func (s *Store) Replies(ctx context.Context, t httpapi.Talk, after int64, limit int) ([]httpapi.SentMessage, error) {
	rs, err := s.db.Query(ctx, `
		select seq, id, text, cause, status, created_at from outbox
		where tenant_id = $1 and conversation_id = $2 and recipient = $3 and seq > $4
		order by seq limit $5`, t.TenantID, t.ID, t.ExternalID, after, limit)
	ms, err := all(rs, err, func(sc scan) (m httpapi.SentMessage, err error) {
		return m, sc(&m.Seq, text(&m.ID), &m.Text, &m.Cause, &m.Status, utc(&m.CreatedAt))
	})
	if err != nil {
		return nil, fmt.Errorf("read replies to customer: %w", err)
	}
	return ms, nil
}
