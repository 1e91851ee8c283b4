package store

import (
	"context"
	"fmt"

	"hydragate/identity"
	"hydragate/store/sqldb"
)

const tenantColumns = `owner_confirmation, unknown_sender_days`

func scanTenantSettings(sc sqldb.ScanFunc) (t identity.TenantSettings, err error) {
	err = sc(&t.OwnerConfirmation, &t.UnknownSenderDays)
	return t, err
}

// TenantSettings returns the settings of a tenant. It returns identity.ErrNotFound for an unknown
// tenant.
func (s *Store) TenantSettings(ctx context.Context, tenant string) (identity.TenantSettings, error) {
	rs, err := s.db.Query(ctx, `select `+tenantColumns+` from tenants where id = $1`, tenant)
	t, err := sqldb.ScanOne(rs, err, scanTenantSettings)
	return t, s.identityError("read tenant", err)
}

// EditTenant changes the settings of a tenant that e sets and returns all of them. It returns
// identity.ErrNotFound for an unknown tenant.
func (s *Store) EditTenant(
	ctx context.Context, tenant string, e identity.TenantEdit, by identity.Actor,
) (t identity.TenantSettings, err error) {
	update := columnUpdate{args: []any{tenant}}
	if e.OwnerConfirmation != nil {
		update.set("owner_confirmation", *e.OwnerConfirmation)
	}
	if e.UnknownSenderDays != nil {
		update.set("unknown_sender_days", *e.UnknownSenderDays)
	}
	err = s.db.InTx(ctx, func(tx sqldb.DB) error {
		rs, err := tx.Query(ctx, `
			update tenants set name = name`+update.assignments+` where id = $1 returning `+tenantColumns, update.args...)
		if t, err = sqldb.ScanOne(rs, err, scanTenantSettings); err != nil {
			return err
		}
		detail := changedFields(update.fields)
		if e.OwnerConfirmation != nil {
			detail["owner_confirmation"] = fmt.Sprint(*e.OwnerConfirmation)
		}
		return recordEvents(ctx, tx, identity.Event{TenantID: tenant, Kind: "tenant.updated", Actor: by, Detail: detail})
	})
	return t, s.identityError("change tenant", err)
}
