//go:build unix

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

// useServers creates a database for the script, and connects the gateway to it and to Redis through
// proxies.
func (w *scriptFixture) useServers(t *testing.T, env *testscript.Env) error {
	servers := map[string]*url.URL{}
	for _, name := range []string{"HYDRAGATE_TEST_POSTGRES", "HYDRAGATE_TEST_REDIS"} {
		u, err := url.Parse(os.Getenv(name))
		if err != nil || u.Host == "" {
			return fmt.Errorf("%s is not set: run make test, or set it to the URL of a server", name)
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

// postgresCommand implements the command postgres.
func (w *scriptFixture) postgresCommand(_ *testscript.TestScript, args []string) error {
	return setProxyState(w.postgresProxy, args)
}

// redisCommand implements the command redis.
func (w *scriptFixture) redisCommand(_ *testscript.TestScript, args []string) error {
	return setProxyState(w.redisProxy, args)
}

func setProxyState(p *harness.Proxy, args []string) error {
	states := map[string]harness.ProxyState{
		"cut": harness.ProxyCut, "freeze": harness.ProxyFrozen, "restore": harness.ProxyUp,
	}
	state, known := states[strings.Join(args, " ")]
	if p == nil || !known {
		return errors.New("usage: postgres|redis cut | freeze | restore, on the engine postgres")
	}
	p.SetState(state)
	return nil
}

// sqlCommand implements the command sql. With a value it checks the result; after "=>" it waits until
// the result is as expected.
func (w *scriptFixture) sqlCommand(_ *testscript.TestScript, args []string) error {
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

// expectRows returns an error unless the result of a statement is want.
func (w *scriptFixture) expectRows(statement, want string) error {
	found, err := harness.QueryRows(w.databaseURL, statement)
	if got := strings.Join(found, " "); err == nil && got != want {
		err = fmt.Errorf("%s = %q, want %q", statement, got, want)
	}
	return err
}
