package rediscode

import (
	"bytes"
	"context"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"hydragate/claim"
	"hydragate/claim/claimtest"
)

// TestStore_Server runs the suite on a Redis server.
func TestStore_Server(t *testing.T) {
	client := newStoreAt(t, serverURL(t)).Redis
	claimtest.Run(t, claimtest.Harness{
		WithKeys: withKeys(client),
		Dump:     dump(client),
		Advance: func(t *testing.T, d time.Duration) {
			for _, key := range scanKeys(t, client, "hg:*") {
				left := client.PTTL(t.Context(), key).Val() - d
				if err := client.PExpire(t.Context(), key, left).Err(); err != nil {
					t.Fatal(err)
				}
			}
		},
	})
}

// TestStore_Embedded runs the suite on the embedded Redis.
func TestStore_Embedded(t *testing.T) {
	server := miniredis.NewMiniRedis()
	t.Cleanup(server.Close)
	client := newMemoryClient(server)
	t.Cleanup(func() { _ = client.Close() })
	claimtest.Run(t, claimtest.Harness{
		WithKeys: withKeys(client),
		Dump:     dump(client),
		Advance:  func(_ *testing.T, d time.Duration) { server.FastForward(d) },
	})
}

func withKeys(client redis.UniversalClient) func(keys ...[]byte) claim.CodeStore {
	return func(keys ...[]byte) claim.CodeStore { return &Store{Redis: client, Keys: staticKeys(keys...)} }
}

// staticKeys returns a function that always returns keys.
func staticKeys(keys ...[]byte) func() [][]byte {
	return func() [][]byte { return keys }
}

// serverURL returns the URL of the Redis server for tests. If it does not name a database, an
// uncommon one is used.
func serverURL(t *testing.T) string {
	t.Helper()
	u, err := url.Parse(os.Getenv("HYDRAGATE_TEST_REDIS"))
	if err != nil || u.Host == "" {
		t.Fatal("HYDRAGATE_TEST_REDIS must name a Redis server, such as redis://127.0.0.1:6379")
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/13"
	}
	return u.String()
}

// newStoreAt returns a store with one key on the server at url.
func newStoreAt(t *testing.T, url string, hooks ...redis.Hook) *Store {
	t.Helper()
	client, err := NewClient(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	for _, h := range hooks {
		client.AddHook(h)
	}
	return &Store{Redis: client, Keys: staticKeys(bytes.Repeat([]byte{1}, 32))}
}

// dump returns a function that reads every key and value.
func dump(client redis.UniversalClient) func(*testing.T) []byte {
	return func(t *testing.T) []byte {
		t.Helper()
		var all bytes.Buffer
		for _, key := range scanKeys(t, client, "*") {
			all.WriteString(key + "\n")
			switch kind := client.Type(t.Context(), key).Val(); kind {
			case "string":
				all.WriteString(client.Get(t.Context(), key).Val() + "\n")
			case "hash":
				for field, value := range client.HGetAll(t.Context(), key).Val() {
					all.WriteString(field + "\n" + value + "\n")
				}
			case "none": // has just expired
			default:
				t.Fatalf("cannot read a %s", kind)
			}
		}
		return all.Bytes()
	}
}

func scanKeys(t *testing.T, client redis.UniversalClient, pattern string) []string {
	t.Helper()
	var keys []string
	found := client.Scan(t.Context(), 0, pattern, 1000).Iterator()
	for found.Next(t.Context()) {
		keys = append(keys, found.Val())
	}
	if err := found.Err(); err != nil {
		t.Fatal(err)
	}
	return keys
}

// TestStore_KeyLayout checks names, fields and TTLs of the keys, which rolling updates depend on.
func TestStore_KeyLayout(t *testing.T) {
	server := miniredis.NewMiniRedis()
	t.Cleanup(server.Close)
	client := newMemoryClient(server)
	t.Cleanup(func() { _ = client.Close() })
	p := &Store{Redis: client, Keys: staticKeys(bytes.Repeat([]byte{1}, 32))}
	s := claim.Target{
		TenantID:   "t",
		InstanceID: "i",
		Channel:    "telegram",
		ExternalID: "12345",
		IdentityID: "0195a0b4",
		Gen:        3,
	}
	if err := p.Put(t.Context(), s, "WDJBMJ"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Check(t.Context(), s, "i", "BBCCDD", "m1"); err != nil {
		t.Fatal(err)
	}
	const codeKeyName = "hg:{instance/i}:claim:0195a0b4"
	const indexKeyName = "hg:{instance/i}:code:Gp-PZEmuDGE5RYBuIcQnDA"
	fields, err := client.HGetAll(context.Background(), codeKeyName).Result()
	if err != nil || len(fields) != 5 || fields["x"] != indexKeyName || fields["g"] != "3" || fields["f"] != "1" ||
		fields["s"] != "\nm1\n" ||
		len(fields["m"]) != 32 {
		t.Errorf("fields = %q, %v", fields, err)
	}
	for _, key := range server.Keys() {
		if key != codeKeyName && key != indexKeyName {
			t.Errorf("unexpected key %s", key)
		}
		if ttl := server.TTL(key); ttl != 1020*time.Second {
			t.Errorf("TTL of %s = %v, want 1020s", key, ttl)
		}
	}
	if got, _ := server.Get(indexKeyName); got != "0195a0b4:3:telegram" {
		t.Errorf("index entry = %q", got)
	}
}
