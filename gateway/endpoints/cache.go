package endpoints

import (
	"context"
	"errors"
	"maps"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
)

const (
	cacheTTL        = 2 * time.Second // maximum age of an endpoint returned by Endpoint
	refreshInterval = time.Second     // between reads of one endpoint by Refresh
	maxCacheEntries = 16384
)

// A cacheKey identifies an endpoint.
type cacheKey struct {
	instance string
	channel  adapters.Channel
}

type cacheEntry struct {
	endpoint    adapters.Endpoint
	readAt      time.Time
	refreshedAt time.Time // last read started by Refresh
	stale       bool      // Refresh has started another read since readAt
}

// Endpoint returns the endpoint of an instance on a channel, from a cache whose entries are at most
// two seconds old. It returns gateway.ErrNoEndpoint if there is none. The Credentials and Settings of
// the endpoint are shared and must not be modified.
func (m *Manager) Endpoint(ctx context.Context, instance string, channel adapters.Channel) (adapters.Endpoint, error) {
	k := cacheKey{instance, channel}
	if ep, ok := m.current(k); ok {
		return ep, nil
	}
	return m.load(ctx, k, true)
}

// current returns the cached endpoint, if it is neither old nor stale.
func (m *Manager) current(k cacheKey) (adapters.Endpoint, bool) {
	e, ok := m.lookup(k)
	return e.endpoint, ok && !e.stale && m.now().Sub(e.readAt) < cacheTTL
}

// LastKnown returns the endpoint as it was last read, at most gateway.MaxOutage ago. It does not use
// the store and serves to bridge its outages. An endpoint that the store has reported as missing is
// not returned, nor is a previous secret whose grace period is over.
func (m *Manager) LastKnown(instance string, channel adapters.Channel) (ep adapters.Endpoint, ok bool) {
	e, ok := m.lookup(cacheKey{instance, channel})
	age := m.now().Sub(e.readAt)
	ep = e.endpoint
	if age > ep.GraceRemaining {
		ep.Credentials = ep.WithoutPrevious()
	}
	return ep, ok && age < gateway.MaxOutage
}

// Refresh returns the endpoint as it is stored now. It is called when a signature does not match, since
// the credentials may just have changed. It reads an endpoint at most once a second, so that forged
// requests do not overload the store, and otherwise returns the result of Endpoint.
func (m *Manager) Refresh(ctx context.Context, instance string, channel adapters.Channel) (adapters.Endpoint, error) {
	k := cacheKey{instance, channel}
	if !m.allowRefresh(k) {
		return m.Endpoint(ctx, instance, channel)
	}
	return m.load(ctx, k, false)
}

// allowRefresh reports whether Refresh may read an endpoint now: once a second. It marks the cached
// entry as stale, so that concurrent callers wait for the result of the read.
func (m *Manager) allowRefresh(k cacheKey) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.cache[k]
	if ok && m.now().Sub(e.refreshedAt) < refreshInterval {
		return false
	}
	if ok {
		e.refreshedAt, e.stale = m.now(), true
		m.cache[k] = e
	}
	return true
}

// Invalidate removes an endpoint from the cache. The result of a read in progress is not cached.
func (m *Manager) Invalidate(instance string, channel adapters.Channel) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.generation++
	delete(m.cache, cacheKey{instance, channel})
	m.group.Forget(groupKey(cacheKey{instance, channel}))
}

func (m *Manager) lookup(k cacheKey) (cacheEntry, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.cache[k]
	return e, ok
}

// groupKey returns the key under which concurrent reads of an endpoint are combined.
func groupKey(k cacheKey) string { return k.instance + "\x1f" + string(k.channel) }

// load reads an endpoint from the store and caches it. Concurrent callers share one read, which
// continues if one of them cancels. If mayReuse is set, load returns the result of a read that has
// ended since the caller looked.
func (m *Manager) load(ctx context.Context, k cacheKey, mayReuse bool) (adapters.Endpoint, error) {
	result := m.group.DoChan(groupKey(k), func() (any, error) {
		if ep, ok := m.current(k); ok && mayReuse {
			return ep, nil
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
		defer cancel()
		generation := m.currentGeneration()
		ep, err := m.Store.WebhookEndpoint(ctx, k.instance, k.channel)
		if errors.Is(err, gateway.ErrNoEndpoint) {
			m.removeEntry(k)
		}
		if err != nil {
			return adapters.Endpoint{}, err
		}
		ep.WebhookURL = m.WebhookURL(k.channel, k.instance)
		m.put(k, ep, generation)
		return ep, nil
	})
	select {
	case r := <-result:
		ep, _ := r.Val.(adapters.Endpoint)
		return ep, r.Err
	case <-ctx.Done():
		return adapters.Endpoint{}, ctx.Err()
	}
}

func (m *Manager) currentGeneration() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.generation
}

// removeEntry removes an endpoint that no longer exists from the cache.
func (m *Manager) removeEntry(k cacheKey) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.cache, k)
}

// put caches an endpoint, unless the cache was invalidated since the given generation. Only existing
// endpoints are cached, so that requests for others cannot evict them.
func (m *Manager) put(k cacheKey, ep adapters.Endpoint, generation int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if generation != m.generation {
		return
	}
	if m.cache == nil {
		m.cache = map[cacheKey]cacheEntry{}
	}
	if len(m.cache) >= maxCacheEntries {
		m.evict()
	}
	m.cache[k] = cacheEntry{endpoint: ep, readAt: m.now(), refreshedAt: m.cache[k].refreshedAt}
}

// evict makes room in the cache. It removes old entries first, and arbitrary ones if that is not
// enough.
func (m *Manager) evict() {
	for _, maxAge := range []time.Duration{gateway.MaxOutage, time.Hour, cacheTTL} {
		maps.DeleteFunc(m.cache, func(_ cacheKey, e cacheEntry) bool { return m.now().Sub(e.readAt) >= maxAge })
		if len(m.cache) < maxCacheEntries {
			return
		}
	}
	for k := range m.cache {
		if len(m.cache) < maxCacheEntries {
			return
		}
		delete(m.cache, k)
	}
}
