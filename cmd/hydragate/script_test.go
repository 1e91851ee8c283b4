package main

import (
	"flag"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain makes the test binary the program too: scripts that run hydragate run this
// binary, race detector included, as a process of its own. Scripts mostly wait, so
// that more of them than there are processors run at once. Beside it there is a gateway
// that forgets, so that scripts about not forgetting are seen to notice.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	testscript.Main(m, map[string]func(){"hydragate": main, "forgetful": forgetful})
}

// TestScripts plays the stories of testdata/script with the whole program: embedded,
// and with Postgres and Redis. Some are about one of the two alone, and lie in a folder
// of that name.
func TestScripts(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			testscript.Run(t, testscript.Params{
				Files:               scripts(t, "testdata/script/*.txt", "testdata/script/"+engine+"/*.txt"),
				Setup:               func(env *testscript.Env) error { return newWorld(t, env, engine) },
				Condition:           func(cond string) (bool, error) { return condition(cond, engine) },
				RequireExplicitExec: true,
				RequireUniqueNames:  true,
				Cmds: map[string]func(*testscript.TestScript, bool, []string){
					"gateway":  story((*world).gateway),
					"replica":  story((*world).replica),
					"staff":    story((*world).staff),
					"steve":    story((*world).steve),
					"stranger": story((*world).stranger),
					"bot":      story((*world).bot),
					"agent":    story((*world).agent),
					"crowd":    story((*world).crowdDoes),
					"texters":  story((*world).textersDo),
					"api":      story((*world).api),
					"http":     story((*world).http),
					"sql":      story((*world).sql),
					"nothing":  story((*world).nothingLeaked),
					"remember": story((*world).remember),
					"telegram": story((*world).telegramDoes),
					"slack":    story((*world).slackDoes),
					"postgres": story((*world).postgresDoes),
					"redis":    story((*world).redisDoes),
				},
			})
		})
	}
}

func scripts(t *testing.T, patterns ...string) []string {
	var files []string
	for _, p := range patterns {
		found, err := filepath.Glob(p)
		if err != nil || len(found) == 0 {
			t.Fatalf("no scripts are at %s: %v", p, err)
		}
		files = append(files, found...)
	}
	return files
}

// condition makes a line that begins with [sqlite] or [postgres] one of that engine
// alone.
func condition(cond, engine string) (bool, error) {
	if cond != "sqlite" && cond != "postgres" {
		return false, fmt.Errorf("there is no engine %s", cond)
	}
	return cond == engine, nil
}

// story makes a command of what f does in the world of its script. The error of f, or
// its absence after a "!", ends the script with the end of the gateway's log.
func story(f func(w *world, ts *testscript.TestScript, args []string) error) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		w := ts.Value(worldKey{}).(*world)
		err := f(w, ts, args)
		switch {
		case err != nil && !neg:
			ts.Logf("the gateway's log ends:\n%s", w.logTail())
			ts.Fatalf("%v", err)
		case err == nil && neg:
			ts.Fatalf("that was not to happen")
		}
	}
}
