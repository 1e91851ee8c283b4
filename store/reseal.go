package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// A sealedColumn is a column that holds sealed values. Row names the columns that name
// a row within its tenant: what Seal bound the value to.
type sealedColumn struct {
	table, column string
	tenant        string   // the column of the tenant; empty: of none
	row           []string // in the order of an index
	inUse         string   // of which values anybody notices at once that they do not open; empty: of none
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

// order names a row by itself, in the order of the primary key.
func (c sealedColumn) order() []string {
	if len(c.row) == 1 || c.tenant == "" {
		return c.row
	}
	return append([]string{c.tenant}, c.row...)
}

// A sealedValue is one that is to be sealed anew.
type sealedValue struct {
	tenant string
	row    []string
	sealed string
}

// resealAtOnce is how many values one transaction seals anew: few, so that nobody waits
// for it who writes the same rows.
const resealAtOnce = 100

// A Resealing tells of values that were sealed anew, or could not be.
type Resealing struct {
	Column   string // "outbox.place"
	Resealed int
	Missing  int // sealed with a key that the ring does not hold
	Broken   int // changed or moved: no key opens them
}

// Reseal seals every value anew that another key than the first of the ring sealed, in
// small transactions, while any number of processes go on. A row that somebody is
// writing is left to who calls it again: until Hanging finds nothing. It may end at any
// point and be begun again, and run twice at once. said is told of each transaction.
func (s *Store) Reseal(ctx context.Context, said func(Resealing)) error {
	for _, c := range sealedColumns() {
		if err := s.resealColumn(ctx, c, said); err != nil {
			return fmt.Errorf("seal %s anew: %w", c.name(), err)
		}
	}
	return nil
}

func (s *Store) resealColumn(ctx context.Context, c sealedColumn, said func(Resealing)) error {
	for after := []string(nil); ; {
		var stale []sealedValue
		done := Resealing{Column: c.name()}
		// A few, so that a busy database is no reason to give up.
		err := s.again(ctx, func(tx db) (err error) {
			done = Resealing{Column: c.name()}
			if stale, err = s.stale(ctx, tx, c, after); err != nil {
				return err
			}
			var stmts []stmt
			for _, v := range stale {
				st, err := s.resealed(c, v)
				switch {
				case errors.Is(err, ErrSealed) && !isMissing(err):
					done.Broken++
				case err != nil:
					done.Missing++
				default:
					done.Resealed++
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
		after = c.place(stale[len(stale)-1])
	}
}

func isMissing(err error) bool {
	var m *MissingKey
	return errors.As(err, &m)
}

// place names where v is, in the order of its column.
func (c sealedColumn) place(v sealedValue) []string {
	if len(c.order()) == len(c.row) {
		return v.row
	}
	return append([]string{v.tenant}, v.row...)
}

// stale reads and locks the next values after a place that the first key did not seal.
// It waits for nobody, so that nobody waits for it in a circle.
func (s *Store) stale(ctx context.Context, tx db, c sealedColumn, after []string) ([]sealedValue, error) {
	tenant := c.tenant
	if tenant == "" {
		tenant = "''"
	}
	first := sealedBy(s.keys.IDs()[0])
	args := []any{first, len(first)}
	from := ``
	if after != nil {
		var places []string
		for _, a := range after {
			args = append(args, a)
			places = append(places, place(len(args)))
		}
		from = ` and (` + strings.Join(c.order(), ", ") + `) > (` + strings.Join(places, ", ") + `)`
	}
	args = append(args, resealAtOnce)
	rs, err := tx.Query(ctx, `
		select `+tenant+`, `+c.column+`, `+strings.Join(c.row, ", ")+` from `+c.table+`
		where substr(`+c.column+`, 1, $2) <> $1`+from+`
		order by `+strings.Join(c.order(), ", ")+` limit `+place(len(args))+s.d.skipLocked, args...)
	return all(rs, err, func(sc scan) (v sealedValue, err error) {
		v.row = make([]string, len(c.row))
		into := []any{text(&v.tenant), &v.sealed}
		for i := range v.row {
			into = append(into, text(&v.row[i]))
		}
		return v, sc(into...)
	})
}

// resealed is the statement that puts a value sealed anew in the place of the one that
// was read, if it is there still.
func (s *Store) resealed(c sealedColumn, v sealedValue) (stmt, error) {
	bound := bind(v.tenant, c.name(), strings.Join(v.row, "\x1f"))
	plain, _, err := s.keys.Open(v.sealed, bound)
	if err != nil {
		return stmt{}, err
	}
	args := []any{s.keys.Seal(plain, bound), v.sealed}
	where := c.column + ` = $2`
	if c.tenant != "" {
		args = append(args, v.tenant)
		where += ` and ` + c.tenant + ` = ` + place(len(args))
	}
	for i, column := range c.row {
		args = append(args, v.row[i])
		where += ` and ` + column + ` = ` + place(len(args))
	}
	return stmt{query: `update ` + c.table + ` set ` + c.column + ` = $1 where ` + where, args: args}, nil
}
