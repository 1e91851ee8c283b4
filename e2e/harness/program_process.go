package harness

import (
	"bufio"
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
	"syscall"
	"testing"
	"time"
)

// A ProgramProcess is a gateway that runs.
type ProgramProcess struct {
	Cmd    *exec.Cmd
	Addr   string
	Frozen bool
	Exited chan struct{} // closed when it has, and err is set
	Err    error
}

const (
	LogFile  = "gateway.log" // of all processes of a script
	StopTime = 10 * time.Second
)

// StartProgram runs the program with these settings, until it says that it listens.
func StartProgram(cmd *exec.Cmd, dir string, settings []string, log *os.File) (*ProgramProcess, error) {
	p := &ProgramProcess{Cmd: cmd, Exited: make(chan struct{})}
	p.Cmd.Dir, p.Cmd.Stderr = dir, log
	p.Cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, settings...)
	out, err := p.Cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.Cmd.Start(); err != nil {
		return nil, err
	}
	first := make(chan string, 1)
	go func() {
		defer close(p.Exited)
		lines := bufio.NewReader(out)
		line, _ := lines.ReadString('\n')
		first <- line
		_, _ = io.Copy(io.Discard, lines)
		p.Err = p.Cmd.Wait()
	}()
	return p, p.AwaitListening(first)
}

func (p *ProgramProcess) AwaitListening(first <-chan string) error {
	var said struct {
		Listening string `json:"listening"`
	}
	select {
	case line := <-first:
		if err := json.Unmarshal([]byte(line), &said); err != nil || said.Listening == "" {
			<-p.Exited
			return fmt.Errorf("the first line is %q, not JSON that tells the address; it ended with %v", line, p.Err)
		}
	case <-time.After(EventTimeout):
		return errors.Join(errors.New("it never said that it listens"), p.Kill())
	}
	p.Addr = strings.TrimPrefix(said.Listening, "http://")
	return nil
}

// Stop asks the process to end, which it must do well and in time.
func (p *ProgramProcess) Stop() error {
	if err := p.Cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.Exited:
	case <-time.After(StopTime):
		return errors.Join(fmt.Errorf("it still runs %s after SIGTERM", StopTime), p.Kill())
	}
	if p.Err != nil {
		return fmt.Errorf("after SIGTERM it ended with %w", p.Err)
	}
	return nil
}

func (p *ProgramProcess) Kill() error {
	if err := p.Cmd.Process.Kill(); err != nil {
		return err
	}
	<-p.Exited
	return nil
}

// RaceEnabled reports whether this was built with the race detector.
func RaceEnabled() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// ProcessMemory gives what the kernel says of the memory of a process.
func ProcessMemory(t *testing.T, pid int, which string) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), which)
	kilobytes, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kilobytes << 10
}
