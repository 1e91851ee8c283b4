package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"hydragate/identity"
	"hydragate/store/sqldb"
)

const recordColumns = customerColumns + `, fk_id, fk_user_id, source, context`

func scanRecord(sc sqldb.ScanFunc) (r identity.Record, err error) {
	r.Customer, err = scanCustomer(func(dest ...any) error {
		return sc(append(dest, sqldb.Text(&r.FKID), sqldb.Text(&r.FKUserID), sqldb.Text(&r.Source),
			sqldb.Text(&r.Context))...)
	})
	return r, err
}

const recordIdentityColumns = identityColumns + `, avatar_url, info_url, page_url`

func scanRecordIdentity(sc sqldb.ScanFunc) (i identity.RecordIdentity, err error) {
	i.Identity, err = scanIdentity(func(dest ...any) error {
		return sc(append(dest, sqldb.Text(&i.AvatarURL), sqldb.Text(&i.InfoURL), sqldb.Text(&i.PageURL))...)
	})
	return i, err
}

// Records returns at most limit customers with their identities in order of ID, starting after the
// ID after. Instances are given by name if the name is unique, and otherwise by ID.
func (s *Store) Records(ctx context.Context, tenant, after string, limit int) ([]identity.Record, error) {
	rs, err := s.db.Query(ctx, `
		select `+recordColumns+` from customers
		where tenant_id = $1 and id > $2
		order by id limit $3`, tenant, startAfter(after), limit)
	records, err := sqldb.ScanAll(rs, err, scanRecord)
	if err != nil || len(records) == 0 {
		return nil, s.customerError("read customers", err)
	}
	instances, err := loadInstanceIndex(ctx, s.db, tenant)
	if err != nil {
		return nil, err
	}
	rs, err = s.db.Query(ctx, `
		select `+recordIdentityColumns+` from identities
		where tenant_id = $1 and customer_id > $2 and customer_id <= $3
		order by customer_id, created_at, id`, tenant, startAfter(after), records[len(records)-1].ID)
	identities, err := sqldb.ScanAll(rs, err, scanRecordIdentity)
	if err != nil {
		return nil, fmt.Errorf("read identities: %w", err)
	}
	for i := range records {
		// Both lists have the same order, but a customer may have been deleted in between.
		for len(identities) > 0 && identities[0].CustomerID <= records[i].ID {
			if identities[0].CustomerID == records[i].ID {
				records[i].Identities = append(records[i].Identities, instances.withInstanceName(identities[0]))
			}
			identities = identities[1:]
		}
	}
	return records, nil
}

// instanceIndex maps instance IDs and names to instances.
type instanceIndex map[string]instanceRef

type instanceRef struct {
	id, name  string
	ambiguous bool // several instances have the name
}

// loadInstanceIndex returns the index of all instances of a tenant.
func loadInstanceIndex(ctx context.Context, d sqldb.DB, tenant string) (instanceIndex, error) {
	rs, err := d.Query(ctx, `select `+instanceColumns+` from instances where tenant_id = $1`, tenant)
	instances, err := sqldb.ScanAll(rs, err, scanInstance)
	if err != nil {
		return nil, fmt.Errorf("read instances: %w", err)
	}
	index := instanceIndex{}
	for _, i := range instances {
		_, exists := index[i.Name]
		index[i.Name] = instanceRef{i.ID, i.Name, exists}
	}
	for _, i := range instances { // an ID takes precedence over a name that looks like one
		index[i.ID] = instanceRef{id: i.ID, name: i.Name}
	}
	return index, nil
}

// withInstanceName returns i with Instance set to the name of its instance, or to the ID if the name is
// empty or ambiguous. resolve maps both back to i.InstanceID.
func (c instanceIndex) withInstanceName(i identity.RecordIdentity) identity.RecordIdentity {
	i.Instance = i.InstanceID
	if n := c[i.InstanceID].name; n != "" && c[n].id == i.InstanceID && !c[n].ambiguous {
		i.Instance = n
	}
	return i
}

// resolve returns the ID of the instance with the given ID or name, and "" for "", which means all
// instances.
func (c instanceIndex) resolve(text string) (string, error) {
	i, ok := c[text]
	switch {
	case text == "":
		return "", nil
	case !ok:
		return "", errors.New("instance: no instance has this id or name")
	case i.ambiguous:
		return "", errors.New("instance: several instances have this name; use the id")
	}
	return i.id, nil
}

// A batchInsert collects rows and inserts them with few multi-row statements. The number of rows
// per statement is one of a few, so that few distinct statements are prepared.
type batchInsert struct {
	table string // with the list of columns
	rows  [][]any
}

func (i *batchInsert) add(row []any) { i.rows = append(i.rows, row) }

func (i *batchInsert) stmts() []sqldb.Statement {
	var stmts []sqldb.Statement
	rows := i.rows
	for _, n := range []int{100, 10, 1} {
		for len(rows) >= n {
			stmts = append(stmts, i.stmt(rows[:n]))
			rows = rows[n:]
		}
	}
	return stmts
}

func (i *batchInsert) stmt(rows [][]any) sqldb.Statement {
	var b strings.Builder
	var args []any
	b.WriteString(`insert into ` + i.table + ` values `)
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
	return sqldb.Statement{Query: b.String(), Args: args}
}

// auditStmts returns statements that insert many events, whose time the database sets.
func auditStmts(events []identity.Event) []sqldb.Statement {
	rows := &batchInsert{table: `audit_events (id, tenant_id, kind, actor, customer_id, identity_id, detail)`}
	for _, e := range events {
		rows.add([]any{
			newID(), e.TenantID, e.Kind, string(e.Actor), sqldb.TextOrNull(e.CustomerID),
			sqldb.TextOrNull(e.IdentityID), encodeDetail(e.Detail),
		})
	}
	return rows.stmts()
}
