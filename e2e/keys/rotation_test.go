package keys

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hydragate/e2e/harness"
	"hydragate/gateway"
	"hydragate/store"
	"hydragate/store/keyring"
)

// TestKeyRotation_UnderLoad checks that the documented procedure for changing the master key, with
// a rolling restart of two gateways, does not fail a request. During the rotation every channel
// delivers webhooks, customers redeem codes, and the signing secret, the agent key and the secret
// of Telegram rotate too. The rotation command is killed several times. No value may remain
// encrypted with the old key, and every code issued before must work.
//
// With HYDRAGATE_TEST_LONG=1 the command is killed at least twenty times.
func TestKeyRotation_UnderLoad(t *testing.T) {
	kills, rows, moreClaims := 2, 1000, int64(5)
	if harness.FullRun() {
		kills, rows, moreClaims = 24, 30000, 200
	}
	k1, k2 := keyring.GenerateKey("k1"), keyring.GenerateKey("k2")
	r := newRotationFixture(t, k1, 2)
	r.storeAnswers(k1, rows)
	key := r.createKey()
	var held []pendingClaim
	for range 4 {
		c, ok := r.issueCode(key)
		if !ok {
			t.Fatal(r.failures)
		}
		held = append(held, c)
	}
	l := r.startLoad(t)
	redeem := func(when string) {
		t.Helper()
		if c := held[0]; !r.redeemCode(key, c) {
			t.Errorf("a code issued before the rotation does not work %s", when)
		}
		held = held[1:]
	}

	r.restartAll(k1 + "," + k2)
	redeem("after the new key was added")
	r.restartAll(k2 + "," + k1)
	redeem("after the new key was made the first")
	before := r.countEncryptedWith("k1")
	if before < rows {
		t.Fatalf("values encrypted with the old key = %d, want at least %d", before, rows)
	}
	killed := 0
	for tries := 0; killed < kills; tries++ {
		if r.killRotation(k2 + "," + k1) {
			killed++
		} else if tries > 2*kills || r.countEncryptedWith("k1") == 0 {
			t.Fatalf("%d of %d kills interrupted the rotation; %d values are left",
				killed, kills, r.countEncryptedWith("k1"))
		}
	}
	interrupted := r.countEncryptedWith("k1")
	if interrupted == 0 {
		t.Error("values left after the last kill = 0: the rotation was not interrupted")
	}
	output := r.rotateConcurrently(k2 + "," + k1)
	if left := r.countEncryptedWith("k1"); left != 0 {
		t.Errorf("values encrypted with the old key = %d, want 0", left)
	}
	for _, want := range []string{
		"0 values encrypted with other keys", "key k1 can be removed from HYDRAGATE_MASTER_KEYS after ",
	} {
		if !strings.Contains(output, want) {
			t.Errorf("output of masterkey rotate = %q, want %q in it", output, want)
		}
	}
	redeem("after the rotation")
	check := func() (string, error) {
		out, err := r.command(t.Context(), k2+","+k1, r.DSN, "masterkey", "rotate", "--check").CombinedOutput()
		return string(out), err
	}
	if out, err := check(); err == nil || !strings.Contains(out, "1 claim codes and invites") {
		t.Errorf("rotate --check with a live code of the old key = %v: %s", err, out)
	}
	redeem("before the old key is removed")
	if out, err := check(); err != nil {
		t.Errorf("rotate --check when the old key is unused = %v: %s", err, out)
	}
	r.restartAll(k2)
	l.waitClaims(t, moreClaims)
	l.finish()
	r.requireIdle(t)
	if n := r.failed.Load(); n != 0 {
		t.Errorf("%d of %d requests failed: %s", n, r.requests.Load(), strings.Join(r.failures, "\n"))
	}
	if r.App.Rejected != 0 || r.App.DoubleSigned == 0 {
		t.Errorf(
			"the application rejected %d of %d events and got %d with two signatures; want 0 rejected, some with two",
			r.App.Rejected,
			len(r.App.Events),
			r.App.DoubleSigned,
		)
	}
	if strings.Contains(r.Log.String(), "is required but missing") {
		t.Error("a gateway could not decrypt a value")
	}
	t.Logf("%d requests, %d failed, %d claims; %d events, %d rejected, %d with two signatures",
		r.requests.Load(), r.failed.Load(), l.claims.Load(), len(r.App.Events), r.App.Rejected, r.App.DoubleSigned)
	t.Logf("rotated %d signing secrets, %d agent keys, %d secrets of Telegram",
		l.secretRotations.Load(), l.keyRotations.Load(), l.telegramRotations.Load())
	t.Logf("%d values encrypted with the old key, %d after %d kills, %d after the rotation",
		before, interrupted, killed, r.countEncryptedWith("k1"))
}

// storeAnswers stores responses of idempotent requests, encrypted with master, so that a rotation
// takes long enough to be killed halfway.
func (r *rotationFixture) storeAnswers(master string, rows int) {
	r.T.Helper()
	keys, err := keyring.Parse(master)
	if err != nil {
		r.T.Fatal(err)
	}
	s, err := store.Open(r.T.Context(), r.DSN, keys)
	if err != nil {
		r.T.Fatal(err)
	}
	defer s.Close()
	var writers sync.WaitGroup
	for part := range 8 {
		writers.Go(func() {
			for n := part; n < rows; n += 8 {
				k := gateway.IdempotencyKey{
					TenantID:    harness.TestTenantID,
					Principal:   "test",
					Key:         fmt.Sprint(n),
					Fingerprint: "f",
				}
				_, _, err := s.ReserveIdempotencyKey(r.T.Context(), k)
				if err == nil {
					err = s.SaveResponse(
						r.T.Context(),
						k,
						gateway.StoredResponse{Fingerprint: "f", Status: 201, Body: []byte(`{}`)},
					)
				}
				if err != nil {
					r.T.Error(err)
					return
				}
			}
		})
	}
	writers.Wait()
}

// killRotation starts a rotation and kills it after it has re-encrypted a value. It reports
// whether the rotation was incomplete.
func (r *rotationFixture) killRotation(keys string) bool {
	r.T.Helper()
	left := func() (rows int) {
		r.DB.Scan(`select count(*) from idempotency_keys where starts_with(answer, 'v1.k1.')`, nil, &rows)
		return rows
	}
	before := left()
	u, err := url.Parse(r.DSN)
	if err != nil {
		r.T.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		r.T.Fatal(err)
	}
	u.Host = fmt.Sprintf("127.0.0.1:%d", harness.StartDelayProxy(r.T, port, harness.NetworkDelay))
	cmd := r.command(r.T.Context(), keys, u.String(), "masterkey", "rotate")
	if err := cmd.Start(); err != nil {
		r.T.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); <-ticker.C {
		if left() < before {
			break
		}
		select {
		case <-ended:
			return false
		default:
		}
	}
	<-time.After(rand.N(10 * time.Millisecond))
	_ = cmd.Process.Kill()
	<-ended
	after := left()
	return after > 0 && after < before
}

// rotateConcurrently runs two rotations concurrently and returns their output.
func (r *rotationFixture) rotateConcurrently(keys string) string {
	r.T.Helper()
	var outputs [2]string
	var both sync.WaitGroup
	for i := range outputs {
		both.Go(func() {
			out, err := r.command(r.T.Context(), keys, r.DSN, "masterkey", "rotate").CombinedOutput()
			if outputs[i] = string(out); err != nil {
				r.T.Errorf("masterkey rotate: %v %s", err, out)
			}
		})
	}
	both.Wait()
	return outputs[0] + outputs[1]
}

// requireIdle waits until all messages are processed, delivered and answered, and fails the test
// if a message, delivery or reply was given up.
func (r *rotationFixture) requireIdle(t *testing.T) {
	t.Helper()
	h := r.DB
	var left int
	harness.Eventually(t, "nothing is pending", func() bool {
		h.Scan(
			`select (select count(*) from messages where state = 'new')
			+ (select count(*) from deliveries where status = 'pending')
			+ (select count(*) from outbox where status in ('queued', 'sending'))`,
			nil,
			&left,
		)
		return left == 0
	})
	var dead, messages int
	h.Scan(
		`select (select count(*) from messages where state = 'dead')
			+ (select count(*) from deliveries where status = 'dead')
			+ (select count(*) from outbox where status = 'failed' and code = 'unreadable')`,
		nil,
		&dead,
	)
	h.Scan(`select count(*) from deliveries where event_type = 'message.received'`, nil, &messages)
	if dead > 0 || messages == 0 || len(r.App.Events) < messages {
		t.Errorf("%d given up; the application accepted %d events of %d messages", dead, len(r.App.Events), messages)
	}
}

// rotationLoad is the traffic during a rotation.
type rotationLoad struct {
	fixture *rotationFixture
	stop    context.CancelFunc
	wg      sync.WaitGroup

	claims, secretRotations, keyRotations, telegramRotations atomic.Int64
}

// loadInterval is the time between two requests of one kind.
const loadInterval = 40 * time.Millisecond

// startLoad starts the traffic. It ends with finish.
func (r *rotationFixture) startLoad(t *testing.T) *rotationLoad {
	ctx, stop := context.WithCancel(t.Context())
	l := &rotationLoad{fixture: r, stop: stop}
	t.Cleanup(stop)
	every := func(d time.Duration, do func()) {
		l.wg.Go(func() {
			pace := time.NewTicker(d)
			defer pace.Stop()
			for {
				select {
				case <-pace.C:
					do()
				case <-ctx.Done():
					return
				}
			}
		})
	}
	every(loadInterval, func() { r.postWebhook(r.telegramRequest(770000+rand.Int64N(20), "hello")) })
	every(loadInterval, func() { r.postWebhook(r.smsRequest(r.twilioToken, "hello")) })
	every(loadInterval, func() { r.postWebhook(r.slackRequest(r.slackSecret, "hello")) })
	for range 2 {
		key, issued := r.createKey(), 0
		every(loadInterval, func() {
			if issued++; issued%40 == 0 { // a key may issue sixty codes an hour
				key = r.createKey()
			}
			if c, ok := r.issueCode(key); ok && r.redeemCode(key, c) {
				l.claims.Add(1)
			}
		})
	}
	every(loadInterval, l.replayRequests(r.createKey()))
	every(loadInterval, func() {
		status, response, _ := r.request(
			"GET",
			"/external/users/search?email=nobody@example.com",
			http.Header{"Agent-Secret-Key": {r.agentKey.Load().(string)}},
			nil,
		)
		if status != http.StatusNotFound {
			r.recordFailure("search users", status, response)
		}
	})
	every(time.Second, func() { l.rotateSigning(ctx) })
	every(time.Second, func() { l.rotateAgentKey(ctx) })
	every(3*time.Second, func() { // longer than a gateway caches the secret
		var endpoint struct {
			Status string `json:"status"`
		}
		body := map[string]any{"bot_token": harness.TelegramToken}
		r.callAPI(harness.AdminKey, "POST", r.channelPath("telegram"), body, &endpoint)
		if endpoint.Status != "active" {
			r.recordFailure("connect Telegram", 0, []byte(endpoint.Status))
		}
		l.telegramRotations.Add(1)
	})
	return l
}

// replayRequests returns a function that sends new idempotent requests and repeats earlier ones.
// The response must be the same, whichever key it is encrypted with.
func (l *rotationLoad) replayRequests(key string) func() {
	type request struct{ id, body, response string }
	var sent []request
	n := 0
	post := func(id, body string) (int, string, http.Header) {
		status, response, header := l.fixture.request(
			"POST",
			"/v1/customers",
			http.Header{
				"Authorization":   {"Bearer " + key},
				"Content-Type":    {"application/json"},
				"Idempotency-Key": {id},
			},
			[]byte(body),
		)
		return status, string(response), header
	}
	return func() {
		n++
		if n%4 == 1 {
			m := request{id: fmt.Sprint("call ", n), body: fmt.Sprintf(`{"first_name":"Steve %d"}`, n)}
			status, response, _ := post(m.id, m.body)
			if status != http.StatusCreated {
				l.fixture.recordFailure("create customer", status, []byte(response))
				return
			}
			m.response = response
			sent = append(sent, m)
			return
		}
		m := sent[rand.N(len(sent))]
		status, response, header := post(m.id, m.body)
		if status != http.StatusCreated || response != m.response || header.Get("Idempotency-Replayed") != "true" {
			l.fixture.recordFailure("repeat create customer", status, []byte(response))
		}
	}
}

// minSwitchTime is the minimum time before the application switches to a new signing secret, so
// that no event signed only with the old one is in flight.
const minSwitchTime = 2 * time.Second

// rotateSigning rotates the signing secret and then switches the application to the new one.
func (l *rotationLoad) rotateSigning(ctx context.Context) {
	var rotated struct {
		WebhookSecret string    `json:"webhook_secret"`
		OldGoodUntil  time.Time `json:"old_good_until"`
	}
	if !l.fixture.callAPI(
		harness.AdminKey,
		"POST",
		"/v1/instances/"+l.fixture.InstanceID+"/webhook-secret/rotate",
		map[string]any{"overlap_seconds": 600},
		&rotated,
	) {
		return
	}
	select {
	case <-time.After(minSwitchTime):
	case <-ctx.Done():
		return // the gateway still signs with the previous secret too
	}
	l.fixture.App.Update(func() { l.fixture.App.Secret = rotated.WebhookSecret })
	l.secretRotations.Add(1)
}

// rotateAgentKey rotates the key of the agent API.
func (l *rotationLoad) rotateAgentKey(ctx context.Context) {
	var rotated struct {
		AgentSecretKey string `json:"agent_secret_key"`
	}
	if !l.fixture.callAPI(harness.AdminKey,
		"POST", "/v1/instances/"+l.fixture.InstanceID+"/agent-secret-key/rotate", nil, &rotated) {
		return
	}
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
	}
	l.fixture.agentKey.Store(rotated.AgentSecretKey)
	l.keyRotations.Add(1)
}

// waitClaims waits until the given number of further claims succeeded.
func (l *rotationLoad) waitClaims(t *testing.T, claims int64) {
	t.Helper()
	from := l.claims.Load()
	harness.Eventually(t, "further claims succeed", func() bool { return l.claims.Load() >= from+claims || t.Failed() })
}

// finish stops the traffic and waits for the last requests.
func (l *rotationLoad) finish() {
	l.stop()
	l.wg.Wait()
}
