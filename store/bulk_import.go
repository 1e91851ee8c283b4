package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
		locale, timezone, metadata, fk_id, fk_user_id, source, context, created_at, updated_at)`}
}

func (p *importPlan) customerRow(r identity.Record, now time.Time) []any {
	return []any{
		r.ID, p.options.TenantID, sqldb.TextOrNull(r.Email), sqldb.TextOrNull(r.PhoneNumber), sqldb.TextOrNull(r.FirstName),
		sqldb.TextOrNull(r.LastName), sqldb.TextOrNull(r.CompanyName), sqldb.TextOrNull(r.Locale),
		sqldb.TextOrNull(r.Timezone),
		jsonObject(r.Metadata), sqldb.TextOrNull(r.FKID), sqldb.TextOrNull(r.FKUserID), sqldb.TextOrNull(r.Source),
		sqldb.TextOrNull(r.Context), now, now,
	}
}

func (p *importPlan) updateStmt(c importChange, now time.Time) sqldb.Statement {
	r := c.record
	ch := columnUpdate{args: []any{p.options.TenantID, r.ID, now}}
	for _, f := range textColumns(&r) {
		if slices.Contains(c.fields, f.name) {
			ch.setText(f.name, f.value)
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
