// Package rediscode stores claim codes in Redis, as keyed hashes that expire, with the number of
// wrong tries. It never stores a code and does not decide who is verified.
package rediscode

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"hydragate/claim"
)

// Timeout is the maximum duration of every call.
const Timeout = 600 * time.Millisecond

// keyTTL is the lifetime of a stored code. It only frees memory; the database decides expiry.
const keyTTL = claim.CodeTTL + claim.CodeGracePeriod

// A Store implements claim.CodeStore on Redis or Redis Cluster. The code of an identity and the index
// entry that leads from the letters to the identity change in one script. Errors contain no codes.
type Store struct {
	// Redis must come from NewClient or NewEmbedded. A client that repeats commands or ignores its
	// context breaks the guarantees of claim.CodeStore.
	Redis redis.UniversalClient

	// Keys returns the current secrets, each of at least 32 bytes. New codes are hashed with the
	// first; all of them verify. A secret may be removed once the codes hashed with it have
	// expired. Without a secret all calls fail.
	Keys func() [][]byte
}

var _ claim.CodeStore = (*Store)(nil)

// Put stores the hash of code and the index entry that leads from the code to its identity.
func (p *Store) Put(ctx context.Context, s claim.Target, code string) error {
	keys, err := p.deriveKeys()
	if err != nil {
		return fmt.Errorf("store code: %w", err)
	}
	err = p.change(ctx, s, func(index string) script {
		added := keys[0].indexKey(s, code)
		return script{
			putScript,
			[]string{codeKey(s), added, cmp.Or(index, added)},
			[]any{s.Gen, keys[0].codeHash(s, code), keyTTL.Milliseconds(), s.IdentityID, s.Channel},
		}
	})
	if err != nil {
		return fmt.Errorf("store code: %w", err)
	}
	return nil
}

// Drop deletes the code of s and its index entry if it is the current generation.
func (p *Store) Drop(ctx context.Context, s claim.Target) error {
	err := p.change(ctx, s, func(index string) script {
		return script{dropScript, []string{codeKey(s), cmp.Or(index, codeKey(s))}, []any{s.Gen, s.IdentityID}}
	})
	if err != nil {
		return fmt.Errorf("drop code: %w", err)
	}
	return nil
}

// change runs the script that with returns for the key of the present index entry of s, which is empty
// if there is none. It repeats that if another call has changed the entry in between.
func (p *Store) change(ctx context.Context, s claim.Target, with func(index string) script) error {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	for {
		index, err := p.Redis.HGet(ctx, codeKey(s), "x").Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
		call := with(index)
		reply, err := call.result(ctx, p.Redis, call.evalSHA(ctx, p.Redis))
		if err != nil {
			return err
		}
		if outdated, ok := reply.(int64); !ok || outdated >= 0 {
			return nil
		}
	}
}

// Find returns the targets of those of the codes that are stored for the instance or the tenant of s, in
// one step.
func (p *Store) Find(ctx context.Context, s claim.Target, codes []string) (map[string]claim.Target, error) {
	keys, err := p.deriveKeys()
	if err != nil {
		return nil, fmt.Errorf("find codes: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()

	pipe := p.Redis.Pipeline()
	scopes := scopesOf(s)
	var replies []*redis.SliceCmd
	for _, scope := range scopes {
		var names []string
		for _, k := range keys {
			for _, code := range codes {
				names = append(names, k.indexKey(scope, code))
			}
		}
		replies = append(replies, pipe.MGet(ctx, names...))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("find codes: %w", err)
	}
	found := map[string]claim.Target{}
	for n, reply := range replies {
		for i, value := range reply.Val() {
			if entry, ok := value.(string); ok {
				if target, ok := parseIndexEntry(scopes[n], entry); ok {
					found[codes[i%len(codes)]] = target
				}
			}
		}
	}
	return found, nil
}

// scopesOf returns s in the scope of its instance and in that of its tenant.
func scopesOf(s claim.Target) [2]claim.Target {
	scopes := [2]claim.Target{s, s}
	scopes[1].InstanceID = ""
	return scopes
}

// Check compares code with the stored code of s and looks up other identities it was issued for.
func (p *Store) Check(ctx context.Context, s claim.Target, typedIn, code, message string) (claim.CheckResult, error) {
	keys, err := p.deriveKeys()
	if err != nil {
		return claim.CheckResult{}, fmt.Errorf("check code: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()

	check := script{checkScript, []string{codeKey(s)}, []any{s.Gen, message, claim.MaxTries}}
	for _, k := range keys {
		check.args = append(check.args, k.codeHash(s, code))
	}
	pipe := p.Redis.Pipeline()
	queued := check.evalSHA(ctx, pipe)
	typed := s
	typed.InstanceID = typedIn
	scopes := scopesOf(typed)
	var entries []*redis.StringCmd
	for _, k := range keys {
		for _, scope := range scopes {
			entries = append(entries, pipe.Get(ctx, k.indexKey(scope, code)))
		}
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	reply, err := check.result(ctx, p.Redis, queued)
	if err != nil {
		return claim.CheckResult{}, fmt.Errorf("check code: %w", err)
	}
	found, err := parseCheckResult(reply)
	if err != nil {
		return claim.CheckResult{}, fmt.Errorf("check code: %w", err)
	}
	for i, entry := range entries { // one that cannot be read is skipped
		other, ok := parseIndexEntry(scopes[i%len(scopes)], entry.Val())
		if ok && other.IdentityID != s.IdentityID && other.Channel == s.Channel {
			found.Other = other
			break
		}
	}
	return found, nil
}

// Peek compares code with the stored code of s.
func (p *Store) Peek(ctx context.Context, s claim.Target, code string) (claim.Result, error) {
	keys, err := p.deriveKeys()
	if err != nil {
		return "", fmt.Errorf("compare code: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()

	stored, err := p.Redis.HMGet(ctx, codeKey(s), "g", "m").Result()
	if err != nil {
		return "", fmt.Errorf("compare code: %w", err)
	}
	gen, _ := stored[0].(string)
	hash, _ := stored[1].(string)
	switch gen {
	case "":
		return claim.Missing, nil
	case strconv.FormatInt(s.Gen, 10):
	default:
		return claim.Stale, nil
	}
	for _, k := range keys {
		if hmac.Equal([]byte(hash), k.codeHash(s, code)) {
			return claim.Match, nil
		}
	}
	return claim.Wrong, nil
}

var errUnexpectedReply = errors.New("unexpected script reply")

// parseCheckResult parses the reply of checkScript.
func parseCheckResult(reply any) (claim.CheckResult, error) {
	parts, ok := reply.([]any)
	if !ok || len(parts) != 2 {
		return claim.CheckResult{}, errUnexpectedReply
	}
	result, ok := parts[0].(string)
	tries, counted := parts[1].(int64)
	if !ok || !counted {
		return claim.CheckResult{}, errUnexpectedReply
	}
	return claim.CheckResult{Result: claim.Result(result), Tries: int(tries)}, nil
}

// parseIndexEntry returns the target that an index entry in the given scope leads to.
func parseIndexEntry(scope claim.Target, entry string) (claim.Target, bool) {
	parts := strings.Split(entry, ":")
	if len(parts) != 3 { // identity, generation and channel
		return claim.Target{}, false
	}
	gen, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil {
		return claim.Target{}, false
	}
	return claim.Target{
		TenantID: scope.TenantID, InstanceID: scope.InstanceID, Channel: parts[2], IdentityID: parts[0], Gen: gen,
	}, true
}

// idKey is the Redis key of the ID of a code store, and idTTL how long the ID outlives its last use.
const (
	idKey = "hg:code-store"
	idTTL = time.Hour
)

// ID returns a random ID that all users of the same Redis server or cluster have in common. It
// changes if Redis loses its data.
func (p *Store) ID(ctx context.Context) (string, error) {
	if err := p.Redis.SetNX(ctx, idKey, rand.Text(), idTTL).Err(); err != nil {
		return "", err
	}
	id, err := p.Redis.GetEx(ctx, idKey, idTTL).Result()
	if err != nil {
		return "", err
	}
	return id, nil
}
