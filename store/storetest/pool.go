package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"hydragate/store/sqldb"
)

// A Pool lends Postgres databases to tests and empties them afterwards, which is faster than
// creating and dropping them. The zero value is ready to use.
type Pool struct {
	mu   sync.Mutex
	free []pooled
	all  []pooled
}

type pooled struct {
	db, ingest sqldb.DB
	drop       func() error
}

// Open returns the connections to a database that contains no rows but the default tenant, until
// the test ends. They are those that sqldb.Open returns, and the caller must not close them.
func (p *Pool) Open(t *testing.T) (db, ingest sqldb.DB) {
	t.Helper()
	d, err := p.get()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := deleteRows(d.db); err != nil {
			t.Errorf("empty database: %v", err)
			return
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.free = append(p.free, d)
	})
	return d.db, d.ingest
}

func (p *Pool) get() (d pooled, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.free); n > 0 {
		d, p.free = p.free[n-1], p.free[:n-1]
		return d, nil
	}
	server, err := serverURL()
	if err != nil {
		return d, err
	}
	dsn, drop, err := CreateDatabase(server)
	if err != nil {
		return d, err
	}
	d.drop = drop
	if d.db, d.ingest, err = sqldb.Open(context.Background(), dsn); err != nil {
		return d, errors.Join(err, drop())
	}
	p.all = append(p.all, d)
	return d, nil
}

// Close drops the databases.
func (p *Pool) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, d := range p.all {
		d.db.Close()
		d.ingest.Close()
		errs = append(errs, d.drop())
	}
	p.free, p.all = nil, nil
	return errors.Join(errs...)
}

// deleteRows deletes all rows that the migrations did not insert. Triggers, which protect the audit
// log, and foreign keys do not apply.
func deleteRows(db sqldb.DB) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	rs, err := db.Query(ctx, `
		select cast(table_name as text) from information_schema.tables
		where table_schema = 'public' and table_type = 'BASE TABLE' and table_name not in ('goose_db_version', 'tenants')`)
	tables, err := sqldb.ScanAll(rs, err, sqldb.ScanString)
	if err != nil {
		return fmt.Errorf("list tables: %w", err)
	}
	stmts := []sqldb.Statement{
		{Query: `set local session_replication_role = replica`},
		{Query: `delete from tenants where name <> 'default'`},
	}
	for _, table := range tables {
		stmts = append(stmts, sqldb.Statement{Query: `delete from ` + table})
	}
	return db.InTx(ctx, func(tx sqldb.DB) error { return tx.Batch(ctx, stmts) })
}
