package store

import (
	"context"
	"errors"
	"fmt"

	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store/sqldb"
)

// userChannel is the channel of the identities that the user API links.
const userChannel = "sms"

const userColumns = customerColumns + `, fk_id, fk_user_id, source, context`

func scanUser(sc sqldb.ScanFunc) (u identity.User, err error) {
	u.Customer, err = scanCustomer(func(dest ...any) error {
		return sc(append(dest, sqldb.Text(&u.FKID), sqldb.Text(&u.FKUserID), sqldb.Text(&u.Source),
			sqldb.Text(&u.Context))...)
	})
	return u, err
}

// InstancesByAgentKeys returns the instances whose agent secret keys, the present or still valid
// previous ones, have the given hashes, by hash.
func (s *Store) InstancesByAgentKeys(ctx context.Context, hashes []string) (map[string]gateway.Instance, error) {
	in, args := hashPlaceholders(hashes)
	found := map[string]gateway.Instance{}
	rs, err := s.db.Query(ctx, `
		select `+instanceColumns+`, hash from instances
		join (
			select id as keyed_id, agent_secret_hash as hash from instances where agent_secret_hash in (`+in+`)
			union all
			select instance_id, hash from retired_secrets
			where hash in (`+in+`) and kind = 'agent_secret_key' and until > `+s.dialect.Now+`
		) k on id = keyed_id`, args...)
	_, err = sqldb.ScanAll(rs, err, func(sc sqldb.ScanFunc) (hash string, err error) {
		i, err := scanInstance(func(dest ...any) error { return sc(append(dest, &hash)...) })
		found[hash] = i
		return hash, err
	})
	return found, s.instanceError("look up agents", err)
}

// CreateUser stores a customer with a new ID and, if it has a valid phone number, an unverified
// SMS identity of the instance. Since phone numbers of customers need not be unique, the tenant
// row is locked: of concurrent calls with the same e-mail address, phone number or fkId one
// succeeds and the others return identity.ErrUserExists.
func (s *Store) CreateUser(
	ctx context.Context, instance string, u identity.User, by identity.Actor,
) (created identity.User, err error) {
	err = s.db.InTx(ctx, func(tx sqldb.DB) error {
		if _, err := tx.Exec(ctx, `update tenants set created_at = created_at where id = $1`, u.TenantID); err != nil {
			return err
		}
		if err := checkUserUnique(ctx, tx, instance, u); err != nil {
			return err
		}
		rs, err := tx.Query(
			ctx,
			`
			insert into customers (id, tenant_id, email, phone_number, first_name, last_name, metadata, fk_id, fk_user_id,
				source, context, created_by_instance, created_at, updated_at, `+foldColumns+`)
			values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $13, $14, $15, $16, $17)
			returning `+userColumns,
			append(
				[]any{
					newID(),
					u.TenantID,
					sqldb.TextOrNull(u.Email),
					sqldb.TextOrNull(u.PhoneNumber),
					sqldb.TextOrNull(u.FirstName),
					sqldb.TextOrNull(u.LastName),
					jsonObject(u.Metadata),
					sqldb.TextOrNull(u.FKID),
					sqldb.TextOrNull(u.FKUserID),
					sqldb.TextOrNull(u.Source),
					sqldb.TextOrNull(u.Context),
					instance,
					s.now(),
				},
				foldValues(u.Customer)...)...)
		if created, err = sqldb.ScanOne(rs, err, scanUser); err != nil {
			return err
		}
		err = recordEvents(ctx, tx, identity.Event{
			TenantID: u.TenantID, Kind: "user.created", Actor: by,
			CustomerID: created.ID, InstanceID: instance,
		})
		if err != nil {
			return err
		}
		return s.linkPhone(ctx, tx, instance, created, by)
	})
	if err != nil {
		return identity.User{}, s.userError("create user", err)
	}
	return created, nil
}

// checkUserUnique returns identity.ErrUserExists if a customer has the e-mail address, phone
// number or fkId of u. The external ID of an SMS identity that is valid in the instance counts as
// a phone number of its customer.
func checkUserUnique(ctx context.Context, tx sqldb.DB, instance string, u identity.User) error {
	rs, err := tx.Query(ctx, `
		select id from customers
		where tenant_id = $1 and (email_fold = $2 or phone_number = $3 or fk_id = $4)
		union all
		select id from identities
		where tenant_id = $1 and channel = '`+userChannel+`' and external_id = $3 and customer_id is not null
			and (instance_id = $5 or instance_id is null)
		limit 1`, u.TenantID, sqldb.TextOrNull(identity.Fold(u.Email)), sqldb.TextOrNull(u.PhoneNumber),
		sqldb.TextOrNull(u.FKID), instance)
	ids, err := sqldb.ScanAll(rs, err, sqldb.ScanString)
	if err == nil && len(ids) > 0 {
		err = identity.ErrUserExists
	}
	return err
}

// linkPhone links the SMS identity of a user, unless its phone number cannot be an SMS sender.
func (s *Store) linkPhone(ctx context.Context, tx sqldb.DB, instance string, u identity.User, by identity.Actor) error {
	if u.PhoneNumber == "" {
		return nil
	}
	number, err := identity.NormalizePhone(u.PhoneNumber, "")
	if err != nil {
		return nil //nolint:nilerr // the number is not an address
	}
	_, err = s.linkTx(ctx, tx, identity.Identity{
		TenantID: u.TenantID, CustomerID: u.ID, InstanceID: instance,
		Channel: userChannel, ExternalID: number,
	}, by)
	return err
}

// visibleUser is the condition for a customer, in a statement whose $1 is the tenant and $2 an
// instance, that the instance sees: it created the customer, or the customer has an identity that is
// valid there or a conversation.
const visibleUser = `(created_by_instance = $2
	or exists (
		select 1 from identities i
		where i.tenant_id = $1 and i.customer_id = customers.id
			and (i.instance_id = $2 or i.instance_id is null))
	or exists (
		select 1 from identities i join conversations c on c.tenant_id = i.tenant_id and c.identity_id = i.id
		where i.tenant_id = $1 and i.customer_id = customers.id and c.instance_id = $2))`

// User returns a user that the instance sees. It returns identity.ErrNotFound if there is none with
// the ID.
func (s *Store) User(ctx context.Context, tenant, instance, id string) (identity.User, error) {
	rs, err := s.db.Query(ctx,
		`select `+userColumns+` from customers where tenant_id = $1 and `+visibleUser+` and id = $3`, tenant, instance, id)
	u, err := sqldb.ScanOne(rs, err, scanUser)
	return u, s.userError("read user", err)
}

// FindUser returns the oldest user that the instance sees and that matches q, and the IDs of its conversations with the
// instance, oldest first. It returns identity.ErrNotFound if none matches.
func (s *Store) FindUser(
	ctx context.Context, tenant, instance string, q identity.UserQuery,
) (u identity.User, conversations []string, err error) {
	where, value := userFilter(q)
	rs, err := s.db.Query(ctx, `
		select `+userColumns+` from customers
		where tenant_id = $1 and `+visibleUser+` and `+where+` order by id limit 1`, tenant, instance, value)
	if u, err = sqldb.ScanOne(rs, err, scanUser); err != nil {
		return u, nil, s.userError("find user", err)
	}
	rs, err = s.db.Query(ctx, `
		select c.id from conversations c
		join identities i on i.tenant_id = c.tenant_id and i.id = c.identity_id
		where c.tenant_id = $1 and c.instance_id = $2 and i.customer_id = $3
		order by c.created_at, c.id`, tenant, instance, u.ID)
	conversations, err = sqldb.ScanAll(rs, err, sqldb.ScanString)
	return u, conversations, s.userError("find conversations of user", err)
}

// userFilter returns the condition for q and the value of $3 in it.
func userFilter(q identity.UserQuery) (condition, value string) {
	switch {
	case q.Email != "":
		return `email_fold = $3`, identity.Fold(q.Email)
	case q.FKID != "":
		return `fk_id = $3`, q.FKID
	}
	return `(phone_number = $3 or exists (
		select 1 from identities i
		where i.tenant_id = $1 and i.customer_id = customers.id and i.channel = '` + userChannel + `' and i.external_id = $3
			and (i.instance_id = $2 or i.instance_id is null)))`, q.Phone
}

// DeleteUser deletes a user that the instance sees, as DeleteCustomer does, and records an
// additional event. It returns identity.ErrNotFound for a user that the instance does not see, and
// identity.ErrVerifiedElsewhere if an identity of the user is verified in another instance.
func (s *Store) DeleteUser(ctx context.Context, tenant, instance, id string, by identity.Actor) error {
	err := s.db.InTx(ctx, func(tx sqldb.DB) error {
		if err := s.lockDeletableUser(ctx, tx, tenant, instance, id); err != nil {
			return err
		}
		// The customer's codes end with its rows; the entries in the code store expire.
		if _, err := s.deleteCustomerTx(ctx, tx, tenant, id, by); err != nil {
			return err
		}
		return recordEvents(ctx, tx, identity.Event{
			TenantID: tenant, Kind: "user.deleted", Actor: by, CustomerID: id, InstanceID: instance,
		})
	})
	if errors.Is(err, identity.ErrNotFound) || errors.Is(err, identity.ErrVerifiedElsewhere) {
		return err
	}
	return s.userError("delete user", err)
}

// lockDeletableUser locks a user and its identities until the transaction ends, so that none is
// verified in between. It returns an error if the instance may not delete the user.
func (s *Store) lockDeletableUser(ctx context.Context, tx sqldb.DB, tenant, instance, id string) error {
	rs, err := tx.Query(ctx, `
		select id from customers
		where tenant_id = $1 and `+visibleUser+` and id = $3`+s.dialect.ForUpdate(), tenant, instance, id)
	if _, err = sqldb.ScanOne(rs, err, sqldb.ScanString); err != nil {
		return err
	}
	identities, err := s.lockIdentities(ctx, tx, `tenant_id = $1 and customer_id = $2`, tenant, id)
	if err != nil {
		return err
	}
	tenantWide := false
	for _, i := range identities {
		if !i.IsVerified() || i.InstanceID == instance {
			continue
		}
		if i.InstanceID != "" {
			return identity.ErrVerifiedElsewhere
		}
		tenantWide = true
	}
	if !tenantWide {
		return nil
	}
	rs, err = tx.Query(ctx, `select id from instances where tenant_id = $1 and id <> $2 limit 1`, tenant, instance)
	others, err := sqldb.ScanAll(rs, err, sqldb.ScanText)
	if err == nil && len(others) > 0 {
		err = identity.ErrVerifiedElsewhere
	}
	return err
}

// userError maps errors of the database to those of package identity.
func (s *Store) userError(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, identity.ErrUserExists), errors.Is(err, identity.ErrAlreadyLinked), s.dialect.IsDuplicate(err):
		return identity.ErrUserExists
	case sqldb.IsNoRows(err) || s.dialect.IsUnstorable(err):
		return identity.ErrNotFound
	}
	return fmt.Errorf("%s: %w", op, err)
}
