package keys

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hydragate/cmd/hydragate/app"
	"hydragate/e2e/harness"
	"hydragate/gateway"
	"hydragate/store/keyring"
)

// TestKeyRotation_UnderLoad checks that the documented procedure for changing the master key, with
// a rolling restart of two gateways, does not fail a request. During the rotation every channel
// delivers messages, customers redeem codes, and the signing secret, the agent key and the secret
// of Telegram rotate too. The rotation command is killed several times. No value may remain
// encrypted with the old key, and every code issued before must work.
//
// With HYDRAGATE_TEST_LONG=1 the command is killed at least twenty times.
func TestKeyRotation_UnderLoad(t *testing.T) {
	kills, rows, moreClaims := harness.Scaled(2, 24), harness.Scaled(1000, 30000), int64(harness.Scaled(5, 200))
	k1, k2 := keyring.GenerateKey("k1"), keyring.GenerateKey("k2")
	h, _ := harness.Start(t, harness.Options{MasterKeys: k1, Replicas: 2})
	h.App.Update(func() { h.App.Secret = h.WebhookSecret })
	storeResponses(h, rows)
	restartAll := func(keys string) {
		h.Settings.MasterKeys = keys
		h.RollingRestart()
	}
	redeem := func(when string, c harness.IssuedCode) {
		t.Helper()
		if err := h.RedeemCode(t.Context(), h.API, c); err != nil {
			t.Errorf("a code issued before the rotation does not work %s: %v", when, err)
		}
	}
	codes := make([]harness.IssuedCode, 4)
	for i := range codes {
		var err error
		if codes[i], err = h.IssueCode(t.Context(), h.API); err != nil {
			t.Fatal(err)
		}
	}
	l := startTraffic(h)

	restartAll(k1 + "," + k2)
	redeem("after the new key was added", codes[0])
	restartAll(k2 + "," + k1)
	redeem("after the new key was made the first", codes[1])
	before := h.EncryptedCount("k1")
	if before < rows {
		t.Fatalf("values encrypted with the old key = %d, want at least %d", before, rows)
	}
	killed := 0
	for tries := 0; killed < kills; tries++ {
		if killRotation(h) {
			killed++
		} else if tries > 2*kills || h.EncryptedCount("k1") == 0 {
			t.Fatalf("%d of %d kills interrupted the rotation; %d values are left", killed, kills, h.EncryptedCount("k1"))
		}
	}
	interrupted := h.EncryptedCount("k1")
	if interrupted == 0 {
		t.Error("values left after the last kill = 0: the rotation was not interrupted")
	}
	output := strings.Join(harness.Concurrently(2, func(int) string {
		out, err := h.Command("hydragate", nil, "masterkey", "rotate").CombinedOutput()
		if err != nil {
			t.Errorf("masterkey rotate: %v %s", err, out)
		}
		return string(out)
	}), "\n")
	if left := h.EncryptedCount("k1"); left != 0 {
		t.Errorf("values encrypted with the old key = %d, want 0", left)
	}
	for _, want := range []string{
		"0 values encrypted with other keys", "key k1 can be removed from HYDRAGATE_MASTER_KEYS after ",
	} {
		if !strings.Contains(output, want) {
			t.Errorf("output of masterkey rotate = %q, want %q in it", output, want)
		}
	}
	redeem("after the rotation", codes[2])
	out, err := h.Command("hydragate", nil, "masterkey", "rotate", "--check").CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("1 claim codes and invites")) {
		t.Errorf("rotate --check with a live code of the old key = %v: %s", err, out)
	}
	redeem("before the old key is removed", codes[3])
	if out, err := h.Command("hydragate", nil, "masterkey", "rotate", "--check").CombinedOutput(); err != nil {
		t.Errorf("rotate --check when the old key is unused = %v: %s", err, out)
	}
	restartAll(k2)
	l.finish(moreClaims)
	t.Logf("%d values encrypted with the old key, %d after %d kills, %d after the rotation",
		before, interrupted, killed, h.EncryptedCount("k1"))
}

// storeResponses stores responses of idempotent requests, so that a rotation takes long enough to be
// killed halfway.
func storeResponses(h *harness.Harness, rows int) {
	h.T.Helper()
	s := h.OpenStore()
	response := gateway.StoredResponse{Fingerprint: "f", Status: 201, Body: []byte(`{}`)}
	for _, err := range harness.Concurrently(8, func(part int) (err error) {
		for n := part; n < rows && err == nil; n += 8 {
			k := gateway.IdempotencyKey{
				TenantID: harness.TestTenantID, Principal: "test", Key: fmt.Sprint(n), Fingerprint: "f",
			}
			if _, _, err = s.ReserveIdempotencyKey(h.T.Context(), k); err == nil {
				err = s.SaveResponse(h.T.Context(), k, response)
			}
		}
		return err
	}) {
		if err != nil {
			h.T.Fatal(err)
		}
	}
}

// killRotation starts a rotation, through a slow connection, and kills it after it has re-encrypted a
// value. It reports whether the rotation was incomplete.
func killRotation(h *harness.Harness) bool {
	h.T.Helper()
	left := func() int {
		return h.QueryInt(`select count(*) from idempotency_keys where starts_with(answer, 'v1.k1.')`)
	}
	u, err := url.Parse(h.DSN)
	if err != nil {
		h.T.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		h.T.Fatal(err)
	}
	u.Host = fmt.Sprintf("127.0.0.1:%d", harness.StartDelayProxy(h.T, port, harness.NetworkDelay))
	before := left()
	cmd := h.Command("hydragate", []string{"HYDRAGATE_DATABASE_URL=" + u.String()}, "masterkey", "rotate")
	if err := cmd.Start(); err != nil {
		h.T.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	harness.Eventually(h.T, "a value is re-encrypted", func() bool {
		select {
		case <-ended:
			return true
		default:
			return left() < before
		}
	})
	_ = cmd.Process.Kill()
	<-ended
	after := left()
	return after > 0 && after < before
}

// A traffic is what happens while the keys rotate.
type traffic struct {
	*harness.Harness
	messages     *harness.MessageLoad
	stopMessages func()
	ctx          context.Context // ends the requests
	stop         func()
	requests     sync.WaitGroup
	agentKey     atomic.Value // the key of the agent API that the application uses

	claims, replays, secretRotations, keyRotations, telegramRotations atomic.Int64
}

// startTraffic starts the traffic. It ends with finish.
func startTraffic(h *harness.Harness) *traffic {
	const interval = 40 * time.Millisecond
	l := &traffic{Harness: h, messages: h.NewLoad(1)}
	l.agentKey.Store(h.AgentKey)
	l.ctx, l.stop = context.WithCancel(h.T.Context())
	l.messages.Users = slices.DeleteFunc(l.messages.Users, func(u harness.SimulatedUser) bool {
		return strings.HasPrefix(u.Name, harness.PollingBot) // its instance has another signing secret
	})
	l.stopMessages = l.messages.SendInBackground(interval)
	l.repeat(interval, l.claim())
	l.repeat(interval, l.claim())
	l.repeat(interval, l.replay())
	l.repeat(interval, func() error { // the agent API
		header := http.Header{"Agent-Secret-Key": {l.agentKey.Load().(string)}}
		res, err := h.API.Do(l.ctx, "GET", "/external/users/search?email=nobody@example.com", header, "")
		if err == nil && res.Status != http.StatusNotFound {
			err = fmt.Errorf("search users = %d %s, want 404", res.Status, res.Body)
		}
		return err
	})
	instance := "/v1/instances/" + h.InstanceID
	l.repeat(time.Second, func() error { // the signing secret
		var rotated struct {
			WebhookSecret string `json:"webhook_secret"`
		}
		body := map[string]int{"overlap_seconds": 600}
		err := h.API.CallJSON(l.ctx, "POST", instance+"/webhook-secret/rotate", body, http.StatusCreated, &rotated)
		if err == nil && l.sleep(4*time.Second) { // no event that is signed with the old one alone is in flight
			h.App.Update(func() { h.App.Secret = rotated.WebhookSecret })
			l.secretRotations.Add(1)
		}
		return err
	})
	l.repeat(time.Second, func() error { // the agent key
		var rotated struct {
			AgentSecretKey string `json:"agent_secret_key"`
		}
		err := h.API.CallJSON(l.ctx, "POST", instance+"/agent-secret-key/rotate", nil, http.StatusCreated, &rotated)
		if err == nil && l.sleep(time.Second) {
			l.agentKey.Store(rotated.AgentSecretKey)
			l.keyRotations.Add(1)
		}
		return err
	})
	l.repeat(3*time.Second, func() error { // the secret of Telegram; gateways cache it for a shorter time
		var endpoint struct{ Status string }
		body := map[string]string{"bot_token": harness.TelegramToken}
		err := h.API.CallJSON(l.ctx, "POST", instance+"/channels/telegram", body, http.StatusOK, &endpoint)
		if err == nil && endpoint.Status != "active" {
			err = fmt.Errorf("status of Telegram = %q, want active", endpoint.Status)
		}
		l.telegramRotations.Add(1)
		return err
	})
	return l
}

// sleep reports whether the traffic continues after d.
func (l *traffic) sleep(d time.Duration) bool {
	harness.EveryInterval(d)(l.ctx, 0)
	return l.ctx.Err() == nil
}

// repeat calls do in each interval. An error fails the test and ends it.
func (l *traffic) repeat(interval time.Duration, do func() error) {
	l.requests.Go(func() {
		for l.sleep(interval) {
			if err := do(); err != nil && l.ctx.Err() == nil {
				l.T.Error(err)
				return
			}
		}
	})
}

// claim returns a function that issues and redeems a code.
func (l *traffic) claim() func() error {
	var api *harness.Client
	issued := 0
	return func() (err error) {
		if issued++; issued%40 == 1 { // a key may issue sixty codes an hour
			if api, err = l.NewClient(l.ctx); err != nil {
				return err
			}
		}
		c, err := l.IssueCode(l.ctx, api)
		if err == nil {
			err = l.RedeemCode(l.ctx, api, c)
		}
		if err == nil {
			l.claims.Add(1)
		}
		return err
	}
}

// replay returns a function that sends new idempotent requests and repeats earlier ones. The response
// must be the same, whichever key it is encrypted with.
func (l *traffic) replay() func() error {
	type request struct{ key, response string }
	var sent []request
	n := 0
	return func() error {
		n++
		r := request{key: fmt.Sprint("call ", n)}
		if n%4 != 1 {
			r = sent[rand.N(len(sent))]
		}
		header := harness.BearerHeader(harness.AdminKey)
		header.Set("Idempotency-Key", r.key)
		res, err := l.API.Do(l.ctx, "POST", "/v1/customers", header, fmt.Sprintf(`{"first_name":%q}`, r.key))
		if err != nil {
			return err
		}
		replayed := res.Header.Get("Idempotency-Replayed") == "true"
		if res.Status != http.StatusCreated || replayed != (r.response != "") || replayed && res.Body != r.response {
			return fmt.Errorf("request with key %q = %d %s, replayed: %t; want 201 %s",
				r.key, res.Status, res.Body, replayed, r.response)
		}
		if r.response = res.Body; !replayed {
			sent = append(sent, r)
		}
		l.replays.Add(1)
		return nil
	}
}

// finish ends the traffic after a number of further claims, and checks that nothing was lost.
func (l *traffic) finish(claims int64) {
	l.T.Helper()
	claims += l.claims.Load()
	harness.Eventually(l.T, "further claims succeed", func() bool { return l.claims.Load() >= claims || l.T.Failed() })
	l.stop()
	l.requests.Wait()
	l.stopMessages()
	if !l.WaitIdle(harness.EventTimeout) {
		l.T.Errorf("not idle\n%s", l.LogTail())
	}
	l.messages.RequireComplete(len(l.messages.Users), app.OutboxSize)
	if failed := l.Webhooks.Failed(); len(failed) > 0 {
		l.T.Errorf("%d of %d webhooks failed, such as %+v", len(failed), len(l.Webhooks.Results), failed[0])
	}
	if dead := l.QueryInt(`select (select count(*) from messages where state = 'dead')
		+ (select count(*) from deliveries where status = 'dead')
		+ (select count(*) from outbox where status = 'failed' and code = 'unreadable')`); dead > 0 {
		l.T.Errorf("messages, deliveries and replies given up = %d, want 0", dead)
	}
	if l.App.Rejected != 0 || l.App.DoubleSigned == 0 {
		l.T.Errorf("the application rejected %d of %d events and got %d with two signatures; want 0 rejected, some with two",
			l.App.Rejected, len(l.App.Events), l.App.DoubleSigned)
	}
	if strings.Contains(l.Log.String(), "is required but missing") {
		l.T.Error("a gateway could not decrypt a value")
	}
	l.T.Logf("%d claims, %d idempotent requests; %d events, %d rejected, %d with two signatures",
		l.claims.Load(), l.replays.Load(), len(l.App.Events), l.App.Rejected, l.App.DoubleSigned)
	l.T.Logf("rotated %d signing secrets, %d agent keys, %d secrets of Telegram",
		l.secretRotations.Load(), l.keyRotations.Load(), l.telegramRotations.Load())
}
