package app

import (
	"context"
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

// TestKeyFile_KeepsKeyOfSpooledRecords begins beside a spool that an earlier process left
// and nobody adopted yet: the key that sealed it stays until it is stored.
func TestKeyFile_KeepsKeyOfSpooledRecords(t *testing.T) {
	s := &Settings{DataDir: t.TempDir(), Listen: "127.0.0.1:0"}
	log := slog.New(slog.DiscardHandler)
	ring, err := s.KeyRing()
	if err != nil {
		t.Fatal(err)
	}
	left, err := s.openSpool(log)
	if err != nil {
		t.Fatal(err)
	}
	if err := left.Append(t.Context(), []byte(ring.Seal([]byte("hello"), "spool/v1"))); err != nil {
		t.Fatal(err)
	}
	left.Close()
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
	kept, err := s.openSpool(log)
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	tend := func() (keys int) {
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		file.maintain(ctx, db, kept, log)
		ring, err := s.KeyRing()
		if err != nil {
			t.Fatal(err)
		}
		return len(ring.IDs())
	}
	if n := tend(); n != 2 {
		t.Fatalf("%d keys are left of 2", n)
	}
	if _, err := kept.TakeOver(); err != nil {
		t.Fatal(err)
	}
	rs, err := kept.Next(1)
	if err != nil || len(rs) != 1 {
		t.Fatal(rs, err)
	}
	if err := kept.Ack(rs); err != nil {
		t.Fatal(err)
	}
	if n := tend(); n != 1 {
		t.Errorf("%d keys are left when nothing is", n)
	}
}

// TestGateway_MissingMasterKeys starts on a database that keys sealed by turns: with
// some of the keys it starts and says what is missing, with none of them it does not.
func TestGateway_MissingMasterKeys(t *testing.T) {
	s := &Settings{DataDir: t.TempDir(), Listen: "127.0.0.1:0"}
	red, blue, green := keyring.GenerateKey("red"), keyring.GenerateKey("blue"), keyring.GenerateKey("green")
	for _, tt := range []struct {
		keys        []string
		makes       int // instances, once it has begun
		warns, ends string
	}{
		{keys: []string{red}, makes: 2},
		{keys: []string{red}},
		{keys: []string{blue}, ends: `HYDRAGATE_MASTER_KEYS cannot decrypt this database: add the missing keys: "red" for 2 instances.webhook_secret`},
		{keys: []string{red, blue}},
		{keys: []string{blue, red}, makes: 1},
		{keys: []string{red}, warns: `setting=HYDRAGATE_MASTER_KEYS missing="\"blue\" for 1 instances.webhook_secret"`},
		{keys: []string{blue, green}, warns: `setting=HYDRAGATE_MASTER_KEYS missing="\"red\" for 2 instances.webhook_secret"`},
		{keys: []string{green}, ends: `add the missing keys: "blue" for 1 instances.webhook_secret; "red" for 2 instances.webhook_secret`},
		{ends: `HYDRAGATE_MASTER_KEYS (not set, so ` + s.KeyFile().Path + ` applies) cannot decrypt`},
	} {
		s.MasterKeys = strings.Join(tt.keys, ",")
		var said strings.Builder
		p, err := New(t.Context(), s, "http://127.0.0.1:0", slog.New(slog.NewTextHandler(&said, nil)))
		if err != nil {
			t.Fatal(err)
		}
		_, err = p.prepare(t.Context(), s)
		if got := fmt.Sprint(err); (err != nil) != (tt.ends != "") || err != nil && (!strings.Contains(got, tt.ends) || strings.Contains(got, "\n")) {
			t.Errorf("with %d keys: %s; want %q", len(tt.keys), got, tt.ends)
		}
		if got := said.String(); strings.Contains(got, "level=WARN") != (tt.warns != "") || !strings.Contains(got, tt.warns) {
			t.Errorf("with %d keys it said %q; want %q", len(tt.keys), got, tt.warns)
		}
		for range tt.makes {
			if _, err := p.Store.CreateInstance(t.Context(), gateway.Instance{TenantID: identity.DefaultTenant, Name: "bot"}, gateway.InstanceSecrets{AgentSecretKey: identity.NewToken("ask_")}, identity.System); err != nil {
				t.Fatal(err)
			}
		}
		p.Close()
	}
}
