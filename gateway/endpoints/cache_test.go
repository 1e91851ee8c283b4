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

// newCachedManager returns a manager with the endpoint of instance i, whose address is "bot 7", and its
// store.
func newCachedManager(t *testing.T) (*Manager, *fakeStore) {
	t.Helper()
	m, s := newManager(&fakeProvider{channel: adapters.Telegram})
	mustConfigure(t, m, tokenCredentials)
	return m, s
}

func TestEndpoint_Cached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, s := newCachedManager(t)
		get := func(want string, reads int64) {
			t.Helper()
			ep, err := m.Endpoint(t.Context(), "i", adapters.Telegram)
			const url = "https://gate.example.com/hooks/telegram/i"
			if err != nil || ep.Address != want || ep.WebhookURL != url || s.reads.Load() != reads {
				t.Errorf("Endpoint() = %q at %q, %v after %d reads, want %q after %d",
					ep.Address, ep.WebhookURL, err, s.reads.Load(), want, reads)
			}
		}
		get("bot 7", 1)
		s.setAddress("bot 8")
		get("bot 7", 1)
		<-time.After(cacheTTL)
		get("bot 8", 2)
		s.setAddress("bot 9")
		m.Invalidate("i", adapters.Telegram)
		get("bot 9", 3)
		mustConfigure(t, m, tokenCredentials)
		get("bot 7", 4)
	})
}

func TestEndpoint_NotFoundIsNotCached(t *testing.T) {
	m, s := newManager(&fakeProvider{channel: adapters.Telegram})
	for n := range 2 * maxCacheEntries {
		if _, err := m.Endpoint(t.Context(), fmt.Sprint(n), adapters.Telegram); !errors.Is(err, gateway.ErrNoEndpoint) {
			t.Fatalf("Endpoint() = %v, want ErrNoEndpoint", err)
		}
	}
	if len(m.cache) != 0 || s.reads.Load() != 2*maxCacheEntries {
		t.Errorf("%d entries in the cache after %d reads, want 0 after %d", len(m.cache), s.reads.Load(), 2*maxCacheEntries)
	}
	s.err = errors.New("database unavailable")
	if _, err := m.Endpoint(t.Context(), "i", adapters.Telegram); !errors.Is(err, s.err) {
		t.Errorf("Endpoint() = %v, want %v", err, s.err)
	}
}

func TestCache_Bounded(t *testing.T) {
	m, s := newManager(&fakeProvider{channel: adapters.Telegram})
	for n := range maxCacheEntries + 100 {
		i := fmt.Sprint(n)
		s.rows[i] = endpointRow{EndpointState: gateway.EndpointState{
			Endpoint: adapters.Endpoint{ID: i, InstanceID: i, Channel: adapters.Telegram},
		}}
		if _, err := m.Endpoint(t.Context(), i, adapters.Telegram); err != nil {
			t.Fatal(err)
		}
	}
	if len(m.cache) > maxCacheEntries {
		t.Errorf("%d entries in the cache, want at most %d", len(m.cache), maxCacheEntries)
	}
}

func TestRefresh_RateLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, s := newCachedManager(t)
		refresh := func(want string, reads int64) {
			t.Helper()
			ep, err := m.Refresh(t.Context(), "i", adapters.Telegram)
			if err != nil || ep.Address != want || s.reads.Load() != reads {
				t.Errorf("Refresh() = %q, %v after %d reads, want %q after %d", ep.Address, err, s.reads.Load(), want, reads)
			}
		}
		if _, err := m.Endpoint(t.Context(), "i", adapters.Telegram); err != nil {
			t.Fatal(err)
		}
		s.setAddress("bot 8")
		refresh("bot 8", 2)
		s.setAddress("bot 9")
		for range 100 {
			refresh("bot 8", 2)
		}
		<-time.After(refreshInterval)
		refresh("bot 9", 3)
		var wg sync.WaitGroup
		<-time.After(refreshInterval)
		for range 100 {
			wg.Go(func() { _, _ = m.Refresh(t.Context(), "i", adapters.Telegram) })
		}
		wg.Wait()
		if n := s.reads.Load(); n > 4 {
			t.Errorf("100 concurrent calls of Refresh made %d reads, want at most 1", n-3)
		}
	})
}

// TestRefresh_ConcurrentCallers checks that concurrent callers wait for the read that one of them
// starts, and do not get the cached endpoint.
func TestRefresh_ConcurrentCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, s := newCachedManager(t)
		if _, err := m.Endpoint(t.Context(), "i", adapters.Telegram); err != nil {
			t.Fatal(err)
		}
		s.setAddress("bot 8")
		s.readGate = make(chan struct{})
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if ep, err := m.Refresh(t.Context(), "i", adapters.Telegram); err != nil || ep.Address != "bot 8" {
					t.Errorf("Refresh() = %q, %v, want %q", ep.Address, err, "bot 8")
				}
			})
		}
		synctest.Wait()
		close(s.readGate)
		wg.Wait()
		if n := s.reads.Load(); n != 2 {
			t.Errorf("%d reads, want 2", n)
		}
	})
}

func TestEndpoint_ConcurrentReadsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, s := newCachedManager(t)
		s.readGate = make(chan struct{})
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if ep, err := m.Endpoint(t.Context(), "i", adapters.Telegram); err != nil || ep.Address != "bot 7" {
					t.Errorf("Endpoint() = %q, %v, want %q", ep.Address, err, "bot 7")
				}
			})
		}
		ctx, cancel := context.WithCancel(t.Context())
		wg.Go(func() {
			if _, err := m.Endpoint(ctx, "i", adapters.Telegram); !errors.Is(err, context.Canceled) {
				t.Errorf("Endpoint(canceled context) = %v, want context.Canceled", err)
			}
		})
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(s.readGate)
		wg.Wait()
		if n := s.reads.Load(); n != 1 {
			t.Errorf("%d reads, want 1", n)
		}
	})
}

// TestInvalidate_DuringRead checks that an endpoint read before a change is not cached after it.
func TestInvalidate_DuringRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, s := newCachedManager(t)
		s.readGate = make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = m.Endpoint(t.Context(), "i", adapters.Telegram) })
		synctest.Wait()
		s.setAddress("bot 8")
		m.Invalidate("i", adapters.Telegram)
		close(s.readGate)
		wg.Wait()
		if ep, err := m.Endpoint(t.Context(), "i", adapters.Telegram); err != nil || ep.Address != "bot 8" {
			t.Errorf("Endpoint() = %q, %v, want %q", ep.Address, err, "bot 8")
		}
	})
}
