package store

import (
	"context"

	"hydragate/identity"
)

// An account is an address with everybody who has it: one external account on one
// channel, as seen by the customer asked about.
type account struct {
	channel, externalID string

	ours   []held // the customer's
	others []held // other customers'
	nobody []held // unknown senders'
}

// accountOf reads who has an address.
func (s *Store) accountOf(ctx context.Context, tx db, tenant, customer, channel, externalID string) (account, error) {
	a := account{channel: channel, externalID: externalID}
	rs, err := tx.Query(ctx, `
		select `+identityColumns+`, claim_gen from identities
		where tenant_id = $1 and channel = $2 and external_id = $3 order by id`, tenant, channel, externalID)
	rows, err := all(rs, err, scanHeld)
	for _, h := range rows {
		switch h.CustomerID {
		case customer:
			a.ours = append(a.ours, h)
		case "":
			a.nobody = append(a.nobody, h)
		default:
			a.others = append(a.others, h)
		}
	}
	return a, err
}

// speaks reports whether it is the customer who speaks from the account in an
// instance.
func (a account) speaks(instance string) bool {
	return has(a.ours, instance) || !has(a.others, instance) && has(a.ours, "")
}

// free reports whether no other customer speaks from the account in an instance.
func (a account) free(instance string) bool {
	return has(a.ours, instance) || !has(a.others, instance) && (has(a.ours, "") || !has(a.others, ""))
}

func has(hs []held, instance string) bool {
	for _, h := range hs {
		if h.InstanceID == instance {
			return true
		}
	}
	return false
}

// A talk is a conversation somebody took part in.
type talk struct {
	identity.Address // of the account; the instance is the conversation's
	id               string
	group            bool
}

// talksOf gives the conversations an account took part in, of instances for which in
// holds: those held with it, those at its own place, and those with nobody in
// particular that it wrote in.
func talksOf(ctx context.Context, d db, tenant string, a account, in func(instance string) bool) ([]talk, error) {
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
		order by 1`, tenant, a.channel, a.externalID, identity.Shown(a.channel, a.externalID))
	found, err := all(rs, err, func(sc scan) (talk, error) {
		t := talk{Address: identity.Address{TenantID: tenant, Channel: a.channel, ExternalID: a.externalID}}
		return t, sc(text(&t.id), text(&t.InstanceID), &t.group)
	})
	var talks []talk
	for _, t := range found {
		if in(t.InstanceID) {
			talks = append(talks, t)
		}
	}
	return talks, err
}
