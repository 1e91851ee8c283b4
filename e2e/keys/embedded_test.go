package keys

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hydragate/cmd/hydragate/app"
	"hydragate/e2e/harness"
	"hydragate/store/keyring"
)

// TestKeyRotation_Embedded checks that `masterkey rotate` replaces the generated master key of an
// embedded gateway while messages arrive, even if the command is killed several times. No webhook
// may fail, and a gateway that starts later must remove the keys that are no longer used.
func TestKeyRotation_Embedded(t *testing.T) {
	t.Parallel()
	h, first := harness.Start(t, harness.Options{Engine: harness.SQLite, Settings: func(s *app.Settings) {
		s.MasterKeys = "" // generated in the data directory
	}})
	file := app.KeyFile{Path: filepath.Join(h.Settings.DataDir, "master.key")}
	fileKeys := func() []string {
		text, err := file.Read()
		if err != nil {
			t.Error(err)
		}
		return strings.Split(text, ",")
	}
	requireRotated := func(want string) {
		t.Helper()
		out, err := h.Command("hydragate", nil, "masterkey", "rotate").CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("masterkey rotate = %v: %s; want %q", err, out, want)
		}
	}
	requireMessages := func() {
		t.Helper()
		load := h.NewLoad(1)
		load.StartSending(t.Context(), 1)
		load.Senders.Wait()
		h.RequireIdle(harness.EventTimeout)
		load.RequireComplete(len(load.Users), 0)
	}

	before := fileKeys()
	load := h.NewLoad(1)
	stop := load.SendInBackground(10 * time.Millisecond)
	for range harness.Scaled(2, 20) { // at a random moment
		cmd := h.Command("hydragate", nil, "masterkey", "rotate")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		h.Sleep(rand.N(2 * time.Second))
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	for range 2 {
		requireRotated("0 values encrypted with other keys")
	}
	after := fileKeys() // before the gateway finds a key that is no longer needed
	stop()
	h.RequireIdle(harness.EventTimeout)
	load.RequireComplete(len(load.Users), 0)
	info, err := os.Stat(file.Path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("Stat(master.key) = %v, %v; want mode 0600", info, err)
	}
	if len(before) != 1 || len(after) < 3 || after[len(after)-1] != before[0] {
		t.Errorf("%d keys in the file, previously %d; want at least 3, the original last", len(after), len(before))
	}
	second, _, _ := strings.Cut(after[1], ":")
	if left := h.EncryptedCount(second) + h.EncryptedCount("k1"); left != 0 {
		t.Errorf("values encrypted with old keys = %d, want 0", left)
	}
	first.Kill()
	// With no gateway running, the command removes the old keys itself.
	requireRotated("removed key k")
	if keys := fileKeys(); len(keys) != 1 {
		t.Errorf("%d keys in the file, want 1", len(keys))
	}
	p := h.Restart()
	requireMessages() // with only the new key
	p.Kill()
	// A gateway removes a leftover key when no pending write can still use it.
	if err := file.Prepend(keyring.GenerateKey("k9")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(file.Path, time.Now(), time.Now().Add(-2*app.MaxStoreDelay)); err != nil {
		t.Fatal(err)
	}
	h.Restart()
	harness.Eventually(t, "the gateway removes the old key", func() bool {
		keys := fileKeys()
		return len(keys) == 1 && strings.HasPrefix(keys[0], "k9:")
	})
	requireMessages() // after the gateway removed the old key
	h.RequireAccepted()
}
