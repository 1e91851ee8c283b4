package api

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"hydragate/claim"
	"hydragate/claim/rediscode"
	"hydragate/cmd/hydragate/app"
	"hydragate/e2e/harness"
	"hydragate/identity"
)

// TestEraseCustomer_RemovesCodesFromRedis erases a customer with a live code in a running gateway: the
// proof is gone from Redis, and nothing there tells who they were. What is left is a
// hint that names a random id, under a keyed hash of the code, and expires.
func TestEraseCustomer_RemovesCodesFromRedis(t *testing.T) {
	server := os.Getenv("HYDRAGATE_TEST_REDIS")
	if server == "" {
		t.Fatal("HYDRAGATE_TEST_REDIS names no server: run make test, or set it to a redis:// URL")
	}
	store, err := rediscode.NewClient(server)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	call := startEraseGateway(t, server)

	const number = "+61400777666"
	customer := call("POST", "/v1/customers", `{"email":"erased@example.com"}`, 201)["id"].(string)
	linked := call("POST", "/v1/customers/"+customer+"/identities", `{"channel":"sms","external_id":"`+number+`"}`, 201)["id"].(string)
	call("POST", "/v1/customers/"+customer+"/identities/"+linked+"/claim-code", "", 201)
	const proof, hint = "hg:{c:", "hg:cx:"
	if held := strings.Join(redisKeysContaining(t, store, linked), " "); !strings.Contains(held, proof) || !strings.Contains(held, hint) {
		t.Fatalf("of a live code Redis holds %q; want a proof and a hint", held)
	}
	call("DELETE", "/v1/customers/"+customer+"?erase=true", "", 204)
	if left := redisKeysContaining(t, store, customer, number, "erased@example.com"); len(left) > 0 {
		t.Errorf("left in Redis: %v", left)
	}
	for _, key := range redisKeysContaining(t, store, linked) {
		if life := store.PTTL(t.Context(), key).Val(); !strings.HasPrefix(key, hint) || life <= 0 || life > claim.CodeTTL+claim.CodeGracePeriod {
			t.Errorf("left in Redis: %s for %v", key, life)
		}
	}
	call("GET", "/v1/customers/"+customer, "", 404)
	call("DELETE", "/v1/customers/"+customer+"?erase=true", "", 404)
}

// startEraseGateway runs a gateway and gives a way to call it as its admin.
func startEraseGateway(t *testing.T, server string) func(method, path, body string, status int) map[string]any {
	t.Helper()
	s := &app.Settings{Listen: "127.0.0.1:0", DataDir: t.TempDir(), RedisURL: server, AdminKey: identity.NewToken("hg_live_"), LogLevel: "info"}
	api := harness.NewClient(harness.ServeInProcess(t, s, slog.New(slog.DiscardHandler)), s.AdminKey, harness.EventTimeout)
	return func(method, path, body string, status int) (fields map[string]any) {
		t.Helper()
		res, err := api.Do(t.Context(), method, path, http.Header{"X-Api-Key": {s.AdminKey}}, body)
		if err != nil {
			t.Fatal(err)
		}
		if _ = json.Unmarshal([]byte(res.Body), &fields); res.Status != status {
			t.Fatalf("%s %s: %d %s; want %d", method, path, res.Status, res.Body, status)
		}
		return fields
	}
}

// redisKeysContaining gives the keys of Redis that hold any of words, in their names or
// values.
func redisKeysContaining(t *testing.T, store redis.UniversalClient, words ...string) []string {
	t.Helper()
	var found []string
	scan := store.Scan(t.Context(), 0, "*", 500).Iterator()
	for scan.Next(t.Context()) {
		key := scan.Val()
		dump := key + fmt.Sprint(store.HGetAll(t.Context(), key).Val(), store.Get(t.Context(), key).Val(), store.SMembers(t.Context(), key).Val(), store.LRange(t.Context(), key, 0, -1).Val())
		for _, w := range words {
			if strings.Contains(dump, w) {
				found = append(found, key)
				break
			}
		}
	}
	if err := scan.Err(); err != nil {
		t.Fatal(err)
	}
	return found
}
