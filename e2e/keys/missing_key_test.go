package keys

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hydragate/e2e/harness"
	"hydragate/store/keyring"
)

// TestKeyRotation_MissingKey is the control, and what misuse does: everything that
// needs the key fails, says which key, and is there again when the key is.
func TestKeyRotation_MissingKey(t *testing.T) {
	harness.RequireFullRun(t)
	t.Parallel()
	k1, k2 := keyring.GenerateKey("k1"), keyring.GenerateKey("k2")
	r := newRotationFixture(t, k1, 1)
	key := r.createKey()
	c, ok := r.issueCode(key)
	if !ok {
		t.Fatal(r.failures)
	}
	r.removeOldest()
	if out, err := r.command(t.Context(), k2, r.DSN, "serve").CombinedOutput(); err == nil || !strings.Contains(string(out), `HYDRAGATE_MASTER_KEYS cannot decrypt this database: add the missing keys: "k1" for`) {
		t.Errorf("started with a key that sealed nothing: %v %s", err, out)
	}
	r.addReplica(r.startReplica(k2 + "," + k1))
	r.mustCall(harness.AdminKey, "POST", "/v1/instances", map[string]any{"name": "sealed with the other key"}, nil)
	r.removeOldest()
	early := r.startReplica(k2)
	r.addReplica(early)
	for name, says := range map[string]func() (string, http.Header, []byte){
		"telegram": func() (string, http.Header, []byte) { return r.telegramRequest(c.personID, "hello") },
		"sms":      func() (string, http.Header, []byte) { return r.smsRequest(r.twilioToken, "hello") },
		"slack":    func() (string, http.Header, []byte) { return r.slackRequest(r.slackSecret, "hello") },
	} {
		if status := r.postWebhook(says()); status != http.StatusServiceUnavailable {
			t.Errorf("%s is answered %d", name, status)
		}
	}
	if r.failed.Load() == 0 {
		t.Error("the test does not see that requests fail")
	}
	if log := r.Log.String(); !strings.Contains(log, `master key \"k1\" is required`) || !strings.Contains(log, "HYDRAGATE_MASTER_KEYS") || strings.Contains(log, strings.SplitN(k1, ":", 2)[1]) {
		t.Errorf("it does not say which key is missing, or too much: %s", log)
	}
	out, err := r.command(t.Context(), k2, r.DSN, "masterkey", "rotate").CombinedOutput()
	if err == nil || !strings.Contains(string(out), `key "k1" is missing`) {
		t.Errorf("rotated without the old key: %v %s", err, out)
	}
	if out, err := r.command(t.Context(), k2, r.DSN, "doctor").CombinedOutput(); err == nil || !strings.Contains(string(out), `✗ master keys: key "k1" is missing for`) {
		t.Errorf("doctor: %v %s", err, out)
	}
	if out, err := r.command(t.Context(), keyring.GenerateKey("k1"), r.DSN, "serve").CombinedOutput(); err == nil || !strings.Contains(string(out), `HYDRAGATE_MASTER_KEYS key "k1" differs from the key "k1" of this database`) {
		t.Errorf("started with another key of the same id: %v %s", err, out)
	}

	// A gateway with both takes a claim and stops; the one without waits with it.
	r.removeOldest()
	r.addReplica(r.startReplica(k2 + "," + k1))
	h := r.DB
	h.Exec(`update lanes set lease_until = now() + interval '1 hour'`) // nobody works for now
	if status := r.postWebhook(r.telegramRequest(c.personID, "/claim "+c.code)); status != http.StatusOK {
		t.Fatalf("with both keys: %d %v", status, r.failures)
	}
	h.Exec(`update lanes set lease_until = now() + interval '1 hour', holder = 'nobody' where kind = 'inbox'`)
	r.removeOldest()
	h.Exec(`update identities set claim_key = 'k1' where claim_gen > 0`)
	early = r.startReplica(k2)
	r.addReplica(early)
	h.Exec(`update lanes set lease_until = now(), due_at = now() where kind = 'inbox'`)
	harness.Eventually(t, "the message is looked at without the key", func() bool { return strings.Contains(r.Log.String(), `"process message failed"`) })
	var state string
	var attempts int
	h.Scan(`select state, attempts from messages where sealed is not null or text like '/claim%'`, nil, &state, &attempts)
	if state != "new" || attempts != 0 {
		t.Errorf("the message is %s after %d attempts; want it left alone", state, attempts)
	}
	r.removeOldest()
	r.addReplica(r.startReplica(k2 + "," + k1))
	h.Exec(`update lanes set due_at = now() where kind = 'inbox'`)
	var seen struct {
		Verified bool `json:"verified"`
	}
	harness.Eventually(t, "the claim is granted with the key", func() bool {
		return r.callAPI(key, "GET", c.identityPath, nil, &seen) && seen.Verified
	})
}

// A rotationFixture is a world whose keys change while it is at work: providers, an agent that
// checks what it is sent with the one secret it was told, and gateways that come and go
// behind a load balancer which lets each finish before it goes.
type rotationFixture struct {
	*harness.Harness
	twilioToken, slackSecret string // as the providers have them now

	mu          sync.RWMutex
	replicas    []*harness.Process
	nextReplica atomic.Int64
	messageIDs  atomic.Int64

	requests, failed atomic.Int64
	agentKey         atomic.Value // of the conversation-user API, as its caller knows it

	failMu   sync.Mutex
	failures []string // the first few
}

// newRotationFixture makes the world, with replicas gateways under keys and every channel set
// up.
func newRotationFixture(t *testing.T, keys string, replicas int) *rotationFixture {
	t.Helper()
	h, p := harness.Start(t, harness.Options{MasterKeys: keys})
	h.App.Update(func() { h.App.Secret = h.WebhookSecret })
	r := &rotationFixture{Harness: h, twilioToken: harness.TwilioToken, slackSecret: harness.SlackSecret}
	r.agentKey.Store(h.AgentKey)
	t.Cleanup(r.stopAll)
	r.addReplica(p)
	for range replicas - 1 {
		r.addReplica(r.startReplica(keys))
	}
	return r
}

func (r *rotationFixture) channelPath(name string) string {
	return "/v1/instances/" + r.InstanceID + "/channels/" + name
}

// startReplica runs a gateway until it listens.
func (r *rotationFixture) startReplica(keys string) *harness.Process {
	r.T.Helper()
	p, err := harness.StartProcess(r.T.Context(), r.command(context.Background(), keys, r.DSN, "serve"), &r.Log)
	if err != nil {
		r.T.Fatalf("%v\n%s", err, r.Log.String())
	}
	return p
}

func (r *rotationFixture) addReplica(p *harness.Process) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.replicas = append(r.replicas, p)
	r.updateProxy()
}

// updateProxy makes the public address lead to those who are live; r.mu is held.
func (r *rotationFixture) updateProxy() {
	var to []string
	for _, p := range r.replicas {
		to = append(to, p.Addr)
	}
	r.Front.SetTargets(to...)
}

// removeOldest takes the oldest gateway out of the balance, lets it finish and stops it.
func (r *rotationFixture) removeOldest() {
	r.T.Helper()
	r.mu.Lock()
	p := r.replicas[0]
	r.replicas = slices.Clone(r.replicas[1:])
	r.updateProxy()
	r.mu.Unlock()
	p.InFlight.Wait()
	if err := p.Stop(); err != nil {
		r.T.Error(err)
	}
}

func (r *rotationFixture) stopAll() {
	for _, p := range r.replicas {
		p.Kill()
	}
}

// restartAll restarts every gateway with these keys, one after the other.
func (r *rotationFixture) restartAll(keys string) {
	r.T.Helper()
	for range len(r.replicas) {
		r.removeOldest()
		r.addReplica(r.startReplica(keys))
	}
}

// acquireReplica gives a gateway, which is busy until the function given is called.
func (r *rotationFixture) acquireReplica() (p *harness.Process, done func()) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	p = r.replicas[int(r.nextReplica.Add(1))%len(r.replicas)]
	p.InFlight.Add(1)
	return p, p.InFlight.Done
}

// request makes a request of any gateway; 0 is no answer.
func (r *rotationFixture) request(method, path string, header http.Header, body []byte) (status int, answer []byte, said http.Header) {
	p, done := r.acquireReplica()
	defer done()
	r.requests.Add(1)
	to := harness.Client{URL: "http://" + p.Addr, HTTP: r.API.HTTP}
	res, err := to.Do(context.Background(), method, path, header, string(body))
	if err != nil {
		return 0, []byte(err.Error()), nil
	}
	return res.Status, []byte(res.Body), res.Header
}

// recordFailure counts a request that was not answered as it must be.
func (r *rotationFixture) recordFailure(what string, status int, answer []byte) {
	r.failed.Add(1)
	r.failMu.Lock()
	defer r.failMu.Unlock()
	if len(r.failures) < 10 {
		r.failures = append(r.failures, fmt.Sprintf("%s: %d %.200s", what, status, answer))
	}
}

// callAPI calls the API; an answer that is no success is a failure.
func (r *rotationFixture) callAPI(key, method, path string, body, into any) (ok bool) {
	var raw []byte
	if body != nil {
		raw, _ = json.Marshal(body)
	}
	status, answer, _ := r.request(method, path, http.Header{"Authorization": {"Bearer " + key}, "Content-Type": {"application/json"}}, raw)
	if status/100 != 2 || into != nil && json.Unmarshal(answer, into) != nil {
		r.recordFailure(method+" "+path, status, answer)
		return false
	}
	return true
}

func (r *rotationFixture) mustCall(key, method, path string, body, into any) {
	r.T.Helper()
	if !r.callAPI(key, method, path, body, into) {
		r.T.Fatalf("%v\n%s", r.failures, r.Log.String())
	}
}

// createKey gives a key of the API that nobody else uses: each has its own limits.
func (r *rotationFixture) createKey() string {
	var made struct {
		Key string `json:"key"`
	}
	r.callAPI(harness.AdminKey, "POST", "/v1/keys", map[string]any{"name": "load", "scopes": []string{"customers:read", "customers:write", "identities:read", "identities:write", "claims:issue", "instances:read", "channels:read"}}, &made)
	return made.Key
}

// A waiting claim is a code that was read out and not typed yet.
type pendingClaim struct {
	personID           int64
	code, identityPath string
}

var nextPersonID atomic.Int64

func (r *rotationFixture) issueCode(key string) (c pendingClaim, ok bool) {
	c.personID = 880000 + nextPersonID.Add(1)
	var customer, linked struct {
		ID string `json:"id"`
	}
	var issued struct {
		Code string `json:"code"`
	}
	ok = r.callAPI(key, "POST", "/v1/customers", map[string]any{"first_name": "Steve"}, &customer) &&
		r.callAPI(key, "POST", "/v1/customers/"+customer.ID+"/identities", map[string]any{"channel": "telegram", "external_id": fmt.Sprint(c.personID), "instance_id": r.InstanceID}, &linked) &&
		r.callAPI(key, "POST", "/v1/customers/"+customer.ID+"/identities/"+linked.ID+"/claim-code", nil, &issued)
	c.code, c.identityPath = issued.Code, "/v1/customers/"+customer.ID+"/identities/"+linked.ID
	return c, ok
}

// redeemCode types a code and waits until staff see the identity verified.
func (r *rotationFixture) redeemCode(key string, c pendingClaim) bool {
	r.postWebhook(r.telegramRequest(c.personID, "/claim "+c.code))
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for late := time.Now().Add(30 * time.Second); time.Now().Before(late); <-look.C {
		var seen struct {
			Verified bool `json:"verified"`
		}
		if !r.callAPI(key, "GET", c.identityPath, nil, &seen) || seen.Verified {
			return seen.Verified
		}
	}
	r.recordFailure("a right code", 0, []byte("is not redeemed"))
	return false
}

// command runs the program on the database, or on another way to it.
func (r *rotationFixture) command(ctx context.Context, keys, dsn string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "hydragate", args...)
	cmd.Env = r.Command("hydragate", []string{"HYDRAGATE_MASTER_KEYS=" + keys, "HYDRAGATE_DATABASE_URL=" + dsn}).Env
	return cmd
}

// countEncryptedWith counts the values in all columns of all tables that a key sealed.
func (r *rotationFixture) countEncryptedWith(id string) (n int) {
	r.T.Helper()
	h := r.DB
	for _, column := range h.QueryTexts(`select format('%I.%I', table_name, column_name) from information_schema.columns where table_schema = 'public' and data_type = 'text'`) {
		table, name, _ := strings.Cut(column, ".")
		var some int
		h.Scan(`select count(*) from `+table+` where starts_with(`+name+`, $1)`, []any{"v1." + id + "."}, &some)
		n += some
	}
	return n
}
