//go:build unix

package harness

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
)

// startRedis starts a server that the test can empty.
func startRedis(t *testing.T) (address string, client *redis.Client) {
	t.Helper()
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatalf("redis-server not found: %v", err)
	}
	port := strconv.Itoa(freePort(t))
	cmd := exec.Command(
		bin,
		"--port",
		port,
		"--bind",
		"127.0.0.1",
		"--save",
		"",
		"--appendonly",
		"no",
		"--dir",
		t.TempDir(),
	)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	client = redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + port})
	t.Cleanup(func() { _ = client.Close() })
	Eventually(t, "Redis responds", func() bool { return client.Ping(t.Context()).Err() == nil })
	return "redis://127.0.0.1:" + port, client
}

// A redisSnapshot is the content of a Redis server, with the TTL of each key.
type redisSnapshot struct {
	keys, values []string
	ttls         []time.Duration
}

// snapshotScript returns the names, values and TTLs in milliseconds of all keys.
const snapshotScript = `
local all = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  table.insert(all, {key, redis.call('DUMP', key), redis.call('PTTL', key)})
end
return all
`

// snapshotRedis reads all keys, in one step.
func snapshotRedis(ctx context.Context, client *redis.Client) (c redisSnapshot, err error) {
	all, err := client.Eval(ctx, snapshotScript, nil).Slice()
	for _, entry := range all {
		e := entry.([]any)
		c.keys, c.values = append(c.keys, e[0].(string)), append(c.values, e[1].(string))
		milliseconds := max(1, e[2].(int64))
		c.ttls = append(c.ttls, time.Duration(milliseconds)*time.Millisecond)
	}
	return c, err
}

// restore replaces the content of a Redis server atomically, as a failover to a stale replica does.
func (c redisSnapshot) restore(ctx context.Context, client *redis.Client) error {
	_, err := client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.FlushDB(ctx)
		for i, k := range c.keys {
			p.Restore(ctx, k, c.ttls[i], c.values[i])
		}
		return nil
	})
	return err
}

// TestRedisURL returns the URL of the Redis server for tests. If it names no database, it is database
// 11.
func TestRedisURL(t *testing.T) string {
	t.Helper()
	u, err := url.Parse(os.Getenv("HYDRAGATE_TEST_REDIS"))
	if err != nil || u.Host == "" {
		t.Fatal("HYDRAGATE_TEST_REDIS is not set: run make test, or set it to the URL of a server")
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/11"
	}
	return u.String()
}

// PlantedCode is a code in the messages of users. Searches for claim codes must find it.
const PlantedCode = "KLMNPQ"

// DumpTestRedis returns all keys and values of the Redis server for tests. It stores PlantedCode while
// it runs.
func DumpTestRedis() ([]byte, error) {
	opts, err := redis.ParseURL(os.Getenv("HYDRAGATE_TEST_REDIS"))
	if err != nil {
		return nil, err
	}
	client, ctx := redis.NewClient(opts), context.Background()
	defer func() { _ = client.Close() }()
	key := "planted-" + uuid.NewString()
	if err := client.HSet(ctx, key, "m", PlantedCode).Err(); err != nil {
		return nil, err
	}
	defer client.Del(ctx, key)
	var all bytes.Buffer
	each := client.Scan(ctx, 0, "*", 1000).Iterator()
	for each.Next(ctx) {
		hash, _ := client.HGetAll(ctx, each.Val()).Result() // empty for other types
		text, _ := client.Get(ctx, each.Val()).Result()     // empty for other types
		fmt.Fprintln(&all, each.Val(), hash, text)
	}
	return all.Bytes(), each.Err()
}

// DumpRedis returns all keys and values of a Redis server.
func DumpRedis(t *testing.T, client redis.UniversalClient) string {
	t.Helper()
	ctx := context.Background()
	var b strings.Builder
	keys := client.Scan(ctx, 0, "*", 1000).Iterator()
	for keys.Next(ctx) {
		k := keys.Val()
		b.WriteString(k + "\n")
		switch client.Type(ctx, k).Val() {
		case "string":
			b.WriteString(client.Get(ctx, k).Val() + "\n")
		case "hash":
			for f, v := range client.HGetAll(ctx, k).Val() {
				b.WriteString(f + "\n" + v + "\n")
			}
		}
	}
	if err := keys.Err(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
