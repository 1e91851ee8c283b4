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
	cacheTTL        = 2 * time.Second // how old an endpoint may be for hooks and sends
	refreshInterval = time.Second     // how often Fresh may ask the store for one endpoint
	maxCacheEntries = 16384
)

type cacheKey struct {
	instance string
	channel  adapters.Channel
}

type cacheEntry struct {
	endpoint    adapters.Endpoint
	readAt      time.Time
	refreshedAt time.Time // when Fresh asked last
	stale       bool      // Fresh asked since it was read
}

// Endpoint gives the endpoint of an instance on a channel, for hooks and sends, at
// most two seconds old: a change holds everywhere after that time. ErrNoEndpoint. Its
// Credentials and Settings are shared, and must not be written to.
func (c *Manager) Endpoint(ctx context.Context, instance string, channel adapters.Channel) (adapters.Endpoint, error) {
	k := cacheKey{instance, channel}
	if s, ok := c.lookup(k); ok && !s.stale && c.now().Sub(s.readAt) < cacheTTL {
		return s.endpoint, nil
	}
	return c.load(ctx, k)
}

// LastKnown gives the endpoint as it was read last, at most a day ago, without asking the
// store: for when the store does not answer. One that the store said is gone is gone,
// and a replaced credential is good for no longer than the store said.
func (c *Manager) LastKnown(instance string, channel adapters.Channel) (ep adapters.Endpoint, ok bool) {
	s, ok := c.lookup(cacheKey{instance, channel})
	ep, since := s.endpoint, c.now().Sub(s.readAt)
	if since > ep.GraceRemaining {
		ep.Credentials = ep.WithoutPrevious()
	}
	return ep, ok && since < gateway.MaxOutage
}

// Refresh gives the endpoint as the store has it now, to be used once when a signature
// does not fit: the credentials may have changed a moment ago. It asks the store at
// most once a second for each endpoint, so that forged requests are no load.
func (c *Manager) Refresh(ctx context.Context, instance string, channel adapters.Channel) (adapters.Endpoint, error) {
	k := cacheKey{instance, channel}
	if !c.allowRefresh(k) {
		return c.Endpoint(ctx, instance, channel)
	}
	return c.load(ctx, k)
}

// allowRefresh lets one caller a second through for each endpoint. What was read before
// is old from then on, so that whoever comes meanwhile waits for the same answer.
func (c *Manager) allowRefresh(k cacheKey) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.cache[k]
	if ok && c.now().Sub(s.refreshedAt) < refreshInterval {
		return false
	}
	if ok {
		s.refreshedAt, s.stale = c.now(), true
		c.cache[k] = s
	}
	return true
}

// Invalidate makes the next Endpoint ask the store.
func (c *Manager) Invalidate(instance string, channel adapters.Channel) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	delete(c.cache, cacheKey{instance, channel})
	c.group.Forget(groupKey(cacheKey{instance, channel}))
}

func (c *Manager) lookup(k cacheKey) (cacheEntry, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.cache[k]
	return s, ok
}

func groupKey(k cacheKey) string { return k.instance + "\x1f" + string(k.channel) }

// load asks the store once for all who wait for the same endpoint. A caller who goes
// away leaves the others their answer.
func (c *Manager) load(ctx context.Context, k cacheKey) (adapters.Endpoint, error) {
	answer := c.group.DoChan(groupKey(k), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
		defer cancel()
		turned := c.currentGeneration()
		ep, err := c.Store.WebhookEndpoint(ctx, k.instance, k.channel)
		if errors.Is(err, gateway.ErrNoEndpoint) {
			c.removeEntry(k)
		}
		if err != nil {
			return adapters.Endpoint{}, err
		}
		ep.WebhookURL = c.WebhookURL(k.channel, k.instance)
		c.put(k, ep, turned)
		return ep, nil
	})
	select {
	case a := <-answer:
		ep, _ := a.Val.(adapters.Endpoint)
		return ep, a.Err
	case <-ctx.Done():
		return adapters.Endpoint{}, ctx.Err()
	}
}

func (c *Manager) currentGeneration() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.generation
}

// removeEntry forgets an endpoint that is not there any more.
func (c *Manager) removeEntry(k cacheKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.cache, k)
}

// put remembers an endpoint, unless something was forgotten since it was asked for.
// Only endpoints that exist are remembered: names made up by strangers push out
// nothing.
func (c *Manager) put(k cacheKey, ep adapters.Endpoint, turned int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if turned != c.generation {
		return
	}
	if c.cache == nil {
		c.cache = map[cacheKey]cacheEntry{}
	}
	if len(c.cache) >= maxCacheEntries {
		c.evict()
	}
	c.cache[k] = cacheEntry{endpoint: ep, readAt: c.now(), refreshedAt: c.cache[k].refreshedAt}
}

// evict drops what is too old to be used, what may not be needed, and anything at
// all when nothing is.
func (c *Manager) evict() {
	for _, most := range []time.Duration{gateway.MaxOutage, time.Hour, cacheTTL} {
		maps.DeleteFunc(c.cache, func(_ cacheKey, s cacheEntry) bool { return c.now().Sub(s.readAt) >= most })
		if len(c.cache) < maxCacheEntries {
			return
		}
	}
	for k := range c.cache {
		if len(c.cache) < maxCacheEntries {
			return
		}
		delete(c.cache, k)
	}
}
