package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store/sqldb"
)

// addressOwners holds all identities of one address, that is of one external account on a channel,
// grouped from the point of view of one customer.
type addressOwners struct {
	channel, externalID string
	aliases             []string // other IDs of the account

	own            []lockedIdentity // of the customer
	otherCustomers []lockedIdentity // of other customers
	unknownSenders []lockedIdentity // of no customer
}

// loadAddressOwners returns the identities of an address and its aliases, grouped into those of customer,
// those of other customers and unknown senders.
func (s *Store) loadAddressOwners(
	ctx context.Context, tx sqldb.DB, tenant, customer, channel, externalID string,
) (addressOwners, error) {
	a := addressOwners{channel: channel, externalID: externalID}
	account := identity.Identity{TenantID: tenant, Channel: channel, ExternalID: externalID}
	if err := s.readAliases(ctx, tx, &account); err != nil {
		return a, err
	}
	a.aliases = account.Aliases
	list, args := sqldb.PlaceholderList([]any{tenant, channel}, append([]string{externalID}, a.aliases...), "$%d")
	rs, err := tx.Query(ctx, `
		select `+identityColumns+`, claim_gen from identities
		where tenant_id = $1 and channel = $2 and external_id in (`+list+`) order by id`, args...)
	rows, err := sqldb.ScanAll(rs, err, scanLockedIdentity)
	for _, i := range rows {
		switch i.CustomerID {
		case customer:
			a.own = append(a.own, i)
		case "":
			a.unknownSenders = append(a.unknownSenders, i)
		default:
			a.otherCustomers = append(a.otherCustomers, i)
		}
	}
	return a, err
}

// under returns the owners of the account of a, addressed by an alias of it.
func (a addressOwners) under(alias string) addressOwners {
	a.externalID, a.aliases = alias, nil
	return a
}

// speaksIn reports whether messages from the address to an instance belong to the customer. An
// identity scoped to the instance takes precedence over one for all instances.
func (a addressOwners) speaksIn(instance string) bool {
	return hasInstance(a.own, instance) || !hasInstance(a.otherCustomers, instance) && hasInstance(a.own, "")
}

// isUncontested reports whether messages from the address to an instance belong to no other
// customer.
func (a addressOwners) isUncontested(instance string) bool {
	return hasInstance(a.own, instance) ||
		!hasInstance(a.otherCustomers, instance) && (hasInstance(a.own, "") || !hasInstance(a.otherCustomers, ""))
}

// hasInstance reports whether one of the identities has the scope of instance, where "" is the
// scope of all instances.
func hasInstance(identities []lockedIdentity, instance string) bool {
	return slices.ContainsFunc(identities, func(i lockedIdentity) bool { return i.InstanceID == instance })
}

// An addressConversation is a conversation in which an address took part.
type addressConversation struct {
	identity.Address // with the instance of the conversation
	id               string
	group            bool
}

// addressConversations returns the conversations in which an address took part, in instances
// accepted by include: direct conversations with it, and groups and conversations without a known
// participant that contain messages from it.
func addressConversations(
	ctx context.Context, d sqldb.DB, tenant string, a addressOwners, include func(instance string) bool,
) ([]addressConversation, error) {
	rs, err := d.Query(ctx, `
		select c.id, c.instance_id, c.is_group from conversations c
		where c.tenant_id = $1 and c.channel = $2 and c.place_id in ($3, $4)
		union
		select c.id, c.instance_id, c.is_group from conversations c
		join identities i on i.tenant_id = c.tenant_id and i.id = c.identity_id
		where c.tenant_id = $1 and i.channel = $2 and i.external_id = $3
		union
		select c.id, c.instance_id, c.is_group from conversations c
		where c.tenant_id = $1 and c.channel = $2 and (c.is_group or c.identity_id is null)
			and exists (select 1 from messages m where m.conversation_id = c.id and m.sender_id = $3)
		order by 1`, tenant, a.channel, a.externalID, gateway.DisplayExternalID(adapters.Channel(a.channel), a.externalID))
	conversations, err := sqldb.ScanAll(rs, err, func(sc sqldb.ScanFunc) (addressConversation, error) {
		c := addressConversation{Address: identity.Address{TenantID: tenant, Channel: a.channel, ExternalID: a.externalID}}
		return c, sc(sqldb.Text(&c.id), sqldb.Text(&c.InstanceID), &c.group)
	})
	return slices.DeleteFunc(conversations, func(c addressConversation) bool { return !include(c.InstanceID) }), err
}

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
	for _, id := range append([]string{a.externalID}, a.aliases...) {
		found, err := addressConversations(ctx, s.db, tenant, a.under(id), func(id string) bool {
			return (instance == "" || id == instance) && a.speaksIn(id)
		})
		if err != nil {
			return nil, err
		}
		for _, c := range found {
			conversations = append(conversations, gateway.CustomerConversation{
				ID: c.id, TenantID: tenant, InstanceID: c.InstanceID, Channel: c.Channel, ExternalID: c.ExternalID, Group: c.group,
			})
		}
	}
	return conversations, nil
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
		m.SentAt, m.Action, m.Content = message.SentAt.UTC(), message.Action, message.Content
		m.StartPayload = message.StartPayload
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
