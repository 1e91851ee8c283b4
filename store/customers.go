package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"hydragate/claim"
	"hydragate/identity"
	"hydragate/store/sqldb"
)

const customerColumns = `id, tenant_id, email, phone_number, first_name, last_name, company_name, locale, timezone, metadata, created_at, updated_at`

func scanCustomer(sc sqldb.ScanFunc) (c identity.Customer, err error) {
	var metadata string
	err = sc(sqldb.Text(&c.ID), sqldb.Text(&c.TenantID), sqldb.Text(&c.Email), sqldb.Text(&c.PhoneNumber), sqldb.Text(&c.FirstName), sqldb.Text(&c.LastName), sqldb.Text(&c.CompanyName),
		sqldb.Text(&c.Locale), sqldb.Text(&c.Timezone), &metadata, sqldb.Time(&c.CreatedAt), sqldb.Time(&c.UpdatedAt))
	c.Metadata = json.RawMessage(metadata)
	return c, err
}

// CreateCustomer keeps a customer under its id, or a new one; identity.ErrEmailTaken. One
// that is there already under its id stays as it is.
func (s *Store) CreateCustomer(ctx context.Context, c identity.Customer, by identity.Actor) (kept identity.Customer, err error) {
	err = s.db.InTx(ctx, func(tx sqldb.DB) error {
		rs, err := tx.Query(ctx, `
			insert into customers (id, tenant_id, email, phone_number, first_name, last_name, company_name, locale, timezone, metadata, created_at, updated_at)
			values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11)
			on conflict (id) do nothing
			returning `+customerColumns,
			orNewID(c.ID), c.TenantID, sqldb.TextOrNull(c.Email), sqldb.TextOrNull(c.PhoneNumber), sqldb.TextOrNull(c.FirstName), sqldb.TextOrNull(c.LastName), sqldb.TextOrNull(c.CompanyName),
			sqldb.TextOrNull(c.Locale), sqldb.TextOrNull(c.Timezone), jsonObject(c.Metadata), s.now())
		kept, err = sqldb.ScanOne(rs, err, scanCustomer)
		if sqldb.IsNoRows(err) {
			rs, err := tx.Query(ctx, `select `+customerColumns+` from customers where tenant_id = $1 and id = $2`, c.TenantID, c.ID)
			kept, err = sqldb.ScanOne(rs, err, scanCustomer)
			return err
		}
		if err != nil {
			return err
		}
		return recordEvents(ctx, tx, identity.Event{TenantID: c.TenantID, Kind: "customer.created", Actor: by, CustomerID: kept.ID})
	})
	return kept, s.customerError("create customer", err)
}

// Customer gives a customer; identity.ErrNotFound.
func (s *Store) Customer(ctx context.Context, tenant, id string) (identity.Customer, error) {
	rs, err := s.db.Query(ctx, `select `+customerColumns+` from customers where tenant_id = $1 and id = $2`, tenant, id)
	c, err := sqldb.ScanOne(rs, err, scanCustomer)
	return c, s.customerError("read customer", err)
}

// EditCustomer changes the fields named and no others, so that two edits of
// different fields at once both hold; identity.ErrNotFound, identity.ErrEmailTaken.
func (s *Store) EditCustomer(ctx context.Context, tenant, id string, e identity.CustomerEdit, by identity.Actor) (c identity.Customer, err error) {
	ch := columnUpdate{args: []any{tenant, id, s.now()}}
	ch.setText("email", e.Email)
	ch.setText("phone_number", e.PhoneNumber)
	ch.setText("first_name", e.FirstName)
	ch.setText("last_name", e.LastName)
	ch.setText("company_name", e.CompanyName)
	ch.setText("locale", e.Locale)
	ch.setText("timezone", e.Timezone)
	if e.Metadata != nil {
		ch.set("metadata", jsonObject(*e.Metadata))
	}
	err = s.db.InTx(ctx, func(tx sqldb.DB) error {
		rs, err := tx.Query(ctx, `
			update customers set updated_at = $3`+ch.assignments+`
			where tenant_id = $1 and id = $2 returning `+customerColumns, ch.args...)
		if c, err = sqldb.ScanOne(rs, err, scanCustomer); err != nil {
			return err
		}
		return recordEvents(ctx, tx, identity.Event{TenantID: tenant, Kind: "customer.updated", Actor: by, CustomerID: id, Detail: changedFields(ch.fields)})
	})
	return c, s.customerError("change customer", err)
}

// ListCustomers gives customers in order of creation, after the id given.
func (s *Store) ListCustomers(ctx context.Context, tenant string, q identity.CustomerQuery, after string, limit int) ([]identity.Customer, error) {
	query, args := customerSearch(q, tenant, after, limit)
	rs, err := s.db.Query(ctx, query, s.dialect.PlanPerCall(args)...)
	cs, err := sqldb.ScanAll(rs, err, scanCustomer)
	return cs, s.customerError("list customers", err)
}

// customerSearch gives the select that ListCustomers runs.
func customerSearch(q identity.CustomerQuery, tenant, after string, limit int) (string, []any) {
	where, args := customerFilter(q, tenant, startAfter(after), limit)
	return `
		select ` + customerColumns + ` from customers
		where tenant_id = $1 and id > $2` + where + `
		order by id limit $3`, args
}

func customerFilter(q identity.CustomerQuery, args ...any) (string, []any) {
	var where strings.Builder
	for _, f := range []struct{ value, condition string }{
		{q.Email, `lower(email) = lower($%[1]d)`},
		{q.Phone, `phone_number = $%[1]d`},
		{prefixPattern(q.Name), `(lower(first_name) like lower($%[1]d) escape '\' or lower(last_name) like lower($%[1]d) escape '\' or lower(company_name) like lower($%[1]d) escape '\')`},
		{q.ExternalID, `exists (
			select 1 from identities i
			where i.tenant_id = customers.tenant_id and i.customer_id = customers.id and lower(i.external_id) = lower($%[1]d))`},
		{prefixPattern(q.EmailPrefix), `lower(email) like lower($%[1]d) escape '\'`},
		{prefixPattern(q.PhonePrefix), `phone_number like $%[1]d escape '\'`},
		{prefixPattern(q.ExternalPrefix), `exists (
			select 1 from identities i
			where i.tenant_id = customers.tenant_id and i.customer_id = customers.id and lower(i.external_id) like lower($%[1]d) escape '\')`},
	} {
		if f.value != "" {
			args = append(args, f.value)
			fmt.Fprintf(&where, ` and `+f.condition, len(args))
		}
	}
	return where.String(), args
}

// prefixPattern gives the pattern of everything that begins with s; signs that a pattern
// reads otherwise stand for themselves.
func prefixPattern(s string) string {
	if s == "" {
		return ""
	}
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(s) + "%"
}

// customerError puts the domain's errors in place of the database's.
func (s *Store) customerError(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case sqldb.IsNoRows(err) || s.dialect.IsUnstorable(err):
		return identity.ErrNotFound
	case s.dialect.IsDuplicate(err):
		return identity.ErrEmailTaken
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// checkCustomer reports whether the tenant has a customer of this id.
func (s *Store) checkCustomer(ctx context.Context, tenant, id string) error {
	rs, err := s.db.Query(ctx, `select id from customers where tenant_id = $1 and id = $2`, tenant, id)
	_, err = sqldb.ScanOne(rs, err, sqldb.ScanString)
	return s.customerError("look for customer", err)
}

// A columnUpdate collects what an update sets, and the names of it for the audit log. Its
// first arguments are the update's own.
type columnUpdate struct {
	args        []any
	assignments string // ", column = $4, …"
	fields      []string
}

func (c *columnUpdate) set(column string, v any) {
	c.args = append(c.args, v)
	c.assignments += fmt.Sprintf(", %s = $%d", column, len(c.args))
	c.fields = append(c.fields, column)
}

func (c *columnUpdate) setText(column string, v *string) {
	if v != nil {
		c.set(column, sqldb.TextOrNull(*v))
	}
}

// jsonObject gives the text under which metadata is kept.
func jsonObject(m json.RawMessage) string {
	if len(m) == 0 || string(m) == "null" {
		return "{}"
	}
	return string(m)
}

// startAfter gives the id that every id is after, where a list starts.
func startAfter(after string) string {
	if after == "" {
		return "00000000-0000-0000-0000-000000000000"
	}
	return after
}

// DeleteCustomer removes a customer with its identities, their live codes, its invites,
// and what would undo merges into it. Conversations stay, with nobody. The audit log keeps whose
// the identities were. It gives whose proofs are void now; identity.ErrNotFound.
func (s *Store) DeleteCustomer(ctx context.Context, tenant, id string, by identity.Actor) (void []claim.Target, err error) {
	err = s.retryTx(ctx, func(tx sqldb.DB) error {
		void, err = s.deleteCustomerTx(ctx, tx, tenant, id, by)
		return err
	})
	return void, s.customerError("delete customer", err)
}

func (s *Store) deleteCustomerTx(ctx context.Context, tx sqldb.DB, tenant, id string, by identity.Actor) ([]claim.Target, error) {
	rs, err := tx.Query(ctx, `select id from customers where tenant_id = $1 and id = $2`+s.dialect.ForUpdate(), tenant, id)
	if _, err = sqldb.ScanOne(rs, err, sqldb.ScanString); err != nil {
		return nil, err
	}
	if err := s.revokeInvites(ctx, tx, by, "customer_deleted", `tenant_id = $1 and customer_id = $2`, tenant, id); err != nil {
		return nil, err
	}
	deleted, err := s.lockIdentities(ctx, tx, `tenant_id = $1 and customer_id = $2`, tenant, id)
	if err != nil {
		return nil, err
	}
	merged, err := mergedCustomers(ctx, tx, tenant, id)
	if err != nil {
		return nil, err
	}
	if err := tx.Batch(ctx, deleteCustomerStmts(tenant, id, merged)); err != nil {
		return nil, err
	}
	events := []identity.Event{{
		TenantID: tenant, Kind: "customer.deleted", Actor: by, CustomerID: id,
		Detail: map[string]string{"identities": fmt.Sprint(len(deleted))},
	}}
	for _, i := range deleted {
		events = append(events, unlinkedEvent(i.Identity, by))
	}
	return claimTargets(deleted), recordEvents(ctx, tx, events...)
}

// deleteCustomerStmts returns the statements that delete a customer, its identities and the
// archived rows of the customers merged into it.
func deleteCustomerStmts(tenant, id string, merged []string) []sqldb.Statement {
	stmts := []sqldb.Statement{
		{Query: `
			update conversations set identity_id = null
			where tenant_id = $1 and identity_id in (select id from identities where tenant_id = $1 and customer_id = $2)`,
			Args: []any{tenant, id}},
		{Query: `delete from identities where tenant_id = $1 and customer_id = $2`, Args: []any{tenant, id}},
		{Query: `delete from customers where tenant_id = $1 and id = $2`, Args: []any{tenant, id}},
	}
	for _, m := range merged {
		stmts = append(stmts,
			sqldb.Statement{Query: `delete from merged_customers where tenant_id = $1 and id = $2`, Args: []any{tenant, m}},
			sqldb.Statement{Query: `delete from merged_identities where tenant_id = $1 and customer_id = $2`, Args: []any{tenant, m}})
	}
	return stmts
}

// A lockedIdentity is an identity that nobody else can change until the transaction ends, and
// the generation of its last code.
type lockedIdentity struct {
	identity.Identity
	generation int64
}

// lockIdentities gives identities, locked in one order everywhere.
func (s *Store) lockIdentities(ctx context.Context, tx sqldb.DB, where string, args ...any) ([]lockedIdentity, error) {
	rs, err := tx.Query(ctx, `select `+identityColumns+`, claim_gen from identities where `+where+` order by id`+s.dialect.ForUpdate(), args...)
	return sqldb.ScanAll(rs, err, scanLockedIdentity)
}

func scanLockedIdentity(sc sqldb.ScanFunc) (h lockedIdentity, err error) {
	h.Identity, err = scanIdentity(func(dest ...any) error { return sc(append(dest, &h.generation)...) })
	return h, err
}

// claimTargets gives whose codes went with identities.
func claimTargets(hs []lockedIdentity) []claim.Target {
	var subs []claim.Target
	for _, h := range hs {
		if h.generation > 0 {
			subs = append(subs, claim.Target{TenantID: h.TenantID, InstanceID: h.InstanceID, Channel: h.Channel, ExternalID: h.ExternalID, IdentityID: h.ID, Gen: h.generation})
		}
	}
	return subs
}

// mergedCustomers gives everybody who was merged into a customer, directly or not.
func mergedCustomers(ctx context.Context, tx sqldb.DB, tenant, id string) ([]string, error) {
	rs, err := tx.Query(ctx, `
		with recursive absorbed (id) as (
			select customer_id from customer_merges where tenant_id = $1 and into_id = $2
			union
			select m.customer_id from customer_merges m join absorbed a on m.into_id = a.id where m.tenant_id = $1)
		select id from absorbed order by id`, tenant, id)
	return sqldb.ScanAll(rs, err, sqldb.ScanString)
}

// setDays sets a number of days; 0 is none.
func (c *columnUpdate) setDays(column string, n *int) {
	if n != nil {
		c.set(column, daysOrNull(*n))
	}
}

func daysOrNull(n int) any {
	if n == 0 {
		return nil
	}
	return n
}
