package store

import (
	"context"
	"encoding/json"
	"errors"
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
	i.Identity, err = scanIdentity(func(dest ...any) error {
		return sc(append(dest, text(&i.AvatarURL), text(&i.InfoURL), text(&i.PageURL))...)
	})
	return i, err
}

// Records gives customers with their identities, in order of id, after the id given.
// Instances are named by their names, where these are theirs alone.
func (s *Store) Records(ctx context.Context, tenant, after string, limit int) ([]identity.Record, error) {
	rs, err := s.db.Query(ctx, `
		select `+recordColumns+` from customers
		where tenant_id = $1 and id > $2
		order by id limit $3`, tenant, start(after), limit)
	records, err := all(rs, err, scanRecord)
	if err != nil || len(records) == 0 {
		return nil, s.customerError("read customers", err)
	}
	names, err := instanceNames(ctx, s.db, tenant)
	if err != nil {
		return nil, err
	}
	rs, err = s.db.Query(ctx, `
		select `+recordIdentityColumns+` from identities
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
				records[n].Identities = append(records[n].Identities, names.named(identities[0]))
			}
			identities = identities[1:]
		}
	}
	return records, nil
}

// instanceChoices are the instances that a text may mean: an id, or a name.
type instanceChoices map[string]instanceChoice

type instanceChoice struct {
	id, name string
	several  bool // have the name
}

func instanceNames(ctx context.Context, d db, tenant string) (instanceChoices, error) {
	rs, err := d.Query(ctx, `select `+instanceColumns+` from instances where tenant_id = $1`, tenant)
	known, err := all(rs, err, scanInstance)
	if err != nil {
		return nil, fmt.Errorf("read instances: %w", err)
	}
	choices := instanceChoices{}
	for _, i := range known {
		_, several := choices[i.Name]
		choices[i.Name] = instanceChoice{i.ID, i.Name, several}
	}
	for _, i := range known { // an id, before a name that looks like one
		choices[i.ID] = instanceChoice{id: i.ID, name: i.Name}
	}
	return choices, nil
}

// named gives i with its instance as a text that choose understands.
func (c instanceChoices) named(i identity.RecordIdentity) identity.RecordIdentity {
	i.Instance = i.InstanceID
	if n := c[i.InstanceID].name; n != "" && c[n].id == i.InstanceID && !c[n].several {
		i.Instance = n
	}
	return i
}

// choose gives the id of the instance that a text means; "" is every instance.
func (c instanceChoices) choose(text string) (string, error) {
	i, ok := c[text]
	switch {
	case text == "":
		return "", nil
	case !ok:
		return "", errors.New("instance: there is none of this id or name")
	case i.several:
		return "", errors.New("instance: several have this name; give the id")
	}
	return i.id, nil
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

// An insert collects rows, to be kept by few statements. Their lengths are few too, so
// that the engine knows the statements again.
type insert struct {
	into string // table and columns
	rows [][]any
}

func (i *insert) add(row []any) { i.rows = append(i.rows, row) }

func (i *insert) stmts() []stmt {
	var stmts []stmt
	rows := i.rows
	for _, n := range []int{100, 10, 1} {
		for len(rows) >= n {
			stmts = append(stmts, i.stmt(rows[:n]))
			rows = rows[n:]
		}
	}
	return stmts
}

func (i *insert) stmt(rows [][]any) stmt {
	var b strings.Builder
	var args []any
	b.WriteString(`insert into ` + i.into + ` values `)
	for n, row := range rows {
		if n > 0 {
			b.WriteString(`, `)
		}
		for at, v := range row {
			args = append(args, v)
			fmt.Fprintf(&b, "%c$%d", "(,"[min(at, 1)], len(args))
		}
		b.WriteByte(')')
	}
	return stmt{query: b.String(), args: args}
}

// auditStmts keep many events at once; their time is the database's.
func auditStmts(events []identity.Event) []stmt {
	rows := &insert{into: `audit_events (id, tenant_id, kind, actor, customer_id, identity_id, detail)`}
	for _, e := range events {
		detail, _ := json.Marshal(e.Detail) // texts by name cannot fail
		rows.add([]any{newID(), e.TenantID, e.Kind, string(e.Actor), orNull(e.CustomerID), orNull(e.IdentityID), string(detail)})
	}
	return rows.stmts()
}
