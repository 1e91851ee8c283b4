package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"hydragate/claim"
	"hydragate/identity"
	"hydragate/store/sqldb"
)

const customerColumns = `id, tenant_id, email, phone_number, first_name, last_name, company_name, locale, timezone,
	metadata, created_at, updated_at`

func scanCustomer(sc sqldb.ScanFunc) (c identity.Customer, err error) {
	var metadata string
	err = sc(sqldb.Text(&c.ID), sqldb.Text(&c.TenantID), sqldb.Text(&c.Email), sqldb.Text(&c.PhoneNumber),
		sqldb.Text(&c.FirstName), sqldb.Text(&c.LastName), sqldb.Text(&c.CompanyName),
		sqldb.Text(&c.Locale), sqldb.Text(&c.Timezone), &metadata, sqldb.Time(&c.CreatedAt), sqldb.Time(&c.UpdatedAt))
	c.Metadata = json.RawMessage(metadata)
	return c, err
}

// CreateCustomer stores a customer and returns it. If c.ID is empty, a new ID is assigned. If the
// tenant has a customer with the ID, because the caller retries, that customer is returned
// unchanged. It returns identity.ErrEmailTaken if another customer has the e-mail address.
func (s *Store) CreateCustomer(
	ctx context.Context, c identity.Customer, by identity.Actor,
) (created identity.Customer, err error) {
	err = s.db.InTx(ctx, func(tx sqldb.DB) error {
		rs, err := tx.Query(ctx, `
			insert into customers (id, tenant_id, email, phone_number, first_name, last_name, company_name, locale, timezone,
				metadata, created_by_instance, created_at, updated_at, `+foldColumns+`)
			values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12, $13, $14, $15, $16)
			on conflict (id) do nothing
			returning `+customerColumns,
			append([]any{
				orNewID(c.ID), c.TenantID, sqldb.TextOrNull(c.Email), sqldb.TextOrNull(c.PhoneNumber),
				sqldb.TextOrNull(c.FirstName), sqldb.TextOrNull(c.LastName), sqldb.TextOrNull(c.CompanyName),
				sqldb.TextOrNull(c.Locale), sqldb.TextOrNull(c.Timezone), jsonObject(c.Metadata),
				sqldb.TextOrNull(c.CreatedByInstance), s.now(),
			}, foldValues(c)...)...)
		created, err = sqldb.ScanOne(rs, err, scanCustomer)
		if sqldb.IsNoRows(err) {
			rs, err := tx.Query(ctx, `select `+customerColumns+` from customers where tenant_id = $1 and id = $2`, c.TenantID,
				c.ID)
			created, err = sqldb.ScanOne(rs, err, scanCustomer)
			return err
		}
		if err != nil {
			return err
		}
		return recordEvents(ctx, tx, identity.Event{
			TenantID: c.TenantID, Kind: "customer.created", Actor: by,
			CustomerID: created.ID,
		})
	})
	return created, s.customerError("create customer", err)
}

// Customer returns a customer. It returns identity.ErrNotFound if the tenant has none with the ID.
func (s *Store) Customer(ctx context.Context, tenant, id string) (identity.Customer, error) {
	rs, err := s.db.Query(ctx, `select `+customerColumns+` from customers where tenant_id = $1 and id = $2`, tenant, id)
	c, err := sqldb.ScanOne(rs, err, scanCustomer)
	return c, s.customerError("read customer", err)
}

// EditCustomer changes the fields that e sets and returns the customer. Concurrent edits of
// different fields do not overwrite each other. It returns identity.ErrNotFound for an unknown
// customer, identity.ErrEmailTaken if another customer has the e-mail address, and
// identity.ErrGrantRequired if e.MayGrant is required.
func (s *Store) EditCustomer(
	ctx context.Context, tenant, id string, e identity.CustomerEdit, by identity.Actor,
) (c identity.Customer, err error) {
	update := columnUpdate{args: []any{tenant, id, s.now()}}
	update.setCustomerText("email", e.Email)
	update.setCustomerText("phone_number", e.PhoneNumber)
	update.setCustomerText("first_name", e.FirstName)
	update.setCustomerText("last_name", e.LastName)
	update.setCustomerText("company_name", e.CompanyName)
	update.setCustomerText("locale", e.Locale)
	update.setCustomerText("timezone", e.Timezone)
	if e.Metadata != nil {
		update.set("metadata", jsonObject(*e.Metadata))
	}
	err = s.db.InTx(ctx, func(tx sqldb.DB) error {
		if e.Email != nil && (!e.MayGrant || e.GrantInstance != "") {
			if err := s.checkEmailEdit(ctx, tx, tenant, id, e); err != nil {
				return err
			}
		}
		rs, err := tx.Query(ctx, `
			update customers set updated_at = $3`+update.assignments+`
			where tenant_id = $1 and id = $2 returning `+customerColumns, update.args...)
		if c, err = sqldb.ScanOne(rs, err, scanCustomer); err != nil {
			return err
		}
		return recordEvents(ctx, tx, identity.Event{
			TenantID: tenant, Kind: "customer.updated", Actor: by, CustomerID: id,
			Detail: changedFields(update.fields),
		})
	})
	return c, s.customerError("change customer", err)
}

// checkEmailEdit locks a customer. It returns identity.ErrGrantRequired if e changes the e-mail address
// and the customer has verified identities for which e carries no right to grant.
func (s *Store) checkEmailEdit(ctx context.Context, tx sqldb.DB, tenant, id string, e identity.CustomerEdit) error {
	rs, err := tx.Query(ctx,
		`select email from customers where tenant_id = $1 and id = $2`+s.dialect.ForUpdate(), tenant, id)
	current, err := sqldb.ScanOne(rs, err, sqldb.ScanText)
	if err != nil || current == *e.Email {
		return err
	}
	granted := "" // the instance whose identities the caller may verify
	if e.MayGrant {
		granted = e.GrantInstance
	}
	rs, err = tx.Query(ctx, `
		select id from identities
		where tenant_id = $1 and customer_id = $2 and verified_at is not null
			and (instance_id = $3) is not true limit 1`, tenant, id, sqldb.TextOrNull(granted))
	verified, err := sqldb.ScanAll(rs, err, sqldb.ScanString)
	if err == nil && len(verified) > 0 {
		err = identity.ErrGrantRequired
	}
	return err
}

// ListCustomers returns at most limit customers that match q in order of creation, starting after
// the ID after.
func (s *Store) ListCustomers(
	ctx context.Context, tenant string, q identity.CustomerQuery, after string, limit int,
) ([]identity.Customer, error) {
	query, args := customerSearch(q, tenant, after, limit)
	rs, err := s.db.Query(ctx, query, s.dialect.PlanPerCall(args)...)
	customers, err := sqldb.ScanAll(rs, err, scanCustomer)
	return customers, s.customerError("list customers", err)
}

// customerSearch returns the statement of ListCustomers and its arguments.
func customerSearch(q identity.CustomerQuery, tenant, after string, limit int) (string, []any) {
	where, args := customerFilter(q, tenant, startAfter(after), limit)
	return `
		select ` + customerColumns + ` from customers
		where tenant_id = $1 and id > $2` + where + `
		order by id limit $3`, args
}

// customerFilter appends the conditions and arguments for q.
func customerFilter(q identity.CustomerQuery, args ...any) (string, []any) {
	var where strings.Builder
	visible := ``
	if q.InstanceID != "" && q.ExternalID+q.ExternalPrefix != "" {
		args = append(args, q.InstanceID)
		visible = fmt.Sprintf(` and (i.instance_id is null or i.instance_id = $%d)`, len(args))
	}
	for _, f := range []struct{ value, condition string }{
		{identity.Fold(q.Email), `email_fold = $%[1]d`},
		{q.Phone, `phone_number = $%[1]d`},
		{
			prefixPattern(identity.Fold(q.Name)),
			`(first_name_fold like $%[1]d escape '\' or last_name_fold like $%[1]d escape '\'
				or company_name_fold like $%[1]d escape '\')`,
		},
		{q.ExternalID, `exists (
			select 1 from identities i
			where i.tenant_id = customers.tenant_id and i.customer_id = customers.id
				and (lower(i.external_id) = lower($%[1]d) or ` + aliasExpr("= lower($%[1]d)") + `)` + visible + `)`},
		{prefixPattern(identity.Fold(q.EmailPrefix)), `email_fold like $%[1]d escape '\'`},
		{prefixPattern(q.PhonePrefix), `phone_number like $%[1]d escape '\'`},
		{prefixPattern(q.ExternalPrefix), `exists (
			select 1 from identities i
			where i.tenant_id = customers.tenant_id and i.customer_id = customers.id
				and (lower(i.external_id) like lower($%[1]d) escape '\'
					or ` + aliasExpr(`like lower($%[1]d) escape '\'`) + `)` + visible + `)`},
	} {
		if f.value != "" {
			args = append(args, f.value)
			fmt.Fprintf(&where, ` and `+f.condition, len(args))
		}
	}
	return where.String(), args
}

// aliasExpr returns the condition on identities i that one of their aliases matches, in lower case.
func aliasExpr(match string) string {
	return `exists (
					select 1 from aliases a
					where a.tenant_id = i.tenant_id and a.channel = i.channel and a.external_id = i.external_id
						and lower(a.alias) ` + match + ` and a.disputed_at is null)`
}

// prefixPattern returns the like pattern that matches everything with the prefix s, with special
// characters escaped. It returns "" for "".
func prefixPattern(s string) string {
	if s == "" {
		return ""
	}
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(s) + "%"
}

// customerError maps errors of the database to those of package identity.
func (s *Store) customerError(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case sqldb.IsNoRows(err) || s.dialect.IsUnstorable(err):
		return identity.ErrNotFound
	case s.dialect.IsDuplicate(err):
		return identity.ErrEmailTaken
	}
	return fmt.Errorf("%s: %w", op, err)
}

// checkCustomer returns identity.ErrNotFound unless the tenant has a customer with the ID.
func (s *Store) checkCustomer(ctx context.Context, tenant, id string) error {
	rs, err := s.db.Query(ctx, `select id from customers where tenant_id = $1 and id = $2`, tenant, id)
	_, err = sqldb.ScanOne(rs, err, sqldb.ScanString)
	return s.customerError("look up customer", err)
}

// A columnUpdate collects the assignments of an update statement and the names of the changed
// columns for the audit log. args starts with the other arguments of the statement.
type columnUpdate struct {
	args        []any
	assignments string // ", column = $4, …"
	fields      []string
}

// set assigns v to a column.
func (c *columnUpdate) set(column string, v any) {
	c.args = append(c.args, v)
	c.assignments += fmt.Sprintf(", %s = $%d", column, len(c.args))
	c.fields = append(c.fields, column)
}

// setText assigns *v to a column, with "" stored as null. It does nothing if v is nil.
func (c *columnUpdate) setText(column string, v *string) {
	if v != nil {
		c.set(column, sqldb.TextOrNull(*v))
	}
}

// setCustomerText is setText for a column of customers. It also sets the column with the folded text if
// there is one.
func (c *columnUpdate) setCustomerText(column string, v *string) {
	c.setText(column, v)
	if v != nil && slices.Contains(strings.Split(foldColumns, ", "), column+"_fold") {
		c.args = append(c.args, sqldb.TextOrNull(identity.Fold(*v)))
		c.assignments += fmt.Sprintf(", %s_fold = $%d", column, len(c.args))
	}
}

// foldColumns lists the columns of customers with folded texts.
const foldColumns = `email_fold, first_name_fold, last_name_fold, company_name_fold`

// foldValues returns the values of foldColumns for a customer.
func foldValues(c identity.Customer) []any {
	return []any{
		sqldb.TextOrNull(identity.Fold(c.Email)), sqldb.TextOrNull(identity.Fold(c.FirstName)),
		sqldb.TextOrNull(identity.Fold(c.LastName)), sqldb.TextOrNull(identity.Fold(c.CompanyName)),
	}
}

// jsonObject returns the JSON text that is stored for metadata, "{}" if there is none.
func jsonObject(m json.RawMessage) string {
	if len(m) == 0 || string(m) == "null" {
		return "{}"
	}
	return string(m)
}

// startAfter returns after, or for the first page an ID smaller than all others.
func startAfter(after string) string {
	if after == "" {
		return "00000000-0000-0000-0000-000000000000"
	}
	return after
}

// DeleteCustomer deletes a customer with its identities and archived merges, and revokes its
// invites, all in one transaction. Conversations are kept without their identity, and the audit
// log keeps the owner of each address. It returns the targets of the deleted claim codes, whose
// entries in the code store are to be removed, and identity.ErrNotFound for an unknown customer.
func (s *Store) DeleteCustomer(
	ctx context.Context, tenant, id string, by identity.Actor,
) (targets []claim.Target, err error) {
	err = s.db.InTx(ctx, func(tx sqldb.DB) error {
		targets, err = s.deleteCustomerTx(ctx, tx, tenant, id, by)
		return err
	})
	return targets, s.customerError("delete customer", err)
}

// deleteCustomerTx implements DeleteCustomer in a transaction.
func (s *Store) deleteCustomerTx(
	ctx context.Context, tx sqldb.DB, tenant, id string, by identity.Actor,
) ([]claim.Target, error) {
	rs, err := tx.Query(ctx, `select id from customers where tenant_id = $1 and id = $2`+s.dialect.ForUpdate(), tenant, id)
	if _, err = sqldb.ScanOne(rs, err, sqldb.ScanString); err != nil {
		return nil, err
	}
	if err := s.revokeInvites(ctx, tx, by, "customer_deleted", `tenant_id = $1 and customer_id = $2`, tenant,
		id); err != nil {
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
		{
			Query: `
			update conversations set identity_id = null
			where tenant_id = $1 and identity_id in (select id from identities where tenant_id = $1 and customer_id = $2)`,
			Args: []any{tenant, id},
		},
		{Query: `delete from identities where tenant_id = $1 and customer_id = $2`, Args: []any{tenant, id}},
		{Query: `delete from customers where tenant_id = $1 and id = $2`, Args: []any{tenant, id}},
	}
	for _, m := range merged {
		stmts = append(stmts,
			sqldb.Statement{Query: `delete from merged_customers where tenant_id = $1 and id = $2`, Args: []any{tenant, m}},
			sqldb.Statement{
				Query: `delete from merged_identities where tenant_id = $1 and customer_id = $2`,
				Args:  []any{tenant, m},
			})
	}
	return stmts
}

// A lockedIdentity is an identity that is locked until the transaction ends, with the generation
// of its last claim code.
type lockedIdentity struct {
	identity.Identity
	generation int64
}

// lockIdentities locks the identities that match where in order of ID and returns them.
func (s *Store) lockIdentities(ctx context.Context, tx sqldb.DB, where string, args ...any) ([]lockedIdentity, error) {
	rs, err := tx.Query(ctx,
		`select `+identityColumns+`, claim_gen from identities where `+where+` order by id`+s.dialect.ForUpdate(), args...)
	return sqldb.ScanAll(rs, err, scanLockedIdentity)
}

func scanLockedIdentity(sc sqldb.ScanFunc) (i lockedIdentity, err error) {
	i.Identity, err = scanIdentity(func(dest ...any) error { return sc(append(dest, &i.generation)...) })
	return i, err
}

// claimTargets returns the targets of the last claim codes of identities.
func claimTargets(identities []lockedIdentity) []claim.Target {
	var targets []claim.Target
	for _, i := range identities {
		if i.generation > 0 {
			targets = append(targets, claim.Target{
				TenantID: i.TenantID, InstanceID: i.InstanceID, Channel: i.Channel, ExternalID: i.ExternalID,
				IdentityID: i.ID, Gen: i.generation,
			})
		}
	}
	return targets
}

// mergedCustomers returns the IDs of all customers that were merged into a customer, directly or
// through further merges.
func mergedCustomers(ctx context.Context, tx sqldb.DB, tenant, id string) ([]string, error) {
	rs, err := tx.Query(ctx, `
		with recursive absorbed (id) as (
			select customer_id from customer_merges where tenant_id = $1 and into_id = $2
			union
			select m.customer_id from customer_merges m join absorbed a on m.into_id = a.id where m.tenant_id = $1)
		select id from absorbed order by id`, tenant, id)
	return sqldb.ScanAll(rs, err, sqldb.ScanString)
}

// setDays assigns a number of days to a column, with 0 stored as null. It does nothing if n is
// nil.
func (c *columnUpdate) setDays(column string, n *int) {
	if n != nil {
		c.set(column, numberOrNull(*n))
	}
}

// numberOrNull returns n, or nil for 0, as an argument of a statement.
func numberOrNull(n int) any {
	if n == 0 {
		return nil
	}
	return n
}
