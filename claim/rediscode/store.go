// Package rediscode stores claim codes in Redis, as keyed hashes that expire, with the number of
// wrong tries. It never stores a code and does not decide who is verified.
package rediscode

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// A Store implements claim.CodeStore on Redis or Redis Cluster. Every call runs one script on the
// key of one identity; what it reads from other keys may be outdated. Errors contain no codes.
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
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()

	put := script{putScript, codeKey(s.IdentityID), []any{s.Gen, keys[0].codeHash(s, code), keyTTL.Milliseconds()}}
	pipe := p.Redis.Pipeline()
	queued := put.evalSHA(ctx, pipe)
	index := pipe.Set(ctx, keys[0].indexKey(scopeOf(s), s.Channel, code), indexValue(s), keyTTL)
	_, _ = pipe.Exec(ctx) // each command has its own error
	if _, err := put.result(ctx, p.Redis, queued); err != nil {
		return fmt.Errorf("store code: %w", err)
	}
	if err := index.Err(); err != nil {
		return fmt.Errorf("store code index: %w", err)
	}
	return nil
}

// Check compares code with the stored code of s and looks up other identities it was issued for.
func (p *Store) Check(ctx context.Context, s claim.Target, typedIn, code, message string) (claim.CheckResult, error) {
	keys, err := p.deriveKeys()
	if err != nil {
		return claim.CheckResult{}, fmt.Errorf("check code: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()

	check := script{checkScript, codeKey(s.IdentityID), []any{s.Gen, message, claim.MaxTries}}
	for _, k := range keys {
		check.args = append(check.args, k.codeHash(s, code))
	}
	pipe := p.Redis.Pipeline()
	queued := check.evalSHA(ctx, pipe)
	var hints []*redis.StringCmd
	for _, k := range keys {
		hints = append(hints,
			pipe.Get(ctx, k.indexKey(instanceScope(typedIn), s.Channel, code)),
			pipe.Get(ctx, k.indexKey(tenantScope(s.TenantID), s.Channel, code)))
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
	found.OtherIdentityID, found.OtherGen = otherIdentity(hints, s.IdentityID)
	found.Incomplete = found.OtherIdentityID == "" && slices.ContainsFunc(hints, unreadable)
	return found, nil
}

// Drop deletes the code of s if it is the current generation.
func (p *Store) Drop(ctx context.Context, s claim.Target) error {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()

	drop := script{dropScript, codeKey(s.IdentityID), []any{s.Gen}}
	if _, err := drop.result(ctx, p.Redis, drop.evalSHA(ctx, p.Redis)); err != nil {
		return fmt.Errorf("drop code: %w", err)
	}
	return nil
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

// otherIdentity returns the first identity in hints other than self. A hint that could not be read
// is skipped.
func otherIdentity(hints []*redis.StringCmd, self string) (identity string, gen int64) {
	for _, hint := range hints {
		identity, number, ok := strings.Cut(hint.Val(), ":")
		if !ok || identity == self {
			continue
		}
		if gen, err := strconv.ParseInt(number, 10, 64); err == nil {
			return identity, gen
		}
	}
	return "", 0
}

// unreadable reports whether reading a hint failed, so that it may exist.
func unreadable(hint *redis.StringCmd) bool {
	return hint.Err() != nil && !errors.Is(hint.Err(), redis.Nil)
}

// indexValue returns the value of the index entry of the code of s.
func indexValue(s claim.Target) string {
	return s.IdentityID + ":" + strconv.FormatInt(s.Gen, 10)
}

// codeKey returns the key of the code of an identity. The braces place all keys of one identity in
// one slot of a cluster.
func codeKey(identityID string) string {
	return "hg:{c:" + identityID + "}:claim"
}
