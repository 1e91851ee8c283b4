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

// TestKeyRotation_MissingKey checks that everything that needs a missing master key fails, that
// the error names the key, and that it works again once the key is back. It is also the control of
// the rotation tests: it shows that they notice failing requests.
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
	requireCommandFails := func(want, keys string, args ...string) {
		t.Helper()
		out, err := r.command(t.Context(), keys, r.DSN, args...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("hydragate %v = %v: %s; want an error with %q", args, err, out, want)
		}
	}
	requireCommandFails(`HYDRAGATE_MASTER_KEYS cannot decrypt this database: add the missing keys: "k1" for`,
		k2, "serve")
	r.addReplica(r.startReplica(k2 + "," + k1))
	r.mustCall(harness.AdminKey, "POST", "/v1/instances", map[string]any{"name": "encrypted with the other key"}, nil)
	r.removeOldest()
	early := r.startReplica(k2)
	r.addReplica(early)
	for channel, newRequest := range map[string]func() (string, http.Header, []byte){
		"telegram": func() (string, http.Header, []byte) { return r.telegramRequest(c.personID, "hello") },
		"sms":      func() (string, http.Header, []byte) { return r.smsRequest(r.twilioToken, "hello") },
		"slack":    func() (string, http.Header, []byte) { return r.slackRequest(r.slackSecret, "hello") },
	} {
		if status := r.postWebhook(newRequest()); status != http.StatusServiceUnavailable {
			t.Errorf("%s webhook without the key: status %d, want 503", channel, status)
		}
	}
	if r.failed.Load() == 0 {
		t.Error("failed requests = 0: the test would not notice failures")
	}
	if log := r.Log.String(); !strings.Contains(log, `master key \"k1\" is required`) ||
		!strings.Contains(log, "HYDRAGATE_MASTER_KEYS") ||
		strings.Contains(log, strings.SplitN(k1, ":", 2)[1]) {
		t.Errorf("the log must name the missing key id and must not contain the key:\n%s", log)
	}
	requireCommandFails(`key "k1" is missing`, k2, "masterkey", "rotate")
	requireCommandFails(`✗ master keys: key "k1" is missing for`, k2, "doctor")
	requireCommandFails(`HYDRAGATE_MASTER_KEYS key "k1" differs from the key "k1" of this database`,
		keyring.GenerateKey("k1"), "serve")

	// A gateway with both keys accepts a claim and stops. A gateway without the old key leaves it queued.
	r.removeOldest()
	r.addReplica(r.startReplica(k2 + "," + k1))
	h := r.DB
	h.Exec(`update lanes set lease_until = now() + interval '1 hour'`) // so that no gateway processes the message yet
	if status := r.postWebhook(r.telegramRequest(c.personID, "/claim "+c.code)); status != http.StatusOK {
		t.Fatalf("webhook with both keys: status %d, want 200: %v", status, r.failures)
	}
	h.Exec(`update lanes set lease_until = now() + interval '1 hour', holder = 'other' where kind = 'inbox'`)
	r.removeOldest()
	h.Exec(`update identities set claim_key = 'k1' where claim_gen > 0`)
	early = r.startReplica(k2)
	r.addReplica(early)
	h.Exec(`update lanes set lease_until = now(), due_at = now() where kind = 'inbox'`)
	harness.Eventually(t, "processing fails without the key", func() bool {
		return strings.Contains(r.Log.String(), `"process message failed"`)
	})
	var state string
	var attempts int
	h.Scan(`select state, attempts from messages where sealed is not null or text like '/claim%'`,
		nil, &state, &attempts)
	if state != "new" || attempts != 0 {
		t.Errorf("message state = %q after %d attempts, want new after 0", state, attempts)
	}
	r.removeOldest()
	r.addReplica(r.startReplica(k2 + "," + k1))
	h.Exec(`update lanes set due_at = now() where kind = 'inbox'`)
	var linked struct {
		Verified bool `json:"verified"`
	}
	harness.Eventually(t, "the code is redeemed once the key is back", func() bool {
		return r.callAPI(key, "GET", c.identityPath, nil, &linked) && linked.Verified
	})
}

// rotationFixture is a harness whose keys change while it runs: simulated providers, an
// application that verifies events with the one secret it has, and gateways behind a load balancer
// that drains a gateway before it is stopped.
type rotationFixture struct {
	*harness.Harness
	twilioToken, slackSecret string // the current secrets at the providers

	mu          sync.RWMutex
	replicas    []*harness.Process
	nextReplica atomic.Int64
	messageIDs  atomic.Int64

	requests, failed atomic.Int64
	agentKey         atomic.Value // the key of the agent API that the application uses

	failMu   sync.Mutex
	failures []string // the first ten
}

// newRotationFixture starts the given number of gateways with the given master keys. All channels
// are connected.
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

// channelPath returns the API path of a channel of the instance.
func (r *rotationFixture) channelPath(name string) string {
	return "/v1/instances/" + r.InstanceID + "/channels/" + name
}

// startReplica starts a gateway and waits until it listens.
func (r *rotationFixture) startReplica(keys string) *harness.Process {
	r.T.Helper()
	p, err := harness.StartProcess(r.T.Context(), r.command(context.Background(), keys, r.DSN, "serve"), &r.Log)
	if err != nil {
		r.T.Fatalf("%v\n%s", err, r.Log.String())
	}
	return p
}

// addReplica adds a gateway to the load balancer.
func (r *rotationFixture) addReplica(p *harness.Process) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.replicas = append(r.replicas, p)
	r.updateProxy()
}

// updateProxy points the load balancer at the running gateways. r.mu must be held.
func (r *rotationFixture) updateProxy() {
	var targets []string
	for _, p := range r.replicas {
		targets = append(targets, p.Addr)
	}
	r.Front.SetTargets(targets...)
}

// removeOldest removes the oldest gateway from the load balancer, waits for its requests and stops
// it.
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

// stopAll kills every gateway.
func (r *rotationFixture) stopAll() {
	for _, p := range r.replicas {
		p.Kill()
	}
}

// restartAll replaces the gateways one after the other with gateways that have these keys.
func (r *rotationFixture) restartAll(keys string) {
	r.T.Helper()
	for range len(r.replicas) {
		r.removeOldest()
		r.addReplica(r.startReplica(keys))
	}
}

// acquireReplica returns the next gateway. It is not stopped before done is called.
func (r *rotationFixture) acquireReplica() (p *harness.Process, done func()) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	p = r.replicas[int(r.nextReplica.Add(1))%len(r.replicas)]
	p.InFlight.Add(1)
	return p, p.InFlight.Done
}

// request sends a request to one of the gateways. The status is 0 if there was no response.
func (r *rotationFixture) request(
	method, path string,
	header http.Header,
	body []byte,
) (status int, response []byte, responseHeader http.Header) {
	p, done := r.acquireReplica()
	defer done()
	r.requests.Add(1)
	client := harness.Client{URL: "http://" + p.Addr, HTTP: r.API.HTTP}
	res, err := client.Do(context.Background(), method, path, header, string(body))
	if err != nil {
		return 0, []byte(err.Error()), nil
	}
	return res.Status, []byte(res.Body), res.Header
}

// recordFailure counts a request with an unexpected response.
func (r *rotationFixture) recordFailure(what string, status int, response []byte) {
	r.failed.Add(1)
	r.failMu.Lock()
	defer r.failMu.Unlock()
	if len(r.failures) < 10 {
		r.failures = append(r.failures, fmt.Sprintf("%s: %d %.200s", what, status, response))
	}
}

// callAPI calls the API. It records a failure and returns false if the status is not 2xx or the
// body cannot be decoded.
func (r *rotationFixture) callAPI(key, method, path string, body, into any) (ok bool) {
	var raw []byte
	if body != nil {
		raw, _ = json.Marshal(body)
	}
	status, response, _ := r.request(
		method,
		path,
		http.Header{"Authorization": {"Bearer " + key}, "Content-Type": {"application/json"}},
		raw,
	)
	if status/100 != 2 || into != nil && json.Unmarshal(response, into) != nil {
		r.recordFailure(method+" "+path, status, response)
		return false
	}
	return true
}

// mustCall is like callAPI but ends the test on failure.
func (r *rotationFixture) mustCall(key, method, path string, body, into any) {
	r.T.Helper()
	if !r.callAPI(key, method, path, body, into) {
		r.T.Fatalf("%v\n%s", r.failures, r.Log.String())
	}
}

// createKey returns a new API key. Each key has its own rate limits.
func (r *rotationFixture) createKey() string {
	var created struct {
		Key string `json:"key"`
	}
	r.callAPI(
		harness.AdminKey,
		"POST",
		"/v1/keys",
		map[string]any{
			"name": "load",
			"scopes": []string{
				"customers:read",
				"customers:write",
				"identities:read",
				"identities:write",
				"claims:issue",
				"instances:read",
				"channels:read",
			},
		},
		&created,
	)
	return created.Key
}

// pendingClaim is a code that was issued and not redeemed yet.
type pendingClaim struct {
	personID           int64
	code, identityPath string
}

var nextPersonID atomic.Int64

// issueCode creates a customer with a Telegram identity and issues a claim code for it.
func (r *rotationFixture) issueCode(key string) (c pendingClaim, ok bool) {
	c.personID = 880000 + nextPersonID.Add(1)
	var customer, linked struct {
		ID string `json:"id"`
	}
	var issued struct {
		Code string `json:"code"`
	}
	ok = r.callAPI(key, "POST", "/v1/customers", map[string]any{"first_name": "Steve"}, &customer) &&
		r.callAPI(
			key,
			"POST",
			"/v1/customers/"+customer.ID+"/identities",
			map[string]any{"channel": "telegram", "external_id": fmt.Sprint(c.personID), "instance_id": r.InstanceID},
			&linked,
		) &&
		r.callAPI(key, "POST", "/v1/customers/"+customer.ID+"/identities/"+linked.ID+"/claim-code", nil, &issued)
	c.code, c.identityPath = issued.Code, "/v1/customers/"+customer.ID+"/identities/"+linked.ID
	return c, ok
}

// redeemCode sends a claim code and reports whether the identity is verified within 30 seconds.
func (r *rotationFixture) redeemCode(key string, c pendingClaim) bool {
	r.postWebhook(r.telegramRequest(c.personID, "/claim "+c.code))
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); <-ticker.C {
		var linked struct {
			Verified bool `json:"verified"`
		}
		if !r.callAPI(key, "GET", c.identityPath, nil, &linked) || linked.Verified {
			return linked.Verified
		}
	}
	r.recordFailure("redeem "+c.identityPath, 0, []byte("identity is not verified"))
	return false
}

// command returns a command that runs the program with these keys on the database at dsn.
func (r *rotationFixture) command(ctx context.Context, keys, dsn string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "hydragate", args...)
	cmd.Env = r.Command("hydragate", []string{"HYDRAGATE_MASTER_KEYS=" + keys, "HYDRAGATE_DATABASE_URL=" + dsn}).Env
	return cmd
}

// countEncryptedWith counts the values in all columns of all tables that are encrypted with the
// key id.
func (r *rotationFixture) countEncryptedWith(id string) (n int) {
	r.T.Helper()
	h := r.DB
	for _, column := range h.QueryTexts(`select format('%I.%I', table_name, column_name)
		from information_schema.columns where table_schema = 'public' and data_type = 'text'`) {
		table, name, _ := strings.Cut(column, ".")
		var count int
		h.Scan(`select count(*) from `+table+` where starts_with(`+name+`, $1)`, []any{"v1." + id + "."}, &count)
		n += count
	}
	return n
}
