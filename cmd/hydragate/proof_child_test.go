//go:build unix

package main

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
	childRole  = "HYDRAGATE_PROOF_ROLE"
	childOrder = "HYDRAGATE_PROOF_ORDER"
	childMark  = "proof: " // begins the lines that a child means for its parent
)

// TestProofChild is the other process of a proof. By itself it does nothing.
func TestProofChild(t *testing.T) {
	switch c := (&proofChild{in: bufio.NewReader(os.Stdin)}); os.Getenv(childRole) {
	case "guess":
		guessBeside(t, c)
	case "naive gateway":
		serveNaively(t)
	case "hasty gateway":
		serveChanged(t, beHasty)
	case "small gateway":
		shrink()
		serveChanged(t, beItself)
	case "small hasty gateway":
		shrink()
		serveChanged(t, beHasty)
	case "deaf gateway":
		serveChanged(t, beDeaf)
	case "brittle gateway":
		serveChanged(t, beBrittle)
	case "hoarding gateway":
		serveChanged(t, beHoarding)
	case "narrow gateway":
		serveChanged(t, beNarrow)
	}
}

// A proofChild is a second process, seen from either side.
type proofChild struct {
	t   *testing.T
	cmd *exec.Cmd
	to  io.WriteCloser
	in  *bufio.Reader
}

// startProofChild starts this test binary once more and waits until it is ready.
func startProofChild(t *testing.T, role string, order any) *proofChild {
	t.Helper()
	o, err := json.Marshal(order)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &proofChild{t: t, cmd: exec.Command(self, "-test.run=^TestProofChild$", "-test.count=1")}
	c.cmd.Env = append(os.Environ(), childRole+"="+role, childOrder+"="+string(o))
	c.cmd.Stderr = os.Stderr
	if c.to, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.in = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
	})
	if got := c.line(); got != `"ready"` {
		t.Fatalf("the child is not ready: %q", got)
	}
	return c
}

// line gives the next line that the child means for its parent.
func (c *proofChild) line() string {
	c.t.Helper()
	var all strings.Builder
	for {
		l, err := c.in.ReadString('\n')
		if meant, ok := strings.CutPrefix(l, childMark); ok {
			return strings.TrimSpace(meant)
		}
		all.WriteString(l)
		if err != nil {
			c.t.Fatalf("the child ended: %s", all.String())
		}
	}
}

// begin lets the child begin.
func (c *proofChild) begin() {
	if _, err := io.WriteString(c.to, "begin\n"); err != nil {
		c.t.Fatal(err)
	}
}

// result waits for what the child found.
func (c *proofChild) result(v any) {
	c.t.Helper()
	decode(c.t, c.line(), v)
}

// order reads, in the child, what it is to do.
func (c *proofChild) order(t *testing.T, v any) { decode(t, os.Getenv(childOrder), v) }

// ready tells the parent, and waits until it says begin.
func (c *proofChild) ready(t *testing.T) {
	c.say(t, "ready")
	if _, err := c.in.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
}

// say tells the parent.
func (c *proofChild) say(t *testing.T, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(childMark + string(b))
}
