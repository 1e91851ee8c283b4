//go:build unix

// Package script implements the commands of the test scripts in cmd/hydragate/testdata/script. A
// script runs gateways, sends messages to them through fake providers, and checks what the
// application and the senders receive. See github.com/rogpeppe/go-internal/testscript for the
// format of the scripts.
package script

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// NewParams returns the parameters to run the scripts that match patterns on an engine, "sqlite" or
// "postgres".
func NewParams(t *testing.T, engine string, patterns ...string) testscript.Params {
	return testscript.Params{
		Files:               globScripts(t, patterns...),
		Setup:               func(env *testscript.Env) error { return newScriptFixture(t, env, engine) },
		Condition:           func(cond string) (bool, error) { return evalCondition(cond, engine) },
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"gateway":         command((*scriptFixture).gatewayCommand),
			"replica":         command((*scriptFixture).replicaCommand),
			"staff":           command((*scriptFixture).staffCommand),
			"steve":           command((*scriptFixture).steveCommand),
			"stranger":        command((*scriptFixture).strangerCommand),
			"expect-reply":    command((*scriptFixture).replyCommand),
			"app":             command((*scriptFixture).appCommand),
			"senders":         command((*scriptFixture).sendersCommand),
			"sms-senders":     command((*scriptFixture).smsSendersCommand),
			"api":             command((*scriptFixture).apiCommand),
			"http":            command((*scriptFixture).httpCommand),
			"sql":             command((*scriptFixture).sqlCommand),
			"expect-no-leaks": command((*scriptFixture).checkLeaks),
			"capture":         command((*scriptFixture).captureCommand),
			"telegram":        command((*scriptFixture).telegramCommand),
			"slack":           command((*scriptFixture).slackCommand),
			"postgres":        command((*scriptFixture).postgresCommand),
			"redis":           command((*scriptFixture).redisCommand),
		},
	}
}

func globScripts(t *testing.T, patterns ...string) []string {
	var files []string
	for _, p := range patterns {
		found, err := filepath.Glob(p)
		if err != nil || len(found) == 0 {
			t.Fatalf("no scripts match %s: %v", p, err)
		}
		files = append(files, found...)
	}
	return files
}

// evalCondition evaluates the conditions [sqlite] and [postgres].
func evalCondition(cond, engine string) (bool, error) {
	if cond != "sqlite" && cond != "postgres" {
		return false, fmt.Errorf("unknown engine %q", cond)
	}
	return cond == engine, nil
}

// command returns a command that calls f with the fixture of its script. The script fails with the
// end of the gateway's log if f returns an error, or none after "!".
func command(
	f func(w *scriptFixture, ts *testscript.TestScript, args []string) error,
) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		w := ts.Value(fixtureKey{}).(*scriptFixture)
		err := f(w, ts, args)
		switch {
		case err != nil && !neg:
			ts.Logf("end of the gateway's log:\n%s", w.logTail())
			ts.Fatalf("%v", err)
		case err == nil && neg:
			ts.Fatalf("unexpected success")
		}
	}
}
