package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"hydragate/identity"
)

// An Import brings in records, as many at a time as are given together. A record is
// whose id it names; without one, whose e-mail address; without one, whose fk_id;
// without one, who owns one of its identities; and otherwise a new customer. So the
// same records can be imported again, and nothing happens.
//
// What a record does not say stays as it is, and so do identities that are there.
type Import struct {
	store *Store
	how   identity.Importing
	plan  *importPlan // of a dry run: what would be there by now
}

// NewImport begins an import.
func (s *Store) NewImport(how identity.Importing) *Import {
	return &Import{store: s, how: how}
}

// Take imports records in one transaction. A record that cannot be kept says why and
// leaves the others alone; the error is for what nobody's record is to blame for, and
// then nothing is kept.
func (i *Import) Take(ctx context.Context, records []identity.Record) ([]identity.Imported, error) {
	done, err := i.take(ctx, records)
	if err == nil || !i.store.blames(err) {
		return done, err
	}
	// Somebody else got in the way, or the database does not take the data: who is it?
	if len(records) == 1 {
		return []identity.Imported{{Err: i.store.importError(err)}}, nil
	}
	half := len(records) / 2
	first, err := i.Take(ctx, records[:half])
	if err != nil {
		return nil, err
	}
	second, err := i.Take(ctx, records[half:])
	return append(first, second...), err
}

func (i *Import) take(ctx context.Context, records []identity.Record) (done []identity.Imported, err error) {
	if i.how.DryRun {
		if i.plan == nil {
			i.plan = newImportPlan(i.store, i.how)
		}
		if err := i.plan.read(ctx, i.store.db, records); err != nil {
			return nil, err
		}
		return i.plan.decide(records), nil
	}
	err = i.store.again(ctx, func(tx db) error {
		p := newImportPlan(i.store, i.how)
		if err := p.read(ctx, tx, records); err != nil {
			return err
		}
		done = p.decide(records)
		return p.write(ctx, tx)
	})
	return done, err
}

// blames reports whether an error may be about the data of a record.
func (s *Store) blames(err error) bool {
	return s.d.duplicate(err) || s.d.orphan(err) || s.d.unstorable(err) || errors.Is(err, identity.ErrTaken)
}

func (s *Store) importError(err error) error {
	switch {
	case s.d.duplicate(err) || errors.Is(err, identity.ErrTaken):
		return errors.New("somebody else got the same e-mail address or identity at this moment")
	case s.d.orphan(err):
		return errors.New("what it belongs to was removed at this moment")
	}
	return errors.New("the database does not take a value of it")
}

// write does what was decided, many rows with a statement.
func (p *importPlan) write(ctx context.Context, tx db) error {
	now := p.store.now()
	customers, identities := newCustomers(), newIdentities()
	var updates []stmt
	var events []identity.Event
	var adopted []identity.RecordIdentity
	for _, c := range p.changes {
		switch {
		case c.create:
			customers.add(p.customerRow(c.record, now))
			events = append(events, p.event("customer.created", c.record.ID, "", nil))
		case len(c.fields) > 0:
			updates = append(updates, p.updateStmt(c, now))
			events = append(events, p.event("customer.updated", c.record.ID, "", fields(c.fields)))
		}
		for _, i := range c.link {
			if p.isUnknown(i) {
				adopted = append(adopted, i)
				continue
			}
			i.ID = newID()
			identities.add(p.identityRow(i, now))
			events = append(append(events, p.event("identity.linked", i.CustomerID, i.ID, map[string]string{"channel": i.Channel})), p.grants(i)...)
		}
	}
	if err := tx.Batch(ctx, slices.Concat(customers.stmts(), updates, identities.stmts(), auditStmts(events))); err != nil {
		return fmt.Errorf("keep records: %w", err)
	}
	for _, i := range adopted {
		if err := p.adopt(ctx, tx, i, now); err != nil {
			return err
		}
	}
	return nil
}

func newCustomers() *insert {
	return &insert{into: `customers (id, tenant_id, email, phone_number, first_name, last_name, company_name, locale, timezone, metadata, fk_id, fk_user_id, source, context, created_at, updated_at)`}
}

func (p *importPlan) customerRow(r identity.Record, now time.Time) []any {
	return []any{
		r.ID, p.how.TenantID, orNull(r.Email), orNull(r.PhoneNumber), orNull(r.FirstName), orNull(r.LastName), orNull(r.CompanyName), orNull(r.Locale), orNull(r.Timezone),
		document(r.Metadata), orNull(r.FKID), orNull(r.FKUserID), orNull(r.Source), orNull(r.Context), now, now,
	}
}

func (p *importPlan) updateStmt(c importChange, now time.Time) stmt {
	r := c.record
	ch := change{args: []any{p.how.TenantID, r.ID, now}}
	for _, f := range texts(&r) {
		if slices.Contains(c.fields, f.name) {
			ch.text(f.name, f.value)
		}
	}
	if slices.Contains(c.fields, "metadata") {
		ch.set("metadata", document(r.Metadata))
	}
	return stmt{query: `update customers set updated_at = $3` + ch.assignments + ` where tenant_id = $1 and id = $2`, args: ch.args}
}

func newIdentities() *insert {
	return &insert{into: `identities (id, tenant_id, customer_id, instance_id, channel, external_id, display_name, username, role_override, metadata, verified_at, avatar_url, info_url, page_url, created_at, updated_at)`}
}

func (p *importPlan) identityRow(i identity.RecordIdentity, now time.Time) []any {
	return []any{
		i.ID, p.how.TenantID, i.CustomerID, orNull(i.InstanceID), i.Channel, i.ExternalID, orNull(i.DisplayName), orNull(i.Username), orNull(i.RoleOverride),
		document(i.Metadata), timeOrNull(p.verifiedAt(i)), orNull(i.AvatarURL), orNull(i.InfoURL), orNull(i.PageURL), now, now,
	}
}

// grants tell of rights that came with an identity, and why.
func (p *importPlan) grants(i identity.RecordIdentity) []identity.Event {
	var events []identity.Event
	if i.RoleOverride != "" {
		events = append(events, p.event("identity.granted", i.CustomerID, i.ID, fields([]string{"role_override"})))
	}
	if !p.verifiedAt(i).IsZero() {
		events = append(events, p.event("identity.granted", i.CustomerID, i.ID, map[string]string{"fields": "verified", "reason": p.how.Trust}))
	}
	return events
}

// adopt links an address from which somebody wrote already.
func (p *importPlan) adopt(ctx context.Context, tx db, i identity.RecordIdentity, now time.Time) error {
	linked, err := p.store.link(ctx, tx, i.Identity, p.how.By)
	if err != nil {
		return err
	}
	i.ID, i.RoleOverride = linked.ID, "" // told by link
	return tx.Batch(ctx, append([]stmt{{query: `
		update identities set username = coalesce($3, username), avatar_url = $4, info_url = $5, page_url = $6, verified_at = $7, updated_at = $8
		where tenant_id = $1 and id = $2`,
		args: []any{p.how.TenantID, i.ID, orNull(i.Username), orNull(i.AvatarURL), orNull(i.InfoURL), orNull(i.PageURL), timeOrNull(p.verifiedAt(i)), now}}}, auditStmts(p.grants(i))...))
}

// verifiedAt is when an identity was verified, as far as that is trusted.
func (p *importPlan) verifiedAt(i identity.RecordIdentity) time.Time {
	if p.how.Trust == "" {
		return time.Time{}
	}
	return i.VerifiedAt
}

func (p *importPlan) event(kind, customer, id string, detail map[string]string) identity.Event {
	if detail == nil {
		detail = map[string]string{}
	}
	detail["by"] = "import"
	return identity.Event{TenantID: p.how.TenantID, Kind: kind, Actor: p.how.By, CustomerID: customer, IdentityID: id, Detail: detail}
}
