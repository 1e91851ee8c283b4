// Package redisproof keeps the proofs of claim codes in Redis: keyed hashes that
// expire by themselves, with the count of wrong tries beside them. It never keeps a
// code, and does not know who is granted.
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

// Timeout bounds every call, whatever Redis does.
const Timeout = 600 * time.Millisecond

// keyTTL is how long a proof stays: Redis frees memory, the database decides expiry.
const keyTTL = claim.CodeTTL + claim.CodeGracePeriod

// Store are claim.Proofs in one Redis, or Redis Cluster. Every call touches one
// identity's proof by one script; what it asks of other keys is a hint. The errors
// hold no codes.
type Store struct {
	// Redis should come from NewClient or Embedded: a client that repeats commands
	// or outlives its context breaks what is promised here.
	Redis redis.UniversalClient

	// Keys gives secrets of 32 bytes or more, as they are now. The first makes proofs,
	// all of them verify: a key leaves the list once what it made has expired. Without
	// a key nothing is kept and nothing verified.
	Keys func() [][]byte
}

var _ claim.CodeStore = (*Store)(nil)

// Put keeps the proof of code, and where to look it up for whose it is.
func (p *Store) Put(ctx context.Context, s claim.Target, code string) error {
	keys, err := p.deriveKeys()
	if err != nil {
		return fmt.Errorf("keep a proof: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()

	put := script{putScript, codeKey(s.IdentityID), []any{s.Gen, keys[0].codeHash(s, code), keyTTL.Milliseconds()}}
	pipe := p.Redis.Pipeline()
	done := put.evalSHA(ctx, pipe)
	index := pipe.Set(ctx, keys[0].indexKey(scopeOf(s), s.Channel, code), indexValue(s), keyTTL)
	_, _ = pipe.Exec(ctx) // each command has its own error
	if _, err := put.result(ctx, p.Redis, done); err != nil {
		return fmt.Errorf("keep a proof: %w", err)
	}
	if err := index.Err(); err != nil {
		return fmt.Errorf("keep whose code it is: %w", err)
	}
	return nil
}

// Check compares code with the proof of s and looks for whom else it was made.
func (p *Store) Check(ctx context.Context, s claim.Target, typedIn, code, message string) (claim.CheckResult, error) {
	keys, err := p.deriveKeys()
	if err != nil {
		return claim.CheckResult{}, fmt.Errorf("check a code: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()

	check := script{checkScript, codeKey(s.IdentityID), []any{s.Gen, message, claim.MaxTries}}
	for _, k := range keys {
		check.args = append(check.args, k.codeHash(s, code))
	}
	pipe := p.Redis.Pipeline()
	done := check.evalSHA(ctx, pipe)
	var hints []*redis.StringCmd
	for _, k := range keys {
		hints = append(hints,
			pipe.Get(ctx, k.indexKey(instanceScope(typedIn), s.Channel, code)),
			pipe.Get(ctx, k.indexKey(tenantScope(s.TenantID), s.Channel, code)))
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	answer, err := check.result(ctx, p.Redis, done)
	if err != nil {
		return claim.CheckResult{}, fmt.Errorf("check a code: %w", err)
	}
	found, err := parseCheckResult(answer)
	if err != nil {
		return claim.CheckResult{}, fmt.Errorf("check a code: %w", err)
	}
	found.OtherIdentityID, found.OtherGen = otherIdentity(hints, s.IdentityID)
	found.Incomplete = found.OtherIdentityID == "" && slices.ContainsFunc(hints, unreadable)
	return found, nil
}

// Drop forgets the proof of s, unless it is of another generation.
func (p *Store) Drop(ctx context.Context, s claim.Target) error {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()

	drop := script{dropScript, codeKey(s.IdentityID), []any{s.Gen}}
	if _, err := drop.result(ctx, p.Redis, drop.evalSHA(ctx, p.Redis)); err != nil {
		return fmt.Errorf("drop a proof: %w", err)
	}
	return nil
}

var errUnexpectedReply = errors.New("not an answer of the script")

// parseCheckResult reads the answer of checkScript.
func parseCheckResult(answer any) (claim.CheckResult, error) {
	parts, ok := answer.([]any)
	if !ok || len(parts) != 2 {
		return claim.CheckResult{}, errUnexpectedReply
	}
	verdict, ok := parts[0].(string)
	tries, counted := parts[1].(int64)
	if !ok || !counted {
		return claim.CheckResult{}, errUnexpectedReply
	}
	return claim.CheckResult{Result: claim.Result(verdict), Tries: int(tries)}, nil
}

// otherIdentity gives the first identity found that is not me. A hint that cannot be had is
// none.
func otherIdentity(hints []*redis.StringCmd, me string) (identity string, gen int64) {
	for _, hint := range hints {
		identity, number, ok := strings.Cut(hint.Val(), ":")
		if !ok || identity == me {
			continue
		}
		if gen, err := strconv.ParseInt(number, 10, 64); err == nil {
			return identity, gen
		}
	}
	return "", 0
}

// unreadable reports whether a hint may be there and could not be read.
func unreadable(hint *redis.StringCmd) bool {
	return hint.Err() != nil && !errors.Is(hint.Err(), redis.Nil)
}

// indexValue is what the index says of a code, for whose to read.
func indexValue(s claim.Target) string {
	return s.IdentityID + ":" + strconv.FormatInt(s.Gen, 10)
}

// codeKey names the proof of an identity. The braces keep all that is known of one
// identity in one slot of a cluster.
func codeKey(identityID string) string {
	return "hg:{c:" + identityID + "}:claim"
}
