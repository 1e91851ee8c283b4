package store

import (
	"context"
	"fmt"
	"strings"

	"hydragate/identity"
)

const recordColumns = customerColumns + `, fk_id, fk_user_id, source, context`

func scanRecord(sc scan) (r identity.Record, err error) {
	r.Customer, err = scanCustomer(func(dest ...any) error {
		return sc(append(dest, text(&r.FKID), text(&r.FKUserID), text(&r.Source), text(&r.Context))...)
	})
	return r, err
}

const recordIdentityColumns = identityColumns + `, avatar_url, info_url, page_url`

func scanRecordIdentity(sc scan) (i identity.RecordIdentity, err error) {
	var instance string
	i.Identity, err = scanIdentity(func(dest ...any) error {
		return sc(append(dest, text(&i.AvatarURL), text(&i.InfoURL), text(&i.PageURL), text(&instance))...)
	})
	i.Instance = instance
	return i, err
}

// Records gives customers with their identities, in order of id, after the id given.
// Instances are named when no other of the tenant has the name.
func (s *Store) Records(ctx context.Context, tenant, after string, limit int) ([]identity.Record, error) {
	rs, err := s.db.Query(ctx, `
		select `+recordColumns+` from customers
		where tenant_id = $1 and id > $2
		order by id limit $3`, tenant, start(after), limit)
	records, err := all(rs, err, scanRecord)
	if err != nil || len(records) == 0 {
		return nil, s.customerError("read customers", err)
	}
	rs, err = s.db.Query(ctx, `
		select `+recordIdentityColumns+`, (
			select case when count(*) = 1 then min(n.name) else max(cast(i.instance_id as text)) end
			from instances n
			where i.instance_id is not null and n.tenant_id = i.tenant_id
				and n.name = (select x.name from instances x where x.tenant_id = i.tenant_id and x.id = i.instance_id))
		from identities i
		where tenant_id = $1 and customer_id > $2 and customer_id <= $3
		order by customer_id, created_at, id`, tenant, start(after), records[len(records)-1].ID)
	identities, err := all(rs, err, scanRecordIdentity)
	if err != nil {
		return nil, fmt.Errorf("read identities: %w", err)
	}
	for n := range records {
		// Both are in the same order, but a customer may have gone in between.
		for len(identities) > 0 && identities[0].CustomerID <= records[n].ID {
			if identities[0].CustomerID == records[n].ID {
				records[n].Identities = append(records[n].Identities, identities[0])
			}
			identities = identities[1:]
		}
	}
	return records, nil
}

// listed gives a list of placeholders for values and the arguments with them. Lists
// come in few lengths, so that the engine knows the statements again: the last value
// stands several times.
func listed(args []any, values []string, sign string) (string, []any) {
	n := 8
	for n < len(values) {
		n *= 4
	}
	var b strings.Builder
	for i := range n {
		args = append(args, values[min(i, len(values)-1)])
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, sign, len(args))
	}
	return b.String(), args
}
