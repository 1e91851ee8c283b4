package keys

import (
	"net/http"
	"strings"
	"testing"

	"hydragate/adapters/simulator"
	"hydragate/e2e/harness"
	"hydragate/store/keyring"
)

// TestKeyRotation_MissingKey checks that everything that needs a missing master key fails, that
// the error names the key, and that it works again once the key is back. It is also the control of
// the rotation tests: it shows that requests fail without a key.
func TestKeyRotation_MissingKey(t *testing.T) {
	harness.RequireFullRun(t)
	t.Parallel()
	k1, k2 := keyring.GenerateKey("k1"), keyring.GenerateKey("k2")
	h, _ := harness.Start(t, harness.Options{MasterKeys: k1, Replicas: 1})
	c, err := h.IssueCode(t.Context(), h.API)
	if err != nil {
		t.Fatal(err)
	}
	_, telegramSecret := h.Telegram.Webhook(harness.TelegramBot)
	h.StopOldestReplica()
	requireCommandFails := func(want, keys string, args ...string) {
		t.Helper()
		out, err := h.Command("hydragate", []string{"HYDRAGATE_MASTER_KEYS=" + keys}, args...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("hydragate %v = %v: %s; want an error with %q", args, err, out, want)
		}
	}
	restart := func(keys string) {
		t.Helper()
		h.Settings.MasterKeys = keys
		h.RollingRestart()
	}
	requireCommandFails(`HYDRAGATE_MASTER_KEYS cannot decrypt this database: add the missing keys: "k1" for`,
		k2, "serve")
	h.Settings.MasterKeys = k2 + "," + k1
	h.AddReplica()
	body := map[string]string{"name": "encrypted with the other key"}
	h.MustCall("POST", "/v1/instances", body, http.StatusCreated, nil)
	restart(k2)
	for kind, secret := range map[string]string{
		"telegram": telegramSecret, "sms": harness.TwilioToken, "slack/events": harness.SlackSecret,
	} {
		if status := postWebhook(h, kind, secret); status != http.StatusServiceUnavailable {
			t.Errorf("%s webhook without the key: status %d, want 503", kind, status)
		}
	}
	if log := h.Log.String(); !strings.Contains(log, `master key \"k1\" is required`) ||
		!strings.Contains(log, "HYDRAGATE_MASTER_KEYS") ||
		strings.Contains(log, strings.SplitN(k1, ":", 2)[1]) {
		t.Errorf("the log must name the missing key id and must not contain the key:\n%s", log)
	}
	requireCommandFails(`key "k1" is missing`, k2, "masterkey", "rotate")
	requireCommandFails(`✗ master keys: key "k1" is missing for`, k2, "doctor")
	requireCommandFails(`HYDRAGATE_MASTER_KEYS key "k1" differs from the key "k1" of this database`,
		keyring.GenerateKey("k1"), "serve")

	// A gateway with both keys accepts a claim and stops. A gateway without the old key leaves it queued.
	restart(k2 + "," + k1)
	h.Exec(`update lanes set lease_until = now() + interval '1 hour'`) // so that no gateway processes the message yet
	update := h.Telegram.SendText(harness.TelegramBot, simulator.TelegramUser{ID: c.User}, "/claim "+c.Code)
	harness.Eventually(t, "the claim is accepted", func() bool { return h.Telegram.Delivered(update) })
	h.Exec(`update lanes set lease_until = now() + interval '1 hour', holder = 'other' where kind = 'inbox'`)
	h.StopOldestReplica()
	h.Exec(`update identities set claim_key = 'k1' where claim_gen > 0`)
	h.Settings.MasterKeys = k2
	h.AddReplica()
	h.Exec(`update lanes set lease_until = now(), due_at = now() where kind = 'inbox'`)
	harness.Eventually(t, "processing fails without the key", func() bool {
		return strings.Contains(h.Log.String(), `"process message failed"`)
	})
	var state string
	var attempts int
	h.Scan(`select state, attempts from messages where sealed is not null or text like '/claim%'`,
		nil, &state, &attempts)
	if state != "new" || attempts != 0 {
		t.Errorf("message state = %q after %d attempts, want new after 0", state, attempts)
	}
	restart(k2 + "," + k1)
	h.Exec(`update lanes set due_at = now() where kind = 'inbox'`)
	harness.Eventually(t, "the code is redeemed once the key is back", func() bool {
		return h.QueryInt(`select count(*) from identities where verified_at is not null`) == 1
	})
}
