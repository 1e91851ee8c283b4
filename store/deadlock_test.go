package store

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"hydragate/claim"
	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store/sqldb"
	"hydragate/store/storetest"
)

// TestDeadlock_Retried provokes a deadlock between each operation and a transaction that locks the
// same rows in another order, as the deletion or merge of a customer may. The server ends the
// operation, which must succeed nevertheless.
func TestDeadlock_Retried(t *testing.T) {
	dsn := storetest.NewPostgres(t) // SQLite has one writer
	s := mustOpen(t, dsn)
	for name, c := range map[string]struct {
		// The transaction locks first, waits until the operation waits for it, and locks second.
		first, second string
		run           func(f *fixture, customer string, commit gateway.Commit) error
	}{
		"claim": {
			`select 1 from identities where tenant_id = $1 for update`, `select 1 from lanes where tenant_id = $1 for update`,
			func(f *fixture, _ string, commit gateway.Commit) error { return f.Apply(f.t.Context(), commit) },
		},
		"delete": {
			`select 1 from identities where tenant_id = $1 for update`,
			`select 1 from customers where tenant_id = $1 for update`,
			func(f *fixture, customer string, _ gateway.Commit) error {
				_, err := f.DeleteCustomer(f.t.Context(), f.tenant, customer, identity.System)
				return err
			},
		},
		"unlink": {
			`select 1 from conversations where tenant_id = $1 for update`,
			`select 1 from identities where tenant_id = $1 for update`,
			func(f *fixture, customer string, commit gateway.Commit) error {
				return f.Unlink(f.t.Context(), identity.Key{
					TenantID: f.tenant, CustomerID: customer, IdentityID: commit.Claim.Grant.IdentityID,
				}, identity.System)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, s)
			customer, id := f.createCustomerIdentity("7")
			issued, _, err := f.IssueCode(t.Context(), identity.Key{TenantID: f.tenant, CustomerID: customer, IdentityID: id},
				"key:test")
			must(t, err)
			a, commit := f.startRedemption("7", "WDJBMJ")
			r, err := (&claim.Service{
				Store: f.Store, Codes: fixedChecker{CheckResult: claim.CheckResult{Result: claim.Match}},
			}).DecideRedemption(t.Context(), a)
			must(t, err)
			if r.Grant == nil || r.Grant.Gen != issued.Gen {
				t.Fatalf("DecideRedemption() = %+v, want a grant", r)
			}
			commit.Claim = &r
			mustExec(t, s, `update conversations set identity_id = $2 where tenant_id = $1`, f.tenant, id)
			operation := func() error { return c.run(f, customer, commit) }
			for range 5 { // the server may end the other transaction instead
				if ended, err := deadlock(t, dsn, f.tenant, c.first, c.second, operation); ended {
					if err != nil {
						t.Errorf("%s = %v, want success", name, err)
					}
					return
				}
			}
			t.Error("the server never ended the operation")
		})
	}
}

// deadlock runs a transaction and an operation that wait for each other. It reports whether the
// server ended the operation rather than the transaction, and returns the result of the operation.
func deadlock(t *testing.T, dsn, tenant, first, second string, operation func() error) (ended bool, err error) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn, err := pgx.Connect(ctx, dsn)
	must(t, err)
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, `set deadlock_timeout = '3s'`) // the operation looks for a deadlock first
	must(t, err)
	tx, err := conn.Begin(ctx)
	must(t, err)
	_, err = tx.Exec(ctx, first, tenant)
	must(t, err)
	done := make(chan error, 1)
	go func() { done <- operation() }()
	waiting := 0
	for waiting == 0 {
		must(t, tx.QueryRow(ctx, `select count(*) from pg_locks where not granted and pg_blocking_pids(pid) @> array[
			pg_backend_pid()]`).Scan(&waiting))
	}
	attempt, err := tx.Begin(ctx)
	must(t, err)
	_, err = attempt.Exec(ctx, second+" nowait", tenant)
	if pe, ok := errors.AsType[*pgconn.PgError](err); !ok || pe.Code != "55P03" {
		t.Errorf("lock without waiting = %v, want the operation to hold the lock", err)
	}
	must(t, attempt.Rollback(ctx))
	_, err = tx.Exec(ctx, second, tenant)
	if pe, ok := errors.AsType[*pgconn.PgError](err); ok && pe.Code == "40P01" {
		_ = tx.Rollback(ctx)
		return false, <-done
	}
	must(t, err)
	must(t, tx.Commit(ctx))
	return true, <-done
}

// TestDeadlock_RetriesLimited tests that a transaction that always ends in a deadlock is given up, that
// one that fails for another reason is not run again, and that neither is a part of a transaction.
func TestDeadlock_RetriesLimited(t *testing.T) {
	db, _ := databases.Open(t)
	for code, want := range map[string]int{"40P01": 4, "23505": 1} {
		runs := 0
		err := db.InTx(t.Context(), func(tx sqldb.DB) error {
			return tx.InTx(t.Context(), func(sqldb.DB) error {
				runs++
				return &pgconn.PgError{Code: code}
			})
		})
		if pe, ok := errors.AsType[*pgconn.PgError](err); !ok || pe.Code != code || runs != want {
			t.Errorf("InTx() = %v after %d runs, want code %s after %d", err, runs, code, want)
		}
	}
}
