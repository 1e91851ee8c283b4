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

// startRedis starts a server that the test may empty.
func startRedis(t *testing.T) (address string, client *redis.Client) {
	t.Helper()
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatalf("no Redis of one's own to empty: %v", err)
	}
	port := strconv.Itoa(freePort(t))
	cmd := exec.Command(bin, "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", t.TempDir())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	client = redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + port})
	t.Cleanup(func() { _ = client.Close() })
	Eventually(t, "redis answers", func() bool { return client.Ping(t.Context()).Err() == nil })
	return "redis://127.0.0.1:" + port, client
}

// A redisSnapshot is what a Redis held at some moment, with the time each key had left.
type redisSnapshot struct {
	keys, values []string
	ttls         []time.Duration
}

func snapshotRedis(ctx context.Context, client *redis.Client) (c redisSnapshot, err error) {
	keys, err := client.Keys(ctx, "*").Result()
	if err != nil {
		return c, err
	}
	for _, k := range keys {
		v, err := client.Dump(ctx, k).Result()
		if err != nil {
			continue // it was dropped meanwhile
		}
		c.keys, c.values, c.ttls = append(c.keys, k), append(c.values, v), append(c.ttls, max(time.Millisecond, client.PTTL(ctx, k).Val()))
	}
	return c, nil
}

// TestRedisURL names the Redis to test on. Without a database in it, one is taken that
// nobody uses by chance.
func TestRedisURL(t *testing.T) string {
	t.Helper()
	u, err := url.Parse(os.Getenv("HYDRAGATE_TEST_REDIS"))
	if err != nil || u.Host == "" {
		t.Fatal("HYDRAGATE_TEST_REDIS must name a Redis server, such as redis://127.0.0.1:6379")
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/11"
	}
	return u.String()
}

// PlantedCode is a word like a code that Steve writes, so that the search for codes is
// known to find one.
const PlantedCode = "KLMNPQ"

// DumpTestRedis gives every key of the Redis of the tests with what it holds, and the planted
// word for as long as that takes.
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
		hash, _ := client.HGetAll(ctx, each.Val()).Result() // another kind of key has no fields
		text, _ := client.Get(ctx, each.Val()).Result()     // and this one no text
		fmt.Fprintln(&all, each.Val(), hash, text)
	}
	return all.Bytes(), each.Err()
}

// dumpRedis gives every key and value of a Redis.
func dumpRedis(t *testing.T, client redis.UniversalClient) string {
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
