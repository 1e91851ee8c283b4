//go:build unix

package harness

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"reflect"
	"syscall"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/rogpeppe/go-internal/testscript"

	"hydragate/cmd/hydragate/app"
)

// RunMain runs the tests of a package. The test binary serves as the programs that the tests start
// as separate processes: hydragate, which knows no command but serve, the same with each Fault, and
// guess. Programs in replacements take precedence. The race detector is on in the programs if it
// is on in the test.
func RunMain(m *testing.M, replacements map[string]func()) {
	runConcurrently()
	programs := map[string]func(){"hydragate": func() { serve("") }, "guess": guess}
	for fault := range faults {
		programs[fault.Program()] = func() { serve(fault) }
	}
	maps.Copy(programs, replacements)
	testscript.Main(m, programs)
}

// RunMainWithCommands runs the tests of a package that need commands other than serve. It builds
// the program and puts it in the PATH.
func RunMainWithCommands(m *testing.M) {
	runConcurrently()
	dir, err := os.MkdirTemp("", "hydragate-program-")
	if err != nil {
		panic(err)
	}
	args := []string{"build", "-o", filepath.Join(dir, "hydragate")}
	if RaceEnabled() {
		// SQLite is exempt as in the Makefile, so that the compiled packages of the tests are reused.
		args = append(args, "-race", "-gcflags=modernc.org/...=-race=false")
	}
	if out, err := exec.Command("go", append(args, "hydragate/cmd/hydragate")...).CombinedOutput(); err != nil {
		panic(fmt.Sprintf("build hydragate: %v: %s", err, out))
	}
	if err := os.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH")); err != nil {
		panic(err)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// runConcurrently allows more parallel tests than there are processors, because most tests wait
// most of the time.
func runConcurrently() {
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
}

// serve is the command serve, with a fault if fault is not empty.
func serve(fault Fault) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var cli struct {
		Serve struct{ app.Settings } `cmd:""`
	}
	kong.Parse(&cli, kong.Name("hydragate"))
	s := &cli.Serve.Settings
	err := s.Check()
	if err == nil {
		limitSQLitePages()
		err = app.Serve(ctx, s, os.Stdout, s.Logger(os.Stderr), app.Options{Modify: func(g *app.Gateway) error {
			if fault == "" {
				return nil
			}
			return faults[fault](g, s)
		}})
	}
	stop()
	exitOnError("hydragate", err)
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
