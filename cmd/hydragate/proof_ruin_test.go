//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"hydragate/adapters/simulator"
	"hydragate/claim"
	"hydragate/claim/redisproof"
	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store"
)

const (
	ruinKey   = "an-admin-key-for-the-proof-of-claims-0123"
	ruinToken = "7000002:AAE0123456789abcdefghijklmnopqrstuv"
)

// A ruin is a world in which everything breaks: servers of its own, a pretend
// Telegram and an agent in this process, and a gateway in another that is killed.
type ruin struct {
	count
	t      *testing.T
	limit  toll
	enough func() bool

	role     string // what the other process is
	settings []string
	url      string // of the gateway
	postgres *ownPostgres
	redis    *redis.Client
	sql      *sql.DB
	store    *store.Store
	telegram *simulator.Telegram
	instance string
	http     *http.Client

	log, events safeBuffer
	mu          sync.Mutex
	codes       []string // all that were ever read out
}

// networkDelay is added to each answer of Postgres.
const networkDelay = 3 * time.Millisecond

func newRuin(t *testing.T, role string) *ruin {
	t.Helper()
	r := &ruin{t: t, role: role, postgres: startPostgres(t), http: &http.Client{Timeout: 2 * time.Second}}
	var redisURL string
	redisURL, r.redis = startRedis(t)
	direct := r.postgres.url(r.postgres.port)
	master := store.NewMasterKey("k1")
	keys, err := store.ParseKeyRing(master)
	if err != nil {
		t.Fatal(err)
	}
	if r.store, err = store.Open(t.Context(), direct, keys); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.store.Close)
	r.sql = openDatabase(t, direct)
	// Every grant is written down by the database itself, whatever the program says.
	for _, q := range []string{
		`alter table audit_events disable trigger audit_events_keep`, // so that time can pass for the limits on codes
		`create table proof_grants (identity_id uuid, gen bigint, message uuid)`,
		`create function proof_grant() returns trigger language plpgsql as 'begin insert into proof_grants values (new.id, new.claim_gen, new.claim_used_msg); return new; end'`,
		`create trigger proof_grant after update on identities for each row when (old.verified_at is null and new.verified_at is not null) execute function proof_grant()`,
	} {
		if _, err := r.sql.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	r.telegram = simulator.NewTelegram()
	r.telegram.Scale = 0.02
	r.telegram.AddBot(ruinToken, botName)
	api := httptest.NewServer(r.telegram)
	agent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) { _, _ = io.Copy(&r.events, req.Body) }))
	t.Cleanup(agent.Close)
	t.Cleanup(api.Close)
	t.Cleanup(r.telegram.Close)
	listen := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	r.url = "http://" + listen
	r.settings = []string{
		"HYDRAGATE_DATA_DIR=" + t.TempDir(), "HYDRAGATE_LISTEN=" + listen, "HYDRAGATE_DATABASE_URL=" + r.postgres.url(slowly(t, r.postgres.port, networkDelay)), "HYDRAGATE_REDIS_URL=" + redisURL,
		"HYDRAGATE_MASTER_KEYS=" + master, "HYDRAGATE_ADMIN_KEY=" + ruinKey, "HYDRAGATE_TELEGRAM_API_URL=" + api.URL,
		"HYDRAGATE_AGENT_ALLOW_PRIVATE=true", "HYDRAGATE_LOG_LEVEL=debug", "HYDRAGATE_PUBLIC_URL=" + r.url,
	}
	i, err := r.store.CreateInstance(t.Context(), gateway.Instance{TenantID: proofTenant, Name: "acme", AgentURL: agent.URL, UnknownSenders: gateway.Forward},
		gateway.InstanceSecrets{AgentSecretKey: "ask_" + uuid.NewString(), WebhookSecret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}, identity.System)
	if err != nil {
		t.Fatal(err)
	}
	r.instance = i.ID
	p, err := r.start(t.Context())
	if err != nil {
		t.Fatalf("%v\n%s", err, r.log.String())
	}
	defer p.kill()
	if status, body := r.call(t.Context(), "POST", "/v1/instances/"+r.instance+"/channels/telegram", map[string]string{"bot_token": ruinToken}); status != http.StatusOK {
		t.Fatalf("setting up Telegram: %d %s", status, body)
	}
	return r
}

// A mortal is a gateway that runs in another process.
type mortal struct {
	cmd   *exec.Cmd
	ended chan struct{}
}

// start runs the gateway until it listens.
func (r *ruin) start(ctx context.Context) (*mortal, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &mortal{cmd: exec.Command("hydragate", "serve"), ended: make(chan struct{})}
	if r.role != "serve" {
		p.cmd = exec.Command(self, "-test.run=^TestProofChild$", "-test.count=1")
	}
	p.cmd.Env = append(os.Environ(), append(r.settings, childRole+"="+r.role)...)
	p.cmd.Stderr = &r.log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	listens := make(chan struct{})
	go func() {
		defer close(p.ended)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if bytes.Contains(lines.Bytes(), []byte(`"listening"`)) {
				close(listens)
			}
		}
		_ = p.cmd.Wait()
	}()
	select {
	case <-listens:
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

// call calls the API once; a status of 0 says that there was no answer.
func (r *ruin) call(ctx context.Context, method, path string, body any) (status int, answer []byte) {
	b, err := json.Marshal(body)
	if err != nil {
		return 0, nil
	}
	req, err := http.NewRequestWithContext(ctx, method, r.url+path, bytes.NewReader(b))
	if err != nil {
		return 0, nil
	}
	req.Header.Set("Authorization", "Bearer "+ruinKey)
	req.Header.Set("Content-Type", "application/json")
	res, err := r.http.Do(req)
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

// serveNaively is the gateway with proofs that a comparison consumes.
func serveNaively(t *testing.T) {
	ctx := t.Context()
	s := &settings{
		DataDir: os.Getenv("HYDRAGATE_DATA_DIR"), Listen: os.Getenv("HYDRAGATE_LISTEN"), DatabaseURL: os.Getenv("HYDRAGATE_DATABASE_URL"), RedisURL: os.Getenv("HYDRAGATE_REDIS_URL"),
		MasterKeys: os.Getenv("HYDRAGATE_MASTER_KEYS"), AdminKey: os.Getenv("HYDRAGATE_ADMIN_KEY"), TelegramAPIURL: os.Getenv("HYDRAGATE_TELEGRAM_API_URL"),
		AgentAllowPrivate: "true", LogLevel: "info", PublicURL: os.Getenv("HYDRAGATE_PUBLIC_URL"),
	}
	l, err := net.Listen("tcp", s.Listen)
	if err != nil {
		t.Fatal(err)
	}
	log := s.logger(os.Stderr)
	p, err := build(ctx, s, s.PublicURL, log)
	if err != nil {
		t.Fatal(err)
	}
	defer p.closeAll()
	if _, err := p.ensureAdmin(ctx, s); err != nil {
		t.Fatal(err)
	}
	keys, err := s.keyRing()
	if err != nil {
		t.Fatal(err)
	}
	desk := &claim.Desk{Ledger: p.store, Proofs: consuming{&redisproof.Proofs{Redis: p.redis, Keys: keys.Derive("claim/v1")}}}
	naive := &gateway.Worker{Store: p.store, Desk: desk, Channels: p.channels, Adapters: p.channels.Adapters, Log: log, Now: time.Now, Woken: func(...gateway.LaneKind) {}}
	for _, lanes := range p.lanes {
		if lanes.Kind == gateway.InboxLane {
			lanes.Work = naive.Work
		}
	}
	_, _ = p.run(ctx, l, func() { announce(os.Stdout, "http://"+l.Addr().String(), s.PublicURL, p.store.Engine(), "") })
}

// consuming proofs are gone once they were compared and found right.
type consuming struct{ claim.Proofs }

func (c consuming) Check(ctx context.Context, s claim.Subject, typedIn, code, message string) (claim.Finding, error) {
	f, err := c.Proofs.Check(ctx, s, typedIn, code, message)
	if err == nil && f.Verdict == claim.Match {
		err = c.Proofs.Drop(ctx, s)
	}
	return f, err
}
