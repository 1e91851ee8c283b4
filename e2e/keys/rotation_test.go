package keys

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
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
	harness.ParallelUnlessFull(t)
	kills, rows, moreClaims := harness.Scaled(2, 24), harness.Scaled(1000, 30000), int64(harness.Scaled(5, 200))
	k1, k2 := keyring.GenerateKey("k1"), keyring.GenerateKey("k2")
	h, _ := harness.Start(t, harness.Options{MasterKeys: k1, Replicas: 2})
	h.App.Update(func() { h.App.Secret = h.WebhookSecret })
	storeResponses(h, rows)
	var codes []harness.IssuedCode
	for range 4 {
		c, err := h.IssueCode(t.Context(), h.API)
		if err != nil {
			t.Fatal(err)
		}
		codes = append(codes, c)
	}
	restartAll := func(keys string) {
		t.Helper()
		h.Settings.MasterKeys = keys
		h.RollingRestart()
	}
	redeem := func(when string) {
		t.Helper()
		if err := h.RedeemCode(t.Context(), h.API, codes[0]); err != nil {
			t.Errorf("a code issued before the rotation does not work %s: %v", when, err)
		}
		codes = codes[1:]
	}
	rotate := func(options ...string) (string, error) {
		out, err := h.Command("hydragate", nil, append([]string{"masterkey", "rotate"}, options...)...).CombinedOutput()
		return string(out), err
	}
	var claims atomic.Int64
	requests, messages, stopMessages := startTraffic(h, &claims)

	restartAll(k1 + "," + k2)
	redeem("after the new key was added")
	restartAll(k2 + "," + k1)
	redeem("after the new key was made the first")
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
	output := strings.Join(harness.Concurrently(2, func(int) string {
		out, err := rotate()
		if err != nil {
			t.Errorf("masterkey rotate: %v %s", err, out)
		}
		return out
	}), "\n")
	left := h.EncryptedCount("k1")
	if interrupted == 0 || left != 0 {
		t.Errorf("values encrypted with the old key = %d after the kills, %d at the end, want some and 0", interrupted, left)
	}
	for _, want := range []string{
		"0 values encrypted with other keys", "key k1 can be removed from HYDRAGATE_MASTER_KEYS after ",
	} {
		if !strings.Contains(output, want) {
			t.Errorf("output of masterkey rotate = %q, want %q in it", output, want)
		}
	}
	redeem("after the rotation")
	if out, err := rotate("--check"); err == nil || !strings.Contains(out, "1 claim codes and invites") {
		t.Errorf("rotate --check with a live code of the old key = %v: %s", err, out)
	}
	redeem("before the old key is removed")
	if out, err := rotate("--check"); err != nil {
		t.Errorf("rotate --check when the old key is unused = %v: %s", err, out)
	}
	restartAll(k2)

	moreClaims += claims.Load()
	harness.Eventually(t, "further claims succeed", func() bool { return claims.Load() >= moreClaims || t.Failed() })
	requests.Stop()
	stopMessages()
	h.RequireIdle(harness.EventTimeout)
	messages.RequireComplete(len(messages.Users), app.OutboxSize)
	h.RequireAccepted()
	h.RequireNothingGivenUp()
	if h.App.Rejected != 0 || h.App.DoubleSigned == 0 {
		t.Errorf("the application rejected %d of %d events and got %d with two signatures; want 0 rejected, some with two",
			h.App.Rejected, len(h.App.Events), h.App.DoubleSigned)
	}
	if strings.Contains(h.Log.String(), "is required but missing") {
		t.Error("a gateway could not decrypt a value")
	}
	t.Logf("%d claims; %d events, %d rejected, %d with two signatures; "+
		"%d values encrypted with the old key, %d after %d kills, %d after the rotation",
		claims.Load(), len(h.App.Events), h.App.Rejected, h.App.DoubleSigned, before, interrupted, killed, left)
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
	before := left()
	url := h.DelayedPostgresURL(50 * time.Millisecond) // makes the rotation slower than this test notices it
	cmd := h.Command("hydragate", []string{"HYDRAGATE_DATABASE_URL=" + url}, "masterkey", "rotate")
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

// startTraffic starts what happens while the keys rotate: messages on every channel, claims, which are
// counted, idempotent requests, requests of the agent API, and the rotation of other secrets.
func startTraffic(h *harness.Harness, claims *atomic.Int64) (
	requests *harness.Background, messages *harness.MessageLoad, stopMessages func(),
) {
	const interval = 40 * time.Millisecond
	messages, requests = h.NewLoad(1), harness.NewBackground(h.T)
	messages.Users = slices.DeleteFunc(messages.Users, func(u harness.SimulatedUser) bool {
		return strings.HasPrefix(u.Name, harness.PollingBot) // its instance has another signing secret
	})
	stopMessages = messages.SendInBackground(interval)
	for range 2 {
		var api *harness.Client
		issued := 0
		requests.Repeat(interval, func() (err error) {
			if issued++; issued%40 == 1 { // a key may issue sixty codes an hour
				if api, err = h.NewClient(requests.Ctx); err != nil {
					return err
				}
			}
			c, err := h.IssueCode(requests.Ctx, api)
			if err != nil {
				return err
			}
			claims.Add(1)
			return h.RedeemCode(requests.Ctx, api, c)
		})
	}
	requests.Repeat(interval, replayRequests(requests.Ctx, h))
	var agentKey atomic.Value
	agentKey.Store(h.AgentKey)
	requests.Repeat(interval, func() error {
		header := http.Header{"Agent-Secret-Key": {agentKey.Load().(string)}}
		res, err := h.API.Do(requests.Ctx, "GET", "/external/users/search?email=nobody@example.com", header, "")
		if err == nil && res.Status != http.StatusNotFound {
			err = fmt.Errorf("search users = %d %s, want 404", res.Status, res.Body)
		}
		return err
	})
	type response struct {
		WebhookSecret string `json:"webhook_secret"`
		AgentKey      string `json:"agent_secret_key"`
	}
	rotate := func(secret string, body any) (r response, err error) {
		path := "/v1/instances/" + h.InstanceID + "/" + secret + "/rotate"
		err = h.API.CallJSON(requests.Ctx, "POST", path, body, http.StatusCreated, &r)
		return r, err
	}
	requests.Repeat(time.Second, func() error {
		r, err := rotate("webhook-secret", map[string]int{"overlap_seconds": 600})
		if err != nil {
			return err
		}
		// Events that are created from now on are signed with both.
		var last, left int
		if err := h.QueryRowContext(requests.Ctx, `select coalesce(max(seq), 0) from deliveries`).Scan(&last); err != nil {
			return err
		}
		const older = `select count(*) from deliveries where status = 'pending' and seq <= $1`
		for left = 1; left > 0 && requests.Sleep(interval); {
			if err := h.QueryRowContext(requests.Ctx, older, last).Scan(&left); err != nil {
				return err
			}
		}
		if left == 0 {
			h.App.Update(func() { h.App.Secret = r.WebhookSecret })
		}
		return nil
	})
	requests.Repeat(time.Second, func() error {
		r, err := rotate("agent-secret-key", nil)
		if err == nil && requests.Sleep(time.Second) {
			agentKey.Store(r.AgentKey)
		}
		return err
	})
	requests.Repeat(3*time.Second, func() error { // longer than gateways cache the secret
		body := map[string]string{"bot_token": harness.TelegramToken}
		path := "/v1/instances/" + h.InstanceID + "/channels/telegram"
		var endpoint struct{ Status string }
		err := h.API.CallJSON(requests.Ctx, "POST", path, body, http.StatusOK, &endpoint)
		if err == nil && endpoint.Status != "active" {
			err = fmt.Errorf("status of Telegram = %q, want active", endpoint.Status)
		}
		return err
	})
	return requests, messages, stopMessages
}

// replayRequests returns a function that sends new idempotent requests and repeats earlier ones. The
// response must be the same, whichever key it is encrypted with.
func replayRequests(ctx context.Context, h *harness.Harness) func() error {
	responses := map[string]string{} // by idempotency key
	n := 0
	return func() error {
		n++
		key := fmt.Sprint("call ", rand.N(n/4+1))
		header := harness.BearerHeader(harness.AdminKey)
		header.Set("Idempotency-Key", key)
		res, err := h.API.Do(ctx, "POST", "/v1/customers", header, fmt.Sprintf(`{"first_name":%q}`, key))
		if err != nil {
			return err
		}
		stored, repeated := responses[key]
		responses[key] = res.Body
		replayed := res.Header.Get("Idempotency-Replayed") == "true"
		if res.Status != http.StatusCreated || replayed != repeated || repeated && res.Body != stored {
			return fmt.Errorf("request with key %q = %d %s, replayed: %t; want 201 %s",
				key, res.Status, res.Body, replayed, stored)
		}
		return nil
	}
}
