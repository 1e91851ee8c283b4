package store

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store/sqldb"
)

// addressOwners holds all identities of one address, that is of one external account on a channel,
// grouped from the point of view of one customer.
type addressOwners struct {
	channel, externalID string

	own            []lockedIdentity // of the customer
	otherCustomers []lockedIdentity // of other customers
	unknownSenders []lockedIdentity // of no customer
}

// loadAddressOwners returns the identities of an address, grouped into those of customer, those of
// other customers and unknown senders.
func (s *Store) loadAddressOwners(
	ctx context.Context, tx sqldb.DB, tenant, customer, channel, externalID string,
) (addressOwners, error) {
	a := addressOwners{channel: channel, externalID: externalID}
	rs, err := tx.Query(ctx, `
		select `+identityColumns+`, claim_gen from identities
		where tenant_id = $1 and channel = $2 and external_id = $3 order by id`, tenant, channel, externalID)
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

// maxOwnerships limits AddressHistory to the newest entries.
const maxOwnerships = 1000

const ownershipColumns = `identity_id, instance_id, channel, external_id, customer_id, since, until, erased_at`

func scanOwnership(sc sqldb.ScanFunc) (o identity.Ownership, err error) {
	err = sc(sqldb.Text(&o.IdentityID), sqldb.Text(&o.InstanceID), &o.Channel, &o.ExternalID, sqldb.Text(&o.CustomerID),
		sqldb.Time(&o.Since), sqldb.Time(&o.Until), sqldb.Time(&o.ErasedAt))
	return o, err
}

// IdentityAddress returns the address of an identity. For an identity that no longer exists, it
// returns the last address under which a customer owned it. InstanceID is empty if the identity is
// valid for all instances. It returns identity.ErrNotFound if neither is known.
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

// AddressHistory returns who owned an address and when, oldest first, in all instances. It
// includes deleted identities and, under their pseudonyms, those of erased customers.
func (s *Store) AddressHistory(ctx context.Context, a identity.Address) ([]identity.Ownership, error) {
	args, placeholders := []any{a.TenantID, a.Channel, a.ExternalID, maxOwnerships}, []string{"$3"}
	pseudonyms, err := s.pseudonyms(ctx, a.TenantID, a.Channel, a.ExternalID)
	if err != nil {
		return nil, err
	}
	for _, p := range pseudonyms {
		args = append(args, p)
		placeholders = append(placeholders, fmt.Sprintf("$%d", len(args)))
	}
	rs, err := s.db.Query(ctx, `
		select `+ownershipColumns+` from (
			select * from identity_owners
			where tenant_id = $1 and channel = $2 and external_id in (`+strings.Join(placeholders, ", ")+`)
			order by seq desc limit $4) o
		order by seq`, args...)
	history, err := sqldb.ScanAll(rs, err, scanOwnership)
	return history, s.identityError("read address history", err)
}

// CustomerHistory returns the addresses that a customer owned and when, oldest first. It is empty
// for an unknown customer.
func (s *Store) CustomerHistory(ctx context.Context, tenant, customer string) ([]identity.Ownership, error) {
	rs, err := s.db.Query(ctx, `
		select `+ownershipColumns+` from identity_owners
		where tenant_id = $1 and customer_id = $2 order by seq`, tenant, customer)
	history, err := sqldb.ScanAll(rs, err, scanOwnership)
	return history, s.identityError("read customer history", err)
}
