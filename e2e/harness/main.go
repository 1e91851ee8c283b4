package harness

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/rogpeppe/go-internal/testscript"

	"hydragate/cmd/hydragate/app"
)

// RunMain runs the tests of a package with programs in the PATH, each of which is the test binary
// itself, race detector included, as a process of its own. Most tests wait most of the time, so
// more of them run concurrently than there are processors.
func RunMain(m *testing.M, programs map[string]func()) {
	runConcurrently()
	testscript.Main(m, programs)
}

// RunMainWithProgram runs the tests of a package with the program in the PATH, for tests that run
// commands other than serve. The program is built with the race detector if the test is.
func RunMainWithProgram(m *testing.M) {
	runConcurrently()
	dir, err := os.MkdirTemp("", "hydragate-program-")
	if err != nil {
		panic(err)
	}
	args := []string{"build", "-o", filepath.Join(dir, "hydragate")}
	if RaceEnabled() {
		args = append(args, "-race")
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

func runConcurrently() {
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
}

// serveProgram is the command serve in the test binary of a package that does not contain the
// other commands. Settings come from the environment and from flags.
func serveProgram() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var cli struct {
		Serve struct{ app.Settings } `cmd:""`
	}
	kong.Parse(&cli, kong.Name("hydragate"))
	s := &cli.Serve.Settings
	err := s.Validate()
	if err == nil {
		err = app.Serve(ctx, s, app.Console{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, s.Logger(os.Stderr), nil)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "hydragate:", err)
		os.Exit(1)
	}
}

// ServePrograms are the programs of a package whose tests run no command but serve.
func ServePrograms() map[string]func() { return map[string]func(){"hydragate": serveProgram} }

// ParallelUnlessFull lets the short form of a proof run beside others: they mostly wait. A whole
// one has the machine for itself.
func ParallelUnlessFull(t *testing.T) {
	if !FullRun() {
		t.Parallel()
	}
}

// RequireFullRun leaves a proof to those who ask for all of it: its faults are played in
// short by the scripts.
func RequireFullRun(t *testing.T) {
	if !FullRun() {
		t.Skip("played whole alone: make proof PROOF=" + t.Name())
	}
}

// Scaled gives how much of a whole proof the short form takes.
func Scaled(short, whole int) int {
	if FullRun() {
		return whole
	}
	return short
}

// FullRun reports whether the whole of a proof is to be run, which takes hours.
func FullRun() bool { return os.Getenv("HYDRAGATE_TEST_LONG") == "1" }
