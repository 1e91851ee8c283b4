package store

import (
	"context"
	"fmt"
	"strings"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store/sqldb"
)

// An addressOwners is an address with everybody who has it: one external account on one
// channel, as seen by the customer asked about.
type addressOwners struct {
	channel, externalID string

	own            []lockedIdentity // the customer's
	otherCustomers []lockedIdentity // other customers'
	unknownSenders []lockedIdentity // unknown senders'
}

// loadAddressOwners reads who has an address.
func (s *Store) loadAddressOwners(ctx context.Context, tx sqldb.DB, tenant, customer, channel, externalID string) (addressOwners, error) {
	a := addressOwners{channel: channel, externalID: externalID}
	rs, err := tx.Query(ctx, `
		select `+identityColumns+`, claim_gen from identities
		where tenant_id = $1 and channel = $2 and external_id = $3 order by id`, tenant, channel, externalID)
	rows, err := sqldb.ScanAll(rs, err, scanLockedIdentity)
	for _, h := range rows {
		switch h.CustomerID {
		case customer:
			a.own = append(a.own, h)
		case "":
			a.unknownSenders = append(a.unknownSenders, h)
		default:
			a.otherCustomers = append(a.otherCustomers, h)
		}
	}
	return a, err
}

// speaksIn reports whether it is the customer who speaks from the account in an
// instance.
func (a addressOwners) speaksIn(instance string) bool {
	return hasInstance(a.own, instance) || !hasInstance(a.otherCustomers, instance) && hasInstance(a.own, "")
}

// isUncontested reports whether no other customer speaks from the account in an instance.
func (a addressOwners) isUncontested(instance string) bool {
	return hasInstance(a.own, instance) || !hasInstance(a.otherCustomers, instance) && (hasInstance(a.own, "") || !hasInstance(a.otherCustomers, ""))
}

func hasInstance(hs []lockedIdentity, instance string) bool {
	for _, h := range hs {
		if h.InstanceID == instance {
			return true
		}
	}
	return false
}

// A addressConversation is a conversation somebody took part in.
type addressConversation struct {
	identity.Address // of the account; the instance is the conversation's
	id               string
	group            bool
}

// addressConversations gives the conversations an account took part in, of instances for which in
// holds: those held with it, those at its own place, and those with nobody in
// particular that it wrote in.
func addressConversations(ctx context.Context, d sqldb.DB, tenant string, a addressOwners, in func(instance string) bool) ([]addressConversation, error) {
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
	found, err := sqldb.ScanAll(rs, err, func(sc sqldb.ScanFunc) (addressConversation, error) {
		t := addressConversation{Address: identity.Address{TenantID: tenant, Channel: a.channel, ExternalID: a.externalID}}
		return t, sc(sqldb.Text(&t.id), sqldb.Text(&t.InstanceID), &t.group)
	})
	var talks []addressConversation
	for _, t := range found {
		if in(t.InstanceID) {
			talks = append(talks, t)
		}
	}
	return talks, err
}

// maxOwnerships is how many spans of one address are told: the newest.
const maxOwnerships = 1000

const ownershipColumns = `identity_id, instance_id, channel, external_id, customer_id, since, until, erased_at`

func scanOwnership(sc sqldb.ScanFunc) (o identity.Ownership, err error) {
	err = sc(sqldb.Text(&o.IdentityID), sqldb.Text(&o.InstanceID), &o.Channel, &o.ExternalID, sqldb.Text(&o.CustomerID), sqldb.Time(&o.Since), sqldb.Time(&o.Until), sqldb.Time(&o.ErasedAt))
	return o, err
}

// IdentityAddress gives the address of an identity, also of one that is gone: the last it
// had when somebody owned it. InstanceID is empty for every instance.
// identity.ErrNotFound when nobody ever heard of it.
func (s *Store) IdentityAddress(ctx context.Context, tenant, id string) (identity.Address, error) {
	a := identity.Address{TenantID: tenant}
	rs, err := s.db.Query(ctx, `
		select instance_id, channel, external_id from (
			select instance_id, channel, external_id, 0 as n from identities where tenant_id = $1 and id = $2
			union all
			select instance_id, channel, external_id, seq as n from identity_owners where tenant_id = $1 and identity_id = $2) a
		order by (case when n = 0 then 0 else 1 end), n desc limit 1`, tenant, id)
	_, err = sqldb.ScanOne(rs, err, func(sc sqldb.ScanFunc) (struct{}, error) {
		return struct{}{}, sc(sqldb.Text(&a.InstanceID), &a.Channel, &a.ExternalID)
	})
	return a, s.identityError("read address", err)
}

// AddressHistory tells who owned an address when, oldest first, in every instance: also when
// the identity is gone, and under its pseudonym when the customer was erased.
func (s *Store) AddressHistory(ctx context.Context, a identity.Address) ([]identity.Ownership, error) {
	args, places := []any{a.TenantID, a.Channel, a.ExternalID, maxOwnerships}, []string{"$3"}
	pseudonyms, err := s.pseudonyms(ctx, a.TenantID, a.Channel, a.ExternalID)
	if err != nil {
		return nil, err
	}
	for _, p := range pseudonyms {
		args = append(args, p)
		places = append(places, fmt.Sprintf("$%d", len(args)))
	}
	rs, err := s.db.Query(ctx, `
		select `+ownershipColumns+` from (
			select * from identity_owners
			where tenant_id = $1 and channel = $2 and external_id in (`+strings.Join(places, ", ")+`)
			order by seq desc limit $4) o
		order by seq`, args...)
	os, err := sqldb.ScanAll(rs, err, scanOwnership)
	return os, s.identityError("read history", err)
}

// CustomerHistory tells which addresses a customer owned when, oldest first.
func (s *Store) CustomerHistory(ctx context.Context, tenant, customer string) ([]identity.Ownership, error) {
	rs, err := s.db.Query(ctx, `
		select `+ownershipColumns+` from identity_owners
		where tenant_id = $1 and customer_id = $2 order by seq`, tenant, customer)
	os, err := sqldb.ScanAll(rs, err, scanOwnership)
	return os, s.identityError("read history of customer", err)
}
