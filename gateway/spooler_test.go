package gateway

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hydragate/adapters"
	"hydragate/gateway/spool"
)

// shifty is a database that comes and goes, with one endpoint.
type shifty struct {
	table
	mu     sync.Mutex
	fault  error // what every call answers, when set
	frozen bool  // nothing is answered
	gone   bool  // the endpoint
	seatID string
	creds  adapters.Credentials // of the endpoint; nil: phone's
	erased map[string]time.Time
	asked  int // for the endpoint
}

func (s *shifty) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *shifty) answers(ctx context.Context) error {
	s.mu.Lock()
	fault, frozen := s.fault, s.frozen
	s.mu.Unlock()
	if frozen {
		<-ctx.Done()
		return ctx.Err()
	}
	return fault
}

func (s *shifty) Take(ctx context.Context, as []Arrival, c *Cursor) (int, error) {
	if err := s.answers(ctx); err != nil {
		return 0, err
	}
	return s.table.Take(ctx, as, c)
}

func (s *shifty) Ping(ctx context.Context) error { return s.answers(ctx) }

func (s *shifty) EndpointForHook(ctx context.Context, instance string, channel adapters.Channel) (adapters.Endpoint, error) {
	s.set(func() { s.asked++ })
	if err := s.answers(ctx); err != nil {
		return adapters.Endpoint{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return adapters.Endpoint{}, ErrNoEndpoint
	}
	creds := s.creds
	if creds == nil {
		creds = phone.Credentials
	}
	return adapters.Endpoint{ID: s.seatID, TenantID: "tenant as stored", InstanceID: instance, Channel: channel, Credentials: creds}, nil
}

func (s *shifty) ErasedSince(ctx context.Context, _ string, since time.Time) (Erasures, error) {
	if err := s.answers(ctx); err != nil {
		return nil, err
	}
	return func(_ adapters.Channel, id string, at time.Time) bool {
		when, ok := s.erased[id]
		return ok && !when.Before(since) && !at.After(when)
	}, nil
}

// plain seals as a mirror does.
type plain struct{}

func (plain) Seal(b []byte, bind string) string {
	return bind + ":" + base64.StdEncoding.EncodeToString(b)
}

func (plain) Open(sealed, bind string) ([]byte, bool, error) {
	b64, ok := strings.CutPrefix(sealed, bind+":")
	if !ok {
		return nil, false, errors.New("not sealed for this")
	}
	b, err := base64.StdEncoding.DecodeString(b64)
	return b, false, err
}

type seatsOf struct {
	SeatStore
	*shifty
}

func (s seatsOf) EndpointForHook(ctx context.Context, instance string, channel adapters.Channel) (adapters.Endpoint, error) {
	return s.shifty.EndpointForHook(ctx, instance, channel)
}

var phone = adapters.Endpoint{ID: "seat", TenantID: "t", InstanceID: "01a2012b-02ef-71ed-ade5-af96a0001aeb", Channel: adapters.SMS,
	Credentials: adapters.Credentials{adapters.AuthToken: "token one"}}

// spooling makes a Spooler over store that does not run.
func spooling(t *testing.T, store *shifty, dir string) *Spooler {
	t.Helper()
	sp, err := spool.Open(dir, spool.Limit, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sp.Close)
	store.seatID = phone.ID
	b := NewInbox(store, func() {}, slog.New(slog.DiscardHandler))
	s := NewSpooler(&Spooler{Spool: sp, Keys: plain{}, Seats: &Channels{Store: seatsOf{shifty: store}}, Store: store, Log: slog.New(slog.DiscardHandler)})
	b.Keep(s)
	return s
}

// running lets an Inbox commit until the test ends.
func running(t *testing.T, b *Inbox) {
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { b.Run(ctx) })
	t.Cleanup(func() { stop(); wg.Wait() })
}

func texts(as []Arrival) (out []string) {
	for _, a := range as {
		out = append(out, a.Message.Text)
	}
	return out
}

var errDown = fmt.Errorf("down: %w", ErrAway)

func TestSpoolerKeepsWhatCannotBeStored(t *testing.T) {
	for name, fault := range map[string]error{
		"Away": errDown, "Full": fmt.Errorf("disk full: %w", ErrRejected), "Busy": ErrBusy, "Whatever": errors.New("odd"),
	} {
		t.Run(name, func(t *testing.T) {
			store := &shifty{fault: fault}
			s := spooling(t, store, t.TempDir())
			recovered := 0
			s.Recovered = func() { recovered++ }
			running(t, s.inbox)
			for i := range 3 {
				if err := s.inbox.Accept(t.Context(), phone, message(fmt.Sprint(i), fmt.Sprint("text ", i))); err != nil {
					t.Fatal(err)
				}
			}
			s.replay(t.Context())
			if len(store.stored()) > 0 {
				t.Fatal("stored by a database that cannot")
			}
			store.set(func() { store.fault = nil })
			// Newer ones queue behind what is kept, though the database is back.
			if err := s.inbox.Accept(t.Context(), phone, message("3", "text 3")); err != nil {
				t.Fatal(err)
			}
			s.replay(t.Context())
			if got, want := texts(store.stored()), []string{"text 0", "text 1", "text 2", "text 3"}; !slices.Equal(got, want) {
				t.Fatalf("stored %q, want %q", got, want)
			}
			for _, a := range store.stored() {
				if a.TenantID != "tenant as stored" || a.Age <= 0 {
					t.Fatalf("stored for %q with an age of %s", a.TenantID, a.Age)
				}
			}
			if s.Spool.Holding() || recovered != 1 {
				t.Fatalf("holding %v, recovered %d times", s.Spool.Holding(), recovered)
			}
		})
	}
}

// What a process kept that died is as old as both clocks of the machine agree that it
// is, and never older.
func TestSpoolerKnowsTheAgeOfWhatIsLeftBehind(t *testing.T) {
	const boot = "802d19e3"
	kept := uptime{boot, 100 * time.Second}
	for _, tt := range []struct {
		name      string
		then, now uptime
		passed    time.Duration // by the clock that shows the time
		want      time.Duration
	}{
		{"AMinute", kept, uptime{boot, 160 * time.Second}, time.Minute, time.Minute},
		{"ClockSetForward", kept, uptime{boot, 160 * time.Second}, time.Hour, time.Minute},
		{"ClockSetBack", kept, uptime{boot, 3700 * time.Second}, time.Minute, time.Minute},
		{"ClockSetBehindThen", kept, uptime{boot, 160 * time.Second}, -time.Minute, 0},
		{"StartedAgain", kept, uptime{"another", 160 * time.Second}, time.Minute, 0},
		{"RunForLess", kept, uptime{boot, 40 * time.Second}, time.Minute, 0},
		{"NoSuchClock", uptime{}, uptime{}, time.Minute, 0},
		{"NoSuchClockThen", uptime{}, uptime{boot, 160 * time.Second}, time.Minute, 0},
		{"Days", kept, uptime{boot, 72 * time.Hour}, 72 * time.Hour, MaxAge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, store := t.TempDir(), &shifty{fault: errDown}
			died := spooling(t, store, dir)
			died.uptime = func() uptime { return tt.then }
			if err := died.keep(t.Context(), phone, message("1", "/claim WDJBMJ").Messages[0]); err != nil {
				t.Fatal(err)
			}
			died.Spool.Close()
			store.set(func() { store.fault = nil })
			s := spooling(t, store, dir)
			s.uptime = func() uptime { return tt.now }
			s.Adopt(t.Context())
			rs, err := s.Spool.Next(1)
			if err != nil || len(rs) != 1 {
				t.Fatal(rs, err)
			}
			rs[0].At = rs[0].At.Add(-tt.passed)
			as, _, err := s.arrivals(t.Context(), rs)
			if err != nil || len(as) != 1 || as[0].Age < tt.want || as[0].Age > tt.want+5*time.Second {
				t.Errorf("%v, %v; want an age of %s", as, err, tt.want)
			}
			if tt.want == 0 && as[0].Age != 0 {
				t.Errorf("an age of %s that nobody knows", as[0].Age)
			}
		})
	}
}

func TestMachineUptime(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux shows it")
	}
	then := machineUptime()
	if ago := machineUptime().since(then); then.Boot == "" || then.For <= 0 || ago < 0 || ago > time.Minute {
		t.Errorf("%+v, %s ago", then, ago)
	}
}

func TestSpoolerIsForChannelsThatDoNotDeliverAgain(t *testing.T) {
	store := &shifty{fault: errDown}
	s := spooling(t, store, t.TempDir())
	running(t, s.inbox)
	if err := s.inbox.Accept(t.Context(), seat, message("1", "hello")); !errors.Is(err, ErrAway) {
		t.Fatalf("%v: Telegram is to deliver again", err)
	}
}

func TestSpoolerSaysWhenItCannotKeepEither(t *testing.T) {
	store := &shifty{fault: errDown}
	s := spooling(t, store, t.TempDir())
	small, err := spool.Open(t.TempDir(), 10, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(small.Close)
	s.Spool = small
	running(t, s.inbox)
	if err := s.inbox.Accept(t.Context(), phone, message("1", "hello")); !errors.Is(err, spool.ErrFull) {
		t.Fatalf("%v: acknowledged and kept nowhere", err)
	}
	// What was refused then is asked for when the database is back.
	recovered := false
	s.Recovered = func() { recovered = true }
	store.set(func() { store.fault = nil })
	s.away.Store(0)
	s.replay(t.Context())
	if !recovered {
		t.Fatal("nobody looks for what was refused")
	}
}

func TestSpoolerDropsWhatNobodyMayHear(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*shifty)
		stored int
	}{
		"AsItWas":                   {func(*shifty) {}, 1},
		"EndpointRemoved":           {func(s *shifty) { s.gone = true }, 0},
		"EndpointRemovedAndAnother": {func(s *shifty) { s.seatID = "another" }, 0},
		"CredentialEnded":           {func(s *shifty) { s.creds = adapters.Credentials{adapters.AuthToken: "token two"} }, 0},
		"CredentialReplaced": {func(s *shifty) {
			s.creds = adapters.Credentials{adapters.AuthToken: "token two", adapters.AuthToken + "_old": "token one"}
		}, 1},
		"SenderErasedSince":  {func(s *shifty) { s.erased = map[string]time.Time{"1": time.Now().Add(time.Second)} }, 0},
		"SenderErasedBefore": {func(s *shifty) { s.erased = map[string]time.Time{"1": time.Now().Add(-time.Hour)} }, 1},
		"SomebodyElseErased": {func(s *shifty) { s.erased = map[string]time.Time{"2": time.Now().Add(time.Second)} }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			store := &shifty{fault: errDown}
			s := spooling(t, store, t.TempDir())
			running(t, s.inbox)
			if err := s.inbox.Accept(t.Context(), phone, message("1", "hello")); err != nil {
				t.Fatal(err)
			}
			store.set(func() { store.fault = nil; c.change(store) })
			s.replay(t.Context())
			if n := len(store.stored()); n != c.stored || s.Spool.Holding() {
				t.Fatalf("stored %d, want %d; holding %v", n, c.stored, s.Spool.Holding())
			}
		})
	}
}

// One message that the database refuses holds up nobody, and is put aside only when
// others show that it is the one at fault.
func TestSpoolerPutsAsideWhatIsAtFault(t *testing.T) {
	store := &shifty{fault: errDown}
	s := spooling(t, store, t.TempDir())
	running(t, s.inbox)
	say := func(key, text string) {
		if err := s.inbox.Accept(t.Context(), phone, message(key, text)); err != nil {
			t.Fatal(err)
		}
	}
	say("1", "poison")
	store.refuse = func(a Arrival) error {
		if a.Message.Text == "poison" {
			return ErrRejected
		}
		return nil
	}
	store.set(func() { store.fault = nil })
	s.replay(t.Context())
	if !s.Spool.Holding() {
		t.Fatal("given up while nothing shows whose fault it is")
	}
	say("2", "good")
	s.replay(t.Context())
	if got := texts(store.stored()); !slices.Equal(got, []string{"good"}) || s.Spool.Holding() {
		t.Fatalf("stored %q, holding %v", got, s.Spool.Holding())
	}
}

func TestSpoolerAnswersInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &shifty{}
		s := spooling(t, store, t.TempDir())
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { s.inbox.Run(ctx) })
		wg.Go(func() { s.Run(ctx) })
		if _, err := s.Endpoint(ctx, phone.InstanceID, adapters.SMS); err != nil {
			t.Fatal(err)
		}
		store.set(func() { store.frozen = true })
		for i := range 50 {
			begun := time.Now()
			ep, err := s.Endpoint(ctx, phone.InstanceID, adapters.SMS)
			if err == nil {
				err = s.inbox.Accept(ctx, ep, message(fmt.Sprint(i), "hello"))
			}
			if took := time.Since(begun); err != nil || took > 4*time.Second || i > 0 && took > 100*time.Millisecond {
				t.Errorf("message %d: %v after %s", i, err, took)
			}
			time.Sleep(700 * time.Millisecond) // of a clock that only this test has
		}
		store.set(func() { store.frozen = false })
		time.Sleep(10 * time.Second)
		if n := len(store.stored()); n != 50 {
			t.Errorf("stored %d of 50", n)
		}
		stop()
		wg.Wait()
	})
}

// The endpoint in memory is good while nobody answers, for a day, and never against
// the database's word.
func TestSpoolerEndpointFromMemory(t *testing.T) {
	for name, c := range map[string]struct {
		fault error
		gone  bool
		later time.Duration
		cold  bool
		good  bool
	}{
		"Answers":        {good: true},
		"Away":           {fault: errDown, later: time.Hour, good: true},
		"AwayForADay":    {fault: errDown, later: 25 * time.Hour},
		"ColdStart":      {fault: errDown, cold: true},
		"SaysItIsGone":   {gone: true, later: time.Minute},
		"SaysOtherwise":  {fault: errors.New("permission denied"), later: time.Minute},
		"NotYetAskedFor": {cold: true, good: true},
	} {
		t.Run(name, func(t *testing.T) {
			store, now := &shifty{}, time.Now()
			s := spooling(t, store, t.TempDir())
			s.Seats.Now = func() time.Time { return now }
			if !c.cold {
				if _, err := s.Endpoint(t.Context(), phone.InstanceID, adapters.SMS); err != nil {
					t.Fatal(err)
				}
			}
			now = now.Add(c.later)
			store.fault, store.gone = c.fault, c.gone
			if _, err := s.Endpoint(t.Context(), phone.InstanceID, adapters.SMS); (err == nil) != c.good {
				t.Fatalf("%v, good %v", err, c.good)
			}
			if !c.gone {
				return
			}
			// Gone is gone, also when it does not answer after that.
			store.gone, store.fault = false, errDown
			if _, err := s.Endpoint(t.Context(), phone.InstanceID, adapters.SMS); err == nil {
				t.Fatal("found again what the database said is gone")
			}
		})
	}
}
