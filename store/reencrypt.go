package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"hydragate/store/keyring"
	"hydragate/store/sqldb"
)

// A sealedColumn is a column that holds sealed values. Row names the columns that name
// a row within its tenant: what Seal bound the value to.
type sealedColumn struct {
	table, column string
	tenant        string   // the column of the tenant; empty: of none
	keyColumns    []string // in the order of an index
	activeWhere   string   // of which values anybody notices at once that they do not open; empty: of none
}

// sealedColumns are all there are.
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

// Name is the column as people write it.
func (c sealedColumn) name() string { return c.table + "." + c.column }

// orderColumns names a row by itself, in the order of the primary key.
func (c sealedColumn) orderColumns() []string {
	if len(c.keyColumns) == 1 || c.tenant == "" {
		return c.keyColumns
	}
	return append([]string{c.tenant}, c.keyColumns...)
}

// A sealedValue is one that is to be sealed anew.
type sealedValue struct {
	tenant string
	key    []string
	sealed string
}

// reencryptBatch is how many values one transaction seals anew: few, so that nobody waits
// for it who writes the same rows.
const reencryptBatch = 100

// A ReencryptProgress tells of values that were sealed anew, or could not be.
type ReencryptProgress struct {
	Column      string // "outbox.place"
	Reencrypted int
	Missing     int // sealed with a key that the ring does not hold
	Corrupt     int // changed or moved: no key opens them
}

// Reencrypt seals every value anew that another key than the first of the ring sealed, in
// small transactions, while any number of processes go on. A row that somebody is
// writing is left to who calls it again: until Hanging finds nothing. It may end at any
// point and be begun again, and run twice at once. said is told of each transaction.
func (s *Store) Reencrypt(ctx context.Context, said func(ReencryptProgress)) error {
	for _, c := range sealedColumns() {
		if err := s.reencryptColumn(ctx, c, said); err != nil {
			return fmt.Errorf("seal %s anew: %w", c.name(), err)
		}
	}
	return nil
}

func (s *Store) reencryptColumn(ctx context.Context, c sealedColumn, said func(ReencryptProgress)) error {
	for after := []string(nil); ; {
		var stale []sealedValue
		done := ReencryptProgress{Column: c.name()}
		// A few, so that a busy database is no reason to give up.
		err := s.retryTx(ctx, func(tx sqldb.DB) (err error) {
			done = ReencryptProgress{Column: c.name()}
			if stale, err = s.staleValues(ctx, tx, c, after); err != nil {
				return err
			}
			var stmts []sqldb.Statement
			for _, v := range stale {
				st, err := s.reencryptStmt(c, v)
				switch {
				case errors.Is(err, keyring.ErrDecrypt) && !isMissingKey(err):
					done.Corrupt++
				case err != nil:
					done.Missing++
				default:
					done.Reencrypted++
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
		said(done)
		after = c.position(stale[len(stale)-1])
	}
}

func isMissingKey(err error) bool {
	var m *keyring.MissingKeyError
	return errors.As(err, &m)
}

// position names where v is, in the order of its column.
func (c sealedColumn) position(v sealedValue) []string {
	if len(c.orderColumns()) == len(c.keyColumns) {
		return v.key
	}
	return append([]string{v.tenant}, v.key...)
}

// staleValues reads and locks the next values after a place that the first key did not seal.
// It waits for nobody, so that nobody waits for it in a circle.
func (s *Store) staleValues(ctx context.Context, tx sqldb.DB, c sealedColumn, after []string) ([]sealedValue, error) {
	tenant := c.tenant
	if tenant == "" {
		tenant = "''"
	}
	first := keyring.SealedPrefix(s.keys.IDs()[0])
	args := []any{first, len(first)}
	from := ``
	if after != nil {
		var places []string
		for _, a := range after {
			args = append(args, a)
			places = append(places, sqldb.Placeholder(len(args)))
		}
		from = ` and (` + strings.Join(c.orderColumns(), ", ") + `) > (` + strings.Join(places, ", ") + `)`
	}
	args = append(args, reencryptBatch)
	rs, err := tx.Query(ctx, `
		select `+tenant+`, `+c.column+`, `+strings.Join(c.keyColumns, ", ")+` from `+c.table+`
		where substr(`+c.column+`, 1, $2) <> $1`+from+`
		order by `+strings.Join(c.orderColumns(), ", ")+` limit `+sqldb.Placeholder(len(args))+s.dialect.SkipLocked, args...)
	return sqldb.ScanAll(rs, err, func(sc sqldb.ScanFunc) (v sealedValue, err error) {
		v.key = make([]string, len(c.keyColumns))
		into := []any{sqldb.Text(&v.tenant), &v.sealed}
		for i := range v.key {
			into = append(into, sqldb.Text(&v.key[i]))
		}
		return v, sc(into...)
	})
}

// reencryptStmt is the statement that puts a value sealed anew in the place of the one that
// was read, if it is there still.
func (s *Store) reencryptStmt(c sealedColumn, v sealedValue) (sqldb.Statement, error) {
	bound := keyring.AssociatedData(v.tenant, c.name(), strings.Join(v.key, "\x1f"))
	plain, _, err := s.keys.Open(v.sealed, bound)
	if err != nil {
		return sqldb.Statement{}, err
	}
	args := []any{s.keys.Seal(plain, bound), v.sealed}
	where := c.column + ` = $2`
	if c.tenant != "" {
		args = append(args, v.tenant)
		where += ` and ` + c.tenant + ` = ` + sqldb.Placeholder(len(args))
	}
	for i, column := range c.keyColumns {
		args = append(args, v.key[i])
		where += ` and ` + column + ` = ` + sqldb.Placeholder(len(args))
	}
	return sqldb.Statement{Query: `update ` + c.table + ` set ` + c.column + ` = $1 where ` + where, Args: args}, nil
}
