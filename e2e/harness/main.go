//go:build unix

package harness

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"reflect"
	"syscall"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/rogpeppe/go-internal/testscript"

	"hydragate/cmd/hydragate/app"
)

// RunMain runs the tests of a package. The test binary serves as the programs that the tests start
// as separate processes: hydragate, which knows the commands serve, doctor and masterkey rotate, the
// same with each Fault, and guess. Programs in replacements take precedence. The race detector is on
// in the programs if it is on in the test. m is a *testing.M, or wraps one.
func RunMain(m testscript.TestingM, replacements map[string]func()) {
	runConcurrently()
	exitImmediately()
	programs := map[string]func(){"hydragate": func() { runCommand("") }, "guess": guess}
	for fault := range faults {
		programs[fault.Program()] = func() { runCommand(fault) }
	}
	maps.Copy(programs, replacements)
	testscript.Main(m, programs)
}

// runConcurrently allows more parallel tests than there are processors, because most tests wait
// most of the time.
func runConcurrently() {
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
}

// exitImmediately lets programs that are built with the race detector exit without its pause of one
// second, which adds up to minutes. No goroutine that a test observes runs after the end of main.
func exitImmediately() {
	if os.Getenv("GORACE") != "" {
		return
	}
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0"); err != nil {
		panic(err)
	}
}

// runCommand runs the command that the arguments name. The gateway has a fault if fault is not empty.
func runCommand(fault Fault) {
	var cli struct {
		Serve     struct{ app.Settings } `cmd:""`
		Doctor    struct{ app.Settings } `cmd:""`
		Masterkey struct {
			Rotate struct {
				app.Settings
				Check bool
			} `cmd:""`
		} `cmd:""`
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	switch command := kong.Parse(&cli, kong.Name("hydragate")).Command(); {
	case command == "serve":
		err = serve(ctx, &cli.Serve.Settings, fault)
	case command == "doctor":
		err = app.Diagnose(ctx, &cli.Doctor.Settings, os.Stdout)
	case cli.Masterkey.Rotate.Check:
		err = app.CheckKeys(ctx, &cli.Masterkey.Rotate.Settings, os.Stdout)
	default:
		err = app.RotateKeys(ctx, &cli.Masterkey.Rotate.Settings, os.Stdout)
	}
	stop()
	exitOnError("hydragate", err)
}

// serve runs a gateway with a fault.
func serve(ctx context.Context, s *app.Settings, fault Fault) error {
	if err := s.Check(); err != nil {
		return err
	}
	limitSQLitePages()
	return app.Serve(ctx, s, os.Stdout, s.Logger(os.Stderr), app.Options{Modify: func(g *app.Gateway) error {
		return fault.inject(g, s)
	}})
}

// exitOnError ends the process with status 1 if err is not nil.
func exitOnError(program string, err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", program, err)
		os.Exit(1)
	}
}

// FullRun reports whether the tests run in full (HYDRAGATE_TEST_LONG=1), which takes hours.
func FullRun() bool { return os.Getenv("HYDRAGATE_TEST_LONG") == "1" }

// ParallelUnlessFull lets the short form of a test run in parallel with others. The full form has
// the machine to itself.
func ParallelUnlessFull(t *testing.T) {
	if !FullRun() {
		t.Parallel()
	}
}

// RequireFullRun skips the test unless the tests run in full.
func RequireFullRun(t *testing.T) {
	if !FullRun() {
		t.Skip("only in a full run: make proof PROOF=" + t.Name())
	}
}

// Scaled returns full in a full run, and short otherwise.
func Scaled(short, full int) int {
	if FullRun() {
		return full
	}
	return short
}

// Env returns the settings that are not empty as environment variables.
func Env(s app.Settings) (env []string) {
	v := reflect.ValueOf(s)
	for i := range v.NumField() {
		if value := v.Field(i).String(); value != "" {
			env = append(env, v.Type().Field(i).Tag.Get("env")+"="+value)
		}
	}
	return env
}
