package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"hydragate/store/keyring"
	"hydragate/store/sqldb"
)

// A sealedColumn is a column with encrypted values.
type sealedColumn struct {
	table, column string
	tenant        string   // the tenant column, or "" if the table has none
	keyColumns    []string // the columns that identify a row within its tenant, in the order of an index
	activeWhere   string   // condition for values that a running gateway needs, or "" for none
}

// sealedColumns returns all columns with encrypted values.
func sealedColumns() []sealedColumn {
	const tenant = "tenant_id"
	return []sealedColumn{
		{"master_keys", "pseudonyms", "", []string{"id"}, ""},
		{"endpoints", "credentials", tenant, []string{"id"}, "true"},
		{"instances", "webhook_secret", tenant, []string{"id"}, "true"},
		{"retired_secrets", "sealed", tenant, []string{"id"}, "true"},
		{"messages", "sealed", tenant, []string{"id"}, "state = 'new'"},
		{"outbox", "place", tenant, []string{"id"}, "status in ('queued', 'sending')"},
		{"idempotency_keys", "answer", tenant, []string{"principal", "key"}, ""},
	}
}

// name returns the name of the column with that of its table.
func (c sealedColumn) name() string { return c.table + "." + c.column }

// orderColumns returns the columns that identify a row in the table, in the order of its primary
// key.
func (c sealedColumn) orderColumns() []string {
	if len(c.keyColumns) == 1 || c.tenant == "" {
		return c.keyColumns
	}
	return append([]string{c.tenant}, c.keyColumns...)
}

// A sealedValue is an encrypted value and its row.
type sealedValue struct {
	tenant string
	key    []string
	sealed string
}

// reencryptBatch is the number of values that one transaction encrypts again, so that other
// transactions do not wait long for its locks.
const reencryptBatch = 100

// ReencryptProgress is the result of one transaction of Reencrypt.
type ReencryptProgress struct {
	Column      string // such as "outbox.place"
	Reencrypted int    // values encrypted with the first key now
	Missing     int    // values encrypted with a key that the ring does not have
	Corrupt     int    // values that were changed or moved
}

// Reencrypt re-encrypts all values with the first key of the ring, unless they are encrypted with
// it already. It works in small transactions while other processes use the database, and
// calls report after each. Rows locked by another transaction are skipped; call Reencrypt again
// until KeyUsage reports no values for the old key. Reencrypt may be interrupted and repeated, and
// several calls may run concurrently.
func (s *Store) Reencrypt(ctx context.Context, report func(ReencryptProgress)) error {
	for _, c := range sealedColumns() {
		if err := s.reencryptColumn(ctx, c, report); err != nil {
			return fmt.Errorf("re-encrypt %s: %w", c.name(), err)
		}
	}
	return nil
}

func (s *Store) reencryptColumn(ctx context.Context, c sealedColumn, report func(ReencryptProgress)) error {
	for after := []string(nil); ; {
		var stale []sealedValue
		var progress ReencryptProgress
		err := s.db.InTx(ctx, func(tx sqldb.DB) (err error) {
			progress = ReencryptProgress{Column: c.name()}
			if stale, err = s.staleValues(ctx, tx, c, after); err != nil {
				return err
			}
			var stmts []sqldb.Statement
			for _, v := range stale {
				st, err := s.reencryptStmt(c, v)
				switch {
				case errors.Is(err, keyring.ErrDecrypt) && !isMissingKey(err):
					progress.Corrupt++
				case err != nil:
					progress.Missing++
				default:
					progress.Reencrypted++
					stmts = append(stmts, st)
				}
			}
			if len(stmts) == 0 {
				return nil
			}
			return tx.Batch(ctx, stmts)
		})
		if err != nil || len(stale) == 0 {
			return err
		}
		report(progress)
		after = c.position(stale[len(stale)-1])
	}
}

func isMissingKey(err error) bool {
	var m *keyring.MissingKeyError
	return errors.As(err, &m)
}

// position returns the position of a value in the order of orderColumns.
func (c sealedColumn) position(v sealedValue) []string {
	if len(c.orderColumns()) == len(c.keyColumns) {
		return v.key
	}
	return append([]string{v.tenant}, v.key...)
}

// staleValues locks and returns the next values after a position that are not encrypted with the
// first key. It skips locked rows, so that it cannot deadlock.
func (s *Store) staleValues(ctx context.Context, tx sqldb.DB, c sealedColumn, after []string) ([]sealedValue, error) {
	tenant := c.tenant
	if tenant == "" {
		tenant = "''"
	}
	first := keyring.SealedPrefix(s.keys.IDs()[0])
	args := []any{first, len(first)}
	from := ``
	if after != nil {
		var placeholders []string
		for _, a := range after {
			args = append(args, a)
			placeholders = append(placeholders, sqldb.Placeholder(len(args)))
		}
		from = ` and (` + strings.Join(c.orderColumns(), ", ") + `) > (` + strings.Join(placeholders, ", ") + `)`
	}
	args = append(args, reencryptBatch)
	rs, err := tx.Query(ctx, `
		select `+tenant+`, `+c.column+`, `+strings.Join(c.keyColumns, ", ")+` from `+c.table+`
		where substr(`+c.column+`, 1, $2) <> $1`+from+`
		order by `+strings.Join(c.orderColumns(), ", ")+` limit `+sqldb.Placeholder(len(args))+s.dialect.SkipLocked, args...)
	return sqldb.ScanAll(rs, err, func(sc sqldb.ScanFunc) (v sealedValue, err error) {
		v.key = make([]string, len(c.keyColumns))
		dest := []any{sqldb.Text(&v.tenant), &v.sealed}
		for i := range v.key {
			dest = append(dest, sqldb.Text(&v.key[i]))
		}
		return v, sc(dest...)
	})
}

// reencryptStmt returns the statement that replaces a value with the same value encrypted with the
// first key, unless it has changed since it was read.
func (s *Store) reencryptStmt(c sealedColumn, v sealedValue) (sqldb.Statement, error) {
	aad := keyring.AssociatedData(v.tenant, c.name(), strings.Join(v.key, "\x1f"))
	plain, _, err := s.keys.Open(v.sealed, aad)
	if err != nil {
		return sqldb.Statement{}, err
	}
	args := []any{s.keys.Seal(plain, aad), v.sealed}
	where := []string{c.column + ` = $2`}
	if c.tenant != "" {
		args = append(args, v.tenant)
		where = append(where, c.tenant+` = `+sqldb.Placeholder(len(args)))
	}
	for i, column := range c.keyColumns {
		args = append(args, v.key[i])
		where = append(where, column+` = `+sqldb.Placeholder(len(args)))
	}
	return sqldb.Statement{
		Query: `update ` + c.table + ` set ` + c.column + ` = $1 where ` + strings.Join(where, ` and `), Args: args,
	}, nil
}
