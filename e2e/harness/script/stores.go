package script

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"hydragate/e2e/harness"
)

// useServers gives the script a database of its own on the Postgres of the tests,
// and the way to it and to their Redis by wires that can be cut.
func (w *scriptFixture) useServers(t *testing.T, env *testscript.Env) error {
	servers := map[string]*url.URL{}
	for _, name := range []string{"HYDRAGATE_TEST_POSTGRES", "HYDRAGATE_TEST_REDIS"} {
		u, err := url.Parse(os.Getenv(name))
		if err != nil || u.Host == "" {
			return fmt.Errorf("%s names no server: run make test, or set it", name)
		}
		servers[name] = u
	}
	pg, rd := servers["HYDRAGATE_TEST_POSTGRES"], servers["HYDRAGATE_TEST_REDIS"]
	dsn, drop, err := harness.NewDatabase(pg.String())
	if err != nil {
		return err
	}
	env.Defer(func() {
		if err := drop(); err != nil {
			t.Error(err)
		}
	})
	w.databaseURL = dsn
	if pg, err = url.Parse(dsn); err != nil {
		return err
	}
	if w.postgresProxy, err = harness.NewProxy(pg.Host); err != nil {
		return err
	}
	env.Defer(w.postgresProxy.Close)
	if w.redisProxy, err = harness.NewProxy(rd.Host); err != nil {
		return err
	}
	env.Defer(w.redisProxy.Close)
	pg.Host, rd.Host = w.postgresProxy.Addr(), w.redisProxy.Addr()
	env.Setenv("HYDRAGATE_DATABASE_URL", pg.String())
	env.Setenv("HYDRAGATE_REDIS_URL", rd.String())
	return nil
}

// postgres goes away | freezes | comes back
func (w *scriptFixture) postgresCommand(ts *testscript.TestScript, args []string) error {
	return setProxyState(w.postgresProxy, args)
}

// redis goes away | freezes | comes back
func (w *scriptFixture) redisCommand(ts *testscript.TestScript, args []string) error {
	return setProxyState(w.redisProxy, args)
}

func setProxyState(w *harness.Proxy, args []string) error {
	state, known := map[string]harness.ProxyState{"goes away": harness.ProxyCut, "freezes": harness.ProxyFrozen, "comes back": harness.ProxyUp}[strings.Join(args, " ")]
	if w == nil || !known {
		return errors.New("usage: postgres|redis goes away | freezes | comes back, where there are servers")
	}
	w.SetState(state)
	return nil
}

// sqlCommand STATEMENT [[=>] VALUE] runs a statement, which gives this: now, or in the end.
func (w *scriptFixture) sqlCommand(ts *testscript.TestScript, args []string) error {
	switch {
	case len(args) == 1:
		return harness.ExecSQL(w.databaseURL, args[0])
	case len(args) == 2:
		return w.expectRows(args[0], args[1])
	case len(args) == 3 && args[1] == "=>":
		return new(harness.Broadcast).WaitFor(harness.EventTimeout, func() error { return w.expectRows(args[0], args[2]) })
	}
	return errors.New("usage: sql STATEMENT [[=>] VALUE]")
}

// expectRows gives an error unless the database says this.
func (w *scriptFixture) expectRows(statement, want string) error {
	found, err := harness.QueryRows(w.databaseURL, statement)
	if got := strings.Join(found, " "); err == nil && got != want {
		err = fmt.Errorf("the database says %q", got)
	}
	return err
}
