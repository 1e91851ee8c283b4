//go:build unix

package harness

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"hydragate/cmd/hydragate/app"
)

// A Process is a gateway that runs as a separate process, or in the process of the test.
type Process struct {
	Cmd      *exec.Cmd      // nil in the process of the test
	Gateway  *app.Gateway   // nil in a separate process
	Addr     string         // host:port that it listens on
	Frozen   bool           // set by the test while the process is stopped by SIGSTOP
	InFlight sync.WaitGroup // requests that the test has sent to this process
	Exited   chan struct{}  // closed when the process has ended and Err is set
	Err      error          // result of Wait
	stop     func()         // ends a gateway in this process
}

// StopTimeout is the longest time a gateway may take to shut down.
const StopTimeout = 10 * time.Second

// StartProcess starts cmd and waits until it reports the address it listens on. The standard error
// of the process goes to log.
func StartProcess(ctx context.Context, cmd *exec.Cmd, log io.Writer) (*Process, error) {
	p := &Process{Cmd: cmd, Exited: make(chan struct{})}
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	first := make(chan string, 1)
	go func() {
		defer close(p.Exited)
		lines := bufio.NewReader(out)
		line, _ := lines.ReadString('\n')
		first <- line
		_, _ = io.Copy(io.Discard, lines)
		p.Err = cmd.Wait()
	}()
	err = p.awaitListening(ctx, first)
	return p, err
}

func (p *Process) awaitListening(ctx context.Context, first <-chan string) error {
	var started struct {
		Listening string `json:"listening"`
	}
	select {
	case line := <-first:
		if err := json.Unmarshal([]byte(line), &started); err != nil || started.Listening == "" {
			p.Kill()
			return fmt.Errorf("start gateway: first line %q, process ended: %w", line, errors.Join(err, p.Err))
		}
	case <-ctx.Done():
		p.Kill()
		return ctx.Err()
	case <-time.After(EventTimeout):
		p.Kill()
		return fmt.Errorf("start gateway: not listening after %s", EventTimeout)
	}
	p.Addr = strings.TrimPrefix(started.Listening, "http://")
	return nil
}

// Stop sends SIGTERM and waits for the process. It returns an error if the process fails or does
// not end within StopTimeout.
func (p *Process) Stop() error {
	if err := p.terminate(); err != nil {
		return err
	}
	select {
	case <-p.Exited:
	case <-time.After(StopTimeout):
		p.Kill()
		return fmt.Errorf("stop gateway: still running %s after SIGTERM", StopTimeout)
	}
	if p.Err != nil {
		return fmt.Errorf("stop gateway: %w", p.Err)
	}
	return nil
}

// terminate sends SIGTERM. It does not wait.
func (p *Process) terminate() error {
	if p.Cmd == nil {
		p.stop()
		return nil
	}
	return p.Cmd.Process.Signal(syscall.SIGTERM)
}

// Kill ends the process with SIGKILL and waits for it. It does nothing if the process has ended. A
// gateway in the process of the test is shut down instead.
func (p *Process) Kill() {
	if p.Cmd == nil {
		p.stop()
	} else if err := p.Cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		panic(err)
	}
	<-p.Exited
}

// Signal sends a signal, such as SIGSTOP or SIGCONT.
func (p *Process) Signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.Cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// RaceEnabled reports whether the test binary was built with the race detector.
func RaceEnabled() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// ProcessMemory returns a field of /proc/PID/status, such as "VmRSS:", in bytes.
func ProcessMemory(t *testing.T, pid int, field string) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), field)
	kilobytes, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kilobytes << 10
}

// A LockedBuffer is a buffer for concurrent use.
type LockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write appends p to the buffer.
func (b *LockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// String returns what was written.
func (b *LockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// Tail returns the last lines.
func (b *LockedBuffer) Tail(lines int) string { return tail(b.String(), lines) }

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// CheckLog returns an error if a gateway's log reports a panic or a data race.
func CheckLog(log string) error {
	for _, sign := range []string{"DATA RACE", "panic"} {
		if _, after, found := strings.Cut(log, sign); found {
			return fmt.Errorf("the log reports a %s: %.4000s", sign, after)
		}
	}
	return nil
}
