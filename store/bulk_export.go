package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"hydragate/identity"
	"hydragate/store/sqldb"
)

const recordColumns = customerColumns + `, fk_id, fk_user_id, source, context`

func scanRecord(sc sqldb.ScanFunc) (r identity.Record, err error) {
	r.Customer, err = scanCustomer(func(dest ...any) error {
		return sc(append(dest, sqldb.Text(&r.FKID), sqldb.Text(&r.FKUserID), sqldb.Text(&r.Source), sqldb.Text(&r.Context))...)
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

// Records gives customers with their identities, in order of id, after the id given.
// Instances are named by their names, where these are theirs alone.
func (s *Store) Records(ctx context.Context, tenant, after string, limit int) ([]identity.Record, error) {
	rs, err := s.db.Query(ctx, `
		select `+recordColumns+` from customers
		where tenant_id = $1 and id > $2
		order by id limit $3`, tenant, startAfter(after), limit)
	records, err := sqldb.ScanAll(rs, err, scanRecord)
	if err != nil || len(records) == 0 {
		return nil, s.customerError("read customers", err)
	}
	names, err := loadInstanceIndex(ctx, s.db, tenant)
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
	for n := range records {
		// Both are in the same order, but a customer may have gone in between.
		for len(identities) > 0 && identities[0].CustomerID <= records[n].ID {
			if identities[0].CustomerID == records[n].ID {
				records[n].Identities = append(records[n].Identities, names.withInstanceName(identities[0]))
			}
			identities = identities[1:]
		}
	}
	return records, nil
}

// instanceIndex are the instances that a text may mean: an id, or a name.
type instanceIndex map[string]instanceRef

type instanceRef struct {
	id, name  string
	ambiguous bool // have the name
}

func loadInstanceIndex(ctx context.Context, d sqldb.DB, tenant string) (instanceIndex, error) {
	rs, err := d.Query(ctx, `select `+instanceColumns+` from instances where tenant_id = $1`, tenant)
	known, err := sqldb.ScanAll(rs, err, scanInstance)
	if err != nil {
		return nil, fmt.Errorf("read instances: %w", err)
	}
	choices := instanceIndex{}
	for _, i := range known {
		_, several := choices[i.Name]
		choices[i.Name] = instanceRef{i.ID, i.Name, several}
	}
	for _, i := range known { // an id, before a name that looks like one
		choices[i.ID] = instanceRef{id: i.ID, name: i.Name}
	}
	return choices, nil
}

// withInstanceName gives i with its instance as a text that choose understands.
func (c instanceIndex) withInstanceName(i identity.RecordIdentity) identity.RecordIdentity {
	i.Instance = i.InstanceID
	if n := c[i.InstanceID].name; n != "" && c[n].id == i.InstanceID && !c[n].ambiguous {
		i.Instance = n
	}
	return i
}

// resolve gives the id of the instance that a text means; "" is every instance.
func (c instanceIndex) resolve(text string) (string, error) {
	i, ok := c[text]
	switch {
	case text == "":
		return "", nil
	case !ok:
		return "", errors.New("instance: there is none of this id or name")
	case i.ambiguous:
		return "", errors.New("instance: several have this name; give the id")
	}
	return i.id, nil
}

// An batchInsert collects rows, to be kept by few statements. Their lengths are few too, so
// that the engine knows the statements again.
type batchInsert struct {
	table string // table and columns
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

// auditStmts keep many events at once; their time is the database's.
func auditStmts(events []identity.Event) []sqldb.Statement {
	rows := &batchInsert{table: `audit_events (id, tenant_id, kind, actor, customer_id, identity_id, detail)`}
	for _, e := range events {
		detail, _ := json.Marshal(e.Detail) // texts by name cannot fail
		rows.add([]any{newID(), e.TenantID, e.Kind, string(e.Actor), sqldb.TextOrNull(e.CustomerID), sqldb.TextOrNull(e.IdentityID), string(detail)})
	}
	return rows.stmts()
}
