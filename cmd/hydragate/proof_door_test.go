//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

const doorKey = "an-admin-key-for-the-proofs-0123456789"

// A door is the gateway as it is reached from outside, whichever process answers
// behind it. The log is of all of them.
type door struct {
	front    *wire
	url      string
	role     string // what the process behind is: "serve", or a build that a control changes
	settings []string
	http     *http.Client
	log      safeBuffer
}

func newDoor(t *testing.T, role string) *door {
	t.Helper()
	front, err := newWire()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(front.close)
	d := &door{front: front, url: "http://" + front.addr(), role: role, http: &http.Client{Timeout: 2 * time.Second}}
	d.settings = []string{"HYDRAGATE_LISTEN=127.0.0.1:0", "HYDRAGATE_DATA_DIR=" + t.TempDir(), "HYDRAGATE_PUBLIC_URL=" + d.url, "HYDRAGATE_ADMIN_KEY=" + doorKey, "HYDRAGATE_AGENT_ALLOW_PRIVATE=true"}
	return d
}

// A mortal is a gateway that runs in another process.
type mortal struct {
	cmd   *exec.Cmd
	addr  string
	ended chan struct{}
}

// start runs a gateway until it listens, and leads the door to it. Settings given
// here stand before those of the door.
func (d *door) start(ctx context.Context, settings ...string) (*mortal, error) {
	p, err := d.beside(ctx, settings...)
	if err == nil {
		d.front.lead(p.addr)
	}
	return p, err
}

// beside is start, with the door left as it is.
func (d *door) beside(ctx context.Context, settings ...string) (*mortal, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &mortal{cmd: exec.Command("hydragate", "serve"), ended: make(chan struct{})}
	if d.role != "serve" {
		p.cmd = exec.Command(self, "-test.run=^TestProofChild$", "-test.count=1", "-test.timeout=30m")
	}
	p.cmd.Env = append(append(append(os.Environ(), d.settings...), settings...), childRole+"="+d.role)
	p.cmd.Stderr = &d.log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	listens := make(chan string, 1)
	go func() {
		defer close(p.ended)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var said struct{ Listening string }
			if json.Unmarshal(lines.Bytes(), &said) == nil && said.Listening != "" {
				listens <- strings.TrimPrefix(said.Listening, "http://")
			}
		}
		_ = p.cmd.Wait()
	}()
	select {
	case p.addr = <-listens:
		return p, nil
	case <-p.ended:
		return nil, fmt.Errorf("the gateway ended: %s", p.cmd.ProcessState)
	case <-ctx.Done():
		p.kill()
		return nil, ctx.Err()
	case <-time.After(20 * time.Second):
		p.kill()
		return nil, fmt.Errorf("the gateway does not listen")
	}
}

// kill ends the process as a power cut would, and waits until it is gone.
func (p *mortal) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// signal stops a process where it stands (SIGSTOP), wakes it (SIGCONT), or asks it to
// end (SIGTERM).
func (p *mortal) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// call calls the API once; a status of 0 says that there was no answer.
func (d *door) call(ctx context.Context, method, path string, body any) (status int, answer []byte) {
	b, err := json.Marshal(body)
	if err != nil {
		return 0, nil
	}
	req, err := http.NewRequestWithContext(ctx, method, d.url+path, bytes.NewReader(b))
	if err != nil {
		return 0, nil
	}
	req.Header.Set("Authorization", "Bearer "+doorKey)
	req.Header.Set("Content-Type", "application/json")
	res, err := d.http.Do(req)
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

// beItself changes nothing.
func beItself(*parts, *settings) error { return nil }

// serveChanged is the gateway with something changed in it, in a child.
func serveChanged(t *testing.T, change func(*parts, *settings) error) {
	ctx := t.Context()
	s := &settings{
		Listen: os.Getenv("HYDRAGATE_LISTEN"), DatabaseURL: os.Getenv("HYDRAGATE_DATABASE_URL"), RedisURL: os.Getenv("HYDRAGATE_REDIS_URL"),
		MasterKeys: os.Getenv("HYDRAGATE_MASTER_KEYS"), AdminKey: os.Getenv("HYDRAGATE_ADMIN_KEY"), DataDir: os.Getenv("HYDRAGATE_DATA_DIR"),
		TelegramAPIURL: os.Getenv("HYDRAGATE_TELEGRAM_API_URL"), TwilioAPIURL: os.Getenv("HYDRAGATE_TWILIO_API_URL"), SlackAPIURL: os.Getenv("HYDRAGATE_SLACK_API_URL"),
		AgentAllowPrivate: "true", LogLevel: "info", PublicURL: os.Getenv("HYDRAGATE_PUBLIC_URL"),
	}
	l, err := net.Listen("tcp", s.Listen)
	if err != nil {
		t.Fatal(err)
	}
	p, err := build(ctx, s, s.PublicURL, s.logger(os.Stderr))
	if err != nil {
		t.Fatal(err)
	}
	defer p.closeAll()
	if _, err := p.ensureAdmin(ctx, s); err != nil {
		t.Fatal(err)
	}
	if err := change(p, s); err != nil {
		t.Fatal(err)
	}
	_, _ = p.run(ctx, l, func() { announce(os.Stdout, "http://"+l.Addr().String(), s.PublicURL, p.store.Engine(), "") })
}
