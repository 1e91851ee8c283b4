package gateway

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hydragate/adapters"
)

// cached gives channels with one endpoint set up, and its store.
func cached(t *testing.T) (*Channels, *seatTable) {
	t.Helper()
	c, s := newChannels(&provider{channel: adapters.Telegram})
	if _, err := configure(t, c, adapters.Credentials{adapters.BotToken: token}); err != nil {
		t.Fatal(err)
	}
	return c, s
}

func (s *seatTable) readSoFar() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads
}

// change sets the address behind the cache's back, as another replica does.
func (s *seatTable) change(address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, seat := range s.rows {
		seat.Address = address
		s.rows[k] = seat
	}
}

func TestEndpointIsCached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := cached(t)
		get := func(want string, reads int) {
			t.Helper()
			ep, err := c.Endpoint(t.Context(), "i", adapters.Telegram)
			if err != nil || ep.Address != want || ep.WebhookURL != "https://gate.example.com/hooks/telegram/i" || s.readSoFar() != reads {
				t.Errorf("%q at %q after %d reads, %v; want %q after %d", ep.Address, ep.WebhookURL, s.readSoFar(), err, want, reads)
			}
		}
		get("bot 7", 1)
		s.change("bot 8")
		get("bot 7", 1)
		time.Sleep(cacheTime)
		get("bot 8", 2)
		s.change("bot 9")
		c.Forget("i", adapters.Telegram)
		get("bot 9", 3)
		if _, err := configure(t, c, adapters.Credentials{adapters.BotToken: token}); err != nil {
			t.Fatal(err)
		}
		get("bot 7", 4)
	})
}

func TestEndpointOfNobodyIsNotCached(t *testing.T) {
	c, s := newChannels(&provider{channel: adapters.Telegram})
	for n := range 2 * maxCached {
		if _, err := c.Endpoint(t.Context(), fmt.Sprint(n), adapters.Telegram); !errors.Is(err, ErrNoEndpoint) {
			t.Fatal(err)
		}
	}
	if len(c.cache) != 0 || s.readSoFar() != 2*maxCached {
		t.Errorf("%d kept", len(c.cache))
	}
	s.broken = errors.New("database away")
	if _, err := c.Endpoint(t.Context(), "i", adapters.Telegram); !errors.Is(err, s.broken) {
		t.Errorf("%v; want the store's error", err)
	}
}

func TestCacheIsBounded(t *testing.T) {
	c, s := newChannels(&provider{channel: adapters.Telegram})
	for n := range maxCached + 100 {
		i := fmt.Sprint(n)
		s.rows[seatKey{i, adapters.Telegram}] = Seat{Endpoint: adapters.Endpoint{ID: i, InstanceID: i, Channel: adapters.Telegram}}
		if _, err := c.Endpoint(t.Context(), i, adapters.Telegram); err != nil {
			t.Fatal(err)
		}
	}
	if len(c.cache) > maxCached {
		t.Errorf("%d kept; want at most %d", len(c.cache), maxCached)
	}
}

func TestFreshIsNoLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := cached(t)
		fresh := func(want string, reads int) {
			t.Helper()
			ep, err := c.Fresh(t.Context(), "i", adapters.Telegram)
			if err != nil || ep.Address != want || s.readSoFar() != reads {
				t.Errorf("%q after %d reads, %v; want %q after %d", ep.Address, s.readSoFar(), err, want, reads)
			}
		}
		if _, err := c.Endpoint(t.Context(), "i", adapters.Telegram); err != nil {
			t.Fatal(err)
		}
		s.change("bot 8")
		fresh("bot 8", 2)
		s.change("bot 9")
		for range 100 {
			fresh("bot 8", 2)
		}
		time.Sleep(freshTime)
		fresh("bot 9", 3)
		var wg sync.WaitGroup
		time.Sleep(freshTime)
		for range 100 {
			wg.Go(func() { _, _ = c.Fresh(t.Context(), "i", adapters.Telegram) })
		}
		wg.Wait()
		if n := s.readSoFar(); n > 4 {
			t.Errorf("a hundred at once made %d reads; want one", n-3)
		}
	})
}

// TestWhoComesMeanwhileGetsTheSameAnswer: when the credentials changed and one request
// makes them be read again, the others that came with it do not get the old ones.
func TestWhoComesMeanwhileGetsTheSameAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := cached(t)
		if _, err := c.Endpoint(t.Context(), "i", adapters.Telegram); err != nil {
			t.Fatal(err)
		}
		s.change("bot 8")
		s.reading = make(chan struct{})
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if ep, err := c.Fresh(t.Context(), "i", adapters.Telegram); err != nil || ep.Address != "bot 8" {
					t.Errorf("%q, %v; want what holds now", ep.Address, err)
				}
			})
		}
		synctest.Wait()
		close(s.reading)
		wg.Wait()
		if n := s.readSoFar(); n != 2 {
			t.Errorf("%d reads; want two", n)
		}
	})
}

func TestManyReadAsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := cached(t)
		s.reading = make(chan struct{})
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
		close(s.reading)
		wg.Wait()
		if n := s.readSoFar(); n != 1 {
			t.Errorf("%d reads; want one", n)
		}
	})
}

// TestForgetWhileReading: what was read before a change is not kept after it.
func TestForgetWhileReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := cached(t)
		s.reading = make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = c.Endpoint(t.Context(), "i", adapters.Telegram) })
		synctest.Wait()
		s.change("bot 8")
		c.Forget("i", adapters.Telegram)
		close(s.reading)
		wg.Wait()
		if ep, err := c.Endpoint(t.Context(), "i", adapters.Telegram); err != nil || ep.Address != "bot 8" {
			t.Errorf("%q, %v; want what holds now", ep.Address, err)
		}
	})
}
