package keys

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hydragate/adapters/simulator"
	"hydragate/cmd/hydragate/app"
	"hydragate/e2e/harness"
	"hydragate/store/keyring"
)

// TestKeyRotation_Embedded checks that `masterkey rotate` replaces the generated master key of an
// embedded gateway while webhooks arrive, even if the command is killed several times. No webhook
// may fail, and a gateway that starts later must remove the keys that are no longer used.
func TestKeyRotation_Embedded(t *testing.T) {
	t.Parallel()
	kills := 2
	if harness.FullRun() {
		kills = 20
	}
	e := newEmbeddedGateway(t)
	before, first := e.fileKeys(), e.start(t)
	checkWebhook := func(gateway *harness.Process, when string) {
		t.Helper()
		if status := e.sendWebhook(gateway); status != http.StatusOK {
			t.Errorf("%s: webhook status = %d, want 200", when, status)
		}
	}
	checkWebhook(first, "before the rotation")
	ctx, stop := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	var webhooks atomic.Int64
	writing.Go(func() {
		for ctx.Err() == nil {
			checkWebhook(first, "during the rotation")
			webhooks.Add(1)
		}
	})
	for range kills { // at a random moment
		cmd := e.command("masterkey", "rotate")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Duration(rand.Int64N(int64(3 * time.Second))))
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	for range 2 {
		out, err := e.command("masterkey", "rotate").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "0 values encrypted with other keys") {
			t.Errorf("masterkey rotate = %v: %s", err, out)
		}
	}
	stop()
	writing.Wait()
	checkWebhook(first, "after the rotation")
	info, err := os.Stat(filepath.Join(e.dir, "master.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("Stat(master.key) = %v, %v; want mode 0600", info, err)
	}
	after := e.fileKeys()
	if len(before) != 1 || len(after) < 3 || after[len(after)-1] != before[0] {
		t.Errorf("%d keys in the file, previously %d; want at least 3, the original last", len(after), len(before))
	}
	if left := e.countEncryptedWith(t, keyID(after[1])) + e.countEncryptedWith(t, "k1"); left != 0 {
		t.Errorf("values encrypted with old keys = %d, want 0", left)
	}
	first.Kill()
	// With no gateway running, the command removes the old keys itself.
	out, err := e.command("masterkey", "rotate").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "removed key k1 from") || len(e.fileKeys()) != 1 {
		t.Errorf("masterkey rotate without a gateway = %v: %s; %d keys left, want 1", err, out, len(e.fileKeys()))
	}
	second := e.start(t)
	checkWebhook(second, "with only the new key")
	second.Kill()
	// A gateway removes a leftover key when no pending write can still use it.
	file := app.KeyFile{Path: filepath.Join(e.dir, "master.key")}
	if err := file.Prepend(keyring.GenerateKey("k9")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(file.Path, time.Now(), time.Now().Add(-2*app.MaxStoreDelay)); err != nil {
		t.Fatal(err)
	}
	third := e.start(t)
	harness.Eventually(t, "the gateway removes the old key", func() bool {
		return len(e.fileKeys()) == 1 && strings.HasPrefix(e.fileKeys()[0], "k9:")
	})
	checkWebhook(third, "after the gateway removed the old key")
	third.Kill()
	t.Logf("%d webhooks during the rotation", webhooks.Load())
}

// keyID returns the id of a key in the format of `masterkey new`.
func keyID(key string) string {
	id, _, _ := strings.Cut(key, ":")
	return id
}

// embeddedGateway is a gateway that stores everything in its data directory.
type embeddedGateway struct {
	dir        string
	providers  *simulator.Providers
	instanceID string
	log        harness.LockedBuffer
	messageIDs atomic.Int64
}

// newEmbeddedGateway creates the data directory and an instance with Telegram connected.
func newEmbeddedGateway(t *testing.T) *embeddedGateway {
	t.Helper()
	p, err := simulator.StartProviders(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	e := &embeddedGateway{dir: t.TempDir(), providers: p}
	gateway := e.start(t)
	defer gateway.Kill()
	var created struct {
		ID string `json:"id"`
	}
	status, response := e.callAPI(gateway, "/v1/instances", `{"name":"acme"}`)
	if status != http.StatusCreated || json.Unmarshal(response, &created) != nil {
		t.Fatalf("create instance = %d %s", status, response)
	}
	e.instanceID = created.ID
	path := "/v1/instances/" + e.instanceID + "/channels/telegram"
	body := fmt.Sprintf(`{"bot_token":%q}`, p.TelegramToken)
	if status, response := e.callAPI(gateway, path, body); status != http.StatusOK {
		t.Fatalf("connect Telegram = %d %s", status, response)
	}
	return e
}

// command returns a command that runs the program with args on the data directory.
func (e *embeddedGateway) command(args ...string) *exec.Cmd {
	cmd := exec.Command("hydragate", append(args, "--data-dir", e.dir)...)
	cmd.Env = append(
		os.Environ(),
		"HYDRAGATE_LISTEN=127.0.0.1:0",
		"HYDRAGATE_ADMIN_KEY="+harness.AdminKey,
		"HYDRAGATE_TELEGRAM_API_URL="+e.providers.Servers["Telegram"].URL,
	)
	return cmd
}

// start runs `hydragate serve` until it listens.
func (e *embeddedGateway) start(t *testing.T) *harness.Process {
	t.Helper()
	p, err := harness.StartProcess(t.Context(), e.command("serve"), &e.log)
	if err != nil {
		t.Fatalf("%v\n%s", err, e.log.String())
	}
	t.Cleanup(p.Kill)
	return p
}

// callAPI posts body to path with the admin key.
func (e *embeddedGateway) callAPI(p *harness.Process, path, body string) (status int, response []byte) {
	res := post(p, path, harness.BearerHeader(harness.AdminKey), body)
	return res.Status, []byte(res.Body)
}

// post sends one POST request. It returns the zero Response if there was no answer.
func post(p *harness.Process, path string, header http.Header, body string) harness.Response {
	res, _ := harness.NewClient("http://"+p.Addr, "", harness.EventTimeout).
		Do(context.Background(), http.MethodPost, path, header, body)
	return res
}

// sendWebhook posts a Telegram message to p and returns the status of the response.
func (e *embeddedGateway) sendWebhook(p *harness.Process) (status int) {
	_, secret := e.providers.Telegram.Webhook(simulator.DemoBot)
	n := e.messageIDs.Add(1)
	header := http.Header{"X-Telegram-Bot-Api-Secret-Token": {secret}}
	return post(p, "/hooks/telegram/"+e.instanceID, header, string(telegramUpdate(n, 770000+n%5, "hello"))).Status
}

// fileKeys returns the keys in the key file, in order.
func (e *embeddedGateway) fileKeys() []string {
	text, _ := app.KeyFile{Path: filepath.Join(e.dir, "master.key")}.Read()
	return strings.Split(text, ",")
}

// countEncryptedWith counts the values in all columns of all tables that are encrypted with the
// key id.
func (e *embeddedGateway) countEncryptedWith(t *testing.T, id string) (n int) {
	t.Helper()
	h := harness.OpenDatabase(t, filepath.Join(e.dir, "hydragate.db"))
	for _, column := range h.QueryTexts(`select m.name || '.' || p.name 
		from sqlite_master m join pragma_table_info(m.name) p on 1 where m.type = 'table'`) {
		table, name, _ := strings.Cut(column, ".")
		var count int
		h.Scan(`select count(*) from "`+table+`" where substr(cast("`+name+`" as text), 1, $1) = $2`,
			[]any{len(id) + 4, "v1." + id + "."}, &count)
		n += count
	}
	return n
}
