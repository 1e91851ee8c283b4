// Package examples tests the sample applications in the directory examples with a gateway.
package examples

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"hydragate/e2e/harness"
)

func TestMain(m *testing.M) { harness.RunMain(withGoExample{m}, nil) }

// withGoExample are the tests, with the program example-go in the PATH.
type withGoExample struct{ *testing.M }

// Run builds the program and runs the tests.
func (m withGoExample) Run() int {
	dir, err := os.MkdirTemp("", "hydragate-example-")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	args := []string{"build", "-o", filepath.Join(dir, "example-go")}
	if harness.RaceEnabled() {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, "hydragate/examples/go")...).CombinedOutput(); err != nil {
		panic(fmt.Sprintf("build example: %v: %s", err, out))
	}
	if err := os.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH")); err != nil {
		panic(err)
	}
	return m.M.Run()
}
