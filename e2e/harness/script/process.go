package script

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"

	"hydragate/e2e/harness"
)

// logFile is the log of all processes of a script.
const logFile = "gateway.log"

// passedSettings are what the script's environment says to a gateway.
var passedSettings = []string{
	"HYDRAGATE_LISTEN", "HYDRAGATE_PUBLIC_URL", "HYDRAGATE_DATABASE_URL", "HYDRAGATE_REDIS_URL", "HYDRAGATE_DATA_DIR", "HYDRAGATE_MASTER_KEYS",
	"HYDRAGATE_ADMIN_KEY", "HYDRAGATE_TELEGRAM_API_URL", "HYDRAGATE_TWILIO_API_URL", "HYDRAGATE_SLACK_API_URL", "HYDRAGATE_AGENT_ALLOW_PRIVATE",
	"HYDRAGATE_LOG_LEVEL",
}

// gatewayCommand starts | stops | is killed | freezes | thaws
func (w *scriptFixture) gatewayCommand(ts *testscript.TestScript, args []string) error {
	return w.processCommand(ts, "gateway", args)
}

// replicaCommand does what gateway does, with a second process beside it.
func (w *scriptFixture) replicaCommand(ts *testscript.TestScript, args []string) error {
	return w.processCommand(ts, "replica", args)
}

func (w *scriptFixture) processCommand(ts *testscript.TestScript, name string, args []string) error {
	switch strings.Join(args, " ") {
	case "starts":
		p, err := w.startGateway(ts)
		if err != nil {
			return err
		}
		w.processes[name] = p
		w.updateProxy()
		ts.Setenv(strings.ToUpper(name)+"_ADDR", p.Addr)
		return nil
	case "stops":
		return w.endProcess(name, (*harness.Process).Stop)
	case "is killed":
		return w.endProcess(name, func(p *harness.Process) error { p.Kill(); return nil })
	case "freezes":
		return w.signalProcess(name, syscall.SIGSTOP)
	case "thaws":
		return w.signalProcess(name, syscall.SIGCONT)
	}
	return errors.New("usage: gateway starts | stops | is killed | freezes | thaws")
}

// signalProcess stops the clock of a process, or lets it run on.
func (w *scriptFixture) signalProcess(name string, how syscall.Signal) error {
	p := w.processes[name]
	if p == nil {
		return fmt.Errorf("no %s runs", name)
	}
	p.Frozen = how == syscall.SIGSTOP
	w.updateProxy()
	return p.Cmd.Process.Signal(how)
}

// updateProxy makes the public address lead to the processes that run.
func (w *scriptFixture) updateProxy() {
	var to []string
	for _, p := range w.processes {
		if !p.Frozen {
			to = append(to, p.Addr)
		}
	}
	w.front.SetTargets(to...)
}

func (w *scriptFixture) endProcess(name string, how func(*harness.Process) error) error {
	p := w.processes[name]
	if p == nil {
		return fmt.Errorf("no %s runs", name)
	}
	delete(w.processes, name)
	err := how(p)
	w.updateProxy()
	return errors.Join(err, w.checkLog())
}

// startGateway runs the program, or what $PROGRAM says, after what the shell is told $BEFORE,
// until it says that it listens.
func (w *scriptFixture) startGateway(ts *testscript.TestScript) (*harness.Process, error) {
	log, err := os.OpenFile(filepath.Join(w.dir, logFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	program := cmp.Or(ts.Getenv("PROGRAM"), "hydragate")
	cmd := exec.Command("sh", "-c", ts.Getenv("BEFORE")+" exec "+program+" serve")
	cmd.Dir, cmd.Env = w.dir, []string{"PATH=" + os.Getenv("PATH")}
	for _, name := range passedSettings {
		if v := ts.Getenv(name); v != "" {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	return harness.StartProcess(w.ctx, cmd, log)
}

func (w *scriptFixture) killAll() {
	for _, p := range w.processes {
		p.Kill()
	}
}

// checkLog gives an error when the log tells of a race or a panic.
func (w *scriptFixture) checkLog() error {
	log, err := os.ReadFile(filepath.Join(w.dir, logFile))
	if err != nil {
		return err
	}
	return harness.CheckLog(string(log))
}
