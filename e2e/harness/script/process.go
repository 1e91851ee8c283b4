//go:build unix

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

// passedSettings are the variables of a script that are passed to the gateway.
var passedSettings = []string{
	"HYDRAGATE_LISTEN", "HYDRAGATE_PUBLIC_URL", "HYDRAGATE_DATABASE_URL", "HYDRAGATE_REDIS_URL",
	"HYDRAGATE_DATA_DIR", "HYDRAGATE_MASTER_KEYS", "HYDRAGATE_ADMIN_KEY", "HYDRAGATE_TELEGRAM_API_URL",
	"HYDRAGATE_TWILIO_API_URL", "HYDRAGATE_SLACK_API_URL", "HYDRAGATE_AGENT_ALLOW_PRIVATE", "HYDRAGATE_LOG_LEVEL",
	"HYDRAGATE_SINGLE_REPLICA", "HYDRAGATE_ADMIN_LISTEN", "HYDRAGATE_SEND_LIMITS",
}

// gatewayCommand implements the command gateway.
func (w *scriptFixture) gatewayCommand(ts *testscript.TestScript, args []string) error {
	return w.processCommand(ts, "gateway", args)
}

// replicaCommand implements the command replica, which controls a second process.
func (w *scriptFixture) replicaCommand(ts *testscript.TestScript, args []string) error {
	return w.processCommand(ts, "replica", args)
}

func (w *scriptFixture) processCommand(ts *testscript.TestScript, name string, args []string) error {
	switch strings.Join(args, " ") {
	case "start":
		p, err := w.startGateway(ts)
		if err != nil {
			return err
		}
		w.processes[name] = p
		w.updateProxy()
		ts.Setenv(strings.ToUpper(name)+"_ADDR", p.Addr)
		return nil
	case "stop":
		return w.endProcess(name, (*harness.Process).Stop)
	case "kill":
		return w.endProcess(name, func(p *harness.Process) error { p.Kill(); return nil })
	case "freeze":
		return w.signalProcess(name, syscall.SIGSTOP)
	case "resume":
		return w.signalProcess(name, syscall.SIGCONT)
	}
	return errors.New("usage: gateway|replica start | stop | kill | freeze | resume")
}

// signalProcess suspends or resumes a process.
func (w *scriptFixture) signalProcess(name string, sig syscall.Signal) error {
	p := w.processes[name]
	if p == nil {
		return fmt.Errorf("%s is not running", name)
	}
	p.Frozen = sig == syscall.SIGSTOP
	w.updateProxy()
	return p.Cmd.Process.Signal(sig)
}

// updateProxy routes the public address to the processes that are running.
func (w *scriptFixture) updateProxy() {
	var to []string
	for _, p := range w.processes {
		if !p.Frozen {
			to = append(to, p.Addr)
		}
	}
	w.front.SetTargets(to...)
}

func (w *scriptFixture) endProcess(name string, end func(*harness.Process) error) error {
	p := w.processes[name]
	if p == nil {
		return fmt.Errorf("%s is not running", name)
	}
	delete(w.processes, name)
	err := end(p)
	w.updateProxy()
	return errors.Join(err, w.checkLog())
}

// startGateway starts the program, or $PROGRAM, after the shell command $BEFORE.
func (w *scriptFixture) startGateway(ts *testscript.TestScript) (*harness.Process, error) {
	log, err := os.OpenFile(filepath.Join(w.dir, logFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	program := cmp.Or(ts.Getenv("PROGRAM"), "hydragate")
	cmd := exec.Command("sh", "-c", ts.Getenv("BEFORE")+" exec "+program+" serve")
	cmd.Dir, cmd.Env = w.dir, []string{"PATH=" + os.Getenv("PATH"), "GORACE=" + os.Getenv("GORACE")}
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

// checkLog returns an error if the log reports a panic or a data race.
func (w *scriptFixture) checkLog() error {
	log, err := os.ReadFile(filepath.Join(w.dir, logFile))
	if err != nil {
		return err
	}
	return harness.CheckLog(string(log))
}
