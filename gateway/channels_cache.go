package gateway

import (
	"context"
	"errors"
	"maps"
	"time"

	"hydragate/adapters"
)

const (
	cacheTime = 2 * time.Second // how old an endpoint may be for hooks and sends
	freshTime = time.Second     // how often Fresh may ask the store for one endpoint
	maxCached = 16384
)

type seatKey struct {
	instance string
	channel  adapters.Channel
}

type cachedSeat struct {
	endpoint adapters.Endpoint
	readAt   time.Time
	freshAt  time.Time // when Fresh asked last
	old      bool      // Fresh asked since it was read
}

// Endpoint gives the endpoint of an instance on a channel, for hooks and sends, at
// most two seconds old: a change holds everywhere after that time. ErrNoEndpoint. Its
// Credentials and Settings are shared, and must not be written to.
func (c *Channels) Endpoint(ctx context.Context, instance string, channel adapters.Channel) (adapters.Endpoint, error) {
	k := seatKey{instance, channel}
	if s, ok := c.cached(k); ok && !s.old && c.now().Sub(s.readAt) < cacheTime {
		return s.endpoint, nil
	}
	return c.read(ctx, k)
}

// Last gives the endpoint as it was read last, at most a day ago, without asking the
// store: for when the store does not answer. One that the store said is gone is gone,
// and a replaced credential is good for no longer than the store said.
func (c *Channels) Last(instance string, channel adapters.Channel) (ep adapters.Endpoint, ok bool) {
	s, ok := c.cached(seatKey{instance, channel})
	ep, since := s.endpoint, c.now().Sub(s.readAt)
	if since > ep.OldFor {
		ep.Credentials = ep.WithoutOld()
	}
	return ep, ok && since < MaxAge
}

// Fresh gives the endpoint as the store has it now, to be used once when a signature
// does not fit: the credentials may have changed a moment ago. It asks the store at
// most once a second for each endpoint, so that forged requests are no load.
func (c *Channels) Fresh(ctx context.Context, instance string, channel adapters.Channel) (adapters.Endpoint, error) {
	k := seatKey{instance, channel}
	if !c.mayRefresh(k) {
		return c.Endpoint(ctx, instance, channel)
	}
	return c.read(ctx, k)
}

// mayRefresh lets one caller a second through for each endpoint. What was read before
// is old from then on, so that whoever comes meanwhile waits for the same answer.
func (c *Channels) mayRefresh(k seatKey) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.cache[k]
	if ok && c.now().Sub(s.freshAt) < freshTime {
		return false
	}
	if ok {
		s.freshAt, s.old = c.now(), true
		c.cache[k] = s
	}
	return true
}

// Forget makes the next Endpoint ask the store.
func (c *Channels) Forget(instance string, channel adapters.Channel) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turned++
	delete(c.cache, seatKey{instance, channel})
	c.group.Forget(groupKey(seatKey{instance, channel}))
}

func (c *Channels) cached(k seatKey) (cachedSeat, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.cache[k]
	return s, ok
}

func groupKey(k seatKey) string { return k.instance + "\x1f" + string(k.channel) }

// read asks the store once for all who wait for the same endpoint. A caller who goes
// away leaves the others their answer.
func (c *Channels) read(ctx context.Context, k seatKey) (adapters.Endpoint, error) {
	answer := c.group.DoChan(groupKey(k), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTime)
		defer cancel()
		turned := c.turn()
		ep, err := c.Store.EndpointForHook(ctx, k.instance, k.channel)
		if errors.Is(err, ErrNoEndpoint) {
			c.drop(k)
		}
		if err != nil {
			return adapters.Endpoint{}, err
		}
		ep.WebhookURL = c.WebhookURL(k.channel, k.instance)
		c.keep(k, ep, turned)
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

func (c *Channels) turn() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.turned
}

// drop forgets an endpoint that is not there any more.
func (c *Channels) drop(k seatKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.cache, k)
}

// keep remembers an endpoint, unless something was forgotten since it was asked for.
// Only endpoints that exist are remembered: names made up by strangers push out
// nothing.
func (c *Channels) keep(k seatKey, ep adapters.Endpoint, turned int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if turned != c.turned {
		return
	}
	if c.cache == nil {
		c.cache = map[seatKey]cachedSeat{}
	}
	if len(c.cache) >= maxCached {
		c.makeRoom()
	}
	c.cache[k] = cachedSeat{endpoint: ep, readAt: c.now(), freshAt: c.cache[k].freshAt}
}

// makeRoom drops what is too old to be used, what may not be needed, and anything at
// all when nothing is.
func (c *Channels) makeRoom() {
	for _, most := range []time.Duration{MaxAge, time.Hour, cacheTime} {
		maps.DeleteFunc(c.cache, func(_ seatKey, s cachedSeat) bool { return c.now().Sub(s.readAt) >= most })
		if len(c.cache) < maxCached {
			return
		}
	}
	for k := range c.cache {
		if len(c.cache) < maxCached {
			return
		}
		delete(c.cache, k)
	}
}
