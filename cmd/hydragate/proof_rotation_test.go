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
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const rotationKey = "an-admin-key-for-the-proof-of-rotation-01"

// A rotation is a world whose keys change while it is at work: providers, an agent that
// checks what it is sent with the one secret it was told, and gateways that come and go
// behind a load balancer which lets each finish before it goes.
type rotation struct {
	t        *testing.T
	p        *pretence
	front    *wire
	settings []string
	dsn      string
	sql      *sql.DB
	http     *http.Client
	log      safeBuffer
	instance string

	mu    sync.RWMutex
	live  []*replica
	turn  atomic.Int64
	lines atomic.Int64

	requests, failed atomic.Int64
	agent            verifier
	agentKey         atomic.Value // of the conversation-user API, as its caller knows it

	failMu   sync.Mutex
	failures []string // the first few
}

// A replica is one gateway and what it has in hand.
type replica struct {
	cmd   *exec.Cmd
	url   string
	ended chan struct{}
	busy  sync.WaitGroup
}

// A verifier is an agent runtime that believes what is signed with its secret, by the
// library of the Standard Webhooks specification, and nothing else.
type verifier struct {
	mu       sync.Mutex
	secret   string
	believed map[string]int
	refused  int
	twice    int // signed with several secrets
}

func (v *verifier) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	wh, err := standardwebhooks.NewWebhook(v.secret)
	if err == nil {
		err = wh.Verify(body, r.Header)
	}
	if err != nil {
		v.refused++
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if len(strings.Fields(r.Header.Get("webhook-signature"))) > 1 {
		v.twice++
	}
	v.believed[r.Header.Get("webhook-id")]++
	_, _ = io.WriteString(w, `{"replies":[{"text":"I heard you"}]}`)
}

func (v *verifier) knows(secret string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.secret = secret
}

// newRotation makes the world, with replicas gateways under keys and every channel set
// up.
func newRotation(t *testing.T, keys string, replicas int) *rotation {
	t.Helper()
	p, err := pretend(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	front, err := newWire()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(front.close)
	r := &rotation{t: t, p: p, front: front, http: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 32}}}
	r.agent.believed = map[string]int{}
	agent := httptest.NewServer(&r.agent)
	t.Cleanup(agent.Close)
	r.dsn = freshDatabase(t, testPostgres(t))
	r.sql = openDatabase(t, r.dsn)
	r.settings = []string{
		"HYDRAGATE_LISTEN=127.0.0.1:0", "HYDRAGATE_PUBLIC_URL=http://" + front.addr(), "HYDRAGATE_REDIS_URL=" + testRedis(t), "HYDRAGATE_ADMIN_KEY=" + rotationKey,
		"HYDRAGATE_TELEGRAM_API_URL=" + p.servers["Telegram"].url, "HYDRAGATE_TWILIO_API_URL=" + p.servers["Twilio"].url,
		"HYDRAGATE_SLACK_API_URL=" + p.slack.APIURL(), "HYDRAGATE_AGENT_ALLOW_PRIVATE=true", "HYDRAGATE_DATA_DIR=" + t.TempDir(),
	}
	t.Cleanup(r.stopAll)
	for range replicas {
		r.join(r.start(keys))
	}
	var made struct {
		ID             string `json:"id"`
		WebhookSecret  string `json:"webhook_secret"`
		AgentSecretKey string `json:"agent_secret_key"`
	}
	r.must(rotationKey, "POST", "/v1/instances", map[string]any{"name": "acme", "agent_url": agent.URL}, &made)
	r.instance = made.ID
	r.agent.knows(made.WebhookSecret)
	r.agentKey.Store(made.AgentSecretKey)
	r.must(rotationKey, "POST", r.channel("telegram"), map[string]any{"bot_token": p.telegramToken}, nil)
	r.must(rotationKey, "POST", r.channel("sms"), map[string]any{"account_sid": p.twilioSID, "auth_token": p.twilioToken, "phone_number": demoSMSNumber}, nil)
	r.must(rotationKey, "POST", r.channel("slack"), map[string]any{"bot_token": p.slackToken, "signing_secret": p.slackSecret}, nil)
	return r
}

func (r *rotation) channel(name string) string {
	return "/v1/instances/" + r.instance + "/channels/" + name
}

// environment is that of a process of this world.
func (r *rotation) environment(keys, dsn string) []string {
	return append(append(os.Environ(), r.settings...), "HYDRAGATE_MASTER_KEYS="+keys, "HYDRAGATE_DATABASE_URL="+dsn)
}

// start runs a gateway until it listens.
func (r *rotation) start(keys string) *replica {
	r.t.Helper()
	p, err := listening(r.command(context.Background(), keys, r.dsn, "serve"), &r.log)
	if err != nil {
		r.t.Fatalf("%v\n%s", err, r.log.String())
	}
	return p
}

// listening starts a gateway and waits until it listens.
func listening(cmd *exec.Cmd, log io.Writer) (*replica, error) {
	p := &replica{cmd: cmd, ended: make(chan struct{})}
	p.cmd.Stderr = log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	var said struct {
		Listening string `json:"listening"`
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait()
	}()
	if err := json.Unmarshal([]byte(line), &said); err != nil {
		<-p.ended
		return nil, fmt.Errorf("a gateway did not start: %q", line)
	}
	p.url = said.Listening
	return p, nil
}

// kill ends the process as a power cut would, and waits until it is gone.
func (p *replica) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

func (r *rotation) join(p *replica) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.live = append(r.live, p)
	r.lead()
}

// lead makes the public address lead to those who are live; r.mu is held.
func (r *rotation) lead() {
	var to []string
	for _, p := range r.live {
		to = append(to, strings.TrimPrefix(p.url, "http://"))
	}
	r.front.lead(to...)
}

// leave takes the oldest gateway out of the balance, lets it finish and stops it.
func (r *rotation) leave() {
	r.t.Helper()
	r.mu.Lock()
	p := r.live[0]
	r.live = slices.Clone(r.live[1:])
	r.lead()
	r.mu.Unlock()
	p.busy.Wait()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(20 * time.Second):
		r.t.Error("a gateway does not end")
	}
}

func (r *rotation) stopAll() {
	for _, p := range r.live {
		p.kill()
	}
}

// roll restarts every gateway with these keys, one after the other.
func (r *rotation) roll(keys string) {
	r.t.Helper()
	for range len(r.live) {
		r.leave()
		r.join(r.start(keys))
	}
}

// pick gives a gateway, which is busy until the function given is called.
func (r *rotation) pick() (p *replica, done func()) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	p = r.live[int(r.turn.Add(1))%len(r.live)]
	p.busy.Add(1)
	return p, p.busy.Done
}

// ask makes a request of any gateway; 0 is no answer.
func (r *rotation) ask(method, path string, header http.Header, body []byte) (status int, answer []byte, said http.Header) {
	p, done := r.pick()
	defer done()
	r.requests.Add(1)
	req, err := http.NewRequest(method, p.url+path, bytes.NewReader(body))
	if err != nil {
		return 0, []byte(err.Error()), nil
	}
	req.Header = header
	res, err := r.http.Do(req)
	if err != nil {
		return 0, []byte(err.Error()), nil
	}
	defer func() { _ = res.Body.Close() }()
	answer, err = io.ReadAll(res.Body)
	if err != nil {
		return 0, []byte(err.Error()), nil
	}
	return res.StatusCode, answer, res.Header
}

// fails counts a request that was not answered as it must be.
func (r *rotation) fails(what string, status int, answer []byte) {
	r.failed.Add(1)
	r.failMu.Lock()
	defer r.failMu.Unlock()
	if len(r.failures) < 10 {
		r.failures = append(r.failures, fmt.Sprintf("%s: %d %.200s", what, status, answer))
	}
}

// call calls the API; an answer that is no success is a failure.
func (r *rotation) call(key, method, path string, body, into any) (ok bool) {
	var raw []byte
	if body != nil {
		raw, _ = json.Marshal(body)
	}
	status, answer, _ := r.ask(method, path, http.Header{"Authorization": {"Bearer " + key}, "Content-Type": {"application/json"}}, raw)
	if status/100 != 2 || into != nil && json.Unmarshal(answer, into) != nil {
		r.fails(method+" "+path, status, answer)
		return false
	}
	return true
}

func (r *rotation) must(key, method, path string, body, into any) {
	r.t.Helper()
	if !r.call(key, method, path, body, into) {
		r.t.Fatalf("%v\n%s", r.failures, r.log.String())
	}
}

// newKey gives a key of the API that nobody else uses: each has its own limits.
func (r *rotation) newKey() string {
	var made struct {
		Key string `json:"key"`
	}
	r.call(rotationKey, "POST", "/v1/keys", map[string]any{"name": "load", "scopes": []string{"customers:read", "customers:write", "identities:read", "identities:write", "claims:issue", "instances:read", "channels:read"}}, &made)
	return made.Key
}

// A waiting claim is a code that was read out and not typed yet.
type waitingClaim struct {
	person   int64
	code, at string
}

var rotationPeople atomic.Int64

func (r *rotation) readOut(key string) (c waitingClaim, ok bool) {
	c.person = 880000 + rotationPeople.Add(1)
	var customer, linked struct {
		ID string `json:"id"`
	}
	var issued struct {
		Code string `json:"code"`
	}
	ok = r.call(key, "POST", "/v1/customers", map[string]any{"first_name": "Steve"}, &customer) &&
		r.call(key, "POST", "/v1/customers/"+customer.ID+"/identities", map[string]any{"channel": "telegram", "external_id": fmt.Sprint(c.person), "instance_id": r.instance}, &linked) &&
		r.call(key, "POST", "/v1/customers/"+customer.ID+"/identities/"+linked.ID+"/claim-code", nil, &issued)
	c.code, c.at = issued.Code, "/v1/customers/"+customer.ID+"/identities/"+linked.ID
	return c, ok
}

// typed types a code and waits until staff see the identity verified.
func (r *rotation) typed(key string, c waitingClaim) bool {
	r.delivers(r.telegramSays(c.person, "/claim "+c.code))
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for late := time.Now().Add(30 * time.Second); time.Now().Before(late); <-look.C {
		var seen struct {
			Verified bool `json:"verified"`
		}
		if !r.call(key, "GET", c.at, nil, &seen) || seen.Verified {
			return seen.Verified
		}
	}
	r.fails("a right code", 0, []byte("is not redeemed"))
	return false
}

// command runs the program on the database, or on another way to it.
func (r *rotation) command(ctx context.Context, keys, dsn string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "hydragate", args...)
	cmd.Env = r.environment(keys, dsn)
	return cmd
}

// left counts the values in all columns of all tables that a key sealed.
func (r *rotation) left(id string) (n int) {
	r.t.Helper()
	h := &proofHouse{t: r.t, sql: r.sql}
	for _, column := range h.texts(`select format('%I.%I', table_name, column_name) from information_schema.columns where table_schema = 'public' and data_type = 'text'`) {
		table, name, _ := strings.Cut(column, ".")
		var some int
		h.scan(`select count(*) from `+table+` where starts_with(`+name+`, $1)`, []any{"v1." + id + "."}, &some)
		n += some
	}
	return n
}
