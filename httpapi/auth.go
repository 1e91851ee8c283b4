package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"hydragate/identity"
)

const (
	keyFresh   = 2 * time.Second // how long a revoked key may still be let in
	keysCached = 10_000
	maxToken   = 512
)

// authenticate finds the API key of a request, or the member of staff. Whatever is
// wrong with the token, the answer is the same.
func (a *API) authenticate(r *http.Request) (identity.APIKey, error) {
	token, ok := tokenOf(r.Header)
	if !ok {
		return identity.APIKey{}, notAuthenticated()
	}
	refused := error(notAuthenticated())
	if a.mayBeStaff(r.Header, token) {
		key, err := a.member(r.Context(), token)
		if err == nil {
			return key, nil
		}
		refused = err // unless it is a key after all
	}
	if len(token) > maxToken {
		return identity.APIKey{}, refused
	}
	key, err := a.keyFor(r.Context(), identity.HashToken(token))
	if errors.Is(err, identity.ErrNotFound) || err == nil && !key.Live(a.Now()) {
		return identity.APIKey{}, refused
	}
	return key, err
}

// tokenOf takes the token from "Authorization: Bearer" or "X-Api-Key". Several are
// good only when they are the same; the query is never looked at.
func tokenOf(h http.Header) (string, bool) {
	var tokens []string
	for _, v := range h.Values("Authorization") {
		scheme, token, _ := strings.Cut(v, " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return "", false
		}
		tokens = append(tokens, strings.TrimSpace(token))
	}
	for _, v := range h.Values("X-Api-Key") {
		tokens = append(tokens, strings.TrimSpace(v))
	}
	if len(tokens) == 0 || tokens[0] == "" {
		return "", false
	}
	for _, t := range tokens[1:] {
		if t != tokens[0] {
			return "", false
		}
	}
	return tokens[0], true
}

func (a *API) keyFor(ctx context.Context, hash string) (identity.APIKey, error) {
	now := a.Now()
	if key, ok := a.keys.get(hash, now); ok {
		return key, nil
	}
	key, err := a.Store.APIKey(ctx, hash)
	if err != nil {
		return identity.APIKey{}, err
	}
	a.keys.put(hash, key, now)
	a.touch(ctx, key, now)
	return key, nil
}

// touch notes that a key is in use, once a minute. A call does not fail for it.
func (a *API) touch(ctx context.Context, key identity.APIKey, now time.Time) {
	if !key.Live(now) || now.Sub(key.LastUsedAt) < time.Minute {
		return
	}
	if err := a.Store.TouchAPIKey(ctx, key.TenantID, key.ID, now.UTC()); err != nil {
		a.Log.WarnContext(ctx, "note use of API key", "key", key.ID, "err", err)
	}
}

// keyCache remembers for a moment which keys are good, so that a busy caller costs
// one look-up in two seconds. It holds hashes, never tokens.
type keyCache struct {
	mu sync.Mutex
	m  map[string]cachedKey
}

type cachedKey struct {
	key identity.APIKey
	at  time.Time
}

func (c *keyCache) get(hash string, now time.Time) (identity.APIKey, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.m[hash]
	return k.key, ok && now.Sub(k.at) < keyFresh
}

func (c *keyCache) put(hash string, key identity.APIKey, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil || len(c.m) >= keysCached {
		c.m = map[string]cachedKey{}
	}
	c.m[hash] = cachedKey{key, now}
}

// forget drops everything, after a key changed.
func (c *keyCache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.m = nil
}

// budgets hold the rate limit of each API key.
type budgets struct {
	mu sync.Mutex
	m  map[string]*rate.Limiter
}

// spend takes one call from a key's budget, or says how long to wait.
func (b *budgets) spend(key string, now time.Time, perSecond float64, burst int) (wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.m == nil || len(b.m) >= keysCached {
		b.m = map[string]*rate.Limiter{}
	}
	l := b.m[key]
	if l == nil {
		l = rate.NewLimiter(rate.Limit(perSecond), burst)
		b.m[key] = l
	}
	if l.AllowN(now, 1) {
		return 0
	}
	return time.Duration((1 - l.TokensAt(now)) / perSecond * float64(time.Second))
}
