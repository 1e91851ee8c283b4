//go:build unix

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/identity"
	"hydragate/store"
)

// spellings are six ways in which a code could lie about.
func spellings(code string) []string {
	lower := strings.ToLower(code)
	return []string{code, lower, claim.Group(code), claim.Group(lower), code[:3] + " " + code[3:], claim.Spell(code)}
}

// found names the codes that are in any of the texts, in any spelling.
func found(codes []string, texts map[string]string) (where []string) {
	for name, text := range texts {
		for i, code := range codes {
			for _, s := range spellings(code) {
				if strings.Contains(text, s) {
					where = append(where, fmt.Sprintf("%s holds code %d as %q", name, i, s))
				}
			}
		}
	}
	return where
}

// TestStoresHoldNoCode issues and redeems codes in every way and looks for them in all
// that is kept: the bytes of the database with what is not in its main file yet, all of
// Redis, and the log. One that is planted is found.
func TestStoresHoldNoCode(t *testing.T) {
	onPairs(t, func(t *testing.T, h *proofHouse) {
		var log safeBuffer
		h.log = &log
		var codes []string
		forms := []string{"/claim ", "claim ", "/claim@" + botName + " ", "/start claim_", "Claim: ", ""}
		for i, form := range forms {
			p := h.person(string(rune('1'+i)) + "700051")
			code := h.issue(p)
			codes = append(codes, code)
			typed := form + code
			if i%2 == 1 {
				typed = form + claim.Group(strings.ToLower(code))
			}
			other := string(rune('1'+i)) + "700059"
			h.say(other, other, "hello")
			h.works()
			group := h.hear(adapters.Message{Kind: adapters.Text, Text: "/claim " + code, Sender: adapters.Sender{ID: p.external}, Place: adapters.Place{ID: "-100" + p.external, Group: true}})
			wrong := h.say(p.external, p.external, "/claim "+otherThan(code))
			right := h.say(p.external, p.external, typed)
			again := h.say(p.external, p.external, "/claim "+code)
			h.works()
			foreign := h.say(other, other, "/claim "+code)
			h.works()
			for key, want := range map[string]string{group: "not_private", wrong: "declined", right: "claimed", again: "already_verified", foreign: "declined"} {
				if got := h.outcome(key); got != want {
					t.Errorf("form %q: outcome %q; want %s", form, got, want)
				}
			}
		}
		q := h.person("700058") // a code that stays live while we look
		live := h.issue(q)
		codes = append(codes, live)
		r := h.person("700057") // a code that is typed alone by the wrong account
		strayed := h.issue(r)
		codes = append(codes, strayed)
		h.say("700056", "700056", claim.Group(strayed))
		h.say(r.external, "-100"+r.external, strayed)
		h.works()
		if hits := found(codes, h.everything(log.String())); len(hits) > 0 {
			t.Error(hits)
		}
		// Before it is worked, a code is there sealed alone.
		h.say(q.external, q.external, "/claim "+live)
		if hits := found(codes, h.everything(log.String())); len(hits) > 0 {
			t.Error("while it waits:", hits)
		}

		name := "my code is " + claim.Group(codes[0])
		if _, err := h.store.EditIdentity(t.Context(), proofTenant, q.customer, q.identity, identity.Edit{DisplayName: &name}, identity.System); err != nil {
			t.Fatal(err)
		}
		if err := h.redis.Set(t.Context(), "hg:planted:"+h.instance, strings.ToLower(codes[1]), time.Minute).Err(); err != nil {
			t.Fatal(err)
		}
		_, _ = log.Write([]byte(claim.Spell(codes[2])))
		planted := found(codes, h.everything(log.String()))
		if len(planted) < 3 {
			t.Errorf("of three that were planted there were found: %v", planted)
		}
	})
}

// everything gives all that is kept, and the log.
func (h *proofHouse) everything(log string) map[string]string {
	h.t.Helper()
	all := map[string]string{"log": log, "redis": redisText(h.t, h.redis)}
	if store.IsPostgres(h.url) {
		all["database"] = strings.Join(h.texts(tablesText(h)), "\n")
		return all
	}
	for _, file := range []string{h.url, h.url + "-wal"} {
		b, err := os.ReadFile(file)
		if err != nil {
			h.t.Fatal(err)
		}
		all[file] = string(b)
	}
	return all
}

// tablesText is a query that gives each row of each table as a text.
func tablesText(h *proofHouse) string {
	var parts []string
	for _, table := range h.texts(`select table_name from information_schema.tables where table_schema = 'public'`) {
		parts = append(parts, "select x::text from "+table+" x")
	}
	return strings.Join(parts, " union all ")
}

// redisText gives every key and value of a Redis.
func redisText(t *testing.T, client redis.UniversalClient) string {
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

// A safeBuffer takes what several write.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
