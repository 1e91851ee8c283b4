package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// buildGateway compiles the gateway as it is shipped and gives the path of the binary.
func buildGateway(ctx context.Context, dir string, progress io.Writer) (string, error) {
	file := filepath.Join(dir, "hydragate")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", file, "hydragate/cmd/hydragate")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stdout, cmd.Stderr = progress, progress
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("build the gateway: %w", err)
	}
	return file, nil
}

// A process is a program that said on its first line of output where it listens.
type process struct {
	cmd *exec.Cmd
	url string
	log *os.File
}

const (
	startTimeout = 60 * time.Second
	stopTimeout  = 20 * time.Second
)

// startProcess runs a program and waits until it listens. What it writes to standard error
// goes to logFile. Of this process's environment it gets no setting of a gateway.
func startProcess(ctx context.Context, logFile string, env []string, name string, args ...string) (*process, error) {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, name, args...)
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "HYDRAGATE_") && !strings.HasPrefix(e, "OTEL_") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Env = append(cmd.Env, env...)
	cmd.Stderr = log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopTimeout
	out, err := cmd.StdoutPipe()
	if err != nil {
		_ = log.Close()
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		_ = log.Close()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &process{cmd: cmd, log: log}
	if p.url, err = readListenURL(out); err != nil {
		_ = cmd.Process.Kill()
		_ = p.wait()
		return nil, fmt.Errorf("start %s: %w; see %s", name, err, logFile)
	}
	return p, nil
}

// readListenURL reads where a program listens from its first line, and goes on reading so
// that the program never waits for its output to be read.
func readListenURL(out io.ReadCloser) (string, error) {
	lines := make(chan string, 1)
	go func() {
		r := bufio.NewReader(out)
		line, _ := r.ReadString('\n')
		lines <- line
		_, _ = io.Copy(io.Discard, r)
	}()
	timer := time.AfterFunc(startTimeout, func() { _ = out.Close() })
	defer timer.Stop()
	var said struct {
		Listening string `json:"listening"`
	}
	if err := json.Unmarshal([]byte(<-lines), &said); err != nil || said.Listening == "" {
		return "", errors.New("it does not say where it listens")
	}
	return said.Listening, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// stop ends the program as an operator would, and says when it did not end well.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(stopTimeout, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	return p.wait()
}

func (p *process) wait() error {
	err := p.cmd.Wait()
	_ = p.log.Close()
	return err
}

// A gateway is a running gateway with a database of its own.
type gateway struct {
	*process
	adminKey string
}

// startGateway runs the gateway on a database: a Postgres URL, or "" for an embedded
// one in dir.
func startGateway(ctx context.Context, binary, dir, postgres, redis string, p *providers) (*gateway, error) {
	var master [32]byte
	_, _ = rand.Read(master[:])
	g := &gateway{adminKey: "hg_live_" + rand.Text() + rand.Text()}
	env := []string{
		"HYDRAGATE_LISTEN=127.0.0.1:0", "HYDRAGATE_DATA_DIR=" + filepath.Join(dir, "data"), "HYDRAGATE_DATABASE_URL=" + postgres, "HYDRAGATE_REDIS_URL=" + redis,
		"HYDRAGATE_MASTER_KEYS=bench:" + base64.StdEncoding.EncodeToString(master[:]), "HYDRAGATE_ADMIN_KEY=" + g.adminKey,
		"HYDRAGATE_TELEGRAM_API_URL=" + p.telegramURL, "HYDRAGATE_TWILIO_API_URL=" + p.twilioURL, "HYDRAGATE_SLACK_API_URL=" + p.slackURL + "/api/",
		"HYDRAGATE_LOG_LEVEL=warn", "HYDRAGATE_LOG_FORMAT=json",
	}
	var err error
	g.process, err = startProcess(ctx, filepath.Join(dir, "gateway.log"), env, binary, "serve")
	return g, err
}

// setUpChannels makes an instance and its channels through the public API, as staff would,
// and gives their hooks. The instance has no agent: what is measured is the way in.
func (g *gateway) setUpChannels(ctx context.Context, p *providers, channels []string) ([]webhook, error) {
	var instance struct {
		ID string `json:"id"`
	}
	if err := g.call(ctx, "/v1/instances", map[string]string{"name": "Bench"}, &instance); err != nil {
		return nil, err
	}
	setUps := map[string]map[string]string{
		telegramChannel: {"bot_token": p.botToken},
		smsChannel:      {"account_sid": p.account, "auth_token": p.token, "phone_number": phoneNumber},
		slackChannel:    {"bot_token": p.app.Token, "signing_secret": p.app.SigningSecret},
	}
	var hooks []webhook
	for _, c := range channels {
		var seat struct {
			Status     string `json:"status"`
			WebhookURL string `json:"webhook_url"`
		}
		if err := g.call(ctx, "/v1/instances/"+instance.ID+"/channels/"+c, setUps[c], &seat); err != nil {
			return nil, err
		}
		if seat.Status != "active" {
			return nil, fmt.Errorf("set up %s: its status is %q", c, seat.Status)
		}
		hooks = append(hooks, p.webhook(c, seat.WebhookURL))
	}
	return hooks, nil
}

// call posts in to a path of the API and reads the answer into out.
func (g *gateway) call(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Api-Key", g.adminKey)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return fmt.Errorf("call %s: %w", path, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("call %s: %w", path, err)
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("call %s: status %d: %s", path, resp.StatusCode, answer)
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("read the answer of %s: %w", path, err)
	}
	return nil
}
