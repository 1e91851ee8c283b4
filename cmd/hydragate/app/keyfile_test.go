package app

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store"
	"hydragate/store/keyring"
)

// TestKeyFile_KeepsKeyOfSpooledRecords rotates the keys while an earlier process has left a message
// in the spool. The key that encrypted it must stay in the file until the message is stored.
func TestKeyFile_KeepsKeyOfSpooledRecords(t *testing.T) {
	s := &Settings{DataDir: t.TempDir(), Listen: "127.0.0.1:0"}
	log := slog.New(slog.DiscardHandler)
	ring, err := s.KeyRing()
	if err != nil {
		t.Fatal(err)
	}
	earlier, err := s.openSpool(log)
	if err != nil {
		t.Fatal(err)
	}
	if err := earlier.Append(t.Context(), []byte(ring.Seal([]byte("hello"), "spool/v1"))); err != nil {
		t.Fatal(err)
	}
	earlier.Close()
	file := s.KeyFile()
	if err := file.Prepend(keyring.GenerateKey("k2")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(file.Path, time.Now(), time.Now().Add(-2*MaxStoreDelay)); err != nil {
		t.Fatal(err)
	}
	if ring, err = s.KeyRing(); err != nil { // with both keys
		t.Fatal(err)
	}
	dsn, err := s.DSN()
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), dsn, ring)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	sp, err := s.openSpool(log)
	if err != nil {
		t.Fatal(err)
	}
	defer sp.Close()
	keysAfterMaintain := func() int {
		file.maintainOnce(t.Context(), db, sp, log)
		ring, err := s.KeyRing()
		if err != nil {
			t.Fatal(err)
		}
		return len(ring.IDs())
	}
	if n := keysAfterMaintain(); n != 2 {
		t.Fatalf("%d keys while the spool has a message, want 2", n)
	}
	if _, err := sp.TakeOver(); err != nil {
		t.Fatal(err)
	}
	records, err := sp.Next(1)
	if err != nil || len(records) != 1 {
		t.Fatalf("Next(1) = %d records, %v, want 1", len(records), err)
	}
	if err := sp.Ack(records); err != nil {
		t.Fatal(err)
	}
	if n := keysAfterMaintain(); n != 1 {
		t.Errorf("%d keys after the spool is empty, want 1", n)
	}
}

// TestGateway_MissingMasterKeys starts a gateway on a database whose values are encrypted with several
// keys. With some of them it starts and logs those that are missing; with none of them it fails.
func TestGateway_MissingMasterKeys(t *testing.T) {
	s := &Settings{DataDir: t.TempDir(), Listen: "127.0.0.1:0"}
	red, blue, green := keyring.GenerateKey("red"), keyring.GenerateKey("blue"), keyring.GenerateKey("green")
	for _, tt := range []struct {
		keys      []string
		instances int // to create after the start
		wantWarn  string
		wantErr   string
	}{
		{keys: []string{red}, instances: 2},
		{keys: []string{red}},
		{
			keys:    []string{blue},
			wantErr: `HYDRAGATE_MASTER_KEYS cannot decrypt this database: add the missing keys: "red" for 2 instances.`,
		},
		{keys: []string{red, blue}},
		{keys: []string{blue, red}, instances: 1},
		{keys: []string{red}, wantWarn: `setting=HYDRAGATE_MASTER_KEYS missing="\"blue\" for 1 instances.webhook_secret"`},
		{
			keys:     []string{blue, green},
			wantWarn: `setting=HYDRAGATE_MASTER_KEYS missing="\"red\" for 2 instances.webhook_secret"`,
		},
		{
			keys:    []string{green},
			wantErr: `add the missing keys: "blue" for 1 instances.webhook_secret; "red" for 2 instances.webhook_secret`,
		},
		{wantErr: `HYDRAGATE_MASTER_KEYS (not set, so ` + s.KeyFile().Path + ` applies) cannot decrypt`},
	} {
		s.MasterKeys = strings.Join(tt.keys, ",")
		var logs strings.Builder
		p, err := New(t.Context(), s, "http://127.0.0.1:0", slog.New(slog.NewTextHandler(&logs, nil)))
		if err != nil {
			t.Fatal(err)
		}
		_, err = p.prepare(t.Context(), s)
		got := fmt.Sprint(err)
		if (err != nil) != (tt.wantErr != "") || err != nil && !strings.Contains(got, tt.wantErr) ||
			strings.Contains(got, "\n") {
			t.Errorf("prepare with %d keys = %s, want %q", len(tt.keys), got, tt.wantErr)
		}
		got = logs.String()
		if strings.Contains(got, "level=WARN") != (tt.wantWarn != "") || !strings.Contains(got, tt.wantWarn) {
			t.Errorf("log with %d keys = %q, want a warning %q", len(tt.keys), got, tt.wantWarn)
		}
		for range tt.instances {
			i := gateway.Instance{TenantID: identity.DefaultTenant, Name: "bot"}
			secrets := gateway.InstanceSecrets{AgentSecretKey: identity.NewToken("ask_")}
			if _, err := p.Store.CreateInstance(t.Context(), i, secrets, identity.System); err != nil {
				t.Fatal(err)
			}
		}
		p.Close()
	}
}
