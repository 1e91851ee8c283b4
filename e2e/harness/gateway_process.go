package harness

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const runnerAdminKey = "an-admin-key-for-the-proofs-0123456789"

// A gatewayRunner is the gateway as it is reached from outside, whichever process answers
// behind it. The log is of all of them.
type gatewayRunner struct {
	Front  *Proxy
	URL    string
	Role   string // what the process behind is: "serve", or a build that a control changes
	env    []string
	Client *http.Client
	log    LockedBuffer
}

func newGatewayRunner(t *testing.T, role string) *gatewayRunner {
	t.Helper()
	front, err := NewProxy()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(front.Close)
	d := &gatewayRunner{Front: front, URL: "http://" + front.Addr(), Role: role, Client: &http.Client{Timeout: 2 * time.Second}}
	d.env = []string{"HYDRAGATE_LISTEN=127.0.0.1:0", "HYDRAGATE_DATA_DIR=" + t.TempDir(), "HYDRAGATE_PUBLIC_URL=" + d.URL, "HYDRAGATE_ADMIN_KEY=" + runnerAdminKey, "HYDRAGATE_AGENT_ALLOW_PRIVATE=true"}
	return d
}

// A GatewayProcess is a gateway that runs in another process.
type GatewayProcess struct {
	Cmd    *exec.Cmd
	Addr   string
	Exited chan struct{}
}

// Start runs a gateway until it listens, and leads the door to it. Settings given
// here stand before those of the door.
func (d *gatewayRunner) Start(ctx context.Context, settings ...string) (*GatewayProcess, error) {
	p, err := d.startUnrouted(ctx, settings...)
	if err == nil {
		d.Front.SetTargets(p.Addr)
	}
	return p, err
}

// startUnrouted is start, with the door left as it is.
func (d *gatewayRunner) startUnrouted(ctx context.Context, settings ...string) (*GatewayProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &GatewayProcess{Cmd: exec.Command("hydragate", "serve"), Exited: make(chan struct{})}
	if d.Role != "serve" {
		p.Cmd = exec.Command(self, "-test.run=^TestChildProcess$", "-test.count=1", "-test.timeout=30m")
	}
	p.Cmd.Env = append(append(append(os.Environ(), d.env...), settings...), childRoleEnv+"="+d.Role)
	p.Cmd.Stderr = &d.log
	out, err := p.Cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.Cmd.Start(); err != nil {
		return nil, err
	}
	listens := make(chan string, 1)
	go func() {
		defer close(p.Exited)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var said struct{ Listening string }
			if json.Unmarshal(lines.Bytes(), &said) == nil && said.Listening != "" {
				listens <- strings.TrimPrefix(said.Listening, "http://")
			}
		}
		_ = p.Cmd.Wait()
	}()
	select {
	case p.Addr = <-listens:
		return p, nil
	case <-p.Exited:
		return nil, fmt.Errorf("the gateway ended: %s", p.Cmd.ProcessState)
	case <-ctx.Done():
		p.Kill()
		return nil, ctx.Err()
	case <-time.After(20 * time.Second):
		p.Kill()
		return nil, fmt.Errorf("the gateway does not listen")
	}
}

// Kill ends the process as a power cut would, and waits until it is gone.
func (p *GatewayProcess) Kill() {
	_ = p.Cmd.Process.Kill()
	<-p.Exited
}

// Signal stops a process where it stands (SIGSTOP), wakes it (SIGCONT), or asks it to
// end (SIGTERM).
func (p *GatewayProcess) Signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.Cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// callAPI calls the API once; a status of 0 says that there was no answer.
func (d *gatewayRunner) callAPI(ctx context.Context, method, path string, body any) (status int, answer []byte) {
	b, err := json.Marshal(body)
	if err != nil {
		return 0, nil
	}
	req, err := http.NewRequestWithContext(ctx, method, d.URL+path, bytes.NewReader(b))
	if err != nil {
		return 0, nil
	}
	req.Header.Set("Authorization", "Bearer "+runnerAdminKey)
	req.Header.Set("Content-Type", "application/json")
	res, err := d.Client.Do(req)
	if err != nil {
		return 0, nil
	}
	defer func() { _ = res.Body.Close() }()
	answer, err = io.ReadAll(res.Body)
	if err != nil {
		return 0, nil
	}
	return res.StatusCode, answer
}

// A LockedBuffer takes what several write.
type LockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *LockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *LockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
