package endpoints

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
)

// newCachedManager gives channels with one endpoint set up, and its store.
func newCachedManager(t *testing.T) (*Manager, *fakeStore) {
	t.Helper()
	c, s := newManager(&fakeProvider{channel: adapters.Telegram})
	if _, err := configure(t, c, adapters.Credentials{adapters.BotToken: token}); err != nil {
		t.Fatal(err)
	}
	return c, s
}

func (s *fakeStore) readCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads
}

// setAddress sets the address behind the cache's back, as another replica does.
func (s *fakeStore) setAddress(address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, seat := range s.rows {
		seat.Address = address
		s.rows[k] = seat
	}
}

func TestEndpoint_Cached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newCachedManager(t)
		get := func(want string, reads int) {
			t.Helper()
			ep, err := c.Endpoint(t.Context(), "i", adapters.Telegram)
			if err != nil || ep.Address != want || ep.WebhookURL != "https://gate.example.com/hooks/telegram/i" || s.readCount() != reads {
				t.Errorf("%q at %q after %d reads, %v; want %q after %d", ep.Address, ep.WebhookURL, s.readCount(), err, want, reads)
			}
		}
		get("bot 7", 1)
		s.setAddress("bot 8")
		get("bot 7", 1)
		time.Sleep(cacheTTL)
		get("bot 8", 2)
		s.setAddress("bot 9")
		c.Invalidate("i", adapters.Telegram)
		get("bot 9", 3)
		if _, err := configure(t, c, adapters.Credentials{adapters.BotToken: token}); err != nil {
			t.Fatal(err)
		}
		get("bot 7", 4)
	})
}

func TestEndpoint_NotFoundIsNotCached(t *testing.T) {
	c, s := newManager(&fakeProvider{channel: adapters.Telegram})
	for n := range 2 * maxCacheEntries {
		if _, err := c.Endpoint(t.Context(), fmt.Sprint(n), adapters.Telegram); !errors.Is(err, gateway.ErrNoEndpoint) {
			t.Fatal(err)
		}
	}
	if len(c.cache) != 0 || s.readCount() != 2*maxCacheEntries {
		t.Errorf("%d kept", len(c.cache))
	}
	s.err = errors.New("database away")
	if _, err := c.Endpoint(t.Context(), "i", adapters.Telegram); !errors.Is(err, s.err) {
		t.Errorf("%v; want the store's error", err)
	}
}

func TestCache_Bounded(t *testing.T) {
	c, s := newManager(&fakeProvider{channel: adapters.Telegram})
	for n := range maxCacheEntries + 100 {
		i := fmt.Sprint(n)
		s.rows[cacheKey{i, adapters.Telegram}] = gateway.EndpointState{Endpoint: adapters.Endpoint{ID: i, InstanceID: i, Channel: adapters.Telegram}}
		if _, err := c.Endpoint(t.Context(), i, adapters.Telegram); err != nil {
			t.Fatal(err)
		}
	}
	if len(c.cache) > maxCacheEntries {
		t.Errorf("%d kept; want at most %d", len(c.cache), maxCacheEntries)
	}
}

func TestRefresh_RateLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newCachedManager(t)
		fresh := func(want string, reads int) {
			t.Helper()
			ep, err := c.Refresh(t.Context(), "i", adapters.Telegram)
			if err != nil || ep.Address != want || s.readCount() != reads {
				t.Errorf("%q after %d reads, %v; want %q after %d", ep.Address, s.readCount(), err, want, reads)
			}
		}
		if _, err := c.Endpoint(t.Context(), "i", adapters.Telegram); err != nil {
			t.Fatal(err)
		}
		s.setAddress("bot 8")
		fresh("bot 8", 2)
		s.setAddress("bot 9")
		for range 100 {
			fresh("bot 8", 2)
		}
		time.Sleep(refreshInterval)
		fresh("bot 9", 3)
		var wg sync.WaitGroup
		time.Sleep(refreshInterval)
		for range 100 {
			wg.Go(func() { _, _ = c.Refresh(t.Context(), "i", adapters.Telegram) })
		}
		wg.Wait()
		if n := s.readCount(); n > 4 {
			t.Errorf("a hundred at once made %d reads; want one", n-3)
		}
	})
}

// TestRefresh_ConcurrentCallers: when the credentials changed and one request
// makes them be read again, the others that came with it do not get the old ones.
func TestRefresh_ConcurrentCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newCachedManager(t)
		if _, err := c.Endpoint(t.Context(), "i", adapters.Telegram); err != nil {
			t.Fatal(err)
		}
		s.setAddress("bot 8")
		s.readGate = make(chan struct{})
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if ep, err := c.Refresh(t.Context(), "i", adapters.Telegram); err != nil || ep.Address != "bot 8" {
					t.Errorf("%q, %v; want what holds now", ep.Address, err)
				}
			})
		}
		synctest.Wait()
		close(s.readGate)
		wg.Wait()
		if n := s.readCount(); n != 2 {
			t.Errorf("%d reads; want two", n)
		}
	})
}

func TestEndpoint_ConcurrentReadsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newCachedManager(t)
		s.readGate = make(chan struct{})
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if ep, err := c.Endpoint(t.Context(), "i", adapters.Telegram); err != nil || ep.Address != "bot 7" {
					t.Errorf("%q, %v", ep.Address, err)
				}
			})
		}
		gone, cancel := context.WithCancel(t.Context())
		wg.Go(func() {
			if _, err := c.Endpoint(gone, "i", adapters.Telegram); !errors.Is(err, context.Canceled) {
				t.Errorf("a caller who went away: %v", err)
			}
		})
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(s.readGate)
		wg.Wait()
		if n := s.readCount(); n != 1 {
			t.Errorf("%d reads; want one", n)
		}
	})
}

// TestInvalidate_DuringRead: what was read before a change is not kept after it.
func TestInvalidate_DuringRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newCachedManager(t)
		s.readGate = make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = c.Endpoint(t.Context(), "i", adapters.Telegram) })
		synctest.Wait()
		s.setAddress("bot 8")
		c.Invalidate("i", adapters.Telegram)
		close(s.readGate)
		wg.Wait()
		if ep, err := c.Endpoint(t.Context(), "i", adapters.Telegram); err != nil || ep.Address != "bot 8" {
			t.Errorf("%q, %v; want what holds now", ep.Address, err)
		}
	})
}
