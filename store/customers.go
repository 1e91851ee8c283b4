package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"hydragate/identity"
)

const customerColumns = `id, tenant_id, email, phone_number, first_name, last_name, company_name, locale, timezone, metadata, created_at, updated_at`

func scanCustomer(sc scan) (c identity.Customer, err error) {
	var metadata string
	err = sc(text(&c.ID), text(&c.TenantID), text(&c.Email), text(&c.PhoneNumber), text(&c.FirstName), text(&c.LastName), text(&c.CompanyName),
		text(&c.Locale), text(&c.Timezone), &metadata, utc(&c.CreatedAt), utc(&c.UpdatedAt))
	c.Metadata = json.RawMessage(metadata)
	return c, err
}

// CreateCustomer keeps a customer under its id, or a new one; identity.ErrEmailTaken. One
// that is there already under its id stays as it is.
func (s *Store) CreateCustomer(ctx context.Context, c identity.Customer, by identity.Actor) (kept identity.Customer, err error) {
	err = s.db.InTx(ctx, func(tx db) error {
		rs, err := tx.Query(ctx, `
			insert into customers (id, tenant_id, email, phone_number, first_name, last_name, company_name, locale, timezone, metadata, created_at, updated_at)
			values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11)
			on conflict (id) do nothing
			returning `+customerColumns,
			orNew(c.ID), c.TenantID, orNull(c.Email), orNull(c.PhoneNumber), orNull(c.FirstName), orNull(c.LastName), orNull(c.CompanyName),
			orNull(c.Locale), orNull(c.Timezone), document(c.Metadata), s.now())
		kept, err = one(rs, err, scanCustomer)
		if noRows(err) {
			rs, err := tx.Query(ctx, `select `+customerColumns+` from customers where tenant_id = $1 and id = $2`, c.TenantID, c.ID)
			kept, err = one(rs, err, scanCustomer)
			return err
		}
		if err != nil {
			return err
		}
		return record(ctx, tx, identity.Event{TenantID: c.TenantID, Kind: "customer.created", Actor: by, CustomerID: kept.ID})
	})
	return kept, s.customerError("create customer", err)
}

// Customer gives a customer; identity.ErrNotFound.
func (s *Store) Customer(ctx context.Context, tenant, id string) (identity.Customer, error) {
	rs, err := s.db.Query(ctx, `select `+customerColumns+` from customers where tenant_id = $1 and id = $2`, tenant, id)
	c, err := one(rs, err, scanCustomer)
	return c, s.customerError("read customer", err)
}

// EditCustomer changes the fields named and no others, so that two edits of
// different fields at once both hold; identity.ErrNotFound, identity.ErrEmailTaken.
func (s *Store) EditCustomer(ctx context.Context, tenant, id string, e identity.CustomerEdit, by identity.Actor) (c identity.Customer, err error) {
	ch := change{args: []any{tenant, id, s.now()}}
	ch.text("email", e.Email)
	ch.text("phone_number", e.PhoneNumber)
	ch.text("first_name", e.FirstName)
	ch.text("last_name", e.LastName)
	ch.text("company_name", e.CompanyName)
	ch.text("locale", e.Locale)
	ch.text("timezone", e.Timezone)
	if e.Metadata != nil {
		ch.set("metadata", document(*e.Metadata))
	}
	err = s.db.InTx(ctx, func(tx db) error {
		rs, err := tx.Query(ctx, `
			update customers set updated_at = $3`+ch.assignments+`
			where tenant_id = $1 and id = $2 returning `+customerColumns, ch.args...)
		if c, err = one(rs, err, scanCustomer); err != nil {
			return err
		}
		return record(ctx, tx, identity.Event{TenantID: tenant, Kind: "customer.updated", Actor: by, CustomerID: id, Detail: fields(ch.fields)})
	})
	return c, s.customerError("change customer", err)
}

// ListCustomers gives customers in order of creation, after the id given.
func (s *Store) ListCustomers(ctx context.Context, tenant string, q identity.CustomerQuery, after string, limit int) ([]identity.Customer, error) {
	query, args := customerSearch(q, tenant, after, limit)
	rs, err := s.db.Query(ctx, query, s.planned(args)...)
	cs, err := all(rs, err, scanCustomer)
	return cs, s.customerError("list customers", err)
}

// customerSearch gives the select that ListCustomers runs.
func customerSearch(q identity.CustomerQuery, tenant, after string, limit int) (string, []any) {
	where, args := customerFilter(q, tenant, start(after), limit)
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
		{prefix(q.Name), `(lower(first_name) like lower($%[1]d) escape '\' or lower(last_name) like lower($%[1]d) escape '\' or lower(company_name) like lower($%[1]d) escape '\')`},
		{q.ExternalID, `exists (
			select 1 from identities i
			where i.tenant_id = customers.tenant_id and i.customer_id = customers.id and lower(i.external_id) = lower($%[1]d))`},
		{prefix(q.EmailPrefix), `lower(email) like lower($%[1]d) escape '\'`},
		{prefix(q.PhonePrefix), `phone_number like $%[1]d escape '\'`},
		{prefix(q.ExternalPrefix), `exists (
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

// prefix gives the pattern of everything that begins with s; signs that a pattern
// reads otherwise stand for themselves.
func prefix(s string) string {
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
	case noRows(err) || s.d.unstorable(err):
		return identity.ErrNotFound
	case s.d.duplicate(err):
		return identity.ErrEmailTaken
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// hasCustomer reports whether the tenant has a customer of this id.
func (s *Store) hasCustomer(ctx context.Context, tenant, id string) error {
	rs, err := s.db.Query(ctx, `select id from customers where tenant_id = $1 and id = $2`, tenant, id)
	_, err = one(rs, err, scanString)
	return s.customerError("look for customer", err)
}

// A change collects what an update sets, and the names of it for the audit log. Its
// first arguments are the update's own.
type change struct {
	args        []any
	assignments string // ", column = $4, …"
	fields      []string
}

func (c *change) set(column string, v any) {
	c.args = append(c.args, v)
	c.assignments += fmt.Sprintf(", %s = $%d", column, len(c.args))
	c.fields = append(c.fields, column)
}

func (c *change) text(column string, v *string) {
	if v != nil {
		c.set(column, orNull(*v))
	}
}

// document gives the text under which metadata is kept.
func document(m json.RawMessage) string {
	if len(m) == 0 || string(m) == "null" {
		return "{}"
	}
	return string(m)
}

// start gives the id that every id is after, where a list starts.
func start(after string) string {
	if after == "" {
		return "00000000-0000-0000-0000-000000000000"
	}
	return after
}
