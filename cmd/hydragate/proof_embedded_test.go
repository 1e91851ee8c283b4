//go:build unix

package main

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

	"hydragate/store"
)

// TestEmbeddedKeysRotate changes the keys of a gateway that keeps its own, with one
// command each time and while people write, and kills that command. Nothing fails, and a
// gateway that starts later takes out the keys that nothing needs.
func TestEmbeddedKeysRotate(t *testing.T) {
	t.Parallel()
	kills := 2
	if long() {
		kills = 20
	}
	e := newEmbedded(t)
	before, first := e.keys(), e.start(t)
	say := func() {
		t.Helper()
		if status := e.hook(first); status != http.StatusOK {
			t.Errorf("a hook is answered %d", status)
		}
	}
	say()
	ctx, stop := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	var hooks atomic.Int64
	writing.Go(func() {
		for ctx.Err() == nil {
			if status := e.hook(first); status != http.StatusOK {
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
		if err != nil || !strings.Contains(string(out), "0 values are left on other keys") {
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
	after := e.keys()
	if len(before) != 1 || len(after) < 3 || after[len(after)-1] != before[0] {
		t.Errorf("keys were %v and are %v; want the old ones behind", before, after)
	}
	if left := e.sealedWith(t, keyIDOf(after[1])) + e.sealedWith(t, "k1"); left != 0 {
		t.Errorf("%d values are left on old keys", left)
	}
	first.kill()
	// Nobody runs: the command takes the old keys out itself.
	if out, err := e.command("masterkey", "rotate").CombinedOutput(); err != nil || !strings.Contains(string(out), "k1 is out of") || len(e.keys()) != 1 {
		t.Errorf("stopped: %v %s, keys %d", err, out, len(e.keys()))
	}
	second := e.start(t)
	if status := e.hook(second); status != http.StatusOK {
		t.Errorf("with the new key alone a hook is answered %d", status)
	}
	second.kill()
	// One that was left behind goes by itself, once nothing can be on its way with it.
	file := keyFile{filepath.Join(e.dir, "master.key")}
	if err := file.add(store.NewMasterKey("k9")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(file.path, time.Now(), time.Now().Add(-2*sealing)); err != nil {
		t.Fatal(err)
	}
	third := e.start(t)
	eventually(t, "the gateway ends the rotation", func() bool { return len(e.keys()) == 1 && strings.HasPrefix(e.keys()[0], "k9:") })
	if status := e.hook(third); status != http.StatusOK {
		t.Errorf("after that a hook is answered %d", status)
	}
	third.kill()
	t.Logf("%d hooks while keys rotated", hooks.Load())
}

// keyIDOf is the id of a key as masterkey new prints it.
func keyIDOf(key string) string {
	id, _, _ := strings.Cut(key, ":")
	return id
}

// An embedded is a gateway with everything in its data folder.
type embedded struct {
	dir      string
	p        *pretence
	instance string
	log      safeBuffer
	lines    atomic.Int64
}

// newEmbedded makes the folder, with Telegram set up.
func newEmbedded(t *testing.T) *embedded {
	t.Helper()
	p, err := pretend(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	e := &embedded{dir: t.TempDir(), p: p}
	m := e.start(t)
	defer m.kill()
	var made struct {
		ID string `json:"id"`
	}
	if status, answer := e.call(m, "/v1/instances", `{"name":"acme"}`); status != http.StatusCreated || json.Unmarshal(answer, &made) != nil {
		t.Fatalf("%d %s", status, answer)
	}
	e.instance = made.ID
	if status, answer := e.call(m, "/v1/instances/"+e.instance+"/channels/telegram", fmt.Sprintf(`{"bot_token":%q}`, p.telegramToken)); status != http.StatusOK {
		t.Fatalf("%d %s", status, answer)
	}
	return e
}

func (e *embedded) command(args ...string) *exec.Cmd {
	cmd := exec.Command("hydragate", append(args, "--data-dir", e.dir)...)
	cmd.Env = append(os.Environ(), "HYDRAGATE_LISTEN=127.0.0.1:0", "HYDRAGATE_ADMIN_KEY="+rotationKey, "HYDRAGATE_TELEGRAM_API_URL="+e.p.servers["Telegram"].url)
	return cmd
}

func (e *embedded) start(t *testing.T) *replica {
	t.Helper()
	p, err := listening(e.command("serve"), &e.log)
	if err != nil {
		t.Fatalf("%v\n%s", err, e.log.String())
	}
	t.Cleanup(p.kill)
	return p
}

func (e *embedded) call(p *replica, path, body string) (status int, answer []byte) {
	return post(p.url+path, http.Header{"Authorization": {"Bearer " + rotationKey}, "Content-Type": {"application/json"}}, []byte(body))
}

// hook delivers what somebody said on Telegram.
func (e *embedded) hook(p *replica) (status int) {
	_, secret := e.p.telegram.Webhook(demoBot)
	n := e.lines.Add(1)
	status, _ = post(p.url+"/hooks/telegram/"+e.instance, http.Header{"X-Telegram-Bot-Api-Secret-Token": {secret}}, telegramUpdate(n, 770000+n%5, "hello"))
	return status
}

// keys are those of the file, the first first.
func (e *embedded) keys() []string {
	text, _ := keyFile{filepath.Join(e.dir, "master.key")}.read()
	return strings.Split(text, ",")
}

// sealedWith counts the values that a key sealed, in every column of every table.
func (e *embedded) sealedWith(t *testing.T, id string) (n int) {
	t.Helper()
	h := &proofHouse{t: t, sql: openDatabase(t, filepath.Join(e.dir, "hydragate.db"))}
	for _, column := range h.texts(`select m.name || '.' || p.name from sqlite_master m join pragma_table_info(m.name) p on 1 where m.type = 'table'`) {
		table, name, _ := strings.Cut(column, ".")
		var some int
		h.scan(`select count(*) from "`+table+`" where substr(cast("`+name+`" as text), 1, $1) = $2`, []any{len(id) + 4, "v1." + id + "."}, &some)
		n += some
	}
	return n
}
