package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/rogpeppe/go-internal/testscript"
)

// openServers gives the script a database of its own on the Postgres of the tests,
// and the way to it and to their Redis by wires that can be cut.
func (w *world) openServers(t *testing.T, env *testscript.Env) error {
	servers := map[string]*url.URL{}
	for _, name := range []string{"HYDRAGATE_TEST_POSTGRES", "HYDRAGATE_TEST_REDIS"} {
		u, err := url.Parse(os.Getenv(name))
		if err != nil || u.Host == "" {
			return fmt.Errorf("%s names no server: run make test, or set it", name)
		}
		servers[name] = u
	}
	pg, rd := servers["HYDRAGATE_TEST_POSTGRES"], servers["HYDRAGATE_TEST_REDIS"]
	name := "s_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	if err := execute(pg.String(), "create database "+name); err != nil {
		return err
	}
	server := pg.String()
	env.Defer(func() {
		if err := execute(server, "drop database "+name+" with (force)"); err != nil {
			t.Error(err)
		}
	})
	pg.Path = "/" + name
	w.dsn = pg.String()
	var err error
	if w.toPostgres, err = newWire(pg.Host); err != nil {
		return err
	}
	env.Defer(w.toPostgres.close)
	if w.toRedis, err = newWire(rd.Host); err != nil {
		return err
	}
	env.Defer(w.toRedis.close)
	pg.Host, rd.Host = w.toPostgres.addr(), w.toRedis.addr()
	env.Setenv("HYDRAGATE_DATABASE_URL", pg.String())
	env.Setenv("HYDRAGATE_REDIS_URL", rd.String())
	return nil
}

// postgres goes away | freezes | comes back
func (w *world) postgresDoes(ts *testscript.TestScript, args []string) error {
	return w.toPostgres.does(args)
}

// redis goes away | freezes | comes back
func (w *world) redisDoes(ts *testscript.TestScript, args []string) error {
	return w.toRedis.does(args)
}

func (w *wire) does(args []string) error {
	state, known := map[string]wireState{"goes away": cut, "freezes": frozen, "comes back": whole}[strings.Join(args, " ")]
	if w == nil || !known {
		return errors.New("usage: postgres|redis goes away | freezes | comes back, where there are servers")
	}
	w.set(state)
	return nil
}

// The drivers are those of the store.
func openSQL(dsn string) (*sql.DB, error) {
	if strings.HasPrefix(dsn, "postgres") {
		return sql.Open("pgx", dsn)
	}
	return sql.Open("sqlite", "file:"+dsn+"?_pragma=busy_timeout(10000)")
}

func execute(dsn, statement string) error {
	_, err := query(dsn, statement)
	return err
}

// query gives the rows of what a statement gives, each as text with blanks between.
func query(dsn, statement string) ([]string, error) {
	db, err := openSQL(dsn)
	if err != nil {
		return nil, err
	}
	defer func() { _ = db.Close() }()
	rows, err := db.QueryContext(context.Background(), statement)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	var found []string
	values, into := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		var row []string
		for _, v := range values {
			if b, ok := v.([]byte); ok {
				v = string(b)
			}
			row = append(row, fmt.Sprint(v))
		}
		found = append(found, strings.Join(row, " "))
	}
	return found, rows.Err()
}

// sql STATEMENT [[=>] VALUE] runs a statement, which gives this: now, or in the end.
func (w *world) sql(ts *testscript.TestScript, args []string) error {
	switch {
	case len(args) == 1:
		return execute(w.dsn, args[0])
	case len(args) == 2:
		return w.says(args[0], args[1])
	case len(args) == 3 && args[1] == "=>":
		return new(bell).until(patience, func() error { return w.says(args[0], args[2]) })
	}
	return errors.New("usage: sql STATEMENT [[=>] VALUE]")
}

// says gives an error unless the database says this.
func (w *world) says(statement, want string) error {
	found, err := query(w.dsn, statement)
	if got := strings.Join(found, " "); err == nil && got != want {
		err = fmt.Errorf("the database says %q", got)
	}
	return err
}
