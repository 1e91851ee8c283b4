package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/gateway/endpoints"
	"hydragate/gateway/ingest/spool"
)

func TestSpooler_ReplaysAfterOutage(t *testing.T) {
	for name, fault := range map[string]error{
		"unavailable": errStoreDown, "full": fmt.Errorf("disk full: %w", gateway.ErrRejected),
		"overloaded": gateway.ErrOverloaded, "other error": errors.New("odd"),
	} {
		t.Run(name, func(t *testing.T) {
			store := &fakeStore{err: fault}
			s := newTestSpooler(t, store, t.TempDir())
			recovered := 0
			s.OnRecovered = func() { recovered++ }
			startInbox(t, s.inbox)
			for i := range 3 {
				if err := s.inbox.Accept(t.Context(), smsEndpoint, inboundText(fmt.Sprint(i), fmt.Sprint("text ", i))); err != nil {
					t.Fatal(err)
				}
			}
			s.replay(t.Context())
			if as, _ := store.stored(); len(as) > 0 {
				t.Fatal("stored although the database fails")
			}
			store.update(func() { store.err = nil })
			// Newer messages queue behind the spooled ones, although the database is available.
			if err := s.inbox.Accept(t.Context(), smsEndpoint, inboundText("3", "text 3")); err != nil {
				t.Fatal(err)
			}
			s.replay(t.Context())
			as, texts := store.stored()
			if want := []string{"text 0", "text 1", "text 2", "text 3"}; !slices.Equal(texts, want) {
				t.Fatalf("stored %q, want %q", texts, want)
			}
			for _, a := range as {
				if a.TenantID != "tenant as stored" || time.Since(a.ReceivedAt) > time.Minute {
					t.Fatalf("stored for tenant %q as received at %s", a.TenantID, a.ReceivedAt)
				}
			}
			if s.Spool.HasRecords() || recovered != 1 {
				t.Fatalf("HasRecords = %v, recovered %d times", s.Spool.HasRecords(), recovered)
			}
		})
	}
}

// TestSpooler_AgeOfTakenOverRecords checks that the age is the smaller of what both clocks show.
func TestSpooler_AgeOfTakenOverRecords(t *testing.T) {
	const boot = "802d19e3"
	spooled := bootClock{boot, 100 * time.Second}
	for _, tt := range []struct {
		name      string
		then, now bootClock
		passed    time.Duration // by the wall clock
		want      time.Duration
	}{
		{"a minute", spooled, bootClock{boot, 160 * time.Second}, time.Minute, time.Minute},
		{"clock set forward", spooled, bootClock{boot, 160 * time.Second}, time.Hour, time.Minute},
		{"clock set back", spooled, bootClock{boot, 3700 * time.Second}, time.Minute, time.Minute},
		{"clock set back before spooling", spooled, bootClock{boot, 160 * time.Second}, -time.Minute, 0},
		{"rebooted", spooled, bootClock{"another", 160 * time.Second}, time.Minute, 0},
		{"shorter uptime", spooled, bootClock{boot, 40 * time.Second}, time.Minute, 0},
		{"no boot clock", bootClock{}, bootClock{}, time.Minute, 0},
		{"no boot clock at spooling", bootClock{}, bootClock{boot, 160 * time.Second}, time.Minute, 0},
		{"days", spooled, bootClock{boot, 72 * time.Hour}, 72 * time.Hour, gateway.MaxOutage},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, store := t.TempDir(), &fakeStore{err: errStoreDown}
			dead := newTestSpooler(t, store, dir)
			dead.readClock = func() bootClock { return tt.then }
			if err := dead.spoolMessage(t.Context(), smsEndpoint, inboundText("1", "/claim WDJBMJ").Messages[0]); err != nil {
				t.Fatal(err)
			}
			dead.Spool.Close()
			store.update(func() { store.err = nil })
			s := newTestSpooler(t, store, dir)
			s.readClock = func() bootClock { return tt.now }
			s.TakeOver(t.Context())
			rs, err := s.Spool.Next(1)
			if err != nil || len(rs) != 1 {
				t.Fatal(rs, err)
			}
			rs[0].At = rs[0].At.Add(-tt.passed)
			before := time.Now()
			as, _, err := s.loadRecords(t.Context(), rs)
			if err != nil || len(as) != 1 {
				t.Fatalf("loadRecords = %v, %v, want a message", as, err)
			}
			if age := before.Sub(as[0].ReceivedAt); age > tt.want+30*time.Second || time.Since(as[0].ReceivedAt) < tt.want {
				t.Errorf("age = %s, want %s", age, tt.want)
			}
			if tt.want == 0 && as[0].ReceivedAt.Before(before) {
				t.Errorf("received at %s, want not before %s", as[0].ReceivedAt, before)
			}
		})
	}
}

func TestSpooler_SkipsRedeliveringChannels(t *testing.T) {
	store := &fakeStore{err: errStoreDown}
	s := newTestSpooler(t, store, t.TempDir())
	startInbox(t, s.inbox)
	err := s.inbox.Accept(t.Context(), telegramEndpoint, inboundText("1", "hello"))
	if !errors.Is(err, gateway.ErrUnavailable) {
		t.Fatalf("Accept = %v, want ErrUnavailable, so that Telegram retries", err)
	}
}

func TestSpooler_Full(t *testing.T) {
	store := &fakeStore{err: errStoreDown}
	s := newTestSpooler(t, store, t.TempDir())
	small, err := spool.Open(t.TempDir(), 10, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(small.Close)
	s.Spool = small
	startInbox(t, s.inbox)
	if err := s.inbox.Accept(t.Context(), smsEndpoint, inboundText("1", "hello")); !errors.Is(err, spool.ErrFull) {
		t.Fatalf("Accept = %v, want ErrFull", err)
	}
	// Refused messages are fetched from the log once the database is available.
	recovered := false
	s.OnRecovered = func() { recovered = true }
	store.update(func() { store.err = nil })
	s.unavailableUntil.Store(0)
	s.replay(t.Context())
	if !recovered {
		t.Fatal("OnRecovered was not called")
	}
}

func TestSpooler_DropsInvalidRecords(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*fakeStore)
		stored int
	}{
		"unchanged":         {func(*fakeStore) {}, 1},
		"endpoint removed":  {func(s *fakeStore) { s.endpoint = adapters.Endpoint{} }, 0},
		"endpoint replaced": {func(s *fakeStore) { s.endpoint.ID = "another" }, 0},
		"credential revoked": {func(s *fakeStore) {
			s.endpoint.Credentials = adapters.Credentials{adapters.AuthToken: "token two"}
		}, 0},
		"credential replaced": {func(s *fakeStore) {
			s.endpoint.Credentials = adapters.Credentials{
				adapters.AuthToken: "token two", adapters.AuthToken + "_old": "token one",
			}
		}, 1},
		"sender erased later": {func(s *fakeStore) {
			s.erased = map[string]time.Time{"1": time.Now().Add(time.Second)}
		}, 0},
		"sender erased before": {func(s *fakeStore) {
			s.erased = map[string]time.Time{"1": time.Now().Add(-time.Hour)}
		}, 1},
		"other sender erased": {func(s *fakeStore) {
			s.erased = map[string]time.Time{"2": time.Now().Add(time.Second)}
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			store := &fakeStore{err: errStoreDown}
			s := newTestSpooler(t, store, t.TempDir())
			startInbox(t, s.inbox)
			if err := s.inbox.Accept(t.Context(), smsEndpoint, inboundText("1", "hello")); err != nil {
				t.Fatal(err)
			}
			store.update(func() { store.err = nil; c.change(store) })
			s.replay(t.Context())
			if as, _ := store.stored(); len(as) != c.stored || s.Spool.HasRecords() {
				t.Fatalf("stored %d, want %d; HasRecords = %v", len(as), c.stored, s.Spool.HasRecords())
			}
		})
	}
}

// TestSpooler_QuarantinesRejected checks that a rejected message is quarantined only once the database
// accepts another one.
func TestSpooler_QuarantinesRejected(t *testing.T) {
	store := &fakeStore{err: errStoreDown}
	s := newTestSpooler(t, store, t.TempDir())
	startInbox(t, s.inbox)
	accept := func(key, text string) {
		if err := s.inbox.Accept(t.Context(), smsEndpoint, inboundText(key, text)); err != nil {
			t.Fatal(err)
		}
	}
	accept("1", "poison")
	store.reject = func(a gateway.IncomingMessage) error {
		if a.Message.Text == "poison" {
			return gateway.ErrRejected
		}
		return nil
	}
	store.update(func() { store.err = nil })
	s.replay(t.Context())
	if !s.Spool.HasRecords() {
		t.Fatal("quarantined although the database accepted no other message")
	}
	accept("2", "good")
	s.replay(t.Context())
	if _, got := store.stored(); !slices.Equal(got, []string{"good"}) || s.Spool.HasRecords() {
		t.Fatalf("stored %q, HasRecords = %v", got, s.Spool.HasRecords())
	}
}

func TestSpooler_Timeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &fakeStore{}
		s := newTestSpooler(t, store, t.TempDir())
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { s.inbox.Run(ctx) })
		wg.Go(func() { s.Run(ctx) })
		if _, err := s.Endpoint(ctx, smsEndpoint.InstanceID, adapters.SMS); err != nil {
			t.Fatal(err)
		}
		store.update(func() { store.gate = make(chan struct{}) })
		for i := range 50 {
			begun := time.Now()
			ep, err := s.Endpoint(ctx, smsEndpoint.InstanceID, adapters.SMS)
			if err == nil {
				err = s.inbox.Accept(ctx, ep, inboundText(fmt.Sprint(i), "hello"))
			}
			if took := time.Since(begun); err != nil || took > 4*time.Second || i > 0 && took > 100*time.Millisecond {
				t.Errorf("message %d: %v after %s", i, err, took)
			}
			<-time.After(700 * time.Millisecond) // of the fake clock
		}
		store.update(func() { store.gate = nil })
		<-time.After(10 * time.Second)
		if as, _ := store.stored(); len(as) != 50 {
			t.Errorf("stored %d of 50 messages", len(as))
		}
		stop()
		wg.Wait()
	})
}

// TestSpooler_CachedEndpoint checks that the last known endpoint is used for a day while the database
// is unavailable, and not if the database reports an error.
func TestSpooler_CachedEndpoint(t *testing.T) {
	for name, c := range map[string]struct {
		err   error
		gone  bool
		later time.Duration
		cold  bool
		good  bool
	}{
		"available":             {good: true},
		"unavailable":           {err: errStoreDown, later: time.Hour, good: true},
		"unavailable for a day": {err: errStoreDown, later: 25 * time.Hour},
		"cold start":            {err: errStoreDown, cold: true},
		"endpoint removed":      {gone: true, later: time.Minute},
		"other error":           {err: errors.New("permission denied"), later: time.Minute},
		"first request":         {cold: true, good: true},
	} {
		t.Run(name, func(t *testing.T) {
			store, now := &fakeStore{}, time.Now()
			s := newTestSpooler(t, store, t.TempDir())
			s.Endpoints.(*endpoints.Manager).Now = func() time.Time { return now }
			if !c.cold {
				if _, err := s.Endpoint(t.Context(), smsEndpoint.InstanceID, adapters.SMS); err != nil {
					t.Fatal(err)
				}
			}
			now = now.Add(c.later)
			store.err = c.err
			if c.gone {
				store.endpoint = adapters.Endpoint{}
			}
			if _, err := s.Endpoint(t.Context(), smsEndpoint.InstanceID, adapters.SMS); (err == nil) != c.good {
				t.Fatalf("Endpoint = %v, want success: %v", err, c.good)
			}
			if !c.gone {
				return
			}
			// A removed endpoint stays removed while the database is unavailable.
			store.endpoint, store.err = smsEndpoint, errStoreDown
			if _, err := s.Endpoint(t.Context(), smsEndpoint.InstanceID, adapters.SMS); err == nil {
				t.Fatal("Endpoint returned a removed endpoint")
			}
		})
	}
}
