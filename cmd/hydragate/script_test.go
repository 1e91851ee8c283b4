package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"hydragate/e2e/harness"
	"hydragate/e2e/harness/script"
)

// TestMain makes the test binary the program too: scripts that run hydragate run this
// binary, race detector included, as a process of its own. Scripts mostly wait, so
// that more of them than there are processors run at once. Beside it there is a gateway
// that forgets, so that scripts about not forgetting are seen to notice.
func TestMain(m *testing.M) {
	harness.RunMain(m, map[string]func(){"hydragate": main})
}

// TestScripts plays the stories of testdata/script with the whole program: embedded,
// and with Postgres and Redis. Some are about one of the two alone, and lie in a folder
// of that name.
func TestScripts(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			testscript.Run(t, script.NewParams(t, engine, "testdata/script/*.txt", "testdata/script/"+engine+"/*.txt"))
		})
	}
}
