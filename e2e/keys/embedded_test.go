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

// TestKeyRotation_Embedded changes the keys of a gateway that keeps its own, with one
// command each time and while people write, and kills that command. Nothing fails, and a
// gateway that starts later takes out the keys that nothing needs.
func TestKeyRotation_Embedded(t *testing.T) {
	t.Parallel()
	kills := 2
	if harness.FullRun() {
		kills = 20
	}
	e := newEmbeddedGateway(t)
	before, first := e.fileKeys(), e.start(t)
	say := func() {
		t.Helper()
		if status := e.sendWebhook(first); status != http.StatusOK {
			t.Errorf("a hook is answered %d", status)
		}
	}
	say()
	ctx, stop := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	var hooks atomic.Int64
	writing.Go(func() {
		for ctx.Err() == nil {
			if status := e.sendWebhook(first); status != http.StatusOK {
				t.Errorf("a hook is answered %d while keys rotate", status)
			}
			hooks.Add(1)
		}
	})
	for range kills { // wherever it is
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
			t.Errorf("%v %s", err, out)
		}
	}
	stop()
	writing.Wait()
	say()
	info, err := os.Stat(filepath.Join(e.dir, "master.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key file is %v, %v", info.Mode(), err)
	}
	after := e.fileKeys()
	if len(before) != 1 || len(after) < 3 || after[len(after)-1] != before[0] {
		t.Errorf("keys were %v and are %v; want the old ones behind", before, after)
	}
	if left := e.countEncryptedWith(t, keyID(after[1])) + e.countEncryptedWith(t, "k1"); left != 0 {
		t.Errorf("%d values are left on old keys", left)
	}
	first.Kill()
	// Nobody runs: the command takes the old keys out itself.
	if out, err := e.command("masterkey", "rotate").CombinedOutput(); err != nil || !strings.Contains(string(out), "removed key k1 from") || len(e.fileKeys()) != 1 {
		t.Errorf("stopped: %v %s, keys %d", err, out, len(e.fileKeys()))
	}
	second := e.start(t)
	if status := e.sendWebhook(second); status != http.StatusOK {
		t.Errorf("with the new key alone a hook is answered %d", status)
	}
	second.Kill()
	// One that was left behind goes by itself, once nothing can be on its way with it.
	file := app.KeyFile{Path: filepath.Join(e.dir, "master.key")}
	if err := file.Prepend(keyring.GenerateKey("k9")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(file.Path, time.Now(), time.Now().Add(-2*app.MaxStoreDelay)); err != nil {
		t.Fatal(err)
	}
	third := e.start(t)
	harness.Eventually(t, "the gateway ends the rotation", func() bool { return len(e.fileKeys()) == 1 && strings.HasPrefix(e.fileKeys()[0], "k9:") })
	if status := e.sendWebhook(third); status != http.StatusOK {
		t.Errorf("after that a hook is answered %d", status)
	}
	third.Kill()
	t.Logf("%d hooks while keys rotated", hooks.Load())
}

// keyID is the id of a key as masterkey new prints it.
func keyID(key string) string {
	id, _, _ := strings.Cut(key, ":")
	return id
}

// An embeddedGateway is a gateway with everything in its data folder.
type embeddedGateway struct {
	dir        string
	providers  *simulator.Providers
	instanceID string
	log        harness.LockedBuffer
	messageIDs atomic.Int64
}

// newEmbeddedGateway makes the folder, with Telegram set up.
func newEmbeddedGateway(t *testing.T) *embeddedGateway {
	t.Helper()
	p, err := simulator.StartProviders(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	e := &embeddedGateway{dir: t.TempDir(), providers: p}
	m := e.start(t)
	defer m.Kill()
	var made struct {
		ID string `json:"id"`
	}
	if status, answer := e.callAPI(m, "/v1/instances", `{"name":"acme"}`); status != http.StatusCreated || json.Unmarshal(answer, &made) != nil {
		t.Fatalf("%d %s", status, answer)
	}
	e.instanceID = made.ID
	if status, answer := e.callAPI(m, "/v1/instances/"+e.instanceID+"/channels/telegram", fmt.Sprintf(`{"bot_token":%q}`, p.TelegramToken)); status != http.StatusOK {
		t.Fatalf("%d %s", status, answer)
	}
	return e
}

func (e *embeddedGateway) command(args ...string) *exec.Cmd {
	cmd := exec.Command("hydragate", append(args, "--data-dir", e.dir)...)
	cmd.Env = append(os.Environ(), "HYDRAGATE_LISTEN=127.0.0.1:0", "HYDRAGATE_ADMIN_KEY="+harness.AdminKey, "HYDRAGATE_TELEGRAM_API_URL="+e.providers.Servers["Telegram"].URL)
	return cmd
}

func (e *embeddedGateway) start(t *testing.T) *harness.Process {
	t.Helper()
	p, err := harness.StartProcess(t.Context(), e.command("serve"), &e.log)
	if err != nil {
		t.Fatalf("%v\n%s", err, e.log.String())
	}
	t.Cleanup(p.Kill)
	return p
}

func (e *embeddedGateway) callAPI(p *harness.Process, path, body string) (status int, answer []byte) {
	res := post(p, path, harness.BearerHeader(harness.AdminKey), body)
	return res.Status, []byte(res.Body)
}

// post posts once. It returns the zero Response if there is none.
func post(p *harness.Process, path string, header http.Header, body string) harness.Response {
	res, _ := harness.NewClient("http://"+p.Addr, "", harness.EventTimeout).Do(context.Background(), http.MethodPost, path, header, body)
	return res
}

// sendWebhook delivers what somebody said on Telegram.
func (e *embeddedGateway) sendWebhook(p *harness.Process) (status int) {
	_, secret := e.providers.Telegram.Webhook(simulator.DemoBot)
	n := e.messageIDs.Add(1)
	header := http.Header{"X-Telegram-Bot-Api-Secret-Token": {secret}}
	return post(p, "/hooks/telegram/"+e.instanceID, header, string(telegramUpdate(n, 770000+n%5, "hello"))).Status
}

// fileKeys are those of the file, the first first.
func (e *embeddedGateway) fileKeys() []string {
	text, _ := app.KeyFile{Path: filepath.Join(e.dir, "master.key")}.Read()
	return strings.Split(text, ",")
}

// countEncryptedWith counts the values that a key sealed, in every column of every table.
func (e *embeddedGateway) countEncryptedWith(t *testing.T, id string) (n int) {
	t.Helper()
	h := harness.OpenDatabase(t, filepath.Join(e.dir, "hydragate.db"))
	for _, column := range h.QueryTexts(`select m.name || '.' || p.name from sqlite_master m join pragma_table_info(m.name) p on 1 where m.type = 'table'`) {
		table, name, _ := strings.Cut(column, ".")
		var some int
		h.Scan(`select count(*) from "`+table+`" where substr(cast("`+name+`" as text), 1, $1) = $2`, []any{len(id) + 4, "v1." + id + "."}, &some)
		n += some
	}
	return n
}
