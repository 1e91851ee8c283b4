package api

import (
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"hydragate/e2e/harness"
)

// TestEraseCustomer_RemovesCodesFromRedis checks that erasing a customer with a live code removes
// the code and all personal data from Redis. Only a hint remains until it expires; it contains a
// random ID and is stored under a keyed hash of the code.
func TestEraseCustomer_RemovesCodesFromRedis(t *testing.T) {
	t.Parallel()
	h := harness.NewAPIFixture(t, harness.Options{APIOnly: true})
	store := h.Replicas()[0].Gateway.Redis
	call := func(method, path, body string, status int) (id string) {
		t.Helper()
		res := h.CallAs(h.AdminKey, method, path, body)
		if res.Status != status {
			t.Fatalf("%s %s = %d %s, want %d", method, path, res.Status, res.Body, status)
		}
		if status == 201 {
			id, _ = h.DecodeObject(res.Body)["id"].(string)
		}
		return id
	}
	const number = "+61400777666"
	customer := call("POST", "/v1/customers", `{"email":"erased@example.com"}`, 201)
	linked := call("POST", "/v1/customers/"+customer+"/identities",
		`{"channel":"sms","external_id":"`+number+`"}`, 201)
	call("POST", "/v1/customers/"+customer+"/identities/"+linked+"/claim-code", "", 201)
	keys := strings.Join(redisKeysContaining(t, store, linked), " ")
	if !strings.Contains(keys, ":claim:") || !strings.Contains(keys, ":code:") {
		t.Fatalf("Redis keys of a live code = %q, want a code and an index entry", keys)
	}
	call("DELETE", "/v1/customers/"+customer+"?erase=true", "", 204)
	if left := redisKeysContaining(t, store, linked, customer, number, "erased@example.com"); len(left) > 0 {
		t.Errorf("Redis keys of an erased customer = %v, want none", left)
	}
	call("GET", "/v1/customers/"+customer, "", 404)
	call("DELETE", "/v1/customers/"+customer+"?erase=true", "", 404)
}

// redisKeysContaining returns the Redis keys whose name or value contains any of words.
func redisKeysContaining(t *testing.T, store redis.UniversalClient, words ...string) []string {
	t.Helper()
	var found []string
	scan := store.Scan(t.Context(), 0, "*", 500).Iterator()
	for scan.Next(t.Context()) {
		key := scan.Val()
		dump := key + fmt.Sprint(store.HGetAll(t.Context(), key).Val(), store.Get(t.Context(), key).Val(),
			store.SMembers(t.Context(), key).Val(), store.LRange(t.Context(), key, 0, -1).Val())
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
