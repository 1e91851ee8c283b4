package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"hydragate/identity"
	"hydragate/store/sqldb"
)

// An Import imports customer records in batches. The customer of a record is determined by its ID;
// without one, by its e-mail address; without one, by its fk_id; without one, by the owner of one
// of its identities. If none matches, a customer is created. Importing the same records again
// changes nothing.
//
// Fields that a record leaves empty keep their values, and existing identities are not changed.
type Import struct {
	store   *Store
	options identity.ImportOptions
	plan    *importPlan // only for a dry run: what the previous batches would have changed
}

// NewImport returns an Import with the given options.
func (s *Store) NewImport(options identity.ImportOptions) *Import {
	return &Import{store: s, options: options}
}

// ImportRecords imports records in one transaction and returns one result for each. A record that
// cannot be imported has an error in its result and does not affect the others. If ImportRecords
// returns an error, it is not about a record. If the database rejects the batch because of one
// record, the batch is split in half and each half is imported in its own transaction.
func (i *Import) ImportRecords(ctx context.Context, records []identity.Record) ([]identity.ImportResult, error) {
	results, err := i.importRecords(ctx, records)
	if err == nil || !i.store.isRecordError(err) {
		return results, err
	}
	// A concurrent change or invalid data: bisect to find the record.
	if len(records) == 1 {
		return []identity.ImportResult{{Err: i.store.recordError(err)}}, nil
	}
	half := len(records) / 2
	first, err := i.ImportRecords(ctx, records[:half])
	if err != nil {
		return nil, err
	}
	second, err := i.ImportRecords(ctx, records[half:])
	return append(first, second...), err
}

// importRecords imports a batch in one transaction, or only plans it for a dry run.
func (i *Import) importRecords(
	ctx context.Context, records []identity.Record,
) (results []identity.ImportResult, err error) {
	if i.options.DryRun {
		if i.plan == nil {
			i.plan = newImportPlan(i.store, i.options)
		}
		if err := i.plan.read(ctx, i.store.db, records); err != nil {
			return nil, err
		}
		return i.plan.decide(records), nil
	}
	err = i.store.db.InTx(ctx, func(tx sqldb.DB) error {
		p := newImportPlan(i.store, i.options)
		if err := p.read(ctx, tx, records); err != nil {
			return err
		}
		results = p.decide(records)
		return p.write(ctx, tx)
	})
	return results, err
}

// isRecordError reports whether err may be caused by the data of a record.
func (s *Store) isRecordError(err error) bool {
	return s.dialect.IsDuplicate(err) || s.dialect.IsForeignKeyViolation(err) || s.dialect.IsUnstorable(err) ||
		errors.Is(err, identity.ErrAlreadyLinked)
}

// recordError returns the message for a record that caused err.
func (s *Store) recordError(err error) error {
	switch {
	case s.dialect.IsDuplicate(err) || errors.Is(err, identity.ErrAlreadyLinked):
		return errors.New("another customer got the same e-mail address or identity during the import")
	case s.dialect.IsForeignKeyViolation(err):
		return errors.New("the customer or instance was removed during the import")
	}
	return errors.New("the database rejected a value")
}

// write applies the planned changes with multi-row statements.
func (p *importPlan) write(ctx context.Context, tx sqldb.DB) error {
	now := p.store.now()
	customers, identities := newCustomerInsert(), newIdentityInsert()
	var updates []sqldb.Statement
	var events []identity.Event
	var adopted []identity.RecordIdentity
	for _, c := range p.changes {
		switch {
		case c.create:
			customers.add(p.customerRow(c.record, now))
			events = append(events, p.event("customer.created", c.record.ID, "", nil))
		case len(c.fields) > 0:
			updates = append(updates, p.updateStmt(c, now))
			events = append(events, p.event("customer.updated", c.record.ID, "", changedFields(c.fields)))
		}
		for _, i := range c.link {
			if p.isUnknownSender(i) {
				adopted = append(adopted, i)
				continue
			}
			i.ID = newID()
			identities.add(p.identityRow(i, now))
			events = append(append(events, p.event("identity.linked", i.CustomerID, i.ID,
				map[string]string{"channel": i.Channel})), p.grantEvents(i)...)
		}
	}
	if err := tx.Batch(ctx, slices.Concat(customers.stmts(), updates, identities.stmts(),
		auditStmts(events))); err != nil {
		return fmt.Errorf("store records: %w", err)
	}
	for _, i := range adopted {
		if err := p.linkUnknownSender(ctx, tx, i, now); err != nil {
			return err
		}
	}
	return nil
}

func newCustomerInsert() *batchInsert {
	return &batchInsert{table: `customers (id, tenant_id, email, phone_number, first_name, last_name, company_name,
		locale, timezone, metadata, fk_id, fk_user_id, source, context, created_at, updated_at, ` + foldColumns + `)`}
}

func (p *importPlan) customerRow(r identity.Record, now time.Time) []any {
	return append([]any{
		r.ID, p.options.TenantID, sqldb.TextOrNull(r.Email), sqldb.TextOrNull(r.PhoneNumber), sqldb.TextOrNull(r.FirstName),
		sqldb.TextOrNull(r.LastName), sqldb.TextOrNull(r.CompanyName), sqldb.TextOrNull(r.Locale),
		sqldb.TextOrNull(r.Timezone),
		jsonObject(r.Metadata), sqldb.TextOrNull(r.FKID), sqldb.TextOrNull(r.FKUserID), sqldb.TextOrNull(r.Source),
		sqldb.TextOrNull(r.Context), now, now,
	}, foldValues(r.Customer)...)
}

func (p *importPlan) updateStmt(c importChange, now time.Time) sqldb.Statement {
	r := c.record
	ch := columnUpdate{args: []any{p.options.TenantID, r.ID, now}}
	for _, f := range textColumns(&r) {
		if slices.Contains(c.fields, f.name) {
			ch.setCustomerText(f.name, f.value)
		}
	}
	if slices.Contains(c.fields, "metadata") {
		ch.set("metadata", jsonObject(r.Metadata))
	}
	return sqldb.Statement{Query: `update customers set updated_at = $3` + ch.assignments +
		` where tenant_id = $1 and id = $2`, Args: ch.args}
}

func newIdentityInsert() *batchInsert {
	return &batchInsert{table: `identities (id, tenant_id, customer_id, instance_id, channel, external_id, display_name,
		username, role_override, metadata, verified_at, avatar_url, info_url, page_url, created_at, updated_at)`}
}

func (p *importPlan) identityRow(i identity.RecordIdentity, now time.Time) []any {
	return []any{
		i.ID, p.options.TenantID, i.CustomerID, sqldb.TextOrNull(i.InstanceID), i.Channel, i.ExternalID,
		sqldb.TextOrNull(i.DisplayName), sqldb.TextOrNull(i.Username), sqldb.TextOrNull(i.RoleOverride),
		jsonObject(i.Metadata), sqldb.TimeOrNull(p.verifiedAt(i)), sqldb.TextOrNull(i.AvatarURL),
		sqldb.TextOrNull(i.InfoURL), sqldb.TextOrNull(i.PageURL), now, now,
	}
}

// grantEvents returns the events for the rights that an identity was imported with.
func (p *importPlan) grantEvents(i identity.RecordIdentity) []identity.Event {
	var events []identity.Event
	if i.RoleOverride != "" {
		events = append(events, p.event("identity.granted", i.CustomerID, i.ID, changedFields([]string{"role_override"})))
	}
	if !p.verifiedAt(i).IsZero() {
		events = append(events, p.event("identity.granted", i.CustomerID, i.ID,
			map[string]string{"fields": "verified", "reason": p.options.TrustReason}))
	}
	return events
}

// linkUnknownSender links an address that belongs to an unknown sender.
func (p *importPlan) linkUnknownSender(
	ctx context.Context, tx sqldb.DB, i identity.RecordIdentity, now time.Time,
) error {
	linked, err := p.store.linkTx(ctx, tx, i.Identity, p.options.Actor)
	if err != nil {
		return err
	}
	i.ID, i.RoleOverride = linked.ID, "" // linkTx has recorded the event for the role
	return tx.Batch(ctx, append([]sqldb.Statement{{
		Query: `
		update identities set username = coalesce($3, username), avatar_url = $4, info_url = $5, page_url = $6,
			verified_at = $7, updated_at = $8
		where tenant_id = $1 and id = $2`,
		Args: []any{
			p.options.TenantID, i.ID, sqldb.TextOrNull(i.Username), sqldb.TextOrNull(i.AvatarURL),
			sqldb.TextOrNull(i.InfoURL), sqldb.TextOrNull(i.PageURL), sqldb.TimeOrNull(p.verifiedAt(i)), now,
		},
	}},
		auditStmts(p.grantEvents(i))...))
}

// verifiedAt returns when an identity was verified, or the zero time if the options do not trust
// the file.
func (p *importPlan) verifiedAt(i identity.RecordIdentity) time.Time {
	if p.options.TrustReason == "" {
		return time.Time{}
	}
	return i.VerifiedAt
}

// event returns an event of the import.
func (p *importPlan) event(kind, customer, id string, detail map[string]string) identity.Event {
	if detail == nil {
		detail = map[string]string{}
	}
	detail["by"] = "import"
	return identity.Event{
		TenantID: p.options.TenantID, Kind: kind, Actor: p.options.Actor, CustomerID: customer,
		IdentityID: id, Detail: detail,
	}
}

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
	region    string // default region of phone numbers
	ambiguous bool   // several instances have the name
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
		index[i.Name] = instanceRef{i.ID, i.Name, i.DefaultRegion, exists}
	}
	for _, i := range instances { // an ID takes precedence over a name that looks like one
		index[i.ID] = instanceRef{id: i.ID, name: i.Name, region: i.DefaultRegion}
	}
	return index, nil
}

// DefaultRegions returns the default regions of the instances of a tenant by their IDs and names, and that of
// DefaultRegion for all of them under "". Ambiguous names are left out.
func (s *Store) DefaultRegions(ctx context.Context, tenant string) (map[string]string, error) {
	index, err := loadInstanceIndex(ctx, s.db, tenant)
	if err != nil {
		return nil, err
	}
	regions := map[string]string{}
	for name, i := range index {
		if !i.ambiguous {
			regions[name] = i.region
		}
	}
	regions[""], err = s.DefaultRegion(ctx, tenant, "")
	return regions, err
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
