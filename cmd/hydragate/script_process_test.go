package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// A process is a gateway that runs.
type process struct {
	cmd    *exec.Cmd
	addr   string
	frozen bool
	ended  chan struct{} // closed when it has, and err is set
	err    error
}

const (
	logFile  = "gateway.log" // of all processes of a script
	stopTime = 10 * time.Second
)

// settingsPassed are what the script's environment says to a gateway.
var settingsPassed = []string{
	"HYDRAGATE_LISTEN", "HYDRAGATE_PUBLIC_URL", "HYDRAGATE_DATABASE_URL", "HYDRAGATE_REDIS_URL", "HYDRAGATE_DATA_DIR", "HYDRAGATE_MASTER_KEYS",
	"HYDRAGATE_ADMIN_KEY", "HYDRAGATE_TELEGRAM_API_URL", "HYDRAGATE_TWILIO_API_URL", "HYDRAGATE_SLACK_API_URL", "HYDRAGATE_AGENT_ALLOW_PRIVATE",
	"HYDRAGATE_LOG_LEVEL",
}

// gateway starts | stops | is killed | freezes | thaws
func (w *world) gateway(ts *testscript.TestScript, args []string) error {
	return w.process(ts, "gateway", args)
}

// replica does what gateway does, with a second process beside it.
func (w *world) replica(ts *testscript.TestScript, args []string) error {
	return w.process(ts, "replica", args)
}

func (w *world) process(ts *testscript.TestScript, name string, args []string) error {
	switch strings.Join(args, " ") {
	case "starts":
		p, err := w.start(ts)
		if err != nil {
			return err
		}
		w.processes[name] = p
		w.lead()
		ts.Setenv(strings.ToUpper(name)+"_ADDR", p.addr)
		return nil
	case "stops":
		return w.end(name, (*process).stop)
	case "is killed":
		return w.end(name, (*process).kill)
	case "freezes":
		return w.freeze(name, syscall.SIGSTOP)
	case "thaws":
		return w.freeze(name, syscall.SIGCONT)
	}
	return errors.New("usage: gateway starts | stops | is killed | freezes | thaws")
}

// freeze stops the clock of a process, or lets it run on.
func (w *world) freeze(name string, how syscall.Signal) error {
	p := w.processes[name]
	if p == nil {
		return fmt.Errorf("no %s runs", name)
	}
	p.frozen = how == syscall.SIGSTOP
	w.lead()
	return p.cmd.Process.Signal(how)
}

// lead makes the public address lead to the processes that run.
func (w *world) lead() {
	var to []string
	for _, p := range w.processes {
		if !p.frozen {
			to = append(to, p.addr)
		}
	}
	w.front.lead(to...)
}

func (w *world) end(name string, how func(*process) error) error {
	p := w.processes[name]
	if p == nil {
		return fmt.Errorf("no %s runs", name)
	}
	delete(w.processes, name)
	err := how(p)
	w.lead()
	return errors.Join(err, w.healthyLog())
}

// start runs the program, or what $PROGRAM says, after what the shell is told $BEFORE,
// until it says that it listens.
func (w *world) start(ts *testscript.TestScript) (*process, error) {
	log, err := os.OpenFile(filepath.Join(w.dir, logFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	program := "hydragate serve"
	if other := ts.Getenv("PROGRAM"); other != "" {
		program = other
	}
	var env []string
	for _, name := range settingsPassed {
		if v := ts.Getenv(name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	return startProcess(exec.Command("sh", "-c", ts.Getenv("BEFORE")+" exec "+program), w.dir, env, log)
}

// startProcess runs the program with these settings, until it says that it listens.
func startProcess(cmd *exec.Cmd, dir string, settings []string, log *os.File) (*process, error) {
	p := &process{cmd: cmd, ended: make(chan struct{})}
	p.cmd.Dir, p.cmd.Stderr = dir, log
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, settings...)
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	first := make(chan string, 1)
	go func() {
		defer close(p.ended)
		lines := bufio.NewReader(out)
		line, _ := lines.ReadString('\n')
		first <- line
		_, _ = io.Copy(io.Discard, lines)
		p.err = p.cmd.Wait()
	}()
	return p, p.listen(first)
}

func (p *process) listen(first <-chan string) error {
	var said struct {
		Listening string `json:"listening"`
	}
	select {
	case line := <-first:
		if err := json.Unmarshal([]byte(line), &said); err != nil || said.Listening == "" {
			<-p.ended
			return fmt.Errorf("the first line is %q, not JSON that tells the address; it ended with %v", line, p.err)
		}
	case <-time.After(patience):
		return errors.Join(errors.New("it never said that it listens"), p.kill())
	}
	p.addr = strings.TrimPrefix(said.Listening, "http://")
	return nil
}

// stop asks the process to end, which it must do well and in time.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.ended:
	case <-time.After(stopTime):
		return errors.Join(fmt.Errorf("it still runs %s after SIGTERM", stopTime), p.kill())
	}
	if p.err != nil {
		return fmt.Errorf("after SIGTERM it ended with %w", p.err)
	}
	return nil
}

func (p *process) kill() error {
	if err := p.cmd.Process.Kill(); err != nil {
		return err
	}
	<-p.ended
	return nil
}

func (w *world) killAll() {
	for _, p := range w.processes {
		_ = p.kill()
	}
}

// healthyLog gives an error when the log tells of a race or a panic.
func (w *world) healthyLog() error {
	log, err := os.ReadFile(filepath.Join(w.dir, logFile))
	if err != nil {
		return err
	}
	for _, sign := range []string{"DATA RACE", "panic"} {
		if _, after, found := strings.Cut(string(log), sign); found {
			return fmt.Errorf("the log says: %s%s", sign, after[:min(len(after), 4000)])
		}
	}
	return nil
}
