package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"hydragate/e2e/harness"
	"hydragate/e2e/harness/script"
)

// TestMain makes the test binary serve as the programs that scripts run: hydragate with all its
// commands, and the gateways with a fault of package harness, such as hydragate-without-spool.
func TestMain(m *testing.M) {
	harness.RunMain(m, map[string]func(){"hydragate": main})
}

// TestScripts runs the scripts in testdata/script with the whole program: with the embedded database,
// and with PostgreSQL and Redis. The subdirectories contain scripts for one of the two.
func TestScripts(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			testscript.Run(t, script.NewParams(t, engine, "testdata/script/*.txt", "testdata/script/"+engine+"/*.txt"))
		})
	}
}
