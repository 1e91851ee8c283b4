package harness

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// childRole and childOrder are set in processes that a proof starts beside itself.
const (
	childRoleEnv    = "HYDRAGATE_PROOF_ROLE"
	childInputEnv   = "HYDRAGATE_PROOF_ORDER"
	childLinePrefix = "proof: " // begins the lines that a child means for its parent
)

// RunChild is the other process of a test, in the role that the environment names. Without one it does nothing.
func RunChild(t *testing.T) {
	switch c := (&childProcess{stdout: bufio.NewReader(os.Stdin)}); os.Getenv(childRoleEnv) {
	case "guess":
		guessInChild(t, c)
	case "naive gateway":
		serveConsumingCodes(t)
	case "hasty gateway":
		serveModified(t, injectAckBeforeCommit)
	case "small gateway":
		limitSQLitePages()
		serveModified(t, noFault)
	case "small hasty gateway":
		limitSQLitePages()
		serveModified(t, injectAckBeforeCommit)
	case "deaf gateway":
		serveModified(t, injectStalePollClock)
	case "brittle gateway":
		serveModified(t, injectMalformedRejection)
	case "hoarding gateway":
		serveModified(t, injectMemoryLeak)
	case "narrow gateway":
		serveModified(t, injectSingleDelivery)
	}
}

// A childProcess is a second process, seen from either side.
type childProcess struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
}

// StartChild starts this test binary once more and waits until it is ready.
func StartChild(t *testing.T, role string, order any) *childProcess {
	t.Helper()
	o, err := json.Marshal(order)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &childProcess{t: t, cmd: exec.Command(self, "-test.run=^TestChildProcess$", "-test.count=1")}
	c.cmd.Env = append(os.Environ(), childRoleEnv+"="+role, childInputEnv+"="+string(o))
	c.cmd.Stderr = os.Stderr
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.stdout = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
	})
	if got := c.readLine(); got != `"ready"` {
		t.Fatalf("the child is not ready: %q", got)
	}
	return c
}

// readLine gives the next line that the child means for its parent.
func (c *childProcess) readLine() string {
	c.t.Helper()
	var all strings.Builder
	for {
		l, err := c.stdout.ReadString('\n')
		if meant, ok := strings.CutPrefix(l, childLinePrefix); ok {
			return strings.TrimSpace(meant)
		}
		all.WriteString(l)
		if err != nil {
			c.t.Fatalf("the child ended: %s", all.String())
		}
	}
}

// Start lets the child begin.
func (c *childProcess) Start() {
	if _, err := io.WriteString(c.stdin, "begin\n"); err != nil {
		c.t.Fatal(err)
	}
}

// ReadResult waits for what the child found.
func (c *childProcess) ReadResult(v any) {
	c.t.Helper()
	decodeJSON(c.t, c.readLine(), v)
}

// readInput reads, in the child, what it is to do.
func (c *childProcess) readInput(t *testing.T, v any) { decodeJSON(t, os.Getenv(childInputEnv), v) }

// signalReady tells the parent, and waits until it says begin.
func (c *childProcess) signalReady(t *testing.T) {
	c.send(t, "ready")
	if _, err := c.stdout.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
}

// send tells the parent.
func (c *childProcess) send(t *testing.T, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(childLinePrefix + string(b))
}

// decodeJSON reads what a child said.
func decodeJSON(t *testing.T, line string, v any) {
	t.Helper()
	if err := json.NewDecoder(strings.NewReader(line)).Decode(v); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
}
