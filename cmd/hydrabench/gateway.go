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

// buildGateway builds the gateway as it is released and returns the path of the binary.
func buildGateway(ctx context.Context, dir string, progress io.Writer) (string, error) {
	file := filepath.Join(dir, "hydragate")
	args := []string{"build", "-trimpath", "-ldflags", "-s -w", "-o", file, "hydragate/cmd/hydragate"}
	cmd := exec.CommandContext(ctx, "go", args...) //nolint:gosec // our own program
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stdout, cmd.Stderr = progress, progress
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("build the gateway: %w", err)
	}
	return file, nil
}

// A process is a running program. The first line of its output contained its URL.
type process struct {
	cmd *exec.Cmd
	url string
	log *os.File
}

const (
	startTimeout = 60 * time.Second
	stopTimeout  = 20 * time.Second
)

// startProcess runs a program and waits until it listens. Its standard error is appended to logFile.
// It inherits the environment except the settings of a gateway.
func startProcess(ctx context.Context, logFile string, env []string, name string, args ...string) (*process, error) {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // our own programs
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

// readListenURL returns the URL from the first line of a program. It discards the rest of the output
// in the background, so that the program never blocks.
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
	var first struct {
		Listening string `json:"listening"`
	}
	if err := json.Unmarshal([]byte(<-lines), &first); err != nil || first.Listening == "" {
		return "", errors.New("its first line of output does not contain a URL")
	}
	return first.Listening, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// stop stops the program with SIGTERM, and kills it after stopTimeout. It returns an error if the
// program failed.
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

// A gateway is a running gateway with its own database.
type gateway struct {
	*process
	adminKey string
}

// startGateway runs a gateway on the PostgreSQL database at the URL postgres, or on an embedded one
// in dir if it is empty.
func startGateway(ctx context.Context, binary, dir, postgres, redis string, p *providers) (*gateway, error) {
	var master [32]byte
	_, _ = rand.Read(master[:])
	g := &gateway{adminKey: "hg_live_" + rand.Text() + rand.Text()}
	env := []string{
		"HYDRAGATE_LISTEN=127.0.0.1:0",
		"HYDRAGATE_DATA_DIR=" + filepath.Join(dir, "data"),
		"HYDRAGATE_DATABASE_URL=" + postgres,
		"HYDRAGATE_REDIS_URL=" + redis,
		"HYDRAGATE_MASTER_KEYS=bench:" + base64.StdEncoding.EncodeToString(master[:]),
		"HYDRAGATE_ADMIN_KEY=" + g.adminKey,
		"HYDRAGATE_TELEGRAM_API_URL=" + p.telegramURL,
		"HYDRAGATE_TWILIO_API_URL=" + p.twilioURL,
		"HYDRAGATE_SLACK_API_URL=" + p.slackURL + "/api/",
		"HYDRAGATE_LOG_LEVEL=warn",
		"HYDRAGATE_SEND_LIMITS=false", // all messages go to one bot
		"HYDRAGATE_LOG_FORMAT=json",
	}
	var err error
	g.process, err = startProcess(ctx, filepath.Join(dir, "gateway.log"), env, binary, "serve")
	return g, err
}

// setUpChannels creates an instance, connects its channels through the API, and returns their
// webhooks. The instance has no application, because only receiving is measured.
func (g *gateway) setUpChannels(ctx context.Context, p *providers, channels []string) ([]webhook, error) {
	var instance struct {
		ID string `json:"id"`
	}
	if err := g.call(ctx, "/v1/instances", map[string]string{"name": "Bench"}, &instance); err != nil {
		return nil, err
	}
	accounts := map[string]map[string]string{
		telegramChannel: {"bot_token": p.botToken},
		smsChannel:      {"account_sid": p.account, "auth_token": p.token, "phone_number": phoneNumber},
		slackChannel:    {"bot_token": p.app.Token, "signing_secret": p.app.SigningSecret},
	}
	var webhooks []webhook
	for _, c := range channels {
		var endpoint struct {
			Status     string `json:"status"`
			WebhookURL string `json:"webhook_url"`
		}
		if err := g.call(ctx, "/v1/instances/"+instance.ID+"/channels/"+c, accounts[c], &endpoint); err != nil {
			return nil, err
		}
		if endpoint.Status != "active" {
			return nil, fmt.Errorf("connect %s: its status is %q", c, endpoint.Status)
		}
		webhooks = append(webhooks, p.webhook(c, endpoint.WebhookURL))
	}
	return webhooks, nil
}

// call posts in to a path of the API and decodes the response into out.
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
	client := http.Client{Timeout: startTimeout}
	resp, err := client.Do(r)
	if err != nil {
		return fmt.Errorf("call %s: %w", path, err)
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("call %s: %w", path, err)
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("call %s: status %d: %s", path, resp.StatusCode, body)
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("read the response of %s: %w", path, err)
	}
	return nil
}
