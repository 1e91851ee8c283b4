package script

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// NewParams returns the parameters to run the scripts that match patterns on an engine.
func NewParams(t *testing.T, engine string, patterns ...string) testscript.Params {
	return testscript.Params{
		Files:               globScripts(t, patterns...),
		Setup:               func(env *testscript.Env) error { return newScriptFixture(t, env, engine) },
		Condition:           func(cond string) (bool, error) { return evalCondition(cond, engine) },
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"gateway":  command((*scriptFixture).gatewayCommand),
			"replica":  command((*scriptFixture).replicaCommand),
			"staff":    command((*scriptFixture).staffCommand),
			"steve":    command((*scriptFixture).steveCommand),
			"stranger": command((*scriptFixture).strangerCommand),
			"bot":      command((*scriptFixture).botCommand),
			"agent":    command((*scriptFixture).appCommand),
			"crowd":    command((*scriptFixture).sendersCommand),
			"texters":  command((*scriptFixture).smsSendersCommand),
			"api":      command((*scriptFixture).apiCommand),
			"http":     command((*scriptFixture).httpCommand),
			"sql":      command((*scriptFixture).sqlCommand),
			"nothing":  command((*scriptFixture).checkLeaks),
			"remember": command((*scriptFixture).rememberCommand),
			"telegram": command((*scriptFixture).telegramCommand),
			"slack":    command((*scriptFixture).slackCommand),
			"postgres": command((*scriptFixture).postgresCommand),
			"redis":    command((*scriptFixture).redisCommand),
		},
	}
}

func globScripts(t *testing.T, patterns ...string) []string {
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

// evalCondition makes a line that begins with [sqlite] or [postgres] one of that engine
// alone.
func evalCondition(cond, engine string) (bool, error) {
	if cond != "sqlite" && cond != "postgres" {
		return false, fmt.Errorf("there is no engine %s", cond)
	}
	return cond == engine, nil
}

// command makes a command of what f does in the world of its script. The error of f, or
// its absence after a "!", ends the script with the end of the gateway's log.
func command(f func(w *scriptFixture, ts *testscript.TestScript, args []string) error) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		w := ts.Value(fixtureKey{}).(*scriptFixture)
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
