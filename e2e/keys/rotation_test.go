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

// TestKeyRotation_UnderLoad changes the master key by the whole procedure, with two
// gateways restarted in turn, while every channel delivers, people claim, and the agent,
// the agent's own key and Telegram's secret rotate too. The rotation is killed again and
// again in its middle. No request fails, nothing is left on the old key, every code that
// was read out before is good, and everything is as it was when the old key is gone.
// With HYDRAGATE_TEST_LONG=1 it is killed at least twenty times.
func TestKeyRotation_UnderLoad(t *testing.T) {
	kills, rows, more := 2, 1000, int64(5)
	if harness.FullRun() {
		kills, rows, more = 24, 30000, 200
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
			t.Errorf("a code from before is not good %s", when)
		}
		held = held[1:]
	}

	r.restartAll(k1 + "," + k2)
	redeem("when all gateways have the new key behind it")
	r.restartAll(k2 + "," + k1)
	redeem("when all gateways have the new key first")
	before := r.countEncryptedWith("k1")
	if before < rows {
		t.Fatalf("%d values are sealed with the old key; the test has none to lose", before)
	}
	killed := 0
	for tries := 0; killed < kills; tries++ {
		if r.killRotation(k2 + "," + k1) {
			killed++
		} else if tries > 2*kills || r.countEncryptedWith("k1") == 0 {
			t.Fatalf("%d of %d kills met it in the middle; %d values are left", killed, kills, r.countEncryptedWith("k1"))
		}
	}
	inTheMiddle := r.countEncryptedWith("k1")
	if inTheMiddle == 0 {
		t.Error("nothing was left to do after the last kill")
	}
	// Two at once, then what they say.
	said := r.rotateConcurrently(k2 + "," + k1)
	if left := r.countEncryptedWith("k1"); left != 0 || !strings.Contains(said, "0 values encrypted with other keys") || !strings.Contains(said, "key k1 can be removed from HYDRAGATE_MASTER_KEYS after ") {
		t.Errorf("%d values are left on the old key; it says %s", left, said)
	}
	redeem("when everything is sealed anew")
	if out, err := r.command(t.Context(), k2+","+k1, r.DSN, "masterkey", "rotate", "--check").CombinedOutput(); err == nil || !strings.Contains(string(out), "1 claim codes and invites") {
		t.Errorf("with a code out that hangs on the old key: %v %s", err, out)
	}
	redeem("when the old key is to go")
	if out, err := r.command(t.Context(), k2+","+k1, r.DSN, "masterkey", "rotate", "--check").CombinedOutput(); err != nil {
		t.Errorf("when nothing hangs on the old key: %v %s", err, out)
	}
	r.restartAll(k2)
	l.waitClaims(t, more)
	l.finish()
	r.requireIdle(t)
	if n := r.failed.Load(); n != 0 {
		t.Errorf("%d of %d requests failed: %s", n, r.requests.Load(), strings.Join(r.failures, "\n"))
	}
	if r.App.Rejected != 0 || r.App.DoubleSigned == 0 {
		t.Errorf("the agent refused %d of %d events, %d were signed twice", r.App.Rejected, len(r.App.Events), r.App.DoubleSigned)
	}
	if strings.Contains(r.Log.String(), "is required but missing") {
		t.Error("a gateway met a value that it could not open")
	}
	t.Logf("%d requests, %d failed; %d claims; %d events believed, %d refused, %d signed twice; %d signing secrets, %d agent keys, %d secrets of Telegram rotated; %d values on the old key before, %d after %d kills, %d at the end",
		r.requests.Load(), r.failed.Load(), l.claims.Load(), len(r.App.Events), r.App.Rejected, r.App.DoubleSigned, l.secretRotations.Load(), l.keyRotations.Load(), l.telegramRotations.Load(), before, inTheMiddle, killed, r.countEncryptedWith("k1"))
}

// storeAnswers keeps so many answers of calls, sealed with a key, for a rotation to have enough
// to do that it can be killed in the middle.
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
	var all sync.WaitGroup
	for part := range 8 {
		all.Go(func() {
			for n := part; n < rows; n += 8 {
				k := gateway.IdempotencyKey{TenantID: harness.TestTenantID, Principal: "nobody", Key: fmt.Sprint(n), Fingerprint: "f"}
				_, _, err := s.ReserveIdempotencyKey(r.T.Context(), k)
				if err == nil {
					err = s.SaveResponse(r.T.Context(), k, gateway.StoredResponse{Fingerprint: "f", Status: 201, Body: []byte(`{}`)})
				}
				if err != nil {
					r.T.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

// killRotation begins a rotation, kills it once it has done something, and reports
// whether something was left then.
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
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	for late := time.Now().Add(30 * time.Second); time.Now().Before(late); <-look.C {
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

// rotateConcurrently runs the rotation to its end, twice at the same time, and gives what they
// said.
func (r *rotationFixture) rotateConcurrently(keys string) string {
	r.T.Helper()
	var said [2]string
	var both sync.WaitGroup
	for i := range said {
		both.Go(func() {
			out, err := r.command(r.T.Context(), keys, r.DSN, "masterkey", "rotate").CombinedOutput()
			if said[i] = string(out); err != nil {
				r.T.Errorf("masterkey rotate: %v %s", err, out)
			}
		})
	}
	both.Wait()
	return said[0] + said[1]
}

// requireIdle waits until everything that was taken is worked, handed on and answered, and
// finds nothing given up.
func (r *rotationFixture) requireIdle(t *testing.T) {
	t.Helper()
	h := r.DB
	var left int
	harness.Eventually(t, "everything is worked", func() bool {
		h.Scan(`select (select count(*) from messages where state = 'new') + (select count(*) from deliveries where status = 'pending') + (select count(*) from outbox where status in ('queued', 'sending'))`, nil, &left)
		return left == 0
	})
	var dead, messages int
	h.Scan(`select (select count(*) from messages where state = 'dead') + (select count(*) from deliveries where status = 'dead') + (select count(*) from outbox where status = 'failed' and code = 'unreadable')`, nil, &dead)
	h.Scan(`select count(*) from deliveries where event_type = 'message.received'`, nil, &messages)
	if dead > 0 || messages == 0 || len(r.App.Events) < messages {
		t.Errorf("%d were given up; the agent believed %d of %d events", dead, len(r.App.Events), messages)
	}
}

// A rotationLoad is what goes on meanwhile.
type rotationLoad struct {
	fixture *rotationFixture
	stop    context.CancelFunc
	wg      sync.WaitGroup

	claims, secretRotations, keyRotations, telegramRotations atomic.Int64
}

const loadInterval = 40 * time.Millisecond

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
			if issued++; issued%40 == 0 { // a member of staff issues sixty codes an hour
				key = r.createKey()
			}
			if c, ok := r.issueCode(key); ok && r.redeemCode(key, c) {
				l.claims.Add(1)
			}
		})
	}
	every(loadInterval, l.replayRequests(r.createKey()))
	every(loadInterval, func() {
		status, answer, _ := r.request("GET", "/external/users/search?email=nobody@example.com", http.Header{"Agent-Secret-Key": {r.agentKey.Load().(string)}}, nil)
		if status != http.StatusNotFound {
			r.recordFailure("a conversation user", status, answer)
		}
	})
	every(time.Second, func() { l.rotateSigning(ctx) })
	every(time.Second, func() { l.rotateAgentKey(ctx) })
	every(3*time.Second, func() { // slower than a gateway forgets which secret was good
		var seat struct {
			Status string `json:"status"`
		}
		if r.callAPI(harness.AdminKey, "POST", r.channelPath("telegram"), map[string]any{"bot_token": harness.TelegramToken}, &seat); seat.Status != "active" {
			r.recordFailure("setting up Telegram", 0, []byte(seat.Status))
		}
		l.telegramRotations.Add(1)
	})
	return l
}

// replayRequests makes calls, and repeats those made before: the answer must be the same
// whatever it was sealed with.
func (l *rotationLoad) replayRequests(key string) func() {
	type made struct{ id, body, answer string }
	var all []made
	n := 0
	post := func(id, body string) (int, string, http.Header) {
		status, answer, said := l.fixture.request("POST", "/v1/customers", http.Header{"Authorization": {"Bearer " + key}, "Content-Type": {"application/json"}, "Idempotency-Key": {id}}, []byte(body))
		return status, string(answer), said
	}
	return func() {
		n++
		if n%4 == 1 {
			m := made{id: fmt.Sprint("call ", n), body: fmt.Sprintf(`{"first_name":"Steve %d"}`, n)}
			status, answer, _ := post(m.id, m.body)
			if status != http.StatusCreated {
				l.fixture.recordFailure("a call", status, []byte(answer))
				return
			}
			m.answer = answer
			all = append(all, m)
			return
		}
		m := all[rand.N(len(all))]
		if status, answer, said := post(m.id, m.body); status != http.StatusCreated || answer != m.answer || said.Get("Idempotency-Replayed") != "true" {
			l.fixture.recordFailure("a repeated call", status, []byte(answer))
		}
	}
}

// minSwitchTime is how long the owner of a runtime takes to tell it its new secret, at the
// least: what was signed before is on its way no more.
const minSwitchTime = 2 * time.Second

func (l *rotationLoad) rotateSigning(ctx context.Context) {
	var made struct {
		WebhookSecret string    `json:"webhook_secret"`
		OldGoodUntil  time.Time `json:"old_good_until"`
	}
	if !l.fixture.callAPI(harness.AdminKey, "POST", "/v1/instances/"+l.fixture.InstanceID+"/webhook-secret/rotate", map[string]any{"overlap_seconds": 600}, &made) {
		return
	}
	select {
	case <-time.After(minSwitchTime):
	case <-ctx.Done():
	}
	l.fixture.App.Update(func() { l.fixture.App.Secret = made.WebhookSecret })
	l.secretRotations.Add(1)
}

func (l *rotationLoad) rotateAgentKey(ctx context.Context) {
	var made struct {
		AgentSecretKey string `json:"agent_secret_key"`
	}
	if !l.fixture.callAPI(harness.AdminKey, "POST", "/v1/instances/"+l.fixture.InstanceID+"/agent-secret-key/rotate", nil, &made) {
		return
	}
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
	}
	l.fixture.agentKey.Store(made.AgentSecretKey)
	l.keyRotations.Add(1)
}

// waitClaims waits until so many claims more went well.
func (l *rotationLoad) waitClaims(t *testing.T, claims int64) {
	t.Helper()
	from := l.claims.Load()
	harness.Eventually(t, "claims go on", func() bool { return l.claims.Load() >= from+claims || t.Failed() })
}

func (l *rotationLoad) finish() {
	l.stop()
	l.wg.Wait()
}
