package operation

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"hydragate/identity"
)

const (
	// batchInterval is the interval of the look-ups of unknown keys from a network that exceeds the
	// limit of failures.
	batchInterval = 100 * time.Millisecond
	// maxBatch is the maximum number of keys in one statement.
	maxBatch = 500
	// batchTimeout limits a batched look-up, which does not end with the request that started it.
	batchTimeout = 5 * time.Second
	// unknownTTL is how long an unknown key is not looked up again. Keys are random, so that no one
	// uses one before it is created.
	unknownTTL = 10 * time.Second
	// maxCachedKeys bounds each cache. When it is reached, the cache is cleared.
	maxCachedKeys = 10_000
)

// A KeyLookup looks up keys of type K by the hash of their token. It limits what unknown keys cost:
// if a client network exceeds the limit of failures, its keys that were not seen before share one
// look-up per batchInterval, and those that do not exist are answered with 429. Keys that exist are
// never rejected.
type KeyLookup[K any] struct {
	// Fetch returns the keys that exist, by hash.
	Fetch func(ctx context.Context, hashes []string) (map[string]K, error)
	// Fetched is called with a key that Fetch returned. Optional.
	Fetched  func(ctx context.Context, key K)
	TTL      time.Duration // how long a key is cached
	Failures *FailureLimiter
	Proxies  Proxies
	Now      func() time.Time

	mu      sync.Mutex
	found   map[string]cachedKey[K]
	unknown map[string]time.Time // until when the hash is known not to exist
	pending *keyBatch[K]         // not yet started
}

type cachedKey[K any] struct {
	key       K
	fetchedAt time.Time
}

// A keyBatch is a look-up that several requests wait for. The request that created it makes it.
type keyBatch[K any] struct {
	hashes []string
	done   chan struct{} // closed when found and err are set
	found  map[string]K
	err    error
}

// Get returns the key whose token has the given hash. It returns identity.ErrNotFound if there is
// none, or a problem with status 429 if the client network exceeds the limit of failures as well.
func (l *KeyLookup[K]) Get(r *http.Request, hash string) (key K, err error) {
	c, exists, missing := l.cached(hash)
	if exists && l.Now().Sub(c.fetchedAt) < l.TTL {
		return c.key, nil
	}
	network := l.Proxies.ClientNetwork(r)
	within := exists || l.Failures.Take(network)
	switch {
	case missing:
		err = identity.ErrNotFound
	case within:
		key, err = l.fetchOne(r.Context(), hash)
	default:
		key, err = l.fetchBatched(r.Context(), hash)
	}
	switch {
	case errors.Is(err, identity.ErrNotFound) && !within:
		return key, TooManyRequests(l.Failures.Wait(network))
	case err == nil && within && !exists:
		l.Failures.Return(network)
	}
	return key, err
}

// cached returns the cached key with a hash, which may be out of date, and whether the key exists or
// is missing. Both are false if that is not known.
func (l *KeyLookup[K]) cached(hash string) (c cachedKey[K], exists, missing bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c, exists = l.found[hash]
	return c, exists, !exists && l.Now().Before(l.unknown[hash])
}

// Reset clears the cache. It is called after a change of a key.
func (l *KeyLookup[K]) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.found = nil
}

func (l *KeyLookup[K]) fetchOne(ctx context.Context, hash string) (K, error) {
	found, err := l.fetch(ctx, []string{hash})
	if err != nil {
		var none K
		return none, err
	}
	return keyIn(found, hash)
}

// keyIn returns the key with a hash. It returns identity.ErrNotFound if there is none.
func keyIn[K any](found map[string]K, hash string) (K, error) {
	key, ok := found[hash]
	if !ok {
		return key, identity.ErrNotFound
	}
	return key, nil
}

// fetch fetches keys and caches the result.
func (l *KeyLookup[K]) fetch(ctx context.Context, hashes []string) (map[string]K, error) {
	fetchedAt := l.Now()
	found, err := l.Fetch(ctx, hashes)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	for _, hash := range hashes {
		if key, ok := found[hash]; ok {
			put(&l.found, hash, cachedKey[K]{key, fetchedAt})
			continue
		}
		delete(l.found, hash)
		put(&l.unknown, hash, fetchedAt.Add(unknownTTL))
	}
	l.mu.Unlock()
	if l.Fetched != nil {
		for _, key := range found {
			l.Fetched(ctx, key)
		}
	}
	return found, nil
}

// put adds an entry to a cache.
func put[V any](cache *map[string]V, hash string, v V) {
	if *cache == nil || len(*cache) >= maxCachedKeys {
		*cache = map[string]V{}
	}
	(*cache)[hash] = v
}

// fetchBatched fetches a key together with those of other requests.
func (l *KeyLookup[K]) fetchBatched(ctx context.Context, hash string) (key K, err error) {
	l.mu.Lock()
	b, first := l.pending, false
	if b == nil {
		b, first = &keyBatch[K]{done: make(chan struct{})}, true
		l.pending = b
	}
	b.hashes = append(b.hashes, hash)
	l.mu.Unlock()
	if first {
		l.run(context.WithoutCancel(ctx), b)
	}
	select {
	case <-b.done:
		if b.err != nil {
			return key, b.err
		}
		return keyIn(b.found, hash)
	case <-ctx.Done():
		return key, ctx.Err()
	}
}

// run makes a batched look-up after collecting keys for batchInterval.
func (l *KeyLookup[K]) run(ctx context.Context, b *keyBatch[K]) {
	defer close(b.done)
	<-time.After(batchInterval)
	l.mu.Lock()
	l.pending = nil
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, batchTimeout)
	defer cancel()
	b.found = map[string]K{}
	for hashes := range slices.Chunk(b.hashes, maxBatch) {
		found, err := l.fetch(ctx, hashes)
		if err != nil {
			b.err = err
			return
		}
		maps.Copy(b.found, found)
	}
}
